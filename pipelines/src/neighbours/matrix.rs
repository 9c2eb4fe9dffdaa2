//! Edges as two tables, users' items in the order of time and items' users, with names numbered in the order of their text.
//!
//! The order makes every sum and every tie the same for the same edges.

use nearcast_domain::{ItemId, ports::Edge};

/// Who engaged with what, in which order.
#[derive(Debug, Default)]
pub struct Matrix {
    /// Items by number.
    pub items: Vec<ItemId>,
    /// Where each user's sequence begins; one more than there are users.
    user_starts: Vec<u32>,
    /// Item numbers by user, oldest last engagement first, ties by item.
    sequences: Vec<u32>,
    item_starts: Vec<u32>,
    /// By item, users in the order of their number.
    fans: Vec<Fan>,
}

/// A user of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fan {
    /// The user's number.
    pub user: u32,
    /// Where the item stands in the user's sequence.
    pub place: u32,
    /// When they last engaged with it, in milliseconds.
    pub last: i64,
}

impl Matrix {
    /// Takes the edges that say something, of each user the `cap` newest.
    pub fn new(edges: &[Edge], cap: usize) -> Self {
        let mut kept: Vec<&Edge> = edges.iter().filter(|e| e.weight > 0.0).collect();
        kept.sort_by(|a, b| (&a.user, a.last, &a.item).cmp(&(&b.user, b.last, &b.item)));
        let rows = || kept.chunk_by(|a, b| a.user == b.user).map(|row| &row[row.len().saturating_sub(cap)..]);
        let mut items: Vec<ItemId> = rows().flatten().map(|e| e.item.clone()).collect();
        items.sort();
        items.dedup();
        let number = |item: &ItemId| items.binary_search(item).unwrap_or_default() as u32;
        let (mut user_starts, mut sequences) = (vec![0_u32], Vec::with_capacity(kept.len()));
        let mut item_starts = vec![0_u32; items.len() + 1];
        for row in rows() {
            for e in row {
                let item = number(&e.item);
                sequences.push(item);
                item_starts[item as usize + 1] += 1;
            }
            user_starts.push(sequences.len() as u32);
        }
        for i in 1..item_starts.len() {
            item_starts[i] += item_starts[i - 1];
        }
        let mut next = item_starts.clone();
        let mut fans = vec![Fan { user: 0, place: 0, last: 0 }; sequences.len()];
        for (user, row) in rows().enumerate() {
            for (place, e) in row.iter().enumerate() {
                let item = sequences[user_starts[user] as usize + place] as usize;
                fans[next[item] as usize] = Fan { user: user as u32, place: place as u32, last: e.last.millis() };
                next[item] += 1;
            }
        }
        Self { items, user_starts, sequences, item_starts, fans }
    }

    /// A user's items, by number, oldest first.
    pub fn sequence(&self, user: u32) -> &[u32] {
        &self.sequences[self.user_starts[user as usize] as usize..self.user_starts[user as usize + 1] as usize]
    }

    /// An item's users.
    pub fn fans(&self, item: u32) -> &[Fan] {
        &self.fans[self.item_starts[item as usize] as usize..self.item_starts[item as usize + 1] as usize]
    }
}
