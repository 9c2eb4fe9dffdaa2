//! The scorer: one score out of what the sources say, and each source's share in it.
//!
//! A source's scores count relative to its best candidate that is still in play, so that a source is not drowned by its
//! scale. Sums run in the order of [`Source::ALL`].

use std::{cell::RefCell, sync::Arc};

use nearcast_domain::{ItemId, candidate::Source, learned::in_the_moment};

use super::{answer::Reason, formulas::contribution, tally::Proposed};
use crate::{
    config::Weights,
    memory::{Card, Catalogue},
};

/// Room for every source, and a whole vector register: beside fewer the compiler would calculate with whatever lies there, and where
/// that makes tiny numbers it takes a hundred times as long.
const LANES: usize = 8;
const _: () = assert!(Source::ALL.len() <= LANES);

/// An item and what speaks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its number.
    pub item: u32,
    /// Who spoke, a bit each.
    spoke: u8,
    score: [f32; LANES],
}

impl Candidate {
    /// An item that one source named.
    pub fn of(item: u32, source: Source) -> Self {
        Self::new(source, &Proposed { item, score: 1.0 })
    }

    fn new(source: Source, p: &Proposed) -> Self {
        let mut c = Self { item: p.item, spoke: 0, score: [0.0; LANES] };
        c.hear(source, p);
        c
    }

    fn hear(&mut self, source: Source, p: &Proposed) {
        let s = source as usize;
        self.spoke |= 1 << s;
        self.score[s] = p.score;
    }

    /// Whether this source spoke.
    pub const fn named_by(&self, source: Source) -> bool {
        self.spoke & 1 << source as usize != 0
    }

    /// Who spoke, in the order of [`Source::ALL`].
    pub fn sources(&self) -> impl Iterator<Item = Source> + use<> {
        let spoke = self.spoke;
        Source::ALL.into_iter().filter(move |s| spoke & (1 << *s as usize) != 0)
    }
}

/// A candidate that may be recommended.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Which.
    pub item: ItemId,
    /// What speaks for it.
    pub candidate: Candidate,
    /// 0 to 1.
    pub score: f32,
    /// The strongest first; told once it is chosen.
    pub reasons: Vec<Reason>,
    /// What is known of it.
    pub card: Arc<Card>,
}

thread_local! {
    /// Where an item stands in the pool: a stamp, and the place.
    static PLACES: RefCell<(u32, Vec<(u32, u32)>)> = RefCell::default();
}

/// Brings the proposals of all sources together by item. They must come in the order of [`Source::ALL`].
pub fn merge<'a>(answers: impl IntoIterator<Item = (Source, &'a [Proposed])>) -> Vec<Candidate> {
    let mut pool: Vec<Candidate> = Vec::with_capacity(512);
    PLACES.with_borrow_mut(|(stamp, places)| {
        *stamp = stamp.wrapping_add(1);
        if *stamp == 0 {
            places.clear();
            *stamp = 1;
        }
        for (source, proposals) in answers {
            for p in proposals {
                let at = p.item as usize;
                if at >= places.len() {
                    places.resize(at + 1, (0, 0));
                }
                if places[at].0 == *stamp {
                    pool[places[at].1 as usize].hear(source, p);
                } else {
                    places[at] = (*stamp, pool.len() as u32);
                    pool.push(Candidate::new(source, p));
                }
            }
        }
    });
    pool
}

/// Brings candidates in the order in which sources named them: by the first source that spoke, its best first, ties by id.
pub fn in_order(candidates: &mut [Candidate], catalogue: &Catalogue) {
    let first = |c: &Candidate| c.spoke.trailing_zeros() as usize;
    candidates.sort_by(|a, b| {
        let (x, y) = (first(a), first(b));
        let score = |c: &Candidate, s: usize| c.score.get(s).copied().unwrap_or(0.0);
        x.cmp(&y).then_with(|| score(b, y).total_cmp(&score(a, x))).then_with(|| catalogue.id(a.item).cmp(catalogue.id(b.item)))
    });
}

/// What the scores of a pool are made with.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// By source, as all that follows; 0 for one that proposed nothing.
    weights: [f32; LANES],
    /// 1 for one that proposed nothing: what is divided by it stays 0.
    best: [f32; LANES],
    total: f32,
    moment: f32,
}

