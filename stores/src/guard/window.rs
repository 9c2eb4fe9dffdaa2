//! Calls of the last while, counted in ten slots: what is older than the window no longer counts.

use std::time::Duration;

use tokio::time::Instant;

const SLOTS: usize = 10;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub calls: u32,
    pub failed: u32,
    /// Slow ones that did not fail.
    pub slow: u32,
}

#[derive(Debug)]
pub(super) struct Window {
    origin: Instant,
    /// The time of one slot in milliseconds.
    slot_ms: u64,
    /// Each with the number of the time that it counts.
    slots: [(u64, Totals); SLOTS],
}

impl Window {
    pub fn new(now: Instant, whole: Duration) -> Self {
        let slot_ms = (whole.as_millis() as u64 / SLOTS as u64).max(1);
        Self { origin: now, slot_ms, slots: [(0, Totals::default()); SLOTS] }
    }

    fn number(&self, now: Instant) -> u64 {
        // One more, so that a slot that never counted is older than any.
        now.saturating_duration_since(self.origin).as_millis() as u64 / self.slot_ms + 1
    }

    pub fn add(&mut self, now: Instant, failed: bool, slow: bool) {
        let number = self.number(now);
        let (of, totals) = &mut self.slots[number as usize % SLOTS];
        if *of != number {
            (*of, *totals) = (number, Totals::default());
        }
        totals.calls += 1;
        totals.failed += u32::from(failed);
        totals.slow += u32::from(slow && !failed);
    }

    pub fn totals(&self, now: Instant) -> Totals {
        let oldest = (self.number(now) + 1).saturating_sub(SLOTS as u64);
        let mut sum = Totals::default();
        for (number, t) in &self.slots {
            if *number >= oldest.max(1) {
                sum.calls += t.calls;
                sum.failed += t.failed;
                sum.slow += t.slow;
            }
        }
        sum
    }

    pub fn clear(&mut self) {
        self.slots = [(0, Totals::default()); SLOTS];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_no_longer_counts() {
        let start = Instant::now();
        let mut w = Window::new(start, Duration::from_secs(10));
        for s in 0..30 {
            w.add(start + Duration::from_secs(s), s % 2 == 0, true);
        }
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(w.totals(at(29)), Totals { calls: 10, failed: 5, slow: 5 });
        assert_eq!(w.totals(at(34)).calls, 5);
        assert_eq!(w.totals(at(60)), Totals::default());
    }
}
