//! What was learned of a tenant, in the numbers of its memory: lists by item, and the blends with their tables of fading.
//!
//! Made once for each artefact that goes into service, and read by every request without a lock being held.

use std::sync::Arc;

use nearcast_domain::{
    ItemId,
    candidate::Source,
    learned::{Blend, GROUPS, Learned, group_of},
};

use super::{catalogue::Next, tenant::TenantMemory};
use crate::{
    config::Weights,
    recommend::{formulas::recency, tally::heard},
};

/// A blend with its tables.
pub struct Blending {
    /// As it was learned.
    pub blend: Blend,
    /// What the asker's own items count in `graph` by their place from the newest.
    pub graph: Vec<f32>,
    /// The same in `learned`.
    pub learned: Vec<f32>,
}

impl Blending {
    fn new(blend: Blend, places: usize) -> Self {
        let table = |exponent| (0..places).map(|r| recency(r, exponent)).collect();
        Self { graph: table(blend.graph_recency), learned: table(blend.learned_recency), blend }
    }

    /// What sources count: as learned, times what is configured over the default.
    pub fn weights(&self, configured: &Weights) -> Weights {
        let default = Weights::default();
        let of = |s: Source| self.blend.of(s) * (configured.of(s) / default.of(s));
        Weights {
            graph: of(Source::Graph),
            learned: of(Source::Learned),
            next: of(Source::Next),
            similar_users: of(Source::SimilarUsers),
            similar_text: of(Source::SimilarText),
            trending: of(Source::Trending),
            newest: configured.newest,
        }
    }
}

/// See the module.
pub struct LearnedTable {
    /// Which artefact.
    pub version: u64,
    everyone: Blending,
    groups: [Option<Blending>; GROUPS.len()],
    /// By number of an item; those that come later have none.
    lists: Lists,
    next: Lists,
    span_hours: f64,
}

/// Lists by number of an item.
type Lists = Vec<Option<Arc<[Next]>>>;

impl LearnedTable {
    /// In the numbers of a memory, for so many of the asker's own items.
    pub fn new(version: u64, learned: &Learned, mem: &TenantMemory, places: usize) -> Self {
        let named: Vec<&ItemId> = learned.items.iter().collect();
        let numbers = mem.numbers(named.iter().copied());
        let numbered = |of: &[Vec<(u32, f32)>]| -> Lists {
            let mut lists = vec![None; numbers.iter().max().map_or(0, |n| *n as usize + 1)];
            for (number, list) in numbers.iter().zip(of).filter(|(_, list)| !list.is_empty()) {
                let next = |(item, weight): &(u32, f32)| Next { item: numbers[*item as usize], weight: *weight };
                lists[*number as usize] = Some(list.iter().map(next).filter(|n| heard(n.weight)).collect());
            }
            lists
        };
        Self {
            version,
            everyone: Blending::new(learned.blend, places),
            groups: learned.groups.map(|g| g.map(|blend| Blending::new(blend, places))),
            lists: numbered(&learned.lists),
            next: numbered(&learned.next),
            span_hours: learned.span_hours,
        }
    }

    /// The blend of someone with so many items.
    pub fn blending(&self, items: usize) -> &Blending {
        self.groups[group_of(items)].as_ref().unwrap_or(&self.everyone)
    }

    /// The half-life of trending under a blend, in hours; `None`: what fits the catalogue at the time.
    pub fn half_life(&self, blend: &Blend) -> Option<f32> {
        (blend.trending_pace > 0.0).then(|| (f64::from(blend.trending_pace) * self.span_hours).max(0.1) as f32)
    }

    /// What people chose next after an item.
    pub fn next(&self, item: u32) -> Option<&Arc<[Next]>> {
        self.next.get(item as usize)?.as_ref()
    }

    /// What follows from having an item.
    pub fn list(&self, item: u32) -> Option<&Arc<[Next]>> {
        self.lists.get(item as usize)?.as_ref()
    }
}
