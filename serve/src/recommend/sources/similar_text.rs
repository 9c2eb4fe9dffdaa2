//! Items whose text is near the asker's vector, by how far their cosine stands out among the near ones.
//!
//! Leaves out the asker's own items where those are known in time (they come from another store): a profile is made of
//! them, so they would fill the list.

use async_trait::async_trait;
use nearcast_domain::{
    ItemId, StoreResult,
    candidate::{Proposal, Source},
    ports::{Collection, VectorQuery},
};
use tokio::time::timeout_at;

use super::{Ask, CandidateSource};
use crate::recommend::formulas::standing_out;

/// The source `similar_text`.
pub struct SimilarText;

#[async_trait]
impl CandidateSource for SimilarText {
    fn source(&self) -> Source {
        Source::SimilarText
    }

    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Vec<Proposal>> {
        let Some(vector) = ask.vector().await? else { return Ok(Vec::new()) };
        let wanted = ask.on.config.sources.texts;
        let mut exclude = Vec::new();
        if !ask.on.config.recommend_engaged
            && let Ok(Ok(own)) = timeout_at(ask.halfway, ask.own()).await
        {
            exclude = own.iter().map(|o| o.item.as_str().to_owned()).collect();
        }
        let query = VectorQuery { vector, limit: wanted + 1, label: ask.category.map(|c| c.as_ref().to_owned()), exclude };
        let hits = ask.on.stores.vectors.search(ask.tenant, Collection::Items, query).await?;
        let hits = hits.into_iter().map(|h| (ItemId::trusted(h.id), h.score)).collect();
        let near = standing_out(hits, wanted);
        Ok(near.into_iter().map(|(item, score)| Proposal { item, score, via: Vec::new() }).collect())
    }
}
