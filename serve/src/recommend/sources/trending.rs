//! What rises, for everyone alike, with the half-life that fits the tenant's catalogue.

use async_trait::async_trait;
use nearcast_domain::{StoreResult, candidate::Source};

use super::{Ask, CandidateSource, Found};

/// The source `trending`.
pub struct Trending;

#[async_trait]
impl CandidateSource for Trending {
    fn source(&self) -> Source {
        Source::Trending
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Found> {
        Ok(Found::risen(ask, &*ask.on.shelf.rising(ask.tenant, ask.category).await?))
    }
}
