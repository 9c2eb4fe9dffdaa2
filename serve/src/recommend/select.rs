//! The selector: from scored candidates to the answer's order.
//!
//! Without diversity it takes the best. With it, an item is held back by the share of those chosen before that stand in one
//! of its categories (greedy, after Carbonell and Goldstein 1998). It never shortens the list and never adds to it.

use super::{blend::Scored, formulas::held_back};

/// How many candidates diversity looks at, for each that is wanted.
const LOOK_AT: usize = 5;

/// How many of the best candidates are looked at to choose `k`.
pub fn look_at(k: usize, diversity: f32) -> usize {
    if diversity <= 0.0 { k } else { k.saturating_mul(LOOK_AT) }
}

/// The `k` to recommend, in order, out of candidates that are best first.
pub fn select(mut scored: Vec<Scored>, k: usize, diversity: f32) -> Vec<Scored> {
    if diversity <= 0.0 {
        scored.truncate(k);
        return scored;
    }
    scored.truncate(look_at(k, diversity));
    let mut chosen: Vec<Scored> = Vec::with_capacity(k.min(scored.len()));
    while chosen.len() < k && !scored.is_empty() {
        let mut best = (0, f32::MIN);
        for (place, s) in scored.iter().enumerate() {
            let same = chosen.iter().filter(|c| shares_category(c, s)).count();
            let score = held_back(s.score, diversity, same, chosen.len());
            // The first of equals stays: the order of the input breaks ties.
            if score > best.1 {
                best = (place, score);
            }
        }
        let mut next = scored.remove(best.0);
        next.score = best.1;
        chosen.push(next);
    }
    chosen
}

fn shares_category(a: &Scored, b: &Scored) -> bool {
    a.card.categories.iter().any(|c| b.card.categories.contains(c))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nearcast_domain::{ItemId, candidate::Source};

    use super::*;
    use crate::{memory::Card, recommend::blend::Candidate};

    fn scored(item: &str, score: f32, category: &str) -> Scored {
        let card = Arc::new(Card { categories: vec![category.into()], ..Card::default() });
        Scored { item: ItemId::trusted(item), candidate: Candidate::of(0, Source::Newest), score, reasons: Vec::new(), card }
    }

    #[test]
    fn diversity_mixes_categories_and_keeps_order_of_scores() {
        let pool = vec![scored("a", 1.0, "x"), scored("b", 0.9, "x"), scored("c", 0.8, "y"), scored("d", 0.1, "z")];
        let names = |v: Vec<Scored>| v.iter().map(|s| s.item.as_str().to_owned()).collect::<String>();
        assert_eq!(names(select(pool.clone(), 3, 0.0)), "abc");
        let mixed = select(pool, 3, 0.5);
        assert!(mixed.windows(2).all(|w| w[0].score >= w[1].score));
        assert_eq!(names(mixed), "acb");
    }
}
