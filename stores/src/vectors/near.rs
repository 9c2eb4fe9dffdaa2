//! What a walk through a graph carries along: points with their nearness, and which were seen.

use std::{cell::RefCell, cmp::Ordering};

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

/// The points that a search has seen, by the number of the search.
#[derive(Default)]
pub(super) struct Seen {
    marks: Vec<u32>,
    search: u32,
}

impl Seen {
    /// Begins a search among points with numbers below this.
    pub(super) fn begin(&mut self, points: usize) {
        if self.marks.len() < points {
            self.marks.resize(points, 0);
        }
        self.search = self.search.wrapping_add(1);
        if self.search == 0 {
            self.marks.fill(0);
            self.search = 1;
        }
    }

    /// Whether this is the first time.
    pub(super) fn first(&mut self, point: u32) -> bool {
        let mark = &mut self.marks[point as usize];
        let first = *mark != self.search;
        *mark = self.search;
        first
    }
}

thread_local! {
    /// One a thread, so that a search allocates nothing for it.
    pub(super) static SEEN: RefCell<Seen> = RefCell::default();
}
