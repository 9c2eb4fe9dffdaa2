//! Hit rate, NDCG, recall, coverage and latency.
//!
//! NDCG has binary gains and a discount of `1 / log2(rank + 1)`, with rank from 1; the ideal has `min(k, |holdout|)` hits
//! (Järvelin and Kekäläinen 2002).

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use nearcast_domain::{ItemId, Vector};
use serde::Serialize;

use super::Holdout;
use crate::train::interval;

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
    /// The bounds of NDCG: a 95 % interval by bootstrap over people.
    pub ndcg_low: f64,
    /// See `ndcg_low`.
    pub ndcg_high: f64,
    /// How rare what is recommended is: the mean of `-log2` of the share of people who have an item (Zhou et al. 2010).
    pub novelty: f64,
    /// How unlike each other the items of an answer are: the mean of one minus the cosine of their texts, over pairs.
    pub diversity: f64,
    /// The share of recommended items that fewer than [`COLD`] people have.
    pub cold: f64,
}

/// An item that fewer people have is cold.
pub const COLD: u32 = 5;

/// What is known of items beside who chose them next.
#[derive(Debug, Default)]
pub struct Shelf {
    /// How many people there are.
    pub people: usize,
    /// By item, how many people have it.
    pub fans: BTreeMap<ItemId, u32>,
    /// By item, the vector of its text.
    pub texts: BTreeMap<ItemId, Vector>,
}

impl Shelf {
    fn novelty(&self, item: &ItemId) -> f64 {
        let fans = self.fans.get(item).copied().unwrap_or(0).max(1);
        (self.people.max(1) as f64 / f64::from(fans)).log2()
    }

    fn is_cold(&self, item: &ItemId) -> bool {
        self.fans.get(item).copied().unwrap_or(0) < COLD
    }

    /// The mean over pairs whose texts are known; `None` where there is no such pair.
    fn diversity(&self, answer: &[ItemId]) -> Option<f64> {
        let texts: Vec<&Vector> = answer.iter().filter_map(|i| self.texts.get(i)).collect();
        let pairs = texts.iter().enumerate().flat_map(|(n, a)| texts[n + 1..].iter().map(move |b| (a, b)));
        let cosine = |(a, b): (&&Vector, &&Vector)| a.iter().zip(b.iter()).map(|(x, y)| f64::from(x * y)).sum::<f64>();
        let unlike: Vec<f64> = pairs.map(|p| 1.0 - cosine(p)).collect();
        (!unlike.is_empty()).then(|| mean(&unlike))
    }
}

fn mean(all: &[f64]) -> f64 {
    all.iter().sum::<f64>() / all.len().max(1) as f64
}

/// Adds up figures person by person.
#[derive(Debug, Default)]
pub struct Judge {
    users: usize,
    hits: usize,
    short: usize,
    ndcg: Vec<f64>,
    recall: f64,
    novelty: Vec<f64>,
    diversity: Vec<f64>,
    cold: usize,
    given: usize,
    shown: BTreeSet<ItemId>,
    took: Vec<Duration>,
}

impl Judge {
    /// Takes in one person's answer. Only the first `k` count.
    pub fn add(&mut self, holdout: &Holdout, answer: &[ItemId], k: usize, took: Duration, shelf: &Shelf) {
        let wanted: HashSet<&ItemId> = holdout.items.iter().collect();
        let answer = &answer[..answer.len().min(k)];
        let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
        let gained: f64 = answer.iter().enumerate().filter(|(_, i)| wanted.contains(i)).map(|(r, _)| discount(r)).sum();
        let ideal: f64 = (0..k.min(wanted.len())).map(discount).sum();
        let hits = answer.iter().filter(|i| wanted.contains(i)).count();
        self.users += 1;
        self.hits += usize::from(hits > 0);
        self.short += usize::from(answer.len() < k);
        self.ndcg.push(gained / ideal);
        self.novelty.extend(answer.iter().map(|i| shelf.novelty(i)));
        self.diversity.extend(shelf.diversity(answer));
        self.cold += answer.iter().filter(|i| shelf.is_cold(i)).count();
        self.given += answer.len();
        self.recall += hits as f64 / wanted.len() as f64;
        self.shown.extend(answer.iter().cloned());
        self.took.push(took);
    }

    /// The figures, for a catalogue of so many items.
    pub fn figures(mut self, k: usize, catalogue: u64) -> Figures {
        let users = self.users.max(1) as f64;
        self.took.sort();
        let (ndcg_low, ndcg_high) = interval(&self.ndcg, 0.025);
        let quantile = |q: f64| {
            let at = ((self.took.len() as f64 * q).ceil() as usize).clamp(1, self.took.len().max(1)) - 1;
            self.took.get(at).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
        };
        Figures {
            users: self.users,
            k,
            hr: self.hits as f64 / users,
            ndcg: mean(&self.ndcg),
            ndcg_low,
            ndcg_high,
            novelty: mean(&self.novelty),
            diversity: mean(&self.diversity),
            cold: self.cold as f64 / self.given.max(1) as f64,
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
        let text = |x: f32, y: f32| Vector::from(vec![x, y]);
        let shelf = Shelf {
            people: 8,
            fans: [("a", 8), ("x", 2)].map(|(i, n)| (ItemId::trusted(i), n)).into(),
            texts: [("a", text(1.0, 0.0)), ("x", text(0.0, 1.0))].map(|(i, v)| (ItemId::trusted(i), v)).into(),
        };
        let h = |items: &[&str]| Holdout { user_id: UserId::trusted("u"), items: ids(items) };
        judge.add(&h(&["a", "b"]), &ids(&["a", "x", "b"]), 3, Duration::from_millis(2), &shelf);
        judge.add(&h(&["c"]), &ids(&["x", "y"]), 3, Duration::from_millis(4), &shelf);
        let f = judge.figures(3, 10);
        let ndcg = (1.0 + 0.5) / (1.0 + 1.0 / 3_f64.log2());
        assert!((f.ndcg - ndcg / 2.0).abs() < 1e-12);
        assert_eq!((f.users, f.hr, f.recall, f.coverage, f.short), (2, 0.5, 0.5, 0.4, 1));
        // Everyone has a, a quarter has x, nobody b and y.
        assert!((f.novelty - (0.0 + 2.0 + 3.0 + 2.0 + 3.0) / 5.0).abs() < 1e-12);
        assert_eq!((f.cold, f.diversity), (0.8, 1.0));
        assert!(f.ndcg_low <= f.ndcg && f.ndcg <= f.ndcg_high);
        assert_eq!((f.p50_ms, f.p99_ms), (2.0, 4.0));
    }
}
