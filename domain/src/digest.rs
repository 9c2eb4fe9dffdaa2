//! Digests that depend on the rows alone, not on their order, their batches or the store they lie in.
//!
//! Each row is hashed with SHA-256 and the hashes are added up as four numbers of 64 bits each (a multiset hash by
//! addition, after Bellare and Micciancio 1997). It finds damage and difference; it is no defence against a forger.

use sha2::{Digest as _, Sha256};

use crate::event::hex;

/// The digest of a set of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    lanes: [u64; 4],
    rows: u64,
}

impl Digest {
    /// Adds a row, given as its fields. Equal rows must give equal fields on every backend.
    pub fn add(&mut self, fields: &[&[u8]]) {
        let mut h = Sha256::new();
        for f in fields {
            h.update((f.len() as u64).to_le_bytes());
            h.update(f);
        }
        let out = h.finalize();
        for (lane, bytes) in self.lanes.iter_mut().zip(out.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(bytes);
            *lane = lane.wrapping_add(u64::from_le_bytes(eight));
        }
        self.rows += 1;
    }

    /// Adds all rows of another digest.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.lanes.iter_mut().zip(other.lanes) {
            *a = a.wrapping_add(b);
        }
        self.rows += other.rows;
    }

    /// How many rows went in.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.lanes.iter().map(|l| hex(&l.to_be_bytes())).collect()
    }
}

/// The bytes of a vector as every backend must hash them: little-endian `f32`.
pub fn vector_bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Which of `n` ranges of keys an id falls in: FNV-1a (Fowler, Noll, Vo) over its bytes, scaled. Every backend must cut alike, so
/// that the digests of two stores can be compared range by range.
pub fn bucket(id: &str, n: usize) -> usize {
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    // Short ids differ in the low bits alone: those are spread over all (a step of MurmurHash3).
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    ((u128::from(hash) * n.max(1) as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fall_into_all_buckets_evenly() {
        let mut counts = [0_usize; 64];
        for i in 0..64_000 {
            counts[bucket(&format!("u{i}"), 64)] += 1;
        }
        assert!(counts.iter().all(|c| (700..1_300).contains(c)), "{counts:?}");
        assert_eq!(bucket("anything", 1), 0);
    }

    #[test]
    fn order_does_not_matter_but_number_does() {
        let (mut a, mut b, mut twice) = (Digest::default(), Digest::default(), Digest::default());
        a.add(&[b"x", b"1"]);
        a.add(&[b"y", b"2"]);
        b.add(&[b"y", b"2"]);
        b.add(&[b"x", b"1"]);
        assert_eq!(a, b);
        twice.merge(&a);
        twice.merge(&b);
        assert_ne!(twice.to_hex(), a.to_hex());
        let mut shifted = Digest::default();
        shifted.add(&[b"x1", b""]);
        assert_ne!(shifted.to_hex(), {
            let mut d = Digest::default();
            d.add(&[b"x", b"1"]);
            d.to_hex()
        });
    }
}
