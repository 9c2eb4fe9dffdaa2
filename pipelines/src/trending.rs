//! The half-life of trending that fits a catalogue, found by replaying its own latest past.
//!
//! Candidates are shares of the history's span. At moments spread over the latest part of the history, each candidate ranks
//! the items by what was known then; it gains by where the engagements that followed stand in its ranking. Nothing is
//! learned that is not a function of the totals.

use std::collections::BTreeMap;

use nearcast_domain::{ItemId, ports::HourTotal};
use serde::{Deserialize, Serialize};

/// How the half-life is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FitRule {
    /// Candidates, as shares of the span of the history. Never fading is always a candidate.
    pub shares: Vec<f64>,
    /// The share of all engagements, at the end, that is replayed.
    pub replayed: f64,
    /// At how many moments of it the candidates are compared.
    pub moments: usize,
    /// How deep a ranking is judged.
    pub depth: usize,
    /// How many of the newest totals are read.
    pub rows: usize,
}

impl Default for FitRule {
    fn default() -> Self {
        Self { shares: vec![0.3, 0.1, 0.03, 0.01, 0.003, 0.001], replayed: 0.1, moments: 50, depth: 50, rows: 500_000 }
    }
}

impl FitRule {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), String> {
        if self.shares.iter().any(|s| !(*s > 0.0 && *s <= 1.0)) {
            return Err("upkeep.trending.shares must lie above 0 and at most at 1".into());
        }
        if !(self.replayed > 0.0 && self.replayed < 1.0) {
            return Err("upkeep.trending.replayed must lie between 0 and 1".into());
        }
        if self.moments == 0 || self.depth == 0 || self.rows == 0 {
            return Err("upkeep.trending.moments, depth and rows must be at least 1".into());
        }
        Ok(())
    }
}

/// The half-life in hours that ranked the latest past best; `None`: never fading. Totals come by hour, oldest first.
pub fn fit(hours: &[HourTotal], rule: &FitRule) -> Option<f64> {
    let (first, last) = (hours.first()?.hour, hours.last()?.hour);
    let span = (last - first) as f64;
    if span < 1.0 {
        return None;
    }
    let mut numbers: BTreeMap<&ItemId, usize> = BTreeMap::new();
    for h in hours {
        numbers.insert(&h.item, 0);
    }
    for (n, slot) in numbers.values_mut().enumerate() {
        *slot = n;
    }
    let facts: Vec<(i64, usize, f64)> = hours.iter().map(|h| (h.hour, numbers[&h.item], h.weight)).collect();
    let begin = ((facts.len() as f64) * (1.0 - rule.replayed)) as usize;
    let half_lives: Vec<Option<f64>> =
        std::iter::once(None).chain(rule.shares.iter().map(|s| Some((s * span).max(1.0)))).collect();
    let gains: Vec<f64> = half_lives.iter().map(|h| gain(&facts, begin, numbers.len(), *h, first, rule)).collect();
    // The slower one wins a tie: it is first.
    let mut best = 0;
    for (n, g) in gains.iter().enumerate() {
        if *g > gains[best] * 1.02 {
            best = n;
        }
    }
    half_lives[best]
}

/// What a half-life gains: for each replayed engagement the discount of its item's rank at the moment before.
fn gain(facts: &[(i64, usize, f64)], begin: usize, items: usize, half_life: Option<f64>, first: i64, rule: &FitRule) -> f64 {
    // Scores grow instead of fading, which ranks the same; the exponent is kept small by starting anew when it gets large.
    let mut origin = first;
    let mut scores = vec![0.0_f64; items];
    let window = ((facts.len() - begin) / rule.moments).max(1);
    let mut ranks: Vec<u32> = Vec::new();
    let mut gained = 0.0;
    for (n, (hour, item, weight)) in facts.iter().enumerate() {
        if n >= begin && (n - begin) % window == 0 {
            ranks = top(&scores, rule.depth);
        }
        if n >= begin {
            if let Some(rank) = ranks.iter().position(|r| *r as usize == *item) {
                gained += weight / ((rank + 2) as f64).log2();
            }
        }
        let mut age = half_life.map_or(0.0, |h| (hour - origin) as f64 / h);
        if age > 500.0 {
            let fade = (-age).exp2();
            scores.iter_mut().for_each(|s| *s *= fade);
            origin = *hour;
            age = 0.0;
        }
        scores[*item] += weight * age.exp2();
    }
    gained
}

/// The numbers of the best items, best first, ties by number.
fn top(scores: &[f64], depth: usize) -> Vec<u32> {
    let mut all: Vec<u32> = (0..scores.len() as u32).filter(|i| scores[*i as usize] > 0.0).collect();
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if all.len() > depth {
        all.select_nth_unstable_by(depth, order);
        all.truncate(depth);
    }
    all.sort_unstable_by(order);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(hour: i64, item: &str) -> HourTotal {
        HourTotal { hour, item: ItemId::trusted(item), count: 1, weight: 1.0 }
    }

    #[test]
    fn lasting_popularity_never_fades() {
        let mut rng = fastrand::Rng::with_seed(1);
        let hours: Vec<_> = (0..5000)
            .map(|h| {
                // The square makes the first items popular, all the time.
                let x = rng.f64();
                total(h, &format!("i{:03}", (x * x * 200.0) as u32))
            })
            .collect();
        assert_eq!(fit(&hours, &FitRule::default()), None);
    }

    #[test]
    fn news_fade_fast() {
        let mut rng = fastrand::Rng::with_seed(2);
        // Each item lives for about 50 hours.
        let hours: Vec<_> = (0..5000).map(|h| total(h, &format!("i{:03}", h / 25 + rng.i64(0..3)))).collect();
        let found = fit(&hours, &FitRule::default()).unwrap();
        assert!(found <= 160.0, "{found}");
    }

    #[test]
    fn nothing_to_fit() {
        assert_eq!(fit(&[], &FitRule::default()), None);
        assert_eq!(fit(&[total(1, "a")], &FitRule::default()), None);
    }
}
