//! Numbers that nobody can foresee, cheaply: for ids of requests and for samples.
//!
//! Not for secrets.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The next one.
pub fn number() -> u64 {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    SEED.hash_one(NEXT.fetch_add(1, Relaxed))
}

/// Whether this one belongs to a share of all, 0 to 1.
pub fn falls_within(share: f64) -> bool {
    share > 0.0 && (number() >> 11) as f64 / (1_u64 << 53) as f64 <= share
}
