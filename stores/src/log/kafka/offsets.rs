//! Offsets by partition as text: `0@17,3@44`. Positions of a source and tokens of a publisher are such texts.

use std::{collections::BTreeMap, fmt};

/// An offset a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offsets(pub BTreeMap<i32, i64>);

impl Offsets {
    /// Reads exactly what [`Display`](fmt::Display) writes; the empty text is no offset at all.
    pub fn parse(text: &str) -> Option<Self> {
        let mut offsets = BTreeMap::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (partition, offset) = part.split_once('@')?;
            let (partition, offset) = (number(partition)?, number(offset)?);
            if offsets.insert(i32::try_from(partition).ok()?, offset).is_some() {
                return None;
            }
        }
        Some(Self(offsets))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Digits alone: no sign, no space.
fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl fmt::Display for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (partition, offset)) in self.0.iter().enumerate() {
            write!(f, "{}{partition}@{offset}", if n > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}
