//! How strongly an engagement speaks: from a kind and a value to a strength.
//!
//! Kinds are open. What is not configured counts by [`Taste::other`]. Never reads a clock: age is the reader's business.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

/// The kind under which a message about an item counts as an engagement with it.
pub const MESSAGE_KIND: &str = "message";

/// What one kind of engagement is worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindWeight {
    /// The strength of a positive engagement of this kind, above 0.
    pub weight: f32,
    /// From which value on it is a liking. Without it every value is.
    #[serde(default)]
    pub positive_from: Option<f64>,
    /// The share of the weight that remains below `positive_from`: someone chose the item, but did not like it. 0 to 1.
    #[serde(default)]
    pub below: f32,
}

/// The strengths of all kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Taste {
    /// By kind.
    pub kinds: BTreeMap<Arc<str>, KindWeight>,
    /// For every other kind.
    pub other: KindWeight,
}

/// What an engagement says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strength {
    /// At least 0.
    pub weight: f32,
    /// Whether it is a liking.
    pub positive: bool,
}

impl Default for Taste {
    fn default() -> Self {
        let plain = |weight| KindWeight { weight, positive_from: None, below: 0.0 };
        let kinds = [
            ("view", plain(0.5)),
            ("click", plain(0.7)),
            (MESSAGE_KIND, plain(1.0)),
            ("like", plain(1.0)),
            ("purchase", plain(1.0)),
            ("rating", KindWeight { weight: 1.0, positive_from: Some(4.0), below: 0.3 }),
            ("dislike", KindWeight { weight: 1.0, positive_from: Some(f64::MAX), below: 0.0 }),
        ];
        Self { kinds: kinds.into_iter().map(|(k, w)| (k.into(), w)).collect(), other: plain(1.0) }
    }
}

impl Taste {
    /// The strength of an engagement.
    pub fn strength(&self, kind: &str, value: f64) -> Strength {
        let k = self.kinds.get(kind).unwrap_or(&self.other);
        match k.positive_from {
            Some(from) if value < from => Strength { weight: k.weight * k.below, positive: false },
            _ => Strength { weight: k.weight, positive: true },
        }
    }

    /// The strength of all of one user's engagements with one item, in the order of their time: the strongest, and a
    /// little for each repetition, so that many views never outweigh everything. At most twice the strongest.
    pub fn combined(&self, engagements: impl IntoIterator<Item = (impl AsRef<str>, f64)>) -> Strength {
        let (mut best, mut positive, mut count) = (0.0_f32, false, 0_u32);
        for (kind, value) in engagements {
            let s = self.strength(kind.as_ref(), value);
            best = best.max(s.weight);
            positive |= s.positive;
            count += 1;
        }
        let repeats = 1.0 - 0.5_f32.powi(count.saturating_sub(1).min(24) as i32);
        Strength { weight: best * (1.0 + repeats * REPEATS_SHARE), positive }
    }

    /// Refuses weights that no formula can use.
    pub fn validate(&self) -> Result<(), String> {
        for (name, k) in self.kinds.iter().map(|(n, k)| (&**n, k)).chain([("other", &self.other)]) {
            if !(k.weight.is_finite() && k.weight > 0.0) {
                return Err(format!("taste: the weight of {name:?} must be above 0"));
            }
            if !(0.0..=1.0).contains(&k.below) {
                return Err(format!("taste: `below` of {name:?} must lie between 0 and 1"));
            }
        }
        Ok(())
    }
}

/// What endless repetition adds to the strongest engagement.
const REPEATS_SHARE: f32 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_rating_is_no_liking() {
        let t = Taste::default();
        assert!(!t.strength("rating", 2.0).positive);
        assert!(t.strength("rating", 8.0).positive);
        assert!(t.strength("rating", 2.0).weight < t.strength("rating", 8.0).weight);
        assert!(t.strength("something new", 1.0).positive);
    }

    #[test]
    fn repetition_adds_with_a_limit() {
        let t = Taste::default();
        let once = t.combined([("view", 1.0)]).weight;
        let often = t.combined(vec![("view", 1.0); 1000]).weight;
        assert!(often > once && often <= 2.0 * once);
    }
}
