//! Turning requests away when there are more than can be answered in time.
//!
//! Where the kernel tells how long a request has lain there ([`super::waited`]), that decides: one that waited too long is turned away, so
//! that nobody waits longer for those before him. Elsewhere, and should that not be enough, it is measured how long requests wait for the
//! CPU: how late the runtime's threads come to a task that is due, and how long what is ready to run will take at the pace at which requests
//! end just now. While it is too long, only a share of the requests is let in; the share falls quickly and rises slowly. Turning away costs
//! little, so what is let in is answered in time.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// So few connections are never too many.
pub(super) const FEW: usize = 64;
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
/// The same where requests that waited too long are turned away one by one.
const MUCH_TOO_LATE: Duration = Duration::from_millis(200);
/// After one was turned away it is too much for so long.
const STILL: Duration = Duration::from_millis(100);

/// So many tasks wait at each thread, about, where some wait at none: the runtime keeps more in common.
const AT_EACH_THREAD: usize = 128;
/// What a measurement counts against those before it.
const SMOOTH: f64 = 0.05;

/// See the module.
#[derive(Debug)]
pub struct Pressure {
    /// Requests that ended.
    ended: AtomicU64,
    share: AtomicU32,
    credit: AtomicU32,
    late: AtomicU32,
    /// Whether the kernel ever told that a request waited.
    told: AtomicBool,
    begun: Instant,
    /// In milliseconds since then, from 1: when one was turned away because it had waited.
    refused: AtomicU64,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            ended: AtomicU64::new(0),
            share: AtomicU32::new(ALL),
            credit: AtomicU32::new(0),
            late: AtomicU32::new(0),
            told: AtomicBool::new(false),
            begun: Instant::now(),
            refused: AtomicU64::new(0),
        }
    }
}

impl Pressure {
    /// Whether a request is let in that `waited` so long, as far as that is known, while so many connections are open: evenly, as many as the
    /// share allows. Few connections bring no more than can be answered, whatever else keeps the CPU busy.
    pub fn lets_in(&self, connections: usize, waited: Option<Duration>) -> bool {
        if connections <= FEW {
            return true;
        }
        if let Some(waited) = waited.filter(|w| !w.is_zero()) {
            self.told.store(true, Relaxed);
            if waited > TOO_LATE {
                self.refused.store(self.now(), Relaxed);
                return false;
            }
        }
        let share = self.share.load(Relaxed);
        if share >= ALL {
            return true;
        }
        let before = self.credit.fetch_add(share, Relaxed);
        before / ALL != before.wrapping_add(share) / ALL
    }

    /// Whether so many connections bring more than is let in.
    pub fn is_too_much(&self, connections: usize) -> bool {
        let refused = self.refused.load(Relaxed);
        let lately = refused > 0 && self.now().saturating_sub(refused) < STILL.as_millis() as u64;
        connections > FEW && (lately || self.share.load(Relaxed) < ALL)
    }

    fn now(&self) -> u64 {
        1 + self.begun.elapsed().as_millis() as u64
    }

    /// A request ended.
    pub fn ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    /// The share that is let in, 0 to 1.
    pub fn share(&self) -> f64 {
        f64::from(self.share.load(Relaxed)) / f64::from(ALL)
    }

    /// Takes down how late the threads were.
    fn observe(&self, late: Duration) {
        let share = self.share.load(Relaxed);
        let too_late = if self.told.load(Relaxed) { MUCH_TOO_LATE } else { TOO_LATE };
        let in_a_row = if late > too_late { self.late.load(Relaxed).saturating_add(1) } else { 0 };
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
        let runtime = Handle::current().metrics();
        let (mut last, mut ended, mut pace) = (Instant::now(), self.ended.load(Relaxed), 0.0);
        loop {
            let due = Instant::now() + EVERY;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(due) => {}
            }
            // A task that wakes is run before those that wait already, so its lateness alone does not tell how many there are.
            let (now, by_now) = (Instant::now(), self.ended.load(Relaxed));
            let since = (now - last).as_secs_f64().max(1e-6);
            pace += SMOOTH * (by_now.wrapping_sub(ended) as f64 / since - pace);
            (last, ended) = (now, by_now);
            let wait = wait_of(runtime.global_queue_depth(), runtime.num_workers(), pace);
            self.observe(due.elapsed().max(wait));
        }
    }
}

/// How long the last of the waiting waits, when `waiting` of them are at none of the threads and `pace` requests end in a second.
fn wait_of(waiting: usize, threads: usize, pace: f64) -> Duration {
    if waiting == 0 || pace < 1.0 {
        return Duration::ZERO;
    }
    Duration::from_secs_f64(((waiting + AT_EACH_THREAD * threads) as f64 / pace).min(60.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_takes_as_long_as_it_takes_at_this_pace() {
        assert_eq!(wait_of(0, 2, 1_000.0), Duration::ZERO);
        assert_eq!(wait_of(1_000, 2, 0.0), Duration::ZERO);
        assert_eq!(wait_of(744, 2, 10_000.0), Duration::from_millis(100));
    }

    #[test]
    fn the_share_follows_and_is_kept() {
        let p = Pressure::default();
        assert!((0..1_000).all(|_| p.lets_in(1_000, None)));
        for _ in 1..IN_A_ROW {
            p.observe(Duration::from_millis(60));
        }
        assert_eq!(p.share(), 1.0, "not for a moment's lateness");
        for _ in 0..6 {
            p.observe(Duration::from_millis(60));
        }
        let share = p.share();
        assert!((0.3..0.6).contains(&share), "{share}");
        assert!((0..1_000).all(|_| p.lets_in(FEW, None)));
        let let_in = (0..10_000).filter(|_| p.lets_in(1_000, None)).count();
        assert!((let_in as f64 - share * 10_000.0).abs() < 2.0, "{let_in} of 10,000 at {share}");
        for _ in 0..1_000 {
            p.observe(Duration::from_secs(1));
        }
        assert!(p.share() > 0.01 && (0..1_000).any(|_| p.lets_in(1_000, None)), "never shut");
        for _ in 0..70 {
            p.observe(Duration::from_millis(1));
        }
        assert_eq!(p.share(), 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_too_long_is_turned_away_one_by_one() {
        let p = Pressure::default();
        let waited = |ms| Some(Duration::from_millis(ms));
        assert!(p.lets_in(1_000, waited(39)) && !p.is_too_much(1_000));
        assert!(!p.lets_in(1_000, waited(41)) && p.lets_in(1_000, waited(39)), "each by itself");
        assert!(p.lets_in(FEW, waited(41)) && p.is_too_much(1_000) && !p.is_too_much(FEW));
        for _ in 0..100 {
            p.observe(Duration::from_millis(60));
        }
        assert_eq!(p.share(), 1.0, "it is seen to already");
        tokio::time::advance(Duration::from_millis(101)).await;
        assert!(!p.is_too_much(1_000));
        for _ in 0..20 {
            p.observe(Duration::from_millis(201));
        }
        assert!(p.share() < 0.2, "should it not be enough");
    }
}
