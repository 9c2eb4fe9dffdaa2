//! Learning a blend: coordinate ascent on NDCG@10 over several slices, from the default on.
//!
//! A step is kept only if it gains 1 % on the mean over slices, and in the end the blend nearest to the default that gains about as much
//! is taken: what a history does not clearly say stays as it is.

use std::sync::atomic::{AtomicBool, Ordering};

use nearcast_domain::learned::{Blend, GROUPS, group_of, in_the_moment};
use rayon::prelude::*;

use super::sources::{COLUMNS, GRAPH, LEARNED, NEXT, PACES, RECENCIES, Row, TASTES, TEXT, TRENDING, USERS};

/// How many places count.
pub const K: usize = 10;
/// One in so many people is looked at to see which changes are worth looking at closely, and how many are.
const GLANCE: usize = 4;
const PROMISING: usize = 10;
/// What a step must gain.
const STEP: f64 = 1.01;
/// The values that a source's weight may take.
const WEIGHTS: [f32; 12] = [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0];
/// Ways from the default to what was found; the nearest that keeps this share of the gain is taken.
const SHRINK: [f32; 3] = [0.25, 0.5, 0.75];
const SHRUNK: f64 = 0.9;
/// A group of people has a blend of its own where each slice has so many of them, and where it gains so much.
const GROUP: usize = 100;
const GROUP_STEP: f64 = 1.02;

/// What a hit gains, by its place from 0.
pub fn discount(rank: usize) -> f64 {
    1.0 / ((rank + 2) as f64).log2()
}

/// What a column counts.
pub type Columns = [f32; COLUMNS];

/// The exponents that the rest is compared under, for what rises.
const MOMENTS: [f32; 4] = [0.0, 0.25, 0.5, 1.0];

/// Where the nearest of some values stands.
fn nearest(among: &[f32], x: f32) -> usize {
    let far = |at: &usize| (among[*at] - x).abs();
    (0..among.len()).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(0)
}

/// The column of trending under a blend.
fn trending(blend: &Blend) -> usize {
    TRENDING + nearest(&PACES, blend.trending_pace) * TASTES.len() + nearest(&TASTES, blend.trending_taste)
}

/// The weights of columns under a blend. A value between two of those that were compared counts as the nearest.
pub fn columns(blend: &Blend, share: f32) -> Columns {
    let mut w = [0.0; COLUMNS];
    w[GRAPH + nearest(&RECENCIES, blend.graph_recency)] = blend.graph;
    w[LEARNED + nearest(&RECENCIES, blend.learned_recency)] = blend.learned;
    (w[NEXT], w[USERS], w[TEXT]) = (blend.next, blend.similar_users, blend.similar_text);
    w[trending(blend)] = blend.trending * share;
    w
}

/// Scores under a blend, for someone with a share of trending.
pub struct Judging {
    used: Vec<(usize, f32)>,
    risen: usize,
    moment: f32,
}

impl Judging {
    /// See the type.
    pub fn new(blend: &Blend, share: f32) -> Self {
        let used = columns(blend, share).iter().copied().enumerate().filter(|(_, w)| *w > 0.0).collect();
        Self { used, risen: trending(blend), moment: blend.moment }
    }

    /// The score of a candidate.
    pub fn score(&self, s: &Columns) -> f32 {
        let gate = in_the_moment(s[self.risen], self.moment);
        self.used.iter().map(|(c, w)| w * s[*c] * if *c == self.risen { 1.0 } else { gate }).sum()
    }
}

/// One person's NDCG@10 under a blend.
pub fn judge(row: &Row, blend: &Blend) -> f64 {
    let judging = Judging::new(blend, row.share);
    let score = |s: &Columns| judging.score(s);

    let truths: Vec<(f32, u32)> =
        row.hits.iter().zip(0..).filter(|(hit, _)| **hit).map(|(_, at)| (score(&row.scores[at as usize]), at)).collect();
    if truths.iter().all(|(s, _)| *s <= 0.0) {
        return 0.0;
    }
    let mut ranks = vec![0_usize; truths.len()];
    for (at, scores) in (0_u32..).zip(&row.scores) {
        let s = score(scores);
        for (rank, (truth, place)) in ranks.iter_mut().zip(&truths) {
            // Ties go by number, which runs in the order of ids.
            *rank += usize::from(s > *truth || (s == *truth && at < *place));
        }
    }
    let gained: f64 = ranks.iter().zip(&truths).filter(|(r, (s, _))| **r < K && *s > 0.0).map(|(r, _)| discount(*r)).sum();
    gained / (0..row.wanted.min(K)).map(discount).sum::<f64>()
}

