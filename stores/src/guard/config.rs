//! Section `[guard]`: how long a store may take, when it is left alone, and when a read is tried twice.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// The stores that can be guarded, as `[guard.stores.NAME]` names them.
pub const STORES: [&str; 8] = ["ledger", "vectors", "graph", "engagement", "cache", "embedder", "log", "dead_letters"];

/// Section `[guard]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Whether stores inside this process are guarded too. They share its fate, so a guard gains little there.
    pub embedded: bool,
    /// How long a call may take, in milliseconds, however large the request's own budget is: later calls are given up.
    pub deadline_ms: u64,
    /// Calls to one replica under way at once.
    pub in_flight: usize,
    /// Calls that may wait for their turn beyond these; more are refused at once. 0: none waits.
    pub queue: usize,
    /// When a store is left alone.
    pub breaker: BreakerPolicy,
    /// When a read is tried twice.
    pub hedge: HedgePolicy,
    /// What differs for a store.
    pub stores: BTreeMap<String, StoreLimits>,
}

/// What differs for one store from the section as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreLimits {
    /// As [`GuardConfig::deadline_ms`].
    pub deadline_ms: Option<u64>,
    /// As [`GuardConfig::in_flight`].
    pub in_flight: Option<usize>,
    /// As [`GuardConfig::queue`].
    pub queue: Option<usize>,
    /// As [`BreakerPolicy::slow_ms`].
    pub slow_ms: Option<u64>,
    /// Whether reads may be tried twice.
    pub hedge: Option<bool>,
}

/// When a store is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerPolicy {
    /// The calls of so many milliseconds are looked at.
    pub window_ms: u64,
    /// Rates say nothing before there were so many calls.
    pub min_calls: u32,
    /// From this share of failed calls on the breaker opens, above 0, up to 1.
    pub failure_rate: f64,
    /// From this share of slow or failed calls on it opens, above 0, up to 1.
    pub slow_rate: f64,
    /// What is slow, in milliseconds.
    pub slow_ms: u64,
    /// So many failures in a row open it, however few calls there were.
    pub in_a_row: u32,
    /// How long it stays open at first, in milliseconds; twice as long each time that a trial fails.
    pub open_ms: u64,
    /// The longest that it stays open.
    pub open_max_ms: u64,
    /// Up to this share is added to that time by chance, so that not all come back at once. 0 to 1.
    pub jitter: f64,
    /// Trials at once while it is half open.
    pub trials: u32,
    /// So many good trials close it.
    pub close_after: u32,
}

/// When a read is tried twice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HedgePolicy {
    /// At most this share of the calls; 0 switches it off.
    pub share: f64,
    /// After the time in which this share of the calls ends.
    pub quantile: f64,
    /// Never sooner than this, in milliseconds.
    pub min_ms: u64,
}

impl Default for GuardConfig {
    fn default() -> Self {
        let vectors = StoreLimits { slow_ms: Some(400), ..StoreLimits::default() };
        // An event is durable in the log or refused: worth waiting for.
        let log = StoreLimits { deadline_ms: Some(10_000), slow_ms: Some(5_000), ..StoreLimits::default() };
        let embedder =
            StoreLimits { deadline_ms: Some(2_000), slow_ms: Some(1_000), hedge: Some(false), ..StoreLimits::default() };
        Self {
            embedded: false,
            deadline_ms: 1_000,
            in_flight: 64,
            queue: 64,
            breaker: BreakerPolicy::default(),
            hedge: HedgePolicy::default(),
            stores: [("vectors", vectors), ("log", log), ("embedder", embedder)].map(|(n, l)| (n.to_owned(), l)).into(),
        }
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            window_ms: 10_000,
            min_calls: 20,
            failure_rate: 0.5,
            slow_rate: 0.8,
            slow_ms: 200,
            in_a_row: 5,
            open_ms: 500,
            open_max_ms: 4_000,
            jitter: 0.5,
            trials: 1,
            close_after: 2,
        }
    }
}

impl Default for HedgePolicy {
    fn default() -> Self {
        Self { share: 0.05, quantile: 0.95, min_ms: 2 }
    }
}

/// What one guard goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    pub deadline: Duration,
    pub in_flight: usize,
    pub queue: usize,
    pub breaker: BreakerPolicy,
    pub hedge: HedgePolicy,
}

