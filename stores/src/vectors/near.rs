//! What a search carries along: points with their nearness.

use std::cmp::Ordering;

/// A point and how near it is. The greatest is the nearest; of equally near ones the lowest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Near {
    pub(super) score: i32,
    pub(super) point: u32,
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.cmp(&other.score).then_with(|| other.point.cmp(&self.point))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
