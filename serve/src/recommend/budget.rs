//! The time that a request has, handed out in parts.
//!
//! Nothing here sleeps; a part is a point in time after which nobody waits any more.

use std::{future::Future, time::Duration};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use tokio::time::{Instant, timeout_at};

/// From when to when a request may work.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    start: Instant,
    end: Instant,
}

impl Budget {
    /// Begins now.
    pub fn begin(total: Duration) -> Self {
        let start = Instant::now();
        Self { start, end: start + total }
    }

    /// Began when the request arrived.
    pub fn since(start: Instant, total: Duration) -> Self {
        Self { start, end: start + total }
    }

    /// What is left of it, as a budget of its own.
    pub fn rest(&self) -> Self {
        let now = Instant::now();
        Self { start: now.min(self.end), end: self.end }
    }

    /// The point at which so large a share of it is over.
    pub fn at(&self, share: f64) -> Instant {
        self.start + (self.end - self.start).mul_f64(share.clamp(0.0, 1.0))
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// The result, or an error of kind `Timeout` when it is not there by `deadline`.
pub async fn by<T>(deadline: Instant, what: &'static str, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    match timeout_at(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::new(ErrorKind::Timeout, what, "no answer within the request's budget")),
    }
}