impl GuardConfig {
    /// What holds for a store.
    pub(super) fn limits(&self, store: &str) -> Limits {
        let own = self.stores.get(store).copied().unwrap_or_default();
        let mut breaker = self.breaker;
        breaker.slow_ms = own.slow_ms.unwrap_or(breaker.slow_ms);
        let mut hedge = self.hedge;
        if own.hedge == Some(false) {
            hedge.share = 0.0;
        }
        Limits {
            deadline: Duration::from_millis(own.deadline_ms.unwrap_or(self.deadline_ms)),
            in_flight: own.in_flight.unwrap_or(self.in_flight),
            queue: own.queue.unwrap_or(self.queue),
            breaker,
            hedge,
        }
    }

    /// Refuses what cannot work, naming the key and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        for name in self.stores.keys() {
            if !STORES.contains(&name.as_str()) {
                return Err(format!("guard.stores.{name} is no store; there are {}", STORES.join(", ")));
            }
        }
        for (of, limits) in [("", self.limits(""))].into_iter().chain(STORES.map(|s| (s, self.limits(s)))) {
            let at = |key: &str| if of.is_empty() { format!("guard.{key}") } else { format!("guard.stores.{of}.{key}") };
            let within = |key: &str, n: u64, low: u64, high: u64| match (low..=high).contains(&n) {
                true => Ok(()),
                false => Err(format!("{} must lie between {low} and {high}", at(key))),
            };
            within("deadline_ms", limits.deadline.as_millis() as u64, 1, 600_000)?;
            within("in_flight", limits.in_flight as u64, 1, 100_000)?;
            within("queue", limits.queue as u64, 0, 100_000)?;
            within("slow_ms", limits.breaker.slow_ms, 1, 600_000)?;
        }
        let (b, h) = (&self.breaker, &self.hedge);
        let within = |key: &str, n: u64, low: u64, high: u64| match (low..=high).contains(&n) {
            true => Ok(()),
            false => Err(format!("guard.{key} must lie between {low} and {high}")),
        };
        within("breaker.window_ms", b.window_ms, 100, 600_000)?;
        within("breaker.min_calls", b.min_calls.into(), 1, 100_000)?;
        within("breaker.in_a_row", b.in_a_row.into(), 1, 100_000)?;
        within("breaker.open_ms", b.open_ms, 1, 600_000)?;
        within("breaker.open_max_ms", b.open_max_ms, b.open_ms, 600_000)?;
        within("breaker.trials", b.trials.into(), 1, 1_000)?;
        within("breaker.close_after", b.close_after.into(), 1, 1_000)?;
        within("hedge.min_ms", h.min_ms, 0, 60_000)?;
        let share = |key: &str, x: f64, zero: bool| match (0.0..=1.0).contains(&x) && (zero || x > 0.0) {
            true => Ok(()),
            false => Err(format!("guard.{key} must lie {} 0 and 1", if zero { "between" } else { "above 0, between" })),
        };
        share("breaker.failure_rate", b.failure_rate, false)?;
        share("breaker.slow_rate", b.slow_rate, false)?;
        share("breaker.jitter", b.jitter, true)?;
        share("hedge.share", h.share, true)?;
        share("hedge.quantile", h.quantile, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_what_cannot_work_is_named() {
        let config = GuardConfig::default();
        config.validate().unwrap();
        assert_eq!(config.limits("vectors").breaker.slow_ms, 400);
        assert_eq!(config.limits("embedder").hedge.share, 0.0);
        let bad = GuardConfig { stores: [("mongo".to_owned(), StoreLimits::default())].into(), ..config.clone() };
        assert!(bad.validate().unwrap_err().starts_with("guard.stores.mongo"));
        let bad = GuardConfig { hedge: HedgePolicy { share: 2.0, ..HedgePolicy::default() }, ..config.clone() };
        assert!(bad.validate().unwrap_err().contains("guard.hedge.share"));
        let none = StoreLimits { in_flight: Some(0), ..StoreLimits::default() };
        let bad = GuardConfig { stores: [("graph".to_owned(), none)].into(), ..config };
        assert!(bad.validate().unwrap_err().contains("guard.stores.graph.in_flight"));
        assert!(serde_json::from_str::<GuardConfig>(r#"{"deadline":1}"#).is_err());
    }
}
