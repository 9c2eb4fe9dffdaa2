//! Through whom a source came to an item: looked up for the few items that are recommended, not for all that were proposed.
//!
//! Voices are the very ones that were added up; of equal ones the first heard is named first.

use std::{cell::RefCell, sync::Arc};

use nearcast_domain::UserId;

use super::{
    formulas::VIA,
    tally::{Proposed, heard},
};
use crate::memory::{Catalogue, Edges, Next};

/// Whom a source's proposals came through.
#[derive(Clone, Default)]
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
        /// What is quieter than this is not heard, nor is what comes after it in its list: lists are strongest first.
        least: f32,
    },
    /// The asker's own items: who of them spoke loudest was taken down before.
    Known {
        /// Their numbers.
        own: Arc<[u32]>,
        /// What was proposed, by number of an item,
        proposals: Arc<[Proposed]>,
        /// and who spoke for it, in the same order.
        speakers: Arc<[Speakers]>,
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

/// Voices below this share of the strongest one of their source are not heard: they are many and decide next to nothing. NDCG@10 with and
/// without them on MovieLens and Amazon office: 0.1716 and 0.1713, 0.1197 and 0.1199; at 0.05 in `learned` alone 0.1700 on MovieLens.
const FAINT: f32 = 0.02;

/// Who spoke loudest for an item, the loudest first: places in the source's list; [`NOBODY`] where there are no more.
pub type Speakers = [u16; VIA];

/// No place.
pub const NOBODY: u16 = u16::MAX;

/// The strongest voices for an item while they are looked for, each with who speaks; 0 where there are no more.
type Strongest = [(f32, u32); VIA];

thread_local! {
    /// By number of an item: its place among those that are asked for, from 1. And who was asked for last: the next question clears it.
    static PLACES: RefCell<(Vec<u8>, Vec<u32>)> = RefCell::default();
}

impl Through {
    /// The asker's own items, of whose voices the faint ones are not heard.
    pub fn items(own: Vec<(u32, f32, Arc<[Next]>)>, limit: usize) -> Self {
        let strongest = own.iter().map(|(_, voice, list)| voice * list.first().map_or(0.0, |n| n.weight)).fold(0.0, f32::max);
        Self::Items { own, limit, least: FAINT * strongest }
    }

    /// Hands out every voice that is heard: item, voice, and the place of who speaks. In the order in which they are added up; `recency` is
    /// what likings of others count by their place. `hear` answers how loud a voice must be from then on: in a list that is strongest first
    /// nothing after a quieter one is handed out.
    #[inline(always)]
    pub fn each(&self, recency: &[f32], mut hear: impl FnMut(u32, f32, u32) -> f32) {
        match self {
            // What was taken down was added up before.
            Self::Nobody | Self::Known { .. } => {}
            Self::Items { own, limit, least } => {
                let mut least = *least;
                for (place, (_, voice, list)) in own.iter().enumerate().filter(|(_, (_, voice, _))| heard(*voice)) {
                    for next in &list[..list.len().min(*limit)] {
                        let voice = voice * next.weight;
                        if voice < least {
                            break;
                        }
                        least = least.max(hear(next.item, voice, place as u32));
                    }
                }
            }
            Self::Users { near, edges, limit } => {
                for (place, ((_, voice), edges)) in near.iter().zip(edges).enumerate() {
                    let liked = edges.own.iter().take(*limit).filter(|e| e.positive);
                    for (edge, recency) in liked.zip(recency) {
                        let voice = voice * edge.weight * recency;
                        if heard(voice) {
                            hear(edge.item, voice, place as u32);
                        }
                    }
                }
            }
        }
    }

    /// Who spoke loudest for these items, in the order given; nobody beyond the first 255.
    pub fn speakers(&self, recency: &[f32], items: &[u32]) -> Vec<Speakers> {
        match self {
            Self::Nobody => vec![[NOBODY; VIA]; items.len()],
            Self::Known { proposals, speakers, .. } => {
                let of = |item: &u32| proposals.binary_search_by_key(item, |p| p.item).map_or([NOBODY; VIA], |at| speakers[at]);
                items.iter().map(of).collect()
            }
            Self::Items { .. } | Self::Users { .. } => {
                let place =
                    |(voice, place): (f32, u32)| if voice > 0.0 { u16::try_from(place).unwrap_or(NOBODY) } else { NOBODY };
                self.strongest(recency, items).into_iter().map(|s| s.map(place)).collect()
            }
        }
    }

    fn strongest(&self, recency: &[f32], items: &[u32]) -> Vec<Strongest> {
        let mut found = vec![Strongest::default(); items.len()];
        if items.is_empty() {
            return found;
        }
        PLACES.with_borrow_mut(|(places, last)| {
            last.drain(..).for_each(|item| places[item as usize] = 0);
            last.extend_from_slice(items);
            let most = items.iter().max().map_or(0, |most| *most as usize + 1);
            places.resize(most.max(places.len()), 0);
            for (item, place) in items.iter().zip(1..=u8::MAX) {
                places[*item as usize] = place;
            }
            // What is quieter than the last that is named of every item need not be listened to.
            let (mut least, mut lacking) = (0.0_f32, items.len());
            self.each(recency, |item, voice, speaker| {
                let Some(wanted @ 1..) = places.get(item as usize) else { return least };
                let best = &mut found[usize::from(*wanted) - 1];
                let before = best[VIA - 1].0;
                if voice > before {
                    let at = best.partition_point(|(v, _)| *v >= voice);
                    best[at..].rotate_right(1);
                    best[at] = (voice, speaker);
                    let now = best[VIA - 1].0;
                    lacking -= usize::from(before == 0.0 && now > 0.0);
                    // It moves only when the item moves that it is the last voice of.
                    if lacking == 0 && before <= least {
                        least = found.iter().map(|b| b[VIA - 1].0).fold(f32::MAX, |a, b| if b < a { b } else { a });
                    }
                }
                least
            });
        });
        found
    }

    /// The same with who spoke loudest for what was proposed taken down, and all other voices left out. Brings the proposals in the order
    /// of their items.
    pub fn taken_down(&self, recency: &[f32], proposals: &mut [Proposed]) -> Self {
        let Self::Items { own, .. } = self else { return Self::Nobody };
        proposals.sort_unstable_by_key(|p| p.item);
        let items: Vec<u32> = proposals.iter().map(|p| p.item).collect();
        let speakers = items.chunks(usize::from(u8::MAX)).flat_map(|some| self.speakers(recency, some)).collect();
        Self::Known { own: own.iter().map(|(i, ..)| *i).collect(), proposals: (&*proposals).into(), speakers }
    }

    /// The name of who stands at a place.
    pub fn name(&self, place: u16, catalogue: &Catalogue) -> Option<String> {
        let place = usize::from(place);
        match self {
            Self::Nobody => None,
            Self::Items { own, .. } => own.get(place).map(|(i, ..)| catalogue.id(*i).as_str().to_owned()),
            Self::Known { own, .. } => own.get(place).map(|i| catalogue.id(*i).as_str().to_owned()),
            Self::Users { near, .. } => near.get(place).map(|(u, _)| u.as_str().to_owned()),
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
            (12, 1.0, list(&[(1, 0.3)])),
            (15, f32::NAN, list(&[(3, 0.5)])),
            (13, 1.0, list(&[(1, 0.4)])),
            (14, 1.0, list(&[(9, 1.0), (1, 9.0)])),
            (16, 1.0, list(&[(1, 0.2)])),
        ];
        let through = Through::Items { own, limit: 1, least: 0.3 };
        let heard = through.strongest(&[], &[3, 1]);
        assert_eq!(heard, [[(0.0, 0); VIA], [(0.4, 1), (0.4, 4), (0.3, 2)]]);
        assert_eq!(through.strongest(&[], &[1])[0], heard[1], "one question leaves nothing for the next");
        let told = [[NOBODY; VIA], [1, 4, 2]];
        assert_eq!(through.speakers(&[], &[3, 1]), told);
        let known = through.taken_down(&[], &mut [3, 1].map(|item| Proposed { item, score: 1.0 }));
        assert_eq!(known.speakers(&[], &[3, 1, 9]), [told[0], told[1], [NOBODY; VIA]]);
    }
}
