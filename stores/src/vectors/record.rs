//! What the journal of vectors holds, as bytes: changes, each an absolute fact. Little-endian throughout.
//!
//! Decoding trusts nothing: whatever bytes it is given, it answers with a record or with `None`, and never allocates more than
//! the bytes themselves can account for.

use std::sync::Arc;

use nearcast_domain::{
    Vector,
    ports::{Collection, VectorRow},
};

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// Rows of a revision are set.
    Upsert { tenant: String, collection: Collection, revision: String, rows: Vec<VectorRow> },
    /// Ids are gone from every revision.
    Delete { tenant: String, collection: Collection, ids: Vec<String> },
    /// A revision is current.
    Switch { revision: String },
    /// A revision is gone.
    Drop { revision: String },
}

/// A checksum of 64 bits. Each step can be undone, so that one damaged word always shows; it is no defence against a forger.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut h = ODD ^ bytes.len() as u64;
    for w in words {
        h = (h ^ u64::from_le_bytes(*w)).wrapping_mul(ODD).rotate_left(29);
    }
    for b in rest {
        h = (h ^ u64::from(*b)).wrapping_mul(ODD).rotate_left(29);
    }
    h ^= h >> 32;
    h = h.wrapping_mul(ODD);
    h ^ (h >> 29)
}

fn number_of(collection: Collection) -> u8 {
    match collection {
        Collection::Users => 1,
        Collection::Items => 2,
    }
}

/// Bytes being written.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, n: u8) {
        self.0.push(n);
    }

    pub(super) fn u32(&mut self, n: u32) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    pub(super) fn u64(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn collection(&mut self, collection: Collection) {
        self.u8(number_of(collection));
    }

    /// The beginning of an upsert; [`Self::row`] follows for each of `rows`.
    pub(super) fn upsert(&mut self, tenant: &str, collection: Collection, revision: &str, rows: usize) {
        self.u8(1);
        self.text(tenant);
        self.collection(collection);
        self.text(revision);
        self.u32(rows as u32);
    }

    pub(super) fn row<'a>(&mut self, id: &str, vector: &[f32], labels: impl ExactSizeIterator<Item = &'a str>) {
        self.text(id);
        self.u32(labels.len() as u32);
        for l in labels {
            self.text(l);
        }
        self.u32(vector.len() as u32);
        self.0.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
    }

    pub(super) fn delete(&mut self, tenant: &str, collection: Collection, ids: &[String]) {
        self.u8(2);
        self.text(tenant);
        self.collection(collection);
        self.u32(ids.len() as u32);
        for id in ids {
            self.text(id);
        }
    }

    pub(super) fn switch(&mut self, revision: &str) {
        self.u8(3);
        self.text(revision);
    }

    pub(super) fn drop_revision(&mut self, revision: &str) {
        self.u8(4);
        self.text(revision);
    }
}

/// Bytes being read.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|b| b[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let n = self.u32()?;
        std::str::from_utf8(self.bytes(n as usize)?).ok()
    }

    pub(super) fn collection(&mut self) -> Option<Collection> {
        let n = self.u8()?;
        Collection::ALL.into_iter().find(|c| number_of(*c) == n)
    }

    /// `n` things, each read by `one`; every one takes a byte at least.
    pub(super) fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let n = self.u32()? as usize;
        if n > self.0.len() {
            return None;
        }
        (0..n).map(|_| one(self)).collect()
    }

    fn row(&mut self) -> Option<VectorRow> {
        let id = self.text()?.to_owned();
        let labels = self.many(|r| r.text().map(str::to_owned))?;
        let n = self.u32()? as usize;
        let (numbers, []) = self.bytes(n.checked_mul(4)?)?.as_chunks::<4>() else { return None };
        let vector: Vector = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect::<Arc<[f32]>>();
        Some(VectorRow { id, vector, labels })
    }

    /// The record that these bytes are, all of them.
    pub(super) fn record(mut self) -> Option<Record> {
        let record = match self.u8()? {
            1 => Record::Upsert {
                tenant: self.text()?.to_owned(),
                collection: self.collection()?,
                revision: self.text()?.to_owned(),
                rows: self.many(Self::row)?,
            },
            2 => Record::Delete {
                tenant: self.text()?.to_owned(),
                collection: self.collection()?,
                ids: self.many(|r| r.text().map(str::to_owned))?,
            },
            3 => Record::Switch { revision: self.text()?.to_owned() },
            4 => Record::Drop { revision: self.text()?.to_owned() },
            _ => return None,
        };
        self.0.is_empty().then_some(record)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut w = Writer::default();
        w.upsert("t", Collection::Items, "r1", 2);
        w.row("a", &[1.0, 0.0], ["x", "y"].into_iter());
        w.row("ключ", &[0.0, -1.0], [].into_iter());
        w.0
    }

    #[test]
    fn what_was_written_is_read() {
        let Some(Record::Upsert { tenant, collection, revision, rows }) = Reader(&sample()).record() else { panic!() };
        assert_eq!((tenant.as_str(), collection, revision.as_str()), ("t", Collection::Items, "r1"));
        assert_eq!(rows[0].labels, ["x", "y"]);
        assert_eq!((rows[1].id.as_str(), &rows[1].vector[..]), ("ключ", &[0.0, -1.0][..]));
        let mut w = Writer::default();
        w.delete("t", Collection::Users, &["a".into()]);
        assert_eq!(
            Reader(&w.0).record().unwrap(),
            Record::Delete { tenant: "t".into(), collection: Collection::Users, ids: vec!["a".into()] }
        );
    }

    #[test]
    fn damage_is_seen_and_harms_nothing() {
        let bytes = sample();
        let sum = checksum(&bytes);
        for end in 0..bytes.len() {
            assert_eq!(Reader(&bytes[..end]).record(), None);
            assert_ne!(checksum(&bytes[..end]), sum);
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for at in 0..bytes.len() {
            for _ in 0..20 {
                let mut other = bytes.clone();
                other[at] ^= rng.u8(1..);
                assert_ne!(checksum(&other), sum);
                let _ = Reader(&other).record();
            }
        }
    }
}
