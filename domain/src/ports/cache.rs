//! Answers that were given before, and epochs that end them.
//!
//! A user's epoch rises with each event of theirs; an answer made in an older epoch is never served as fresh.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{ItemId, StoreResult, Tenant, UserId};

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

/// Items share so many epochs of a tenant.
const ITEM_EPOCHS: u64 = 1_024;

/// Whose epoch rises with every change of this item, and of the few others that share it: what was read of an item in an epoch that has
/// not ended is what the ledger has. No user can bear this id. The hash is 64-bit FNV-1a: every process must choose the same.
pub fn item_epoch(item: &ItemId) -> UserId {
    let fold = |h: u64, byte: &u8| (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = item.as_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fold);
    numbered(hash % ITEM_EPOCHS)
}

fn numbered(epoch: u64) -> UserId {
    UserId::trusted(format!("\u{1}items-{epoch}"))
}

/// Everyone whom [`item_epoch`] can name.
pub fn item_epochs() -> impl Iterator<Item = UserId> {
    (0..ITEM_EPOCHS).map(numbered)
}
