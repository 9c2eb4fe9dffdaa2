//! Through whom a source came to an item: looked up for the few items that are recommended, not for all that were proposed.
//!
//! Voices are the very ones that were added up; of equal ones the first heard is named first.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use nearcast_domain::UserId;

use super::{bits::Bits, formulas::VIA, tally::heard};
use crate::memory::{Catalogue, Edges, Next};

/// Whom a source's proposals came through.
#[derive(Default)]
pub enum Through {
    /// Nobody.
    #[default]
    Nobody,
    /// The asker's own items: each with its voice and the list that it spoke for.
    Items {
        /// Number, voice, list.
        own: Vec<(u32, f32, Arc<[Next]>)>,
        /// How much of each list counts.
        limit: usize,
    },
    /// Near users: each with how far they stand out, and their edges in the same order.
    Users {
        /// Who.
        near: Arc<[(UserId, f32)]>,
        /// Their newest edges.
        edges: Vec<Edges>,
        /// How many of each count.
        limit: usize,
    },
}

/// The strongest voices for some items, as places in the source's list.
pub type Strongest = HashMap<u32, Vec<(f32, u32)>, RandomState>;

impl Through {
    /// Hands out every voice: item, voice, and the place of who speaks. In the order in which they are added up; `recency` is what likings
    /// of others count by their place.
    #[inline(always)]
    pub fn each(&self, recency: &[f32], mut hear: impl FnMut(u32, f32, u32)) {
        match self {
            Self::Nobody => {}
            Self::Items { own, limit } => {
                for (place, (_, voice, list)) in own.iter().enumerate() {
                    for next in list.iter().take(*limit) {
                        hear(next.item, voice * next.weight, place as u32);
                    }
                }
            }
            Self::Users { near, edges, limit } => {
                for (place, ((_, voice), edges)) in near.iter().zip(edges).enumerate() {
                    let liked = edges.own.iter().take(*limit).filter(|e| e.positive);
                    for (edge, recency) in liked.zip(recency) {
                        hear(edge.item, voice * edge.weight * recency, place as u32);
                    }
                }
            }
        }
    }

    /// The strongest voices for these items.
    pub fn strongest(&self, recency: &[f32], items: &[u32]) -> Strongest {
        let mut found = Strongest::default();
        if matches!(self, Self::Nobody) || items.is_empty() {
            return found;
        }
        let wanted: Bits = items.iter().copied().collect();
        self.each(recency, |item, voice, place| {
            if wanted.contains(item) && heard(voice) {
                let best = found.entry(item).or_default();
                let at = best.partition_point(|(v, _)| *v >= voice);
                if at < VIA {
                    best.insert(at, (voice, place));
                    best.truncate(VIA);
                }
            }
        });
        found
    }

    /// The name of who stands at a place.
    pub fn name(&self, place: u32, catalogue: &Catalogue) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Items { own, .. } => own.get(place as usize).map(|(i, ..)| catalogue.id(*i).as_str().to_owned()),
            Self::Users { near, .. } => near.get(place as usize).map(|(u, _)| u.as_str().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_voices_are_named_and_the_first_of_equals_comes_first() {
        let list =
            |weights: &[(u32, f32)]| weights.iter().map(|(item, weight)| Next { item: *item, weight: *weight }).collect();
        let own = vec![
            (10, 1.0, list(&[(1, 0.1), (2, 1.0)])),
            (11, 1.0, list(&[(1, 0.4)])),
            (12, 1.0, list(&[(1, 0.3), (3, f32::NAN)])),
            (13, 1.0, list(&[(1, 0.4)])),
            (14, 1.0, list(&[(9, 1.0), (1, 9.0)])),
        ];
        let through = Through::Items { own, limit: 1 };
        let places = |s: &Strongest, item| s.get(&item).map(|v| v.iter().map(|(_, p)| *p).collect::<Vec<_>>());
        let s = through.strongest(&[], &[1, 3]);
        assert_eq!((places(&s, 1), places(&s, 2), places(&s, 3)), (Some(vec![1, 3, 2]), None, None));
    }
}
