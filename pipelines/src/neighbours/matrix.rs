//! Edges as two compressed sparse tables, by user and by item, with names interned in the order of their text.
//!
//! The order makes every sum and every tie the same for the same edges.

use nearcast_domain::{ItemId, UserId, ports::Edge};

/// Weighted edges between users and items, both numbered by the order of their ids.
#[derive(Debug, Default)]
pub struct Matrix {
    /// Items by number.
    pub items: Vec<ItemId>,
    /// Where each user's row begins; one more than there are users.
    user_starts: Vec<u32>,
    /// (item, weight) by user.
    by_user: Vec<(u32, f32)>,
    item_starts: Vec<u32>,
    /// (user, weight) by item.
    by_item: Vec<(u32, f32)>,
}

impl Matrix {
    /// Takes the edges that say something, of each user at most the `cap` newest.
    pub fn new(edges: &[Edge], cap: usize) -> Self {
        let mut kept: Vec<&Edge> = edges.iter().filter(|e| e.weight > 0.0).collect();
        kept.sort_by(|a, b| (&a.user, &b.last, &a.item).cmp(&(&b.user, &a.last, &b.item)));
        let mut run: (Option<&UserId>, usize) = (None, 0);
        kept.retain(|e| {
            run = if run.0 == Some(&e.user) { (run.0, run.1 + 1) } else { (Some(&e.user), 1) };
            run.1 <= cap
        });
        let mut items: Vec<ItemId> = kept.iter().map(|e| e.item.clone()).collect();
        items.sort();
        items.dedup();
        let number = |item: &ItemId| items.binary_search(item).unwrap_or_default() as u32;
        let (mut user_starts, mut by_user) = (vec![0_u32], Vec::with_capacity(kept.len()));
        for row in kept.chunk_by(|a, b| a.user == b.user) {
            let mut row: Vec<(u32, f32)> = row.iter().map(|e| (number(&e.item), e.weight)).collect();
            row.sort_by_key(|(item, _)| *item);
            by_user.extend(row);
            user_starts.push(by_user.len() as u32);
        }
        let mut item_starts = vec![0_u32; items.len() + 1];
        for (item, _) in &by_user {
            item_starts[*item as usize + 1] += 1;
        }
        for i in 1..item_starts.len() {
            item_starts[i] += item_starts[i - 1];
        }
        let mut next = item_starts.clone();
        let mut by_item = vec![(0, 0.0); by_user.len()];
        for user in 0..user_starts.len() - 1 {
            for (item, weight) in &by_user[user_starts[user] as usize..user_starts[user + 1] as usize] {
                by_item[next[*item as usize] as usize] = (user as u32, *weight);
                next[*item as usize] += 1;
            }
        }
        Self { items, user_starts, by_user, item_starts, by_item }
    }

    /// How many users have an edge.
    pub fn users(&self) -> usize {
        self.user_starts.len().saturating_sub(1)
    }

    /// A user's items, by number.
    pub fn of_user(&self, user: u32) -> &[(u32, f32)] {
        &self.by_user[self.user_starts[user as usize] as usize..self.user_starts[user as usize + 1] as usize]
    }

    /// An item's users, by number.
    pub fn of_item(&self, item: u32) -> &[(u32, f32)] {
        &self.by_item[self.item_starts[item as usize] as usize..self.item_starts[item as usize + 1] as usize]
    }
}
