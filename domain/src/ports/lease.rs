//! Leases: work that one process among many may do at a time.
//!
//! A lease that is not renewed ends by itself, so that a process that died hands it on. Never relied on for correctness: what is done
//! under a lease writes absolute facts, and two doing it at once only waste work.

use std::time::Duration;

use async_trait::async_trait;

use crate::StoreResult;

/// Named leases.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes or renews a lease for `ttl`; `false`: another holder has it. Judged by one clock, the store's or the file's process.
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> StoreResult<bool>;

    /// Gives a lease back, if this holder has it.
    async fn release(&self, name: &str, holder: &str) -> StoreResult<()>;
}
