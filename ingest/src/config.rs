//! What an operator may set about ingestion.

use nearcast_domain::{profile::ProfileRule, taste::Taste};
use serde::{Deserialize, Serialize};

/// The section `[ingest]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// The most records in one batch. 0: as suits the ledger, 8,192 where it is a file, 4,096 where it is a server, whose writes of one
    /// batch are made beside the projections of another.
    pub batch_records: usize,
    /// About the most bytes in one batch: with the queue, the bound on memory.
    pub batch_bytes: usize,
    /// How many decoded batches may wait for the worker.
    pub queue: usize,
    /// How long a batch that is not full waits for more, in milliseconds. While a batch is taken in, what arrives gathers anyway. 0: as
    /// long as suits the ledger, not at all where it is a file, 20 ms where it is a server.
    pub linger_ms: u64,
    /// Where the ledger is a server that is asked user by user: up to so many engagements of a user are read at once, for edges and
    /// profile together. 0: edges are read by pairs, which costs an embedded ledger less.
    pub whole_history: usize,
    /// Such histories are remembered in so many MiB, where a shared log gives a worker all events of its users; 0: none is.
    pub histories_mib: usize,
    /// How often a batch is tried again while a store cannot be reached, before the worker gives up; 0: for ever.
    pub retries: u32,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self { batch_records: 0, batch_bytes: 8 << 20, queue: 2, linger_ms: 0, whole_history: 0, histories_mib: 64, retries: 0 }
    }
}

/// The most records in one batch, where the ledger is a file and nothing else is set.
pub(crate) const BATCH_RECORDS: usize = 8_192;

/// What is set, or what suits where nothing is.
pub fn decided<T: PartialEq + Default>(set: T, suits: T) -> T {
    if set == T::default() { suits } else { set }
}

impl IngestConfig {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), String> {
        if self.batch_records > 100_000 {
            return Err("ingest.batch_records must not be above 100000".into());
        }
        if !(65_536..=(1 << 30)).contains(&self.batch_bytes) {
            return Err("ingest.batch_bytes must lie between 65536 and 1073741824".into());
        }
        if !(1..=64).contains(&self.queue) {
            return Err("ingest.queue must lie between 1 and 64".into());
        }
        if self.linger_ms > 10_000 {
            return Err("ingest.linger_ms must not be above 10000".into());
        }
        if self.whole_history > 100_000 {
            return Err("ingest.whole_history must not be above 100000".into());
        }
        if self.histories_mib > 65_536 {
            return Err("ingest.histories_mib must not be above 65536".into());
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
