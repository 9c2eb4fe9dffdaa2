//! Guards around a port that misbehaves, on a clock that stands still.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId,
    digest::Digest,
    ports::{Breaker, Edge, EventSink, GraphRead, Neighbour, StoreStates, Token, Touched},
};
use nearcast_stores::guard::{BreakerPolicy, Guard, GuardConfig, GuardStates, Guarded, GuardedGraph, Op, StoreLimits};
use tokio::time::{Instant, advance, sleep};

/// A graph whose `count` does what it is told: waits, then fails or answers with how often it was asked.
#[derive(Default)]
struct Moody {
    /// Waits of the next calls in milliseconds; 0 for all others.
    waits: Mutex<Vec<u64>>,
    fails: Mutex<Option<ErrorKind>>,
    calls: AtomicU64,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Moody {
    async fn answer(&self) -> StoreResult<u64> {
        let n = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let wait = {
            let mut waits = self.waits.lock().unwrap();
            if waits.is_empty() { 0 } else { waits.remove(0) }
        };
        let _here = Here::new(self);
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
        match *self.fails.lock().unwrap() {
            Some(kind) => Err(StoreError::new(kind, "graph", "no")),
            None => Ok(n),
        }
    }
}

struct Here<'a>(&'a Moody);

impl<'a> Here<'a> {
    fn new(m: &'a Moody) -> Self {
        let now = m.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        m.most.fetch_max(now, Ordering::Relaxed);
        Self(m)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl GraphRead for Moody {
    async fn edges_of_users(&self, _: &Tenant, _: &[UserId], _: usize) -> StoreResult<Vec<Vec<Edge>>> {
        Ok(Vec::new())
    }
    async fn edges_of_items(&self, _: &Tenant, _: &[ItemId], _: usize) -> StoreResult<Vec<Vec<Edge>>> {
        Ok(Vec::new())
    }
    async fn neighbours(&self, _: &Tenant, _: &[ItemId], _: usize) -> StoreResult<Vec<Vec<Neighbour>>> {
        Ok(Vec::new())
    }
    async fn count(&self, _: &Tenant) -> StoreResult<u64> {
        self.answer().await
    }
    async fn scan(&self, _: &Tenant) -> StoreResult<Vec<Edge>> {
        self.answer().await.map(|_| Vec::new())
    }
    async fn touched_tenants(&self) -> StoreResult<Vec<Tenant>> {
        Ok(Vec::new())
    }
    async fn touched(&self, _: &Tenant, _: usize) -> StoreResult<Touched> {
        Ok(Touched::default())
    }
    async fn digest(&self) -> StoreResult<Digest> {
        Ok(Digest::default())
    }
}

#[async_trait]
impl EventSink for Moody {
    async fn publish(&self, _: &Tenant, _: &[(String, Arc<[u8]>)]) -> StoreResult<Token> {
        self.answer().await.map(|n| Token(n.to_string()))
    }
    async fn forget(&self, _: &[(Tenant, UserId)]) -> StoreResult<u64> {
        Ok(0)
    }
}

fn config() -> GuardConfig {
    GuardConfig {
        deadline_ms: 300,
        in_flight: 4,
        queue: 2,
        breaker: BreakerPolicy { min_calls: 10, slow_ms: 100, open_ms: 1_000, ..BreakerPolicy::default() },
        stores: BTreeMap::new(),
        ..GuardConfig::default()
    }
}

struct World {
    moody: Arc<Moody>,
    graph: Arc<GuardedGraph>,
    states: GuardStates,
}

fn world(config: &GuardConfig) -> World {
    let (moody, states) = (Arc::new(Moody::default()), GuardStates::new());
    let graph: Arc<dyn GraphRead> = moody.clone();
    let guard = Guard::new("graph", "", config, &states);
    World { moody, graph: Arc::new(Guarded::new(graph, guard)), states }
}

impl World {
    async fn count(&self) -> StoreResult<u64> {
        self.graph.count(&Tenant::default()).await
    }

    fn breaker(&self) -> Breaker {
        self.states.states()[0].breaker
    }

    fn outcome(&self, name: &str) -> u64 {
        self.states.states()[0].calls.iter().find(|(n, _)| *n == name).unwrap().1
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_within_its_deadline() {
    let w = world(&config());
    *w.moody.waits.lock().unwrap() = vec![10_000];
    let begun = Instant::now();
    let error = w.count().await.unwrap_err();
    assert_eq!((error.kind, error.store), (ErrorKind::Timeout, "graph"));
    assert_eq!(begun.elapsed().as_millis(), 300);
    assert_eq!(w.moody.under_way.load(Ordering::Relaxed), 0, "it was given up, not left behind");
    assert_eq!((w.outcome("timeout"), w.count().await.unwrap()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_left_alone_and_tried_again() {
    let w = world(&config());
    *w.moody.fails.lock().unwrap() = Some(ErrorKind::Unavailable);
    for _ in 0..5 {
        assert!(w.count().await.is_err());
    }
    assert_eq!(w.breaker(), Breaker::Open);
    for _ in 0..100 {
        assert_eq!(w.count().await.unwrap_err().kind, ErrorKind::Unavailable);
    }
    assert_eq!((w.moody.calls.load(Ordering::Relaxed), w.outcome("refused")), (5, 100));
    assert_eq!(w.states.states()[0].last_error, Some(ErrorKind::Unavailable));
    *w.moody.fails.lock().unwrap() = None;
    // Open for at most 1.5 times a second; then one trial at a time, and two close it.
    advance(Duration::from_millis(1_501)).await;
    *w.moody.waits.lock().unwrap() = vec![50];
    let (one, two) = tokio::join!(w.count(), w.count());
    assert!(one.is_ok() && two.is_err(), "one trial at a time");
    assert_eq!(w.breaker(), Breaker::HalfOpen);
    w.count().await.unwrap();
    assert_eq!(w.breaker(), Breaker::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_asked_says_nothing_about_the_store() {
    let w = world(&config());
    *w.moody.fails.lock().unwrap() = Some(ErrorKind::Invalid);
    for _ in 0..50 {
        assert_eq!(w.count().await.unwrap_err().kind, ErrorKind::Invalid);
    }
    assert_eq!(w.breaker(), Breaker::Closed);
}

#[tokio::test(start_paused = true)]
async fn callers_that_give_up_still_tell_that_a_store_is_slow() {
    let w = world(&config());
    *w.moody.waits.lock().unwrap() = vec![250; 10];
    for _ in 0..10 {
        let asked = tokio::time::timeout(Duration::from_millis(120), w.count()).await;
        assert!(asked.is_err());
    }
    assert_eq!((w.breaker(), w.outcome("given_up")), (Breaker::Open, 10));
    // Whoever leaves at once says nothing.
    let w = world(&config());
    *w.moody.waits.lock().unwrap() = vec![250; 30];
    for _ in 0..30 {
        assert!(tokio::time::timeout(Duration::from_millis(5), w.count()).await.is_err());
    }
    assert_eq!(w.breaker(), Breaker::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_bulkhead_bounds_calls_and_those_that_wait() {
    let w = Arc::new(world(&config()));
    *w.moody.waits.lock().unwrap() = vec![50; 20];
    let asked: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let w = w.clone();
                async move { w.count().await }
            })
        })
        .collect();
    let mut kinds = BTreeMap::new();
    for a in asked {
        *kinds.entry(a.await.unwrap().map_err(|e| e.kind.label()).err()).or_insert(0) += 1;
    }
    // Four at once, two that wait, fourteen turned away at once.
    assert_eq!(kinds, BTreeMap::from([(None, 6), (Some("busy"), 14)]));
    assert_eq!(w.moody.most.load(Ordering::Relaxed), 4);
    let state = &w.states.states()[0];
    assert_eq!((state.in_flight, w.outcome("full"), state.breaker), (0, 14, Breaker::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_takes_long_is_tried_twice_within_the_share() {
    let w = world(&config());
    *w.moody.waits.lock().unwrap() = vec![10; 100];
    for _ in 0..100 {
        w.count().await.unwrap();
    }
    assert_eq!(w.states.states()[0].hedged, 0, "nothing took long");
    *w.moody.waits.lock().unwrap() = vec![250, 1];
    let begun = Instant::now();
    assert_eq!(w.count().await.unwrap(), 102, "the second attempt's answer");
    assert!(begun.elapsed() < Duration::from_millis(20), "{:?}", begun.elapsed());
    assert_eq!((w.states.states()[0].hedged, w.moody.under_way.load(Ordering::Relaxed)), (1, 0));
    // A second attempt that fails does not spoil the first.
    for _ in 0..100 {
        *w.moody.waits.lock().unwrap() = vec![90, 90];
        w.count().await.unwrap();
    }
    let hedged = w.states.states()[0].hedged;
    assert!((2..=12).contains(&hedged), "about a twentieth of 201 calls: {hedged}");
}

#[tokio::test(start_paused = true)]
async fn a_write_is_never_made_twice() {
    let (moody, states) = (Arc::new(Moody::default()), GuardStates::new());
    let sink: Arc<dyn EventSink> = moody.clone();
    let sink = Guarded::new(sink, Guard::new("log", "", &config(), &states));
    for _ in 0..100 {
        *moody.waits.lock().unwrap() = vec![10];
        sink.publish(&Tenant::default(), &[]).await.unwrap();
    }
    *moody.waits.lock().unwrap() = vec![200];
    assert_eq!(sink.publish(&Tenant::default(), &[]).await.unwrap().0, "101");
    assert_eq!((moody.calls.load(Ordering::Relaxed), states.states()[0].hedged), (101, 0));
}

#[tokio::test(start_paused = true)]
async fn waits_and_bulk_reads_have_no_deadline_and_are_not_slow() {
    let states = GuardStates::new();
    let guard = Guard::new("log", "", &config(), &states);
    for op in [Op::Wait, Op::Bulk] {
        for _ in 0..20 {
            let long = || async {
                sleep(Duration::from_secs(60)).await;
                Ok(())
            };
            guard.call("reached", op, long).await.unwrap();
        }
    }
    assert_eq!(states.states()[0].breaker, Breaker::Closed);
}

#[tokio::test(start_paused = true)]
async fn reads_go_to_another_replica_when_one_is_sick() {
    let states = GuardStates::new();
    let moody: Vec<Arc<Moody>> = (0..2).map(|_| Arc::default()).collect();
    let mut replicas: Vec<(Arc<dyn GraphRead>, Arc<Guard>)> = Vec::new();
    for (m, name) in moody.iter().zip(["a", "b"]) {
        replicas.push((m.clone(), Guard::new("graph", name, &config(), &states)));
    }
    let rest = replicas.split_off(1);
    let (first, guard) = replicas.remove(0);
    let graph = GuardedGraph::with_replicas(first, guard, rest);
    let tenant = Tenant::default();
    for _ in 0..10 {
        graph.count(&tenant).await.unwrap();
    }
    assert_eq!(moody.iter().map(|m| m.calls.load(Ordering::Relaxed)).collect::<Vec<_>>(), [5, 5]);
    *moody[0].fails.lock().unwrap() = Some(ErrorKind::Unavailable);
    for _ in 0..50 {
        graph.count(&tenant).await.unwrap();
    }
    let breakers: Vec<_> = states.states().iter().map(|s| (s.replica.clone(), s.breaker)).collect();
    assert_eq!(breakers, [("a".to_owned(), Breaker::Open), ("b".to_owned(), Breaker::Closed)]);
    assert_eq!(moody[0].calls.load(Ordering::Relaxed), 10, "left alone after five failures");
    // Slow for one, answered by the other.
    *moody[0].fails.lock().unwrap() = None;
    advance(Duration::from_secs(10)).await;
    for _ in 0..50 {
        graph.count(&tenant).await.unwrap();
    }
    assert!(states.states().iter().all(|s| s.breaker == Breaker::Closed));
}

#[tokio::test(start_paused = true)]
async fn limits_of_one_store_are_its_own() {
    let limits = StoreLimits { deadline_ms: Some(50), ..StoreLimits::default() };
    let w = world(&GuardConfig { stores: [("graph".to_owned(), limits)].into(), ..config() });
    *w.moody.waits.lock().unwrap() = vec![100];
    let begun = Instant::now();
    assert!(w.count().await.is_err());
    assert_eq!(begun.elapsed().as_millis(), 50);
}
