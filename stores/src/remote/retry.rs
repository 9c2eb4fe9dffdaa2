//! Trying again after a passing failure, with a wait that doubles and is never the same for two callers.
//!
//! Never retries what may not be repeated: every write of a port states an absolute fact, so every call may.

use std::time::Duration;

use nearcast_domain::StoreResult;
use serde::{Deserialize, Serialize};

/// How often and how patiently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts after the first.
    pub times: u32,
    /// The wait before the second attempt, in milliseconds; it doubles each time.
    pub first_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 3, first_ms: 20 }
    }
}

/// Calls until it succeeds, fails for good, or was tried often enough. Waits between a half and the whole of the doubled time.
pub async fn with_retries<T, F>(retry: Retry, mut call: impl FnMut() -> F) -> StoreResult<T>
where
    F: Future<Output = StoreResult<T>>,
{
    let mut wait = retry.first_ms.max(1);
    let mut left = retry.times;
    loop {
        match call().await {
            Err(e) if e.kind.is_transient() && left > 0 => {
                left -= 1;
                tokio::time::sleep(Duration::from_millis(wait / 2 + fastrand::u64(0..=wait / 2))).await;
                wait = (wait * 2).min(2_000);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use nearcast_domain::{ErrorKind, StoreError};

    use super::*;

    async fn fails(kind: ErrorKind, times: u32) -> (StoreResult<u32>, u32) {
        let calls = AtomicU32::new(0);
        let result = with_retries(Retry { times: 3, first_ms: 1 }, || async {
            let n = calls.fetch_add(1, Ordering::Relaxed);
            if n < times { Err(StoreError::new(kind, "x", "no")) } else { Ok(n) }
        })
        .await;
        (result, calls.into_inner())
    }

    #[tokio::test]
    async fn passing_failures_only() {
        assert_eq!(fails(ErrorKind::Busy, 2).await.0.unwrap(), 2);
        assert_eq!(fails(ErrorKind::Unavailable, 9).await.1, 4);
        assert_eq!(fails(ErrorKind::Full, 9).await.1, 1);
    }
}
