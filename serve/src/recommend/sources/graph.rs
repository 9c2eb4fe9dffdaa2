//! Items next to the asker's own: `Σ recency · strength · similarity` over those of their newest items that they liked.
//!
//! Reads one list a liking, all in one call; never walks over an item's users.

use async_trait::async_trait;
use nearcast_domain::{
    ItemId, StoreResult,
    candidate::{Proposal, Source},
};

use super::{Ask, CandidateSource, Own};
use crate::recommend::formulas::{Tally, recency};

/// The source `graph`.
pub struct Graph;

#[async_trait]
impl CandidateSource for Graph {
    fn source(&self) -> Source {
        Source::Graph
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Vec<Proposal>> {
        let limits = &ask.on.config.sources;
        let own = ask.own().await?;
        let newest = own.iter().take(limits.own_items).enumerate();
        let liked: Vec<(usize, &Own)> = newest.filter(|(_, o)| o.positive && o.weight > 0.0).collect();
        if liked.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<ItemId> = liked.iter().map(|(_, o)| o.item.clone()).collect();
        let lists = ask.on.stores.graph.neighbours(ask.tenant, &ids, limits.neighbours).await?;
        let mut tally = Tally::default();
        for ((rank, liking), list) in liked.iter().zip(&lists) {
            let voice = liking.weight * recency(*rank, limits.recency);
            let via = liking.item.shared();
            for next in list {
                tally.add(&next.item, voice * next.weight, &via);
            }
        }
        // Enough once the asker's own items are taken out.
        Ok(tally.proposals(limits.candidates + own.len()))
    }
}
