//! The gate in front of a store: closed while it is well, open while it is not, and half open to see whether it is again.
//!
//! Opens by the rate of failed or slow calls over a rolling window, or by failures in a row; tries again after a time that
//! doubles with each failed trial and is never the same for two processes. Judges by time and outcome only.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nearcast_domain::{ErrorKind, Timestamp, ports::Breaker};
use tokio::time::Instant;

use super::{config::BreakerPolicy, window::Window};

/// How a call ended, as far as the gate is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Slow,
    Failed(ErrorKind),
    /// It says nothing about the store: the caller went away early, or asked for what cannot be.
    Nothing,
}

/// That a call may go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    trial: bool,
}

#[derive(Debug)]
pub(super) struct Gate {
    policy: BreakerPolicy,
    /// Whether anything but "closed" must be looked at: the way of nearly every call is one load.
    shut: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Breaker,
    since: Timestamp,
    /// Until when it stays open.
    until: Instant,
    /// How often it opened without closing in between.
    opened: u32,
    trials: u32,
    good: u32,
    in_a_row: u32,
    window: Window,
    last_error: Option<ErrorKind>,
    rng: fastrand::Rng,
}

impl Gate {
    pub fn new(policy: BreakerPolicy) -> Self {
        let now = Instant::now();
        Self {
            policy,
            shut: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                state: Breaker::Closed,
                since: Timestamp::now(),
                until: now,
                opened: 0,
                trials: 0,
                good: 0,
                in_a_row: 0,
                window: Window::new(now, Duration::from_millis(policy.window_ms)),
                last_error: None,
                rng: fastrand::Rng::new(),
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call would be let through now. Changes nothing.
    pub fn would_pass(&self, now: Instant) -> bool {
        if !self.shut.load(Ordering::Acquire) {
            return true;
        }
        let inner = self.inner();
        match inner.state {
            Breaker::Closed => true,
            Breaker::Open => now >= inner.until,
            Breaker::HalfOpen => inner.trials < self.policy.trials,
        }
    }

    /// Lets a call through, or does not.
    pub fn admit(&self, now: Instant) -> Option<Pass> {
        if !self.shut.load(Ordering::Acquire) {
            return Some(Pass { trial: false });
        }
        let mut inner = self.inner();
        if inner.state == Breaker::Open && now >= inner.until {
            inner.become_(Breaker::HalfOpen);
            (inner.trials, inner.good) = (0, 0);
        }
        match inner.state {
            Breaker::Closed => Some(Pass { trial: false }),
            Breaker::HalfOpen if inner.trials < self.policy.trials => {
                inner.trials += 1;
                Some(Pass { trial: true })
            }
            Breaker::HalfOpen | Breaker::Open => None,
        }
    }

    /// Takes down how a call ended that was let through.
    pub fn record(&self, now: Instant, pass: Pass, verdict: Verdict) {
        let mut inner = self.inner();
        if let Verdict::Failed(kind) = verdict {
            inner.last_error = Some(kind);
        }
        if pass.trial {
            inner.trials = inner.trials.saturating_sub(1);
        }
        match (inner.state, verdict) {
            (_, Verdict::Nothing) => {}
            (Breaker::Closed, _) => {
                let failed = matches!(verdict, Verdict::Failed(_));
                inner.window.add(now, failed, verdict == Verdict::Slow);
                inner.in_a_row = if failed { inner.in_a_row + 1 } else { 0 };
                if verdict != Verdict::Good && self.too_much(&inner, now) {
                    self.open(&mut inner, now);
                }
            }
            // Only trials decide: others were begun before it opened.
            (Breaker::HalfOpen, Verdict::Good) if pass.trial => {
                inner.good += 1;
                if inner.good >= self.policy.close_after {
                    inner.become_(Breaker::Closed);
                    (inner.opened, inner.in_a_row) = (0, 0);
                    inner.window.clear();
                    self.shut.store(false, Ordering::Release);
                }
            }
            (Breaker::HalfOpen, _) if pass.trial => self.open(&mut inner, now),
            _ => {}
        }
    }

    fn too_much(&self, inner: &Inner, now: Instant) -> bool {
        if inner.in_a_row >= self.policy.in_a_row {
            return true;
        }
        let t = inner.window.totals(now);
        let of_all = |n: u32| f64::from(n) / f64::from(t.calls.max(1));
        t.calls >= self.policy.min_calls
            && (of_all(t.failed) >= self.policy.failure_rate || of_all(t.failed + t.slow) >= self.policy.slow_rate)
    }

    fn open(&self, inner: &mut Inner, now: Instant) {
        let doubled = self.policy.open_ms.saturating_mul(1 << inner.opened.min(20)).min(self.policy.open_max_ms);
        let wait = doubled as f64 * (1.0 + self.policy.jitter * inner.rng.f64());
        inner.opened = inner.opened.saturating_add(1);
        inner.until = now + Duration::from_millis(wait as u64);
        inner.become_(Breaker::Open);
        self.shut.store(true, Ordering::Release);
    }

    /// State, since when, and what went wrong last.
    pub fn state(&self) -> (Breaker, Timestamp, Option<ErrorKind>) {
        let inner = self.inner();
        (inner.state, inner.since, inner.last_error)
    }
}

impl Inner {
    fn become_(&mut self, state: Breaker) {
        if self.state != state {
            self.state = state;
            self.since = Timestamp::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> (Gate, Instant) {
        let policy =
            BreakerPolicy { min_calls: 10, in_a_row: 5, open_ms: 1_000, open_max_ms: 4_000, ..BreakerPolicy::default() };
        (Gate::new(policy), Instant::now())
    }

    const BAD: Verdict = Verdict::Failed(ErrorKind::Unavailable);

    fn tell(g: &Gate, now: Instant, verdicts: &[Verdict]) {
        for v in verdicts {
            let pass = g.admit(now).unwrap();
            g.record(now, pass, *v);
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_good_trials_close_it() {
        let (g, t) = gate();
        tell(&g, t, &[BAD; 4]);
        tell(&g, t, &[Verdict::Good]);
        tell(&g, t, &[BAD; 4]);
        assert_eq!(g.state().0, Breaker::Closed);
        tell(&g, t, &[BAD]);
        assert_eq!((g.state().0, g.state().2), (Breaker::Open, Some(ErrorKind::Unavailable)));
        assert_eq!(g.admit(t + Duration::from_millis(999)), None);
        let later = t + Duration::from_millis(1_501);
        let trial = g.admit(later).unwrap();
        assert_eq!((g.state().0, g.admit(later)), (Breaker::HalfOpen, None));
        g.record(later, trial, Verdict::Good);
        assert_eq!(g.state().0, Breaker::HalfOpen);
        tell(&g, later, &[Verdict::Good]);
        assert_eq!(g.state().0, Breaker::Closed);
        tell(&g, later, &[BAD; 4]);
        assert_eq!(g.state().0, Breaker::Closed);
    }

    #[test]
    fn each_failed_trial_doubles_the_wait_up_to_its_limit() {
        let (g, mut t) = gate();
        tell(&g, t, &[BAD; 5]);
        for wait in [1_000_u64, 2_000, 4_000, 4_000] {
            assert!(!g.would_pass(t + Duration::from_millis(wait - 1)), "{wait}");
            t += Duration::from_millis(wait * 3 / 2 + 1);
            assert!(g.would_pass(t), "{wait}");
            tell(&g, t, &[BAD]);
            assert_eq!(g.state().0, Breaker::Open);
        }
    }

    #[test]
    fn rates_need_enough_calls_and_slowness_counts() {
        let (g, t) = gate();
        // Half of ten fail, never five in a row.
        for n in 0..9 {
            tell(&g, t, &[if n % 2 == 0 { BAD } else { Verdict::Good }]);
            assert_eq!(g.state().0, Breaker::Closed, "{n}");
        }
        tell(&g, t, &[BAD]);
        assert_eq!(g.state().0, Breaker::Open);
        let (g, t) = gate();
        tell(&g, t, &[Verdict::Good; 2]);
        tell(&g, t, &[Verdict::Slow; 7]);
        assert_eq!(g.state().0, Breaker::Closed);
        tell(&g, t, &[Verdict::Slow]);
        assert_eq!(g.state().0, Breaker::Open);
    }

    #[test]
    fn old_failures_are_forgotten_and_silence_says_nothing() {
        let (g, t) = gate();
        tell(&g, t, &[Verdict::Good]);
        tell(&g, t, &[BAD, BAD, BAD, BAD, Verdict::Good, BAD, BAD]);
        tell(&g, t + Duration::from_secs(30), &[Verdict::Good; 9]);
        tell(&g, t + Duration::from_secs(30), &[BAD, Verdict::Nothing]);
        assert_eq!(g.state().0, Breaker::Closed);
    }

    #[test]
    fn a_trial_whose_caller_went_away_makes_room_for_another() {
        let (g, t) = gate();
        tell(&g, t, &[BAD; 5]);
        let later = t + Duration::from_secs(2);
        let trial = g.admit(later).unwrap();
        assert_eq!(g.admit(later), None);
        g.record(later, trial, Verdict::Nothing);
        assert!(g.admit(later).is_some());
    }
}
