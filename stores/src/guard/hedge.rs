//! When a read is tried a second time: after the time in which most end, and for a bounded share of the calls.
//!
//! Latencies are counted in steps of a quarter of a power of two; the older half fades as calls come in, so that the figure
//! follows the store.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::config::HedgePolicy;

/// Steps: from one microsecond to over an hour.
const STEPS: usize = 128;
/// After so many calls all counts are halved.
const FADE_EVERY: u32 = 1_024;
/// The figure is looked up anew after so many calls.
const LOOK_EVERY: u32 = 32;
/// Before so many calls nothing is known.
const KNOWN_FROM: u32 = 32;
/// At most so many second attempts are saved up.
const SAVED: f64 = 10.0;

#[derive(Debug)]
pub(super) struct Hedge {
    policy: HedgePolicy,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    counts: [u32; STEPS],
    total: u32,
    since_fading: u32,
    since_looking: u32,
    after: Option<Duration>,
    saved: f64,
}

impl Hedge {
    /// `None` where the policy switches it off.
    pub fn new(policy: HedgePolicy) -> Option<Self> {
        let inner = Inner { counts: [0; STEPS], total: 0, since_fading: 0, since_looking: 0, after: None, saved: 0.0 };
        (policy.share > 0.0).then(|| Self { policy, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a call that begins now should be tried again; `None` while that is not known.
    pub fn after(&self) -> Option<Duration> {
        self.inner().after
    }

    /// Whether a second attempt may be made now; takes it out of what is saved.
    pub fn take(&self) -> bool {
        let mut inner = self.inner();
        let enough = inner.saved >= 1.0;
        if enough {
            inner.saved -= 1.0;
        }
        enough
    }

    /// Takes down how long a call took.
    pub fn record(&self, took: Duration) {
        let mut inner = self.inner();
        inner.saved = (inner.saved + self.policy.share).min(SAVED);
        inner.counts[step(took)] += 1;
        inner.total += 1;
        inner.since_fading += 1;
        inner.since_looking += 1;
        if inner.since_fading >= FADE_EVERY {
            inner.since_fading = 0;
            inner.counts.iter_mut().for_each(|c| *c /= 2);
            inner.total = inner.counts.iter().sum();
        }
        if inner.since_looking >= LOOK_EVERY && inner.total >= KNOWN_FROM {
            inner.since_looking = 0;
            let wanted = (f64::from(inner.total) * self.policy.quantile).ceil() as u32;
            let mut seen = 0;
            let at = inner.counts.iter().position(|c| {
                seen += c;
                seen >= wanted
            });
            let least = Duration::from_millis(self.policy.min_ms);
            inner.after = at.map(|s| upper_bound(s).max(least));
        }
    }
}

/// The step that a time falls in.
fn step(took: Duration) -> usize {
    let us = took.as_micros().clamp(1, u128::from(u64::MAX)) as u64;
    let power = us.ilog2() as usize;
    let quarter = if power >= 2 { (us >> (power - 2)) as usize & 3 } else { 0 };
    (power * 4 + quarter).min(STEPS - 1)
}

/// The first time that is above a step.
fn upper_bound(step: usize) -> Duration {
    let (power, quarter) = (step / 4, step % 4);
    let us = if power >= 2 { (5 + quarter as u64) << (power - 2) } else { 2 << power };
    Duration::from_micros(us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_hold_their_times() {
        for us in [1_u64, 2, 3, 4, 5, 7, 8, 100, 999, 12_345, 1_000_000, 77_777_777] {
            let took = Duration::from_micros(us);
            let s = step(took);
            assert!(upper_bound(s) > took, "{us}");
            assert!(upper_bound(s).as_micros() as f64 <= us as f64 * 1.34 + 2.0, "{us}: {:?}", upper_bound(s));
        }
    }

    #[test]
    fn the_quantile_follows_and_the_share_bounds() {
        let h = Hedge::new(HedgePolicy { share: 0.05, quantile: 0.95, min_ms: 1 }).unwrap();
        assert_eq!((h.after(), h.take()), (None, false));
        for n in 0..320 {
            h.record(Duration::from_millis(if n % 100 == 0 { 200 } else { 10 }));
        }
        let after = h.after().unwrap();
        assert!(after >= Duration::from_millis(10) && after < Duration::from_millis(14), "{after:?}");
        let taken = (0..100).filter(|_| h.take()).count();
        assert_eq!(taken, 10, "no more than are saved up");
        for _ in 0..20_000 {
            h.record(Duration::from_millis(40));
        }
        assert!(h.after().unwrap() >= Duration::from_millis(40));
        assert!(Hedge::new(HedgePolicy { share: 0.0, ..HedgePolicy::default() }).is_none());
    }
}
