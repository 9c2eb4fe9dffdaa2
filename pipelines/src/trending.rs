//! How fast trending should fade for a catalogue and how much it should weigh, found by replaying the latest past.
//!
//! Candidates are shares of the history's span. The last tenth of all choices is replayed in blocks: at the beginning of
//! each, a candidate's scores are frozen, and each choice of an item that was new to its user gains by the item's rank among
//! those the user had not chosen. Nothing here is anything but a function of the edges.

use nearcast_domain::ports::{Edge, TrendFit};
use serde::{Deserialize, Serialize};

/// How the fit is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FitRule {
    /// Candidates, as shares of the span of the history, longest first. Never fading is always a candidate.
    pub shares: Vec<f64>,
    /// The share of all choices, at the end, that is replayed.
    pub replayed: f64,
    /// The most choices that are replayed, the newest.
    pub most: usize,
    /// In how many blocks.
    pub blocks: usize,
    /// The slowest candidate that gains at least this share of what the best gains is taken.
    pub tolerance: f64,
}

impl Default for FitRule {
    fn default() -> Self {
        let shares = vec![0.3, 0.1, 0.03, 0.01, 0.003, 0.001];
        Self { shares, replayed: 0.1, most: 20_000, blocks: 20, tolerance: 0.95 }
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
        if !(self.tolerance > 0.0 && self.tolerance <= 1.0) {
            return Err("upkeep.trending.tolerance must lie above 0 and at most at 1".into());
        }
        if self.most == 0 || self.blocks == 0 {
            return Err("upkeep.trending.most and blocks must be at least 1".into());
        }
        Ok(())
    }
}

const HOUR_MS: f64 = 3_600_000.0;
/// What trending weighs at least and at most, and how steeply the weight follows what fading gains (`docs/taste.md`).
const SHARE: (f64, f64, f64) = (0.05, 0.8, 5.0);
/// Where a list that people look at ends.
const TOP: u64 = 10;

/// One user's first engagement with one item.
struct Choice {
    at: i64,
    user: u32,
    item: u32,
}

/// What one candidate gains, on average over the replayed choices.
#[derive(Clone, Copy, Default)]
struct Gain {
    all: f64,
    top: f64,
}

/// What fits these edges; `None` where there are too few to tell.
pub fn fit(edges: &[Edge], rule: &FitRule) -> Option<TrendFit> {
    let (choices, users, items) = choices(edges);
    let span = (choices.last()?.at - choices.first()?.at) as f64 / HOUR_MS;
    let replayed = ((choices.len() as f64 * rule.replayed) as usize).min(rule.most);
    if replayed == 0 || span < 1.0 {
        return None;
    }
    let begin = choices.len() - replayed;
    let candidates: Vec<Option<f64>> = std::iter::once(None).chain(rule.shares.iter().map(|s| Some(s * span))).collect();
    let gains: Vec<Gain> =
        candidates.iter().map(|half_life| replay(&choices, begin, users, items, *half_life, rule.blocks)).collect();
    let best = gains.iter().map(|g| g.all).fold(0.0, f64::max);
    let picked = gains.iter().position(|g| g.all >= rule.tolerance * best)?;
    let (low, high, steep) = SHARE;
    let share = (low + steep * (gains[picked].top - gains[0].top)).clamp(low, high);
    Some(TrendFit { half_life_hours: candidates[picked], share })
}

/// Choices in the order of time (ties by user and item), with users and items numbered by id.
fn choices(edges: &[Edge]) -> (Vec<Choice>, usize, usize) {
    let edges: Vec<&Edge> = edges.iter().filter(|e| e.weight > 0.0).collect();
    let mut users: Vec<_> = edges.iter().map(|e| &e.user).collect();
    let mut items: Vec<_> = edges.iter().map(|e| &e.item).collect();
    users.sort();
    users.dedup();
    items.sort();
    items.dedup();
    let mut choices: Vec<Choice> = edges
        .iter()
        .map(|e| Choice {
            at: e.first.millis(),
            user: users.binary_search(&&e.user).unwrap_or_default() as u32,
            item: items.binary_search(&&e.item).unwrap_or_default() as u32,
        })
        .collect();
    choices.sort_unstable_by_key(|c| (c.at, c.user, c.item));
    (choices, users.len(), items.len())
}

