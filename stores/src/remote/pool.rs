//! Connections of any kind, opened when they are needed and used again.
//!
//! A call may be given up at any moment, and a connection that still owes an answer would hand it to the next caller. So a
//! connection comes back only when its user says that it is clean; otherwise it is closed. Does nothing in the background.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use tokio::sync::{Semaphore, SemaphorePermit};

/// What lay unused for longer is not trusted: firewalls forget connections without a word.
const LONGEST_IDLE: Duration = Duration::from_secs(240);

/// A bounded number of connections.
pub struct Pool<C> {
    store: &'static str,
    size: usize,
    /// How long a caller waits for another to finish.
    patience: Duration,
    permits: Semaphore,
    idle: Mutex<Vec<(Instant, C)>>,
    /// Goes up when what is idle is thrown away: what was open then does not come back.
    age: AtomicU64,
    closed: AtomicBool,
}

/// A connection in use. Dropped without [`Lease::clean`], it is closed.
pub struct Lease<'p, C> {
    pool: &'p Pool<C>,
    connection: Option<C>,
    age: u64,
    _permit: SemaphorePermit<'p>,
}

impl<C> Pool<C> {
    /// At most `size` connections (at least one) to `store`.
    pub fn new(store: &'static str, size: usize, patience: Duration) -> Self {
        let size = size.clamp(1, 10_000);
        let (permits, idle) = (Semaphore::new(size), Mutex::new(Vec::new()));
        Self { store, size, patience, permits, idle, age: AtomicU64::new(0), closed: AtomicBool::new(false) }
    }

    /// A connection that lay idle, or a new one.
    pub async fn take<F>(&self, connect: impl FnOnce() -> F) -> StoreResult<Lease<'_, C>>
    where
        F: Future<Output = StoreResult<C>>,
    {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::new(ErrorKind::Unavailable, self.store, "the store was closed"));
        }
        let Ok(Ok(permit)) = tokio::time::timeout(self.patience, self.permits.acquire()).await else {
            let message =
                format!("all {} connections are in use: raise `connections`, or start fewer calls at once", self.size);
            return Err(StoreError::new(ErrorKind::Busy, self.store, message));
        };
        let age = self.age.load(Ordering::Acquire);
        let connection = match self.pop() {
            Some(connection) => connection,
            None => connect().await?,
        };
        Ok(Lease { pool: self, connection: Some(connection), age, _permit: permit })
    }

    fn pop(&self) -> Option<C> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < LONGEST_IDLE);
        idle.pop().map(|(_, connection)| connection)
    }

    /// Throws away what is idle: the server went away, or does not answer.
    pub fn distrust(&self) {
        drop(self.drain());
    }

    /// Hands out nothing more. Answers what was idle, so that it can be closed in its own way.
    pub fn close(&self) -> Vec<C> {
        self.closed.store(true, Ordering::Release);
        self.drain()
    }

    fn drain(&self) -> Vec<C> {
        self.age.fetch_add(1, Ordering::AcqRel);
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        idle.into_iter().map(|(_, connection)| connection).collect()
    }
}

impl<C> Lease<'_, C> {
    /// The connection.
    pub fn get(&mut self) -> StoreResult<&mut C> {
        let store = self.pool.store;
        self.connection.as_mut().ok_or_else(|| StoreError::new(ErrorKind::Unavailable, store, "the connection was given back"))
    }

    /// Gives the connection back: nothing is under way on it, and no answer is owed.
    pub fn clean(mut self) {
        let pool = self.pool;
        let current = self.age == pool.age.load(Ordering::Acquire) && !pool.closed.load(Ordering::Acquire);
        if let Some(connection) = self.connection.take().filter(|_| current) {
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), connection));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_clean_connections_are_used_again() {
        let opened = AtomicU32::new(0);
        let open = || async { Ok(opened.fetch_add(1, Ordering::Relaxed)) };
        let pool = Pool::new("x", 2, Duration::from_millis(10));
        pool.take(open).await.unwrap().clean();
        let mut a = pool.take(open).await.unwrap();
        assert_eq!(*a.get().unwrap(), 0, "used again");
        let b = pool.take(open).await.unwrap();
        assert_eq!(pool.take(open).await.err().unwrap().kind, ErrorKind::Busy, "no more than two");
        drop(b);
        a.clean();
        assert_eq!(*pool.take(open).await.unwrap().get().unwrap(), 0, "what was given up is gone");
        assert_eq!(*pool.take(open).await.unwrap().get().unwrap(), 2);
        let old = pool.take(open).await.unwrap();
        pool.distrust();
        old.clean();
        assert_eq!(
            *pool.take(open).await.unwrap().get().unwrap(),
            4,
            "what was open when the server went away is not used again"
        );
        assert!(pool.close().is_empty());
        assert_eq!(pool.take(open).await.err().unwrap().kind, ErrorKind::Unavailable);
    }
}