/// Everyone's NDCG@10, in order.
pub fn judge_all(rows: &[Row], blend: &Blend) -> Vec<f64> {
    rows.par_iter().map(|r| judge(r, blend)).collect()
}

/// The mean, in order.
pub fn mean(all: &[f64]) -> f64 {
    all.iter().sum::<f64>() / all.len().max(1) as f64
}

/// The mean over slices of the mean over people.
fn value(slices: &[Vec<Row>], blend: &Blend) -> f64 {
    value_of(slices, blend, 1)
}

/// The same over one in so many people.
fn value_of(slices: &[Vec<Row>], blend: &Blend, one_in: usize) -> f64 {
    let of = |s: &Vec<Row>| mean(&s.par_iter().step_by(one_in).map(|r| judge(r, blend)).collect::<Vec<_>>());
    mean(&slices.iter().filter(|s| !s.is_empty()).map(of).collect::<Vec<_>>())
}

/// What can be changed about a blend, one at a time; nothing that makes no difference.
fn neighbours(blend: &Blend) -> Vec<Blend> {
    let mut all = Vec::new();
    for w in WEIGHTS {
        all.push(Blend { graph: w, ..*blend });
        all.push(Blend { learned: w, ..*blend });
        all.push(Blend { next: w, ..*blend });
        all.push(Blend { similar_users: w, ..*blend });
        all.push(Blend { similar_text: w, ..*blend });
        all.push(Blend { trending: w, ..*blend });
    }
    if blend.graph > 0.0 {
        all.extend(RECENCIES.map(|graph_recency| Blend { graph_recency, ..*blend }));
    }
    if blend.learned > 0.0 {
        all.extend(RECENCIES.map(|learned_recency| Blend { learned_recency, ..*blend }));
    }
    if blend.trending > 0.0 || blend.moment > 0.0 {
        all.extend(PACES.map(|trending_pace| Blend { trending_pace, ..*blend }));
        all.extend(TASTES.map(|trending_taste| Blend { trending_taste, ..*blend }));
        all.extend(MOMENTS.map(|moment| Blend { moment, ..*blend }));
    }
    all.retain(|b| b != blend);
    all
}

fn ascend(slices: &[Vec<Row>], from: Blend, stop: &AtomicBool) -> (Blend, f64) {
    let mut best = (from, value(slices, &from));
    while !stop.load(Ordering::Relaxed) {
        let mut next = best;
        // Most changes are for the worse, which a part of the people shows.
        let mut promising: Vec<(Blend, f64)> =
            neighbours(&best.0).into_iter().map(|b| (b, value_of(slices, &b, GLANCE))).collect();
        promising.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (blend, _) in promising.into_iter().take(PROMISING) {
            let v = value(slices, &blend);
            if v > next.1 {
                next = (blend, v);
            }
        }
        if next.1 <= best.1 * STEP {
            return best;
        }
        best = next;
    }
    best
}

fn between(a: &Blend, b: &Blend, part: f32) -> Blend {
    let mix = |a: f32, b: f32| a + part * (b - a);
    Blend {
        graph: mix(a.graph, b.graph),
        learned: mix(a.learned, b.learned),
        next: mix(a.next, b.next),
        similar_users: mix(a.similar_users, b.similar_users),
        similar_text: mix(a.similar_text, b.similar_text),
        trending: mix(a.trending, b.trending),
        ..*b
    }
}

/// A source by itself.
pub fn alone(source: usize) -> Blend {
    let none =
        Blend { graph: 0.0, learned: 0.0, next: 0.0, similar_users: 0.0, similar_text: 0.0, trending: 0.0, ..Blend::default() };
    match source {
        0 => Blend { graph: 1.0, ..none },
        1 => Blend { learned: 1.0, ..none },
        2 => Blend { next: 1.0, ..none },
        3 => Blend { similar_users: 1.0, ..none },
        4 => Blend { similar_text: 1.0, ..none },
        _ => Blend { trending: 1.0, ..none },
    }
}

