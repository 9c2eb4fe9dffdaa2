//! What an operator may set about ingestion.

use nearcast_domain::{profile::ProfileRule, taste::Taste};
use serde::{Deserialize, Serialize};

/// The section `[ingest]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// The most records in one batch.
    pub batch_records: usize,
    /// About the most bytes in one batch: with the queue, the bound on memory.
    pub batch_bytes: usize,
    /// How many decoded batches may wait for the worker.
    pub queue: usize,
    /// How often a batch is tried again while a store cannot be reached, before the worker gives up; 0: for ever.
    pub retries: u32,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self { batch_records: 8192, batch_bytes: 8 << 20, queue: 2, retries: 0 }
    }
}

impl IngestConfig {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), String> {
        if !(1..=100_000).contains(&self.batch_records) {
            return Err("ingest.batch_records must lie between 1 and 100000".into());
        }
        if !(65_536..=(1 << 30)).contains(&self.batch_bytes) {
            return Err("ingest.batch_bytes must lie between 65536 and 1073741824".into());
        }
        if !(1..=64).contains(&self.queue) {
            return Err("ingest.queue must lie between 1 and 64".into());
        }
        Ok(())
    }
}

/// The rules by which facts become projections. Changing them asks for a rebuild.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// What engagements are worth.
    pub taste: Taste,
    /// How profiles are made.
    pub profile: ProfileRule,
}
