//! Whether a batch may still be applied, told between a source that is shared by several workers and the worker that has it.
//!
//! A partition of a log can be given to another worker while a batch of it is under way. A write of the first worker behind the
//! first write of the second would leave a projection without what the second knows. So the worker writes only while it holds a
//! [`Claimed`], and the source gives a partition away only when nobody holds one any more, or when waiting has become senseless.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The right to apply a batch. Clones are one claim. The default is one that nobody can take back.
#[derive(Clone, Default)]
pub struct Claim(Option<(Arc<Inner>, u64)>);

/// The turns of all sources of this process: none comes twice.
static TURNS: AtomicU64 = AtomicU64::new(1);

#[derive(Default)]
struct Inner {
    gone: AtomicBool,
    writing: Mutex<usize>,
    idle: Condvar,
}

/// Someone is writing under a claim. Dropping it says that no write is under way any more.
pub struct Claimed(Option<Arc<Inner>>);

impl Claim {
    /// A claim that [`Claim::withdraw`] ends.
    pub fn revocable() -> Self {
        Self(Some((Arc::default(), TURNS.fetch_add(1, Ordering::Relaxed))))
    }

    /// The same claim behind a change of what its source has.
    pub fn next_turn(&self) -> Self {
        Self(self.0.as_ref().map(|(inner, _)| (inner.clone(), TURNS.fetch_add(1, Ordering::Relaxed))))
    }

    /// A number that grows whenever a partition comes to the source or goes from it: within one turn nobody else writes the users of its
    /// batches. `None` where the source shares nothing, and says nothing of who else writes.
    pub fn turn(&self) -> Option<u64> {
        self.0.as_ref().map(|(_, turn)| *turn)
    }

    /// Whether the source shares its log with other workers.
    pub fn is_shared(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the batch may still be applied.
    pub fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|(i, _)| !i.gone.load(Ordering::SeqCst))
    }

    /// Begins to write; `None` where the claim is gone: then nothing may be written.
    pub fn begin(&self) -> Option<Claimed> {
        let Some((inner, _)) = &self.0 else { return Some(Claimed(None)) };
        let mut writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: whoever withdraws sees this writer, or this writer sees that the claim is gone.
        if inner.gone.load(Ordering::SeqCst) {
            return None;
        }
        *writing += 1;
        Some(Claimed(Some(inner.clone())))
    }

    /// Ends the claim, and waits (on this thread) until nobody writes under it; `false` when that took longer than `patience`.
    pub fn withdraw(&self, patience: Duration) -> bool {
        let Some((inner, _)) = &self.0 else { return true };
        let until = Instant::now() + patience;
        let mut writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        inner.gone.store(true, Ordering::SeqCst);
        while *writing > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            writing = inner.idle.wait_timeout(writing, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(inner) = &self.0 {
            *inner.writing.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            inner.idle.notify_all();
        }
    }
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some((a, m)), Some((b, n))) => Arc::ptr_eq(a, b) && m == n,
            (a, b) => a.is_none() && b.is_none(),
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.holds() { "Claim(holds)" } else { "Claim(gone)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_ends_behind_its_writers() {
        let claim = Claim::revocable();
        let writing = claim.begin().unwrap();
        assert!(!claim.withdraw(Duration::from_millis(1)), "someone writes");
        assert!(!claim.holds() && claim.begin().is_none(), "but nobody begins any more");
        drop(writing);
        assert!(claim.withdraw(Duration::ZERO));
        let later = claim.next_turn();
        assert!(!later.holds() && later != claim && later.turn() > claim.turn(), "one claim in another turn");
        let free = Claim::default();
        assert!(free.withdraw(Duration::ZERO) && free.begin().is_some(), "nobody can take back what is not shared");
    }
}
