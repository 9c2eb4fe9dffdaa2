//! What rises, for everyone alike, with the half-life that fits the tenant's catalogue.

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult,
    candidate::{Proposal, Source},
};

use super::{Ask, CandidateSource};

/// The source `trending`.
pub struct Trending;

#[async_trait]
impl CandidateSource for Trending {
    fn source(&self) -> Source {
        Source::Trending
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Vec<Proposal>> {
        let list = ask.on.shelf.rising(ask.tenant, ask.category).await?;
        let wanted = ask.on.config.sources.trending;
        let first = list.items.iter().take(wanted);
        Ok(first.map(|(item, score)| Proposal { item: item.clone(), score: *score, via: Vec::new() }).collect())
    }
}
