//! What users with a near profile liked: `Σ standing · edge's weight · recency` over their newest likings, where standing
//! is how far a user stands out among the near ones.
//!
//! Asks a bounded number of users for a bounded number of items, all in one call.

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, UserId,
    candidate::{Proposal, Source},
    ports::{Collection, VectorQuery},
};

use super::{Ask, CandidateSource};
use crate::recommend::formulas::{Tally, recency, standing_out};

/// The source `similar_users`.
pub struct SimilarUsers;

#[async_trait]
impl CandidateSource for SimilarUsers {
    fn source(&self) -> Source {
        Source::SimilarUsers
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Vec<Proposal>> {
        let limits = &ask.on.config.sources;
        let Some(vector) = ask.vector().await? else { return Ok(Vec::new()) };
        let exclude = ask.user.map(|u| u.as_str().to_owned()).into_iter().collect();
        let query = VectorQuery { vector, limit: limits.users + 1, label: None, exclude };
        let near = ask.on.stores.vectors.search(ask.tenant, Collection::Users, query).await?;
        let near = near.into_iter().map(|h| (UserId::trusted(h.id), h.score)).collect();
        let near = standing_out(near, limits.users);
        if near.is_empty() {
            return Ok(Vec::new());
        }
        let users: Vec<UserId> = near.iter().map(|(u, _)| u.clone()).collect();
        let edges = ask.on.stores.graph.edges_of_users(ask.tenant, &users, limits.items_per_user).await?;
        let mut tally = Tally::default();
        for ((user, voice), edges) in near.iter().zip(&edges) {
            let via = user.shared();
            for (rank, edge) in edges.iter().filter(|e| e.positive).enumerate() {
                tally.add(&edge.item, voice * edge.weight * recency(rank, limits.others_recency), &via);
            }
        }
        Ok(tally.proposals(usize::MAX))
    }
}