/// The sources of [`alone`], in order.
pub const ALONE: [&str; 6] = ["graph", "learned", "next", "similar_users", "similar_text", "trending"];

/// The blend that these slices speak for, from `from` on.
pub fn learn(slices: &[Vec<Row>], from: Blend, stop: &AtomicBool) -> Blend {
    let base = value(slices, &from);
    let mut found = ascend(slices, from, stop);
    // A hill may lie where a source stands alone.
    let starts = (0..ALONE.len()).map(alone).max_by(|a, b| value(slices, a).total_cmp(&value(slices, b)));
    for start in starts.into_iter().chain([
        Blend { learned: from.graph.max(1.0), ..from },
        // What everyone does now, and among that what fits the person.
        Blend { trending: 1.0, trending_pace: PACES[2], moment: MOMENTS[1], ..from },
    ]) {
        let other = ascend(slices, start, stop);
        if other.1 > found.1 * STEP {
            found = other;
        }
    }
    let enough = base + SHRUNK * (found.1 - base);
    let shrunk = SHRINK.iter().map(|part| between(&from, &found.0, *part)).find(|b| value(slices, b) >= enough);
    shrunk.unwrap_or(found.0)
}

/// Blends of groups of people, where the slices speak for them.
pub fn groups(slices: &[Vec<Row>], blend: &Blend, stop: &AtomicBool) -> [Option<Blend>; GROUPS.len()] {
    std::array::from_fn(|group| {
        let of: Vec<Vec<Row>> =
            slices.iter().map(|s| s.iter().filter(|r| group_of(r.own) == group).cloned().collect()).collect();
        if of.iter().any(|s: &Vec<Row>| s.len() < GROUP) || of.iter().map(Vec::len).eq(slices.iter().map(Vec::len)) {
            return None;
        }
        // Every slice must agree.
        let own = learn(&of, *blend, stop);
        let gains = |s: &Vec<Row>| mean(&judge_all(s, &own)) > GROUP_STEP * mean(&judge_all(s, blend));
        (own != *blend && of.iter().all(gains)).then_some(own)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seed: u64, best: usize) -> Row {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut scores: Vec<Columns> = (0..50).map(|_| std::array::from_fn(|_| rng.f32())).collect();
        let mut hits = vec![false; 50];
        for at in [3, 30] {
            hits[at] = true;
            scores[at][best] = 0.9 + 0.1 * rng.f32();
        }
        Row { own: 3, share: 0.1, wanted: 2, items: (0..50).collect(), scores, hits }
    }

    #[test]
    fn ndcg_by_hand() {
        let mut r = row(1, GRAPH);
        r.scores.iter_mut().for_each(|s| *s = [0.0; COLUMNS]);
        (r.scores[3][USERS], r.scores[7][USERS], r.scores[30][USERS]) = (0.5, 0.5, 1.0);
        let ideal = 1.0 + discount(1);
        assert!((judge(&r, &alone(3)) - 1.0).abs() < 1e-12);
        r.scores[2][USERS] = 0.5;
        assert!((judge(&r, &alone(3)) - (1.0 + discount(2)) / ideal).abs() < 1e-12, "of equals the lower number comes first");
        assert_eq!(judge(&r, &alone(0)), 0.0);
    }

    #[test]
    fn the_source_that_knows_is_found_and_nothing_is_learned_from_noise() {
        let slices =
            |best: usize| -> Vec<Vec<Row>> { (0..3).map(|s| (0..150).map(|n| row(1000 * s + n, best)).collect()).collect() };
        let at = RECENCIES.iter().position(|r| *r == 0.25).unwrap();
        let found = learn(&slices(LEARNED + at), Blend::default(), &AtomicBool::new(false));
        assert!(found.learned > found.graph && found.learned > found.similar_users, "{found:?}");
        assert_eq!(found.learned_recency, 0.25);
        let noise: Vec<Vec<Row>> = slices(GRAPH)
            .into_iter()
            .map(|s| {
                s.into_iter()
                    .map(|mut r| {
                        r.hits = vec![false; 50];
                        r
                    })
                    .collect()
            })
            .collect();
        assert_eq!(learn(&noise, Blend::default(), &AtomicBool::new(false)), Blend::default());
    }
}
