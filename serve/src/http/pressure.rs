//! Turning requests away when there are more than can be answered in time.
//!
//! Measures how late the runtime's threads come to a task that is due: that is how long requests wait for the CPU before anyone
//! could know of them. While it is too long, only a share of the requests is let in; the share falls quickly and rises slowly. Turning
//! away costs next to nothing, so what is let in is answered in time.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// So few connections are never too many.
const FEW: usize = 64;
/// All requests.
const ALL: u32 = 1 << 16;
/// At least this share is let in, whatever is measured.
const LEAST: u32 = ALL / 50;
/// How often it is measured.
const EVERY: Duration = Duration::from_millis(5);
/// A task that waits longer than this for the CPU says that there is too much, if so many others in a row did: one may have met a busy
/// neighbour.
const TOO_LATE: Duration = Duration::from_millis(40);
const IN_A_ROW: u32 = 5;

/// See the module.
#[derive(Debug)]
pub struct Pressure {
    share: AtomicU32,
    credit: AtomicU32,
    late: AtomicU32,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { share: AtomicU32::new(ALL), credit: AtomicU32::new(0), late: AtomicU32::new(0) }
    }
}

impl Pressure {
    /// Whether a request is let in while so many connections are open: evenly, as many as the share allows. Few connections bring no more
    /// than can be answered, whatever else keeps the CPU busy.
    pub fn lets_in(&self, connections: usize) -> bool {
        let share = self.share.load(Relaxed);
        if share >= ALL || connections <= FEW {
            return true;
        }
        let before = self.credit.fetch_add(share, Relaxed);
        before / ALL != before.wrapping_add(share) / ALL
    }

    /// The share that is let in, 0 to 1.
    pub fn share(&self) -> f64 {
        f64::from(self.share.load(Relaxed)) / f64::from(ALL)
    }

    /// Takes down how late the threads were.
    fn observe(&self, late: Duration) {
        let share = self.share.load(Relaxed);
        let in_a_row = if late > TOO_LATE { self.late.load(Relaxed).saturating_add(1) } else { 0 };
        self.late.store(in_a_row, Relaxed);
        let next = match in_a_row {
            0 => (share + ALL / 64).min(ALL),
            1..IN_A_ROW => share,
            _ => (share / 8 * 7).max(LEAST),
        };
        self.share.store(next, Relaxed);
    }

    /// Measures until told to stop.
    pub async fn watch(&self, stop: CancellationToken) {
        loop {
            let due = Instant::now() + EVERY;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(due) => {}
            }
            self.observe(due.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_follows_and_is_kept() {
        let p = Pressure::default();
        assert!((0..1_000).all(|_| p.lets_in(1_000)));
        for _ in 1..IN_A_ROW {
            p.observe(Duration::from_millis(60));
        }
        assert_eq!(p.share(), 1.0, "not for a moment's lateness");
        for _ in 0..6 {
            p.observe(Duration::from_millis(60));
        }
        let share = p.share();
        assert!((0.3..0.6).contains(&share), "{share}");
        assert!((0..1_000).all(|_| p.lets_in(FEW)));
        let let_in = (0..10_000).filter(|_| p.lets_in(1_000)).count();
        assert!((let_in as f64 - share * 10_000.0).abs() < 2.0, "{let_in} of 10,000 at {share}");
        for _ in 0..1_000 {
            p.observe(Duration::from_secs(1));
        }
        assert!(p.share() > 0.01 && (0..1_000).any(|_| p.lets_in(1_000)), "never shut");
        for _ in 0..70 {
            p.observe(Duration::from_millis(1));
        }
        assert_eq!(p.share(), 1.0);
    }
}
