//! Items next to the asker's own: `Σ recency · strength · similarity` over those of their newest items that they liked.
//!
//! Reads one list a liking, all in one call; never walks over an item's users.

use async_trait::async_trait;
use nearcast_domain::{StoreResult, candidate::Source};

use super::{Ask, CandidateSource, Found};
use crate::memory::Own;

/// The source `graph`.
pub struct Graph;

#[async_trait]
impl CandidateSource for Graph {
    fn source(&self) -> Source {
        Source::Graph
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Found> {
        let limits = &ask.on.config.sources;
        let own = ask.own().await?.own;
        let newest = own.iter().take(limits.own_items).enumerate();
        let liked: Vec<(usize, Own)> = newest.filter(|(_, o)| o.positive && o.weight > 0.0).map(|(r, o)| (r, *o)).collect();
        if liked.is_empty() {
            return Ok(Found::default());
        }
        let lists = ask.loads().lists(&ask.mem, liked.iter().map(|(_, o)| o.item), limits.neighbours, ask.deadline).await?;
        let fading = match &ask.learned {
            Some(table) => &table.blending(own.len()).graph,
            None => &ask.on.recency[0],
        };
        let voice = |rank: usize, o: &Own| o.weight * fading[rank];
        let own = liked.iter().zip(lists).map(|((rank, o), list)| (o.item, voice(*rank, o), list)).collect();
        Ok(ask.following(Source::Graph, own, limits.neighbours))
    }
}
