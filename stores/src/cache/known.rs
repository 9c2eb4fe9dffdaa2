//! What a process knows of epochs that others set, and for how long it may rely on it. Never answers with what it only believes.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Epochs that were read or heard of, the latest of each owner. Of more owners than fit, those first heard of are forgotten.
#[derive(Debug)]
pub(super) struct Known {
    capacity: usize,
    /// How long ago it may be that everything told until then was heard.
    reliable: Duration,
    up_to: Option<Instant>,
    base: u64,
    epochs: HashMap<String, u64>,
    order: VecDeque<String>,
    /// How many owners were forgotten, ever.
    forgotten: usize,
    /// How often everything was forgotten.
    losses: u64,
}

/// What was known when a read began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    forgotten: usize,
    losses: u64,
}

impl Known {
    pub(super) fn new(capacity: usize, reliable: Duration) -> Self {
        Self {
            capacity,
            reliable,
            up_to: None,
            base: 0,
            epochs: HashMap::new(),
            order: VecDeque::new(),
            forgotten: 0,
            losses: 0,
        }
    }

    /// Everything told before `when` was heard, and no epoch is less than `base`.
    pub(super) fn heard(&mut self, when: Instant, base: u64) {
        self.up_to = Some(when);
        self.raise(base);
    }

    /// No epoch is less than this.
    pub(super) fn raise(&mut self, base: u64) {
        self.base = self.base.max(base);
    }

    /// Messages may have been lost: nothing is known any more.
    pub(super) fn lost(&mut self) {
        self.up_to = None;
        self.epochs.clear();
        self.order.clear();
        self.losses += 1;
    }

    /// An owner's epoch, where it is certain.
    pub(super) fn epoch(&self, owner: &str) -> Option<u64> {
        let certain = self.up_to.is_some_and(|when| when.elapsed() < self.reliable);
        self.epochs.get(owner).filter(|_| certain).map(|e| (*e).max(self.base))
    }

    /// An owner's epoch is this, or a later one that was heard of before.
    pub(super) fn set(&mut self, owner: &str, epoch: u64) {
        if let Some(e) = self.epochs.get_mut(owner) {
            *e = (*e).max(epoch);
            return;
        }
        self.epochs.insert(owner.to_owned(), epoch);
        self.order.push_back(owner.to_owned());
        while self.epochs.len() > self.capacity
            && let Some(first) = self.order.pop_front()
        {
            self.forgotten += usize::from(self.epochs.remove(&first).is_some());
        }
    }

    pub(super) fn before(&self) -> Before {
        Before { forgotten: self.forgotten, losses: self.losses }
    }

    /// As [`Self::set`], for an epoch that was read: only where a change in between cannot have been missed or forgotten again.
    pub(super) fn set_read(&mut self, owner: &str, epoch: u64, before: Before) {
        if self.up_to.is_some() && self.losses == before.losses && self.forgotten - before.forgotten < self.capacity {
            self.set(owner, epoch);
        }
    }

    /// An owner's epoch is not known any more.
    pub(super) fn unset(&mut self, owner: &str) {
        if self.epochs.remove(owner).is_some() {
            self.order.retain(|o| o != owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn nothing_is_certain_before_listening_or_after_a_loss() {
        let mut known = Known::new(10, LONG);
        known.set("u", 5);
        assert_eq!(known.epoch("u"), None);
        known.heard(Instant::now(), 3);
        assert_eq!(known.epoch("u"), Some(5));
        known.raise(7);
        assert_eq!(known.epoch("u"), Some(7));
        known.lost();
        known.heard(Instant::now(), 3);
        assert_eq!(known.epoch("u"), None);
        let mut soon = Known::new(10, Duration::ZERO);
        soon.heard(Instant::now(), 0);
        soon.set("u", 5);
        assert_eq!(soon.epoch("u"), None, "what was certain long ago is not");
    }

    #[test]
    fn a_read_never_hides_what_was_told_meanwhile() {
        let mut known = Known::new(2, LONG);
        known.heard(Instant::now(), 0);
        let before = known.before();
        known.set("u", 9);
        known.set_read("u", 8, before);
        assert_eq!(known.epoch("u"), Some(9));
        // Told and forgotten again while the read was under way.
        for other in ["a", "b"] {
            known.set(other, 1);
        }
        assert_eq!(known.epoch("u"), None);
        known.set("c", 1);
        known.set_read("u", 8, before);
        assert_eq!(known.epoch("u"), None);
        let before = known.before();
        known.lost();
        known.heard(Instant::now(), 0);
        known.set_read("u", 8, before);
        assert_eq!(known.epoch("u"), None);
        known.set_read("u", 8, known.before());
        assert_eq!(known.epoch("u"), Some(8));
        known.unset("u");
        assert_eq!(known.epoch("u"), None);
    }
}
