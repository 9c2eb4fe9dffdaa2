//! A bound on calls under way, and on those that wait for their turn: a sick store fills neither memory nor pools.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(super) struct Bulkhead {
    room: Semaphore,
    size: usize,
    waiting: AtomicUsize,
    queue: usize,
}

/// One place in the queue, given back also when the caller goes away.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Bulkhead {
    pub fn new(in_flight: usize, queue: usize) -> Self {
        Self { room: Semaphore::new(in_flight), size: in_flight, waiting: AtomicUsize::new(0), queue }
    }

    /// The way of nearly every call.
    pub fn try_enter(&self) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire().ok()
    }

    /// Waits for a turn; `None` at once where too many wait already.
    pub async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.queue {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let _place = Place(&self.waiting);
        self.room.acquire().await.ok()
    }

    pub fn in_flight(&self) -> usize {
        self.size - self.room.available_permits()
    }
}
