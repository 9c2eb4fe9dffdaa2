//! What users with a near profile liked: `Σ standing · edge's weight · recency` over their newest likings, where standing
//! is how far a user stands out among the near ones.
//!
//! Asks a bounded number of users for a bounded number of items, all in one call.

use async_trait::async_trait;
use nearcast_domain::{StoreResult, candidate::Source};

use super::{Ask, CandidateSource, Found, search::near_users};
use crate::recommend::through::Through;

/// The source `similar_users`.
pub struct SimilarUsers;

#[async_trait]
impl CandidateSource for SimilarUsers {
    fn source(&self) -> Source {
        Source::SimilarUsers
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Found> {
        let limits = &ask.on.config.sources;
        let near = near_users(ask).await?;
        if near.is_empty() {
            return Ok(Found::default());
        }
        let users = near.iter().map(|(u, _)| u);
        let edges = ask.loads().known_edges_of(&ask.mem, users, limits.items_per_user, ask.deadline).await?;
        Ok(ask.best(Source::SimilarUsers, Through::Users { near, edges, limit: limits.items_per_user }, usize::MAX))
    }
}
