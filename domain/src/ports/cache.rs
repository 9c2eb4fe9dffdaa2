//! Answers that were given before, and epochs that end them.
//!
//! A user's epoch rises with each event of theirs; an answer made in an older epoch is never served as fresh.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{StoreResult, Tenant, UserId};

/// An answer from before.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedAnswer {
    /// What was answered, as the caller of the port wrote it.
    pub body: Arc<[u8]>,
    /// The user's epoch when the answer was begun.
    pub epoch: u64,
}

/// Cached answers by key, and epochs by user.
#[async_trait]
pub trait ResponseCache: Send + Sync {
    /// The answer under this key, while it lives. The key holds everything that changes the answer, save the epoch.
    async fn get(&self, key: &str) -> StoreResult<Option<CachedAnswer>>;

    /// Keeps an answer for `ttl`.
    async fn put(&self, key: &str, answer: CachedAnswer, ttl: Duration) -> StoreResult<()>;

    /// The user's epoch. Whatever it is at first, reading does not change it.
    async fn epoch(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64>;

    /// Begins a new epoch for each of these users.
    async fn bump(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()>;

    /// Removes everything of a user who was erased: all answers whose key begins with `prefix`.
    async fn forget(&self, prefix: &str) -> StoreResult<u64>;
}

/// What the keys of all cached answers to one user begin with. Lengths keep one user's prefix from being part of another's.
pub fn answer_prefix(tenant: &Tenant, user: &UserId) -> String {
    let (t, u) = (tenant.as_str(), user.as_str());
    format!("{}:{t}/{}:{u}/", t.len(), u.len())
}

/// Whose epoch rises with every erasure of a tenant: answers that were made before may name whoever was erased. No user can bear this
/// id.
pub fn erasures() -> UserId {
    UserId::trusted("\u{1}erasures")
}
