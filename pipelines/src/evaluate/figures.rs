//! Hit rate, NDCG, recall, coverage and latency.
//!
//! NDCG has binary gains and a discount of `1 / log2(rank + 1)`, with rank from 1; the ideal has `min(k, |holdout|)` hits
//! (Järvelin and Kekäläinen 2002).

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use nearcast_domain::ItemId;
use serde::Serialize;

use super::Holdout;

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// People judged.
    pub users: usize,
    /// How many recommendations each.
    pub k: usize,
    /// The share of people with at least one hit.
    pub hr: f64,
    /// Mean NDCG.
    pub ndcg: f64,
    /// The mean share of the holdout that was hit.
    pub recall: f64,
    /// The share of the catalogue that was recommended to anyone.
    pub coverage: f64,
    /// Answers with fewer than k items.
    pub short: usize,
    /// Half of all answers took less, in milliseconds.
    pub p50_ms: f64,
    /// All but one in a hundred took less, in milliseconds.
    pub p99_ms: f64,
}

/// Adds up figures person by person.
#[derive(Debug, Default)]
pub struct Judge {
    users: usize,
    hits: usize,
    short: usize,
    ndcg: f64,
    recall: f64,
    shown: BTreeSet<ItemId>,
    took: Vec<Duration>,
}

impl Judge {
    /// Takes in one person's answer. Only the first `k` count.
    pub fn add(&mut self, holdout: &Holdout, answer: &[ItemId], k: usize, took: Duration) {
        let wanted: HashSet<&ItemId> = holdout.items.iter().collect();
        let answer = &answer[..answer.len().min(k)];
        let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
        let gained: f64 = answer.iter().enumerate().filter(|(_, i)| wanted.contains(i)).map(|(r, _)| discount(r)).sum();
        let ideal: f64 = (0..k.min(wanted.len())).map(discount).sum();
        let hits = answer.iter().filter(|i| wanted.contains(i)).count();
        self.users += 1;
        self.hits += usize::from(hits > 0);
        self.short += usize::from(answer.len() < k);
        self.ndcg += gained / ideal;
        self.recall += hits as f64 / wanted.len() as f64;
        self.shown.extend(answer.iter().cloned());
        self.took.push(took);
    }

    /// The figures, for a catalogue of so many items.
    pub fn figures(mut self, k: usize, catalogue: u64) -> Figures {
        let users = self.users.max(1) as f64;
        self.took.sort();
        let quantile = |q: f64| {
            let at = ((self.took.len() as f64 * q).ceil() as usize).clamp(1, self.took.len().max(1)) - 1;
            self.took.get(at).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
        };
        Figures {
            users: self.users,
            k,
            hr: self.hits as f64 / users,
            ndcg: self.ndcg / users,
            recall: self.recall / users,
            coverage: self.shown.len() as f64 / catalogue.max(1) as f64,
            short: self.short,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use nearcast_domain::UserId;

    use super::*;

    fn ids(names: &[&str]) -> Vec<ItemId> {
        names.iter().map(|n| ItemId::trusted(*n)).collect()
    }

    #[test]
    fn figures_by_hand() {
        let mut judge = Judge::default();
        let h = |items: &[&str]| Holdout { user_id: UserId::trusted("u"), items: ids(items) };
        judge.add(&h(&["a", "b"]), &ids(&["a", "x", "b"]), 3, Duration::from_millis(2));
        judge.add(&h(&["c"]), &ids(&["x", "y"]), 3, Duration::from_millis(4));
        let f = judge.figures(3, 10);
        let ndcg = (1.0 + 0.5) / (1.0 + 1.0 / 3_f64.log2());
        assert!((f.ndcg - ndcg / 2.0).abs() < 1e-12);
        assert_eq!((f.users, f.hr, f.recall, f.coverage, f.short), (2, 0.5, 0.5, 0.4, 1));
        assert_eq!((f.p50_ms, f.p99_ms), (2.0, 4.0));
    }
}