impl Scale {
    /// Of the candidates that the filters kept. `moment`: how much everything but trending counts only for what rises
    /// ([`nearcast_domain::learned::Blend::moment`]).
    pub fn of(kept: &[Candidate], weights: &Weights, moment: f32) -> Self {
        let mut best = [0.0_f32; LANES];
        for candidate in kept {
            for (b, score) in best.iter_mut().zip(&candidate.score) {
                *b = if *score > *b { *score } else { *b };
            }
        }
        let mut counts = [0.0; LANES];
        for source in Source::ALL.into_iter().filter(|s| best[*s as usize] > 0.0) {
            counts[source as usize] = weights.of(source);
        }
        Self { weights: counts, best: best.map(|b| if b > 0.0 { b } else { 1.0 }), total: counts.iter().sum(), moment }
    }

    /// What each source gives to the score of a candidate: 0 for those that did not speak.
    fn parts(&self, c: &Candidate) -> [f32; LANES] {
        let rising = Source::Trending as usize;
        let mut parts = [0.0; LANES];
        for (((part, weight), score), best) in parts.iter_mut().zip(&self.weights).zip(&c.score).zip(&self.best) {
            *part = contribution(*weight, *score, *best);
        }
        if self.moment > 0.0 {
            let gate = in_the_moment(contribution(1.0, c.score[rising], self.best[rising]), self.moment);
            parts.iter_mut().enumerate().filter(|(s, _)| *s != rising).for_each(|(_, part)| *part *= gate);
        }
        parts
    }

    fn sum(&self, c: &Candidate) -> f32 {
        self.parts(c).iter().sum()
    }

    /// The score of a candidate.
    pub fn score(&self, c: &Candidate) -> f32 {
        if self.total > 0.0 { self.sum(c) / self.total } else { 0.0 }
    }

    /// Each source's share in a score, the strongest first; `through` names whom it came through.
    pub fn reasons(&self, c: &Candidate, through: impl Fn(Source) -> Vec<String>, explain: bool) -> Vec<Reason> {
        let parts = self.parts(c);
        let sum: f32 = parts.iter().sum();
        let spoke = Source::ALL.into_iter().zip(parts).filter(|(_, part)| *part > 0.0);
        let mut reasons: Vec<Reason> = spoke
            .map(|(source, part)| Reason {
                source,
                weight: part / sum,
                via: through(source),
                score: explain.then_some(c.score[source as usize]),
            })
            .collect();
        // Stable: equal shares keep the order of the sources.
        reasons.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(item: u32, score: f32) -> Proposed {
        Proposed { item, score }
    }

    #[test]
    fn shares_make_one_and_scores_do_not_depend_on_scale() {
        let weights =
            Weights { graph: 2.0, learned: 0.0, next: 0.0, similar_users: 1.0, similar_text: 0.0, trending: 0.0, newest: 0.0 };
        let run = |scale: f32, moment: f32| {
            let graph = [proposed(0, 10.0 * scale), proposed(1, 5.0 * scale)];
            let users = [proposed(1, 0.2), proposed(2, 0.1)];
            let pool = merge([(Source::Graph, &graph[..]), (Source::SimilarUsers, &users[..])]);
            let scale = Scale::of(&pool, &weights, moment);
            pool.iter().map(|c| (c.item, scale.score(c), scale.reasons(c, |_| Vec::new(), false))).collect::<Vec<_>>()
        };
        let out = run(1.0, 0.0);
        assert_eq!(out.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(out, run(8.0, 0.0));
        // Nothing rises: everything is held back alike.
        let gated = run(1.0, 0.5);
        assert!(gated.iter().zip(&out).all(|(g, o)| (g.1 - 0.1 * o.1).abs() < 1e-6 && g.0 == o.0), "{gated:?}");
        for s in &out {
            assert!((s.2.iter().map(|r| r.weight).sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert!((out[0].1 - 2.0 / 3.0).abs() < 1e-6 && out[0].1 >= out[1].1 && out[1].1 > out[2].1);
    }

    #[test]
    fn a_pool_after_another_begins_anew() {
        for _ in 0..3 {
            let one = [proposed(7, 1.0)];
            let pool = merge([(Source::Trending, &one[..]), (Source::Newest, &one[..])]);
            assert_eq!((pool.len(), pool[0].sources().collect::<Vec<_>>()), (1, vec![Source::Trending, Source::Newest]));
        }
    }
}
