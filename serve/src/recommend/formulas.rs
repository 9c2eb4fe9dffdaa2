//! Every formula that decides about a score, in one place.
//!
//! Pure functions of their arguments: no store, no clock, no randomness. Sums run in the order of the input.

pub use nearcast_domain::learned::held_back;

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

/// The score of the `rank`-th item that only fills an answer up: below everything that was proposed.
pub fn filler(newest_weight: f32, rank: usize, score_before: f32) -> f32 {
    (newest_weight / (rank + 1) as f32).min(score_before)
}

#[cfg(test)]
mod tests {
    use super::*;

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
