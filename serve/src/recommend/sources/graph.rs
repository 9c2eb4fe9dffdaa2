//! Items next to the asker's own: `Σ recency · strength · similarity` over those of their newest items that they liked.
//!
//! Reads one list a liking, all in one call; never walks over an item's users.

use async_trait::async_trait;
use nearcast_domain::{StoreResult, candidate::Source};

use super::{Ask, CandidateSource, Found, Names};
use crate::{memory::Own, recommend::tally::with_tally};

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
        let proposals = with_tally(|tally| {
            for (place, ((rank, liking), list)) in liked.iter().zip(&lists).enumerate() {
                let voice = liking.weight * ask.on.recency[0][*rank];
                for next in list.iter().take(limits.neighbours) {
                    tally.add(next.item, voice * next.weight, place as u16);
                }
            }
            ask.best(tally, limits.candidates)
        });
        Ok(Found { proposals, names: Names::Items(liked.iter().map(|(_, o)| o.item).collect()) })
    }
}