fn replay(choices: &[Choice], begin: usize, users: usize, items: usize, half_life: Option<f64>, blocks: usize) -> Gain {
    let mut chosen: Vec<Vec<u32>> = vec![Vec::new(); users];
    let mut scores = vec![0.0_f64; items];
    // Scores grow instead of fading, which ranks the same; they start anew before they get too large.
    let mut origin = choices[0].at;
    let block = (choices.len() - begin).div_ceil(blocks);
    let mut places = vec![0_u32; items];
    let mut gain = Gain::default();
    for (n, c) in choices.iter().enumerate() {
        if n >= begin {
            if (n - begin).is_multiple_of(block) {
                places = ranks(&scores);
            }
            let place = places[c.item as usize];
            if place != u32::MAX {
                let known = chosen[c.user as usize].iter().filter(|i| places[**i as usize] < place).count();
                let rank = u64::from(place) - known as u64;
                let worth = 1.0 / ((rank + 2) as f64).log2();
                gain.all += worth;
                gain.top += if rank < TOP { worth } else { 0.0 };
            }
        }
        chosen[c.user as usize].push(c.item);
        let mut age = half_life.map_or(0.0, |h| (c.at - origin) as f64 / HOUR_MS / h);
        if age > 500.0 {
            let fade = (-age).exp2();
            scores.iter_mut().for_each(|s| *s *= fade);
            origin = c.at;
            age = 0.0;
        }
        scores[c.item as usize] += age.exp2();
    }
    let n = (choices.len() - begin) as f64;
    Gain { all: gain.all / n, top: gain.top / n }
}

/// Each item's place by score, ties by number; `u32::MAX` for those without a score.
fn ranks(scores: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).filter(|i| scores[*i as usize] > 0.0).collect();
    order.sort_unstable_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
    let mut places = vec![u32::MAX; scores.len()];
    for (place, item) in order.into_iter().enumerate() {
        places[item as usize] = place as u32;
    }
    places
}

#[cfg(test)]
mod tests {
    use nearcast_domain::{ItemId, Timestamp, UserId};

    use super::*;

    fn edge(hour: i64, user: i64, item: &str) -> Edge {
        let at = Timestamp::from_millis(hour * 3_600_000);
        let user = UserId::trusted(format!("u{user}"));
        Edge { user, item: ItemId::trusted(item), weight: 1.0, positive: true, first: at, last: at }
    }

    #[test]
    fn lasting_popularity_never_fades() {
        let mut rng = fastrand::Rng::with_seed(1);
        // The square makes the first items popular, all the time.
        let edges: Vec<_> = (0..5000).map(|h| edge(h, h, &format!("i{:03}", (rng.f64() * rng.f64() * 200.0) as u32))).collect();
        let found = fit(&edges, &FitRule::default()).unwrap();
        assert_eq!((found.half_life_hours, found.share), (None, 0.05));
    }

    #[test]
    fn news_fade_fast_and_weigh_much() {
        let mut rng = fastrand::Rng::with_seed(2);
        // Each item lives for about 50 hours.
        let edges: Vec<_> = (0..5000).map(|h| edge(h, h, &format!("i{:03}", h / 25 + rng.i64(0..3)))).collect();
        let found = fit(&edges, &FitRule::default()).unwrap();
        assert!(found.half_life_hours.is_some_and(|h| h <= 160.0) && found.share > 0.5, "{found:?}");
    }

    #[test]
    fn nothing_to_fit() {
        assert_eq!(fit(&[], &FitRule::default()), None);
        assert_eq!(fit(&[edge(1, 1, "a")], &FitRule::default()), None);
    }
}
