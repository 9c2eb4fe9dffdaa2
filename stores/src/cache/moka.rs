//! [`MokaCache`]: answers in the memory of the process, at most so many bytes of them.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::moka::{Expiry, future::Cache};
use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, UserId,
    ports::{CachedAnswer, ResponseCache},
};

use super::epochs::Epochs;

/// What an entry takes beside its key and body, about.
const OVERHEAD: usize = 160;

#[derive(Clone)]
struct Entry {
    answer: CachedAnswer,
    ttl: Duration,
}

/// Each entry lives as long as it was given, from the moment it was put.
struct Lifetimes;

impl Expiry<String, Entry> for Lifetimes {
    fn expire_after_create(&self, _: &String, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(&self, _: &String, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.ttl)
    }
}

/// The embedded response cache. All is forgotten with the process, epochs and answers at once.
pub struct MokaCache {
    answers: Cache<String, Entry>,
    epochs: Mutex<Epochs>,
}

impl MokaCache {
    /// A cache of at most `bytes` of answers, keys included, that knows the epochs of at most `users` (about 200 bytes each). Of users
    /// beyond these, answers are taken for old sooner than they are.
    pub fn new(bytes: u64, users: usize) -> Self {
        let answers = Cache::builder()
            .max_capacity(bytes)
            .weigher(|key: &String, e: &Entry| u32::try_from(key.len() + e.answer.body.len() + OVERHEAD).unwrap_or(u32::MAX))
            .expire_after(Lifetimes)
            .build();
        Self { answers, epochs: Mutex::new(Epochs::new(users)) }
    }

    fn epochs(&self) -> MutexGuard<'_, Epochs> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MokaCache {
    /// 128 MiB of answers at most and the epochs of 100,000 users: with 100,000 users of whom some ask far more often than others
    /// (Zipf), nine of ten answers are found (see `tests/cache.rs`).
    fn default() -> Self {
        Self::new(128 << 20, 100_000)
    }
}

#[async_trait]
impl ResponseCache for MokaCache {
    async fn get(&self, key: &str) -> StoreResult<Option<CachedAnswer>> {
        Ok(self.answers.get(key).await.map(|e| e.answer))
    }

    async fn put(&self, key: &str, answer: CachedAnswer, ttl: Duration) -> StoreResult<()> {
        self.answers.insert(key.to_owned(), Entry { answer, ttl }).await;
        Ok(())
    }

    async fn epoch(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        Ok(self.epochs().get(tenant, user))
    }

    async fn bump(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        let mut epochs = self.epochs();
        for user in users {
            epochs.bump(tenant, user);
        }
        Ok(())
    }

    async fn forget(&self, prefix: &str) -> StoreResult<u64> {
        // Keys are hashed, so all are looked at: erasures are rare, and this runs off the runtime's threads.
        let (answers, prefix) = (self.answers.clone(), prefix.to_owned());
        let find = move || answers.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(k, _)| k).collect::<Vec<_>>();
        let keys = tokio::task::spawn_blocking(find)
            .await
            .map_err(|e| StoreError::new(ErrorKind::Unavailable, "cache", format!("the search for keys did not end: {e}")))?;
        let mut forgotten = 0;
        for key in keys {
            forgotten += u64::from(self.answers.remove(key.as_str()).await.is_some());
        }
        Ok(forgotten)
    }
}

impl fmt::Debug for MokaCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaCache").field("bytes", &self.answers.weighted_size()).finish_non_exhaustive()
    }
}
