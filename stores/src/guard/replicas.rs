//! [`Guarded`]: a port behind guards, over one store or several replicas of it.
//!
//! Calls take turns among the replicas whose breakers let them through. A read that failed is made once more on another
//! replica, and a read that takes long is tried there. A write goes to the first replica only.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use nearcast_domain::{
    StoreResult,
    ports::{DeadLetters, Embedder, EngagementRead, EventSink, GraphRead, LedgerRead, Progress, ResponseCache, VectorRead},
};

use super::core::{Guard, Op};

/// A port behind guards. `P` is the port (`dyn LedgerRead`), which this implements too.
pub struct Guarded<P: ?Sized> {
    replicas: Vec<(Arc<P>, Arc<Guard>)>,
    turn: AtomicUsize,
}

/// A guarded [`LedgerRead`].
pub type GuardedLedger = Guarded<dyn LedgerRead>;
/// A guarded [`VectorRead`].
pub type GuardedVectors = Guarded<dyn VectorRead>;
/// A guarded [`GraphRead`].
pub type GuardedGraph = Guarded<dyn GraphRead>;
/// A guarded [`EngagementRead`].
pub type GuardedEngagement = Guarded<dyn EngagementRead>;
/// A guarded [`ResponseCache`].
pub type GuardedCache = Guarded<dyn ResponseCache>;
/// A guarded [`Embedder`].
pub type GuardedEmbedder = Guarded<dyn Embedder>;
/// A guarded [`EventSink`].
pub type GuardedSink = Guarded<dyn EventSink>;
/// A guarded [`Progress`].
pub type GuardedProgress = Guarded<dyn Progress>;
/// A guarded [`DeadLetters`].
pub type GuardedDeadLetters = Guarded<dyn DeadLetters>;

impl<P: ?Sized> Guarded<P> {
    /// Over one store.
    pub fn new(port: Arc<P>, guard: Arc<Guard>) -> Self {
        Self { replicas: vec![(port, guard)], turn: AtomicUsize::new(0) }
    }

    /// Over one store and replicas of it that reads may go to.
    pub fn with_replicas(port: Arc<P>, guard: Arc<Guard>, replicas: Vec<(Arc<P>, Arc<Guard>)>) -> Self {
        let all = std::iter::once((port, guard)).chain(replicas).collect();
        Self { replicas: all, turn: AtomicUsize::new(0) }
    }

    /// The store itself.
    pub(super) fn port(&self) -> &P {
        &self.replicas[0].0
    }

    /// The replica whose turn it is, among those that would be tried, and the one after it.
    fn choose(&self) -> (usize, usize) {
        let n = self.replicas.len();
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % n;
        let mut well = (0..n).map(|i| (start + i) % n).filter(|i| self.replicas[*i].1.would_try());
        let first = well.next().unwrap_or(start);
        (first, well.next().unwrap_or(first))
    }

    /// One call of a port: `f` makes it.
    pub(super) async fn call<'a, T, F>(&'a self, name: &'static str, op: Op, f: impl Fn(&'a P) -> F) -> StoreResult<T>
    where
        F: Future<Output = StoreResult<T>>,
    {
        let (port, guard) = &self.replicas[0];
        if self.replicas.len() == 1 || op != Op::Read {
            return guard.call(name, op, || f(port)).await;
        }
        let (first, second) = self.choose();
        let (port, guard) = &self.replicas[first];
        let (other, other_guard) = &self.replicas[second];
        if first == second {
            return guard.call(name, op, || f(port)).await;
        }
        // The other's guard takes down the second attempt; `Write`: it is not hedged again.
        let elsewhere = || other_guard.call(name, Op::Write, || f(other));
        match guard.call_or(name, op, || f(port), elsewhere).await {
            Err(e) if e.kind.is_transient() => elsewhere().await,
            done => done,
        }
    }
}

impl<P: ?Sized> fmt::Debug for Guarded<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.replicas.iter().map(|(_, g)| g)).finish()
    }
}
