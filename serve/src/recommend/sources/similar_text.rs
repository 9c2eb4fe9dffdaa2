//! Items whose text is near the asker's vector, by how far their cosine stands out among the near ones.
//!
//! Leaves out the asker's own items where those are known in time (they come from another store): a profile is made of
//! them, so they would fill the list.

use async_trait::async_trait;
use nearcast_domain::{StoreResult, candidate::Source};

use super::{Ask, CandidateSource, Found, search::near_items};
use crate::recommend::{tally::Proposed, through::Through};

/// The source `similar_text`.
pub struct SimilarText;

#[async_trait]
impl CandidateSource for SimilarText {
    fn source(&self) -> Source {
        Source::SimilarText
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Found> {
        let near = near_items(ask).await?;
        let proposals = near.iter().map(|(item, score)| Proposed { item: *item, score: *score });
        Ok(Found { proposals: proposals.collect(), through: Through::Nobody })
    }
}
