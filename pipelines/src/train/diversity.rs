//! How much diversity a blend may have: as much as costs next to nothing on what people really chose next.

use nearcast_domain::learned::{Blend, held_back};
use rayon::prelude::*;

use super::{
    blend::{Judging, K, discount, mean},
    sources::Row,
};

/// Strengths that are compared.
const STRENGTHS: [f32; 4] = [0.05, 0.1, 0.2, 0.3];
/// What must be left of NDCG@10.
const KEPT: f64 = 0.998;
/// How many candidates are looked at for each place, as requests do.
const LOOK_AT: usize = 5;

/// The strongest that keeps what must be kept, on the mean over slices; 0 where none does.
pub fn strength(slices: &[Vec<Row>], categories: &[Vec<u32>], blend: &Blend) -> f32 {
    let value = |diversity: f32| {
        let of = |s: &Vec<Row>| mean(&s.par_iter().map(|r| ndcg(r, categories, blend, diversity)).collect::<Vec<_>>());
        mean(&slices.iter().filter(|s| !s.is_empty()).map(of).collect::<Vec<_>>())
    };
    let least = KEPT * value(0.0);
    // Without anything to lose there is nothing to go by.
    if least <= 0.0 || categories.iter().all(Vec::is_empty) {
        return 0.0;
    }
    STRENGTHS.iter().rev().copied().find(|d| value(*d) >= least).unwrap_or(0.0)
}

/// One person's NDCG@10 with the selector of requests.
fn ndcg(row: &Row, categories: &[Vec<u32>], blend: &Blend, diversity: f32) -> f64 {
    let judging = Judging::new(blend, row.share);
    let mut pool: Vec<(f32, usize)> = row.scores.iter().enumerate().map(|(at, s)| (judging.score(s), at)).collect();
    pool.retain(|(s, _)| *s > 0.0);
    pool.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    pool.truncate(LOOK_AT * K);
    let of = |at: usize| &categories[row.items[at] as usize];
    let mut chosen: Vec<usize> = Vec::with_capacity(K);
    let mut gained = 0.0;
    while chosen.len() < K && !pool.is_empty() {
        let mut best = (0, f32::MIN);
        for (place, (score, at)) in pool.iter().enumerate() {
            let same = chosen.iter().filter(|c| of(**c).iter().any(|c| of(*at).contains(c))).count();
            let score = held_back(*score, diversity, same, chosen.len());
            if score > best.1 {
                best = (place, score);
            }
        }
        let (_, at) = pool.remove(best.0);
        if row.hits[at] {
            gained += discount(chosen.len());
        }
        chosen.push(at);
    }
    gained / (0..row.wanted.min(K)).map(discount).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::{
        super::sources::{COLUMNS, GRAPH, RECENCIES},
        *,
    };

    /// Twenty items of two categories in turns, or the first half of one; the first `hits` are chosen next.
    fn row(hits: usize) -> Row {
        let column = GRAPH + RECENCIES.iter().position(|r| *r == 0.75).unwrap();
        let scores = (0..20).map(|n| {
            let mut s = [0.0; COLUMNS];
            s[column] = 1.0 - n as f32 / 1000.0;
            s
        });
        Row {
            own: 3,
            share: 0.1,
            wanted: hits,
            items: (0..20).collect(),
            scores: scores.collect(),
            hits: (0..20).map(|n| n < hits).collect(),
        }
    }

    #[test]
    fn diversity_is_taken_where_it_costs_nothing() {
        let mixed: Vec<Vec<u32>> = (0..20).map(|n| vec![n]).collect();
        let split: Vec<Vec<u32>> = (0..20).map(|n| vec![n / 10]).collect();
        let slices = vec![vec![row(10), row(10)]];
        assert_eq!(strength(&slices, &mixed, &Blend::default()), 0.3, "all are of different kinds anyway");
        assert_eq!(strength(&slices, &split, &Blend::default()), 0.0, "whoever wants one kind would get another");
        assert_eq!(strength(&slices, &vec![Vec::new(); 20], &Blend::default()), 0.0);
        assert!((ndcg(&row(10), &mixed, &Blend::default(), 0.3) - 1.0).abs() < 1e-12);
    }
}
