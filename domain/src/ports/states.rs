//! How the stores behind a process fare, as whoever guards the calls to them knows it.
//!
//! Read by health checks and metrics. Reading never asks a store.

use crate::{ErrorKind, Timestamp};

/// Whether calls reach a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Breaker {
    /// All do.
    Closed,
    /// A few at a time, to see whether it is well again.
    HalfOpen,
    /// None does.
    Open,
}

impl Breaker {
    /// The name on every surface.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// Counts of calls by how long they took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LatencyCounts {
    /// Upper bounds in seconds, ascending.
    pub bounds: &'static [f64],
    /// Calls up to each bound and above the one before, then those above the last.
    pub counts: Vec<u64>,
    /// The sum of all, in seconds.
    pub sum: f64,
}

/// One store, or one replica of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreState {
    /// Which: `ledger`, `vectors`, `graph`, `engagement`, `cache`, `embedder`, `log`.
    pub store: &'static str,
    /// Which replica; empty where there is one only.
    pub replica: String,
    /// Whether calls reach it.
    pub breaker: Breaker,
    /// Since when.
    pub since: Timestamp,
    /// What went wrong last, if anything ever did.
    pub last_error: Option<ErrorKind>,
    /// Calls under way.
    pub in_flight: u64,
    /// Calls by outcome: `ok`, `error`, `timeout`, `refused` (the breaker), `full` (the bulkhead), `given_up` (the caller).
    pub calls: Vec<(&'static str, u64)>,
    /// Second attempts at a read that took long.
    pub hedged: u64,
    /// How long the calls took that ended.
    pub latency: LatencyCounts,
}

/// The states of all guarded stores.
pub trait StoreStates: Send + Sync {
    /// In the order of store and replica.
    fn states(&self) -> Vec<StoreState>;
}

/// Nothing is guarded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unguarded;

impl StoreStates for Unguarded {
    fn states(&self) -> Vec<StoreState> {
        Vec::new()
    }
}
