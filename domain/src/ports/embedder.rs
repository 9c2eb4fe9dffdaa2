//! Texts to unit vectors.
//!
//! The same text under the same revision gives the same vector on one machine, whatever it was batched with (to within the
//! last bits of `f32`, which is why the ledger keeps each vector that was made and nothing is embedded twice).

use std::sync::Arc;

use async_trait::async_trait;

use crate::{StoreResult, Vector};

/// Which model made a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// `all-MiniLM-L6-v2`.
    pub name: String,
    /// A digest over weights, tokenizer and configuration.
    pub revision: String,
    /// The length of its vectors.
    pub dimension: usize,
}

impl ModelInfo {
    /// Name and the beginning of the revision, as answers show it: `all-MiniLM-L6-v2@53aa51172d14`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.revision.get(..12).unwrap_or(&self.revision))
    }
}

/// Who waits for the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// A request: goes before everything in bulk.
    Query,
    /// Ingestion and jobs.
    Bulk,
}

/// A model, or a service that has one.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// The vectors of these texts, in the order asked. Every vector is finite and of unit length, for every text.
    async fn embed(&self, texts: &[Arc<str>], priority: Priority) -> StoreResult<Vec<Vector>>;

    /// Which model this is. Cheap.
    fn model(&self) -> &ModelInfo;
}
