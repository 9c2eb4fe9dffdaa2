//! The scorer: one score out of what the sources say, and each source's share in it.
//!
//! A source's scores count relative to its best candidate that is still in play, so that a source is not drowned by its
//! scale. Sums run in the order of [`Source::ALL`].

use std::{collections::HashMap, sync::Arc};

use nearcast_domain::{ItemId, candidate::Source};

use super::{answer::Reason, formulas::contribution, items::Card};
use crate::config::Weights;

/// A source's word for a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Voice {
    /// Who.
    pub source: Source,
    /// The source's own score.
    pub score: f32,
    /// Through whom.
    pub via: Vec<String>,
}

/// An item and what speaks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which.
    pub item: ItemId,
    /// In the order of [`Source::ALL`].
    pub voices: Vec<Voice>,
}

/// A candidate that may be recommended.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Which.
    pub item: ItemId,
    /// 0 to 1.
    pub score: f32,
    /// The strongest first.
    pub reasons: Vec<Reason>,
    /// What is known of it.
    pub card: Arc<Card>,
}

/// Brings the proposals of all sources together by item. `answers` must be in the order of [`Source::ALL`].
pub fn merge(answers: impl IntoIterator<Item = (Source, Vec<nearcast_domain::candidate::Proposal>)>) -> Vec<Candidate> {
    let mut places: HashMap<ItemId, usize> = HashMap::new();
    let mut pool: Vec<Candidate> = Vec::new();
    for (source, proposals) in answers {
        for p in proposals {
            let voice = Voice { source, score: p.score, via: p.via };
            match places.get(&p.item) {
                Some(place) => pool[*place].voices.push(voice),
                None => {
                    places.insert(p.item.clone(), pool.len());
                    pool.push(Candidate { item: p.item, voices: vec![voice] });
                }
            }
        }
    }
    pool
}

/// Scores what the filters kept: best first, ties by id.
pub fn score(kept: Vec<(Candidate, Arc<Card>)>, weights: &Weights, explain: bool) -> Vec<Scored> {
    let mut best = [0.0_f32; Source::ALL.len()];
    for voice in kept.iter().flat_map(|(c, _)| &c.voices) {
        let b = &mut best[voice.source as usize];
        *b = b.max(voice.score);
    }
    let spoke = Source::ALL.iter().filter(|s| best[**s as usize] > 0.0);
    let total: f32 = spoke.map(|s| weights.of(*s)).sum();
    let mut scored: Vec<Scored> = kept
        .into_iter()
        .map(|(candidate, card)| {
            let parts: Vec<f32> =
                candidate.voices.iter().map(|v| contribution(weights.of(v.source), v.score, best[v.source as usize])).collect();
            let sum: f32 = parts.iter().sum();
            Scored {
                score: if total > 0.0 { sum / total } else { 0.0 },
                reasons: reasons(candidate.voices, &parts, sum, explain),
                item: candidate.item,
                card,
            }
        })
        .collect();
    scored.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.item.cmp(&b.item)));
    scored
}

fn reasons(voices: Vec<Voice>, parts: &[f32], sum: f32, explain: bool) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = voices
        .into_iter()
        .zip(parts)
        .filter(|(_, part)| **part > 0.0)
        .map(|(v, part)| Reason { source: v.source, weight: part / sum, via: v.via, score: explain.then_some(v.score) })
        .collect();
    // Stable: equal shares keep the order of the sources.
    reasons.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    reasons
}

#[cfg(test)]
mod tests {
    use nearcast_domain::candidate::Proposal;

    use super::*;

    fn proposal(item: &str, score: f32) -> Proposal {
        Proposal { item: ItemId::trusted(item), score, via: Vec::new() }
    }

    #[test]
    fn shares_make_one_and_scores_do_not_depend_on_scale() {
        let weights = Weights { graph: 2.0, similar_users: 1.0, similar_text: 0.0, trending: 0.0, newest: 0.0 };
        let run = |scale: f32| {
            let pool = merge([
                (Source::Graph, vec![proposal("a", 10.0 * scale), proposal("b", 5.0 * scale)]),
                (Source::SimilarUsers, vec![proposal("b", 0.2), proposal("c", 0.1)]),
            ]);
            score(pool.into_iter().map(|c| (c, Arc::default())).collect(), &weights, false)
        };
        let out = run(1.0);
        assert_eq!(out.iter().map(|s| s.item.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(out, run(8.0));
        for s in &out {
            assert!((s.reasons.iter().map(|r| r.weight).sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert!((out[0].score - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn ties_go_by_id() {
        let pool = merge([(Source::Trending, vec![proposal("b", 1.0), proposal("a", 1.0)])]);
        let out = score(pool.into_iter().map(|c| (c, Arc::default())).collect(), &Weights::default(), true);
        assert_eq!((out[0].item.as_str(), out[0].reasons[0].score), ("a", Some(1.0)));
    }
}
