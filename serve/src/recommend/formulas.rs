//! Every formula that decides about a score, in one place.
//!
//! Pure functions of their arguments: no store, no clock, no randomness. Sums run in the order of the input.

use std::{collections::HashMap, sync::Arc};

use nearcast_domain::{ItemId, candidate::Proposal};

/// How many ids a proposal names in `via`.
pub const VIA: usize = 3;

/// What the `rank`-th newest of a user's engagements still counts, from 0: `(1 + rank)^-exponent`.
pub fn recency(rank: usize, exponent: f32) -> f32 {
    ((rank + 1) as f32).powf(-exponent)
}

/// How far neighbours stand out: `(s - s_next) / (s_1 - s_next)`, where `s_1` is the nearest and `s_next` the first that is
/// no longer taken. Cosines of texts have much in common that says nothing; what all have in common goes. Where all
/// there are were taken, the cosine relative to the best stands. `found` must be best first; at most `taken` come back.
pub fn standing_out<T>(mut found: Vec<(T, f32)>, taken: usize) -> Vec<(T, f32)> {
    let floor = found.get(taken).map_or(0.0, |(_, s)| *s);
    let span = found.first().map_or(0.0, |(_, s)| *s) - floor;
    found.truncate(taken);
    for (_, s) in &mut found {
        // All alike: none stands out, and none is to be lost.
        *s = if span > 0.0 { (*s - floor) / span } else { 1.0 };
    }
    found.retain(|(_, s)| *s > 0.0);
    found
}

/// How many items' worth it is to have written something: whoever is known by words is no newcomer.
pub const WRITTEN: usize = 5;
/// How many items' worth it is to ask with a text or with items: what is asked for comes before what rises.
pub const ASKED: usize = 50;

/// What trending weighs: the share that fits the tenant, and more for a person of whom little is known.
pub fn trending_share(fitted: f32, newcomer: f32, own_items: usize) -> f32 {
    fitted + newcomer / (1 + own_items) as f32
}

/// A source's share in the score of an item: its weight times its own score, relative to the best that it proposed.
pub fn contribution(weight: f32, score: f32, best: f32) -> f32 {
    if best > 0.0 { weight * (score / best) } else { 0.0 }
}

/// What remains of a score when `same` of `chosen` items before share a category with it.
pub fn held_back(score: f32, diversity: f32, same: usize, chosen: usize) -> f32 {
    if chosen == 0 { score } else { score * (1.0 - diversity * (same as f32 / chosen as f32)) }
}

/// The score of the `rank`-th item that only fills an answer up: below everything that was proposed.
pub fn filler(newest_weight: f32, rank: usize, score_before: f32) -> f32 {
    (newest_weight / (rank + 1) as f32).min(score_before)
}

/// Adds up what speaks for items, and remembers through whom the most came.
#[derive(Default)]
pub struct Tally {
    items: HashMap<ItemId, Sum>,
}

#[derive(Default)]
struct Sum {
    score: f64,
    via: Vec<(f32, Arc<str>)>,
}

impl Tally {
    /// Adds a voice for an item; voices at or below 0, or not finite, say nothing.
    pub fn add(&mut self, item: &ItemId, voice: f32, via: &Arc<str>) {
        if !(voice.is_finite() && voice > 0.0) {
            return;
        }
        // Looked up before inserting: most items are there already, and a clone of the key would be wasted.
        let sum = match self.items.get_mut(item) {
            Some(sum) => sum,
            None => self.items.entry(item.clone()).or_default(),
        };
        sum.score += f64::from(voice);
        if sum.via.len() == VIA && sum.via[VIA - 1].0 >= voice {
            return;
        }
        // Equal voices keep the order in which they were heard.
        let at = sum.via.partition_point(|(v, _)| *v >= voice);
        sum.via.insert(at, (voice, via.clone()));
        sum.via.truncate(VIA);
    }

    /// The best proposals, at most so many: best first, ties by id.
    pub fn proposals(self, most: usize) -> Vec<Proposal> {
        let mut all: Vec<(ItemId, Sum)> = self.items.into_iter().collect();
        let score = |s: &(ItemId, Sum)| s.1.score as f32;
        let order = |a: &(ItemId, Sum), b: &(ItemId, Sum)| score(b).total_cmp(&score(a)).then_with(|| a.0.cmp(&b.0));
        if all.len() > most && most > 0 {
            all.select_nth_unstable_by(most - 1, order);
        }
        all.truncate(most);
        all.sort_unstable_by(order);
        let via = |sum: Sum| sum.via.into_iter().map(|(_, id)| id.as_ref().to_owned()).collect();
        all.into_iter().map(|(item, sum)| Proposal { item, score: sum.score as f32, via: via(sum) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_voices_are_named() {
        let mut t = Tally::default();
        let item = ItemId::trusted("i");
        for (voice, via) in [(0.1, "a"), (0.4, "b"), (0.3, "c"), (0.2, "d"), (f32::NAN, "e"), (-1.0, "f")] {
            t.add(&item, voice, &via.into());
        }
        t.add(&ItemId::trusted("h"), 1.0, &"a".into());
        for n in 0..100 {
            t.add(&ItemId::trusted(format!("x{n:02}")), 1e-3, &"a".into());
        }
        let p = t.proposals(4);
        assert_eq!((p.len(), p[2].item.as_str(), p[3].item.as_str()), (4, "x00", "x01"));
        assert_eq!((p[0].item.as_str(), p[1].item.as_str()), ("h", "i"));
        assert_eq!(p[1].via, ["b", "c", "d"]);
        assert!((p[1].score - 1.0).abs() < 1e-6);
    }

    #[test]
    fn formulas_at_their_edges() {
        assert_eq!(recency(0, 0.5), 1.0);
        assert_eq!(recency(3, 0.5), 0.5);
        assert_eq!(recency(9, 0.0), 1.0);
        assert_eq!(standing_out(vec![("a", 1.0), ("b", 0.875), ("c", 0.5)], 2), [("a", 1.0), ("b", 0.75)]);
        assert_eq!(standing_out(vec![("a", 0.8), ("b", 0.4), ("c", -0.1)], 9), [("a", 1.0), ("b", 0.5)]);
        assert_eq!(standing_out(vec![("a", 0.8), ("b", 0.8)], 1), [("a", 1.0)]);
        assert_eq!(standing_out(Vec::<((), f32)>::new(), 3), []);
        assert_eq!(trending_share(0.1, 0.6, 1), 0.4);
        assert_eq!(contribution(2.0, 0.0, 0.0), 0.0);
        assert_eq!(held_back(1.0, 0.5, 2, 2), 0.5);
    }
}
