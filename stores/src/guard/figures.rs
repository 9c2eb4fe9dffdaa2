//! What a guard counts, in plain atomics: reading the figures costs calls nothing, and nothing grows.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nearcast_domain::ports::LatencyCounts;

/// Seconds: around what embedded stores take, and around the targets of a request.
const BOUNDS: [f64; 13] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 1.0];

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Error,
    Timeout,
    Refused,
    Full,
    GivenUp,
}

impl Outcome {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Ok, "ok"),
        (Self::Error, "error"),
        (Self::Timeout, "timeout"),
        (Self::Refused, "refused"),
        (Self::Full, "full"),
        (Self::GivenUp, "given_up"),
    ];
}

#[derive(Debug, Default)]
pub(super) struct Figures {
    calls: [AtomicU64; 6],
    pub hedged: AtomicU64,
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Figures {
    pub fn count(&self, outcome: Outcome) {
        self.calls[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn took(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.iter().position(|b| seconds <= *b).unwrap_or(BOUNDS.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn calls(&self) -> Vec<(&'static str, u64)> {
        Outcome::ALL.iter().map(|(o, name)| (*name, self.calls[*o as usize].load(Ordering::Relaxed))).collect()
    }

    pub fn latency(&self) -> LatencyCounts {
        LatencyCounts {
            bounds: &BOUNDS,
            counts: self.counts.iter().map(|c| c.load(Ordering::Relaxed)).collect(),
            sum: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}
