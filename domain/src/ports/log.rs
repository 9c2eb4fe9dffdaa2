//! The event log: where producers' records wait for the worker, and what could not be read.
//!
//! Delivery is at least once: a position is committed after the effect, and a crash repeats what was not committed.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Claim;
use crate::{StoreResult, Tenant, Timestamp, UserId};

/// Raw bytes from a source, with where they came from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// The bytes as the producer sent them.
    pub bytes: Arc<[u8]>,
    /// The tenant that the way of delivery decides (an API key, a topic); events that name none get it.
    pub tenant: Tenant,
    /// For people: `events.jsonl.gz:17`, `log:4711`, `kafka:events/3@4711`.
    pub origin: String,
    /// Cut off by the source because it was too long; `bytes` holds its beginning.
    pub oversized: bool,
    /// What its log is partitioned by, where it has such a thing (empty: the record came without): it must be [`crate::Event::key`].
    pub key: Option<Arc<[u8]>>,
    /// Why this is no event, where the source knows already.
    pub rejected: Option<String>,
}

/// Records in order, and the position behind the last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceBatch {
    /// In the order of the log.
    pub records: Vec<Record>,
    /// Handed back to [`EventSource::commit`] when all effects are durable. Opaque.
    pub position: String,
    /// Whether the batch may still be applied: sources shared by several workers can take it back.
    pub claim: Claim,
}

/// Where a worker reads.
#[async_trait]
pub trait EventSource: Send {
    /// The next records: waits for at least one, takes at most `max_records` or about `max_bytes` bytes. `None`: the source has ended.
    /// Cancel-safe: a call that is dropped loses nothing.
    async fn next(&mut self, max_records: usize, max_bytes: usize) -> StoreResult<Option<SourceBatch>>;

    /// Writes down that everything up to a position has had its effect. What was given to another worker since is passed over.
    async fn commit(&mut self, position: &str) -> StoreResult<()>;
}

/// Where a published event ended up, opaque to callers: `after=` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

/// Where the API publishes.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Appends records (key, bytes) durably, in order, and says where they are.
    async fn publish(&self, tenant: &Tenant, records: &[(String, Arc<[u8]>)]) -> StoreResult<Token>;

    /// Removes the records of erased users (by key) that the worker has done, as far as this log can remove single records;
    /// answers how many. A log that cannot (Kafka: its retention does) answers 0.
    async fn forget(&self, users: &[(Tenant, UserId)]) -> StoreResult<u64>;
}

/// How far the worker has come.
#[async_trait]
pub trait Progress: Send + Sync {
    /// Waits until everything up to the token has had its effect. An error of kind `Invalid` for a token that is not one.
    /// Callers bound the wait.
    async fn reached(&self, token: &Token) -> StoreResult<()>;

    /// How many records wait for the worker.
    async fn lag(&self) -> StoreResult<u64>;
}

/// A record that could not be used.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Derived from origin, reason and bytes: the same failure told twice is one letter.
    pub id: String,
    /// The tenant, as far as it is known.
    pub tenant: Tenant,
    /// Whose record it is, as far as it could be read: so that erasure finds it.
    pub user: Option<UserId>,
    /// Why.
    pub reason: String,
    /// Where it came from.
    pub origin: String,
    /// The original bytes.
    pub bytes: Arc<[u8]>,
    /// The key that the record had in its log. Stores without a place for it give `None`.
    pub key: Option<Arc<[u8]>>,
    /// When it was put here.
    pub at: Timestamp,
}

/// Which letters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeadLetterFilter {
    /// Whose reason holds this text.
    pub reason: Option<String>,
    /// Put here at or after this time.
    pub since: Option<Timestamp>,
    /// After this id, in the order of time and id.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Where unusable records are kept.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Keeps letters, durably. One that is there already stays as it is.
    async fn put(&self, letters: &[DeadLetter]) -> StoreResult<()>;

    /// Letters by time and id.
    async fn list(&self, filter: &DeadLetterFilter) -> StoreResult<Vec<DeadLetter>>;

    /// One letter.
    async fn get(&self, id: &str) -> StoreResult<Option<DeadLetter>>;

    /// Removes letters.
    async fn remove(&self, ids: &[String]) -> StoreResult<()>;

    /// How many there are.
    async fn count(&self) -> StoreResult<u64>;

    /// Removes the letters of a user. Answers how many there were.
    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64>;
}

/// Small texts that outlive the process: how far a file was imported, and the like.
#[async_trait]
pub trait Positions: Send + Sync {
    /// The text under a key.
    async fn get(&self, key: &str) -> StoreResult<Option<String>>;

    /// Sets it, durably.
    async fn set(&self, key: &str, value: &str) -> StoreResult<()>;

    /// Removes it.
    async fn remove(&self, key: &str) -> StoreResult<()>;
}
