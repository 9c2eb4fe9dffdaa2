//! Every way of failing, in every store behind its guard, before the start and while serving, one store, two, and all: always
//! 200, never empty, in time, the right names in `degraded`, nothing left behind, and whole again after healing.
//!
//! On a clock that stands still: what takes a store 20 seconds takes the test none.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use nearcast_domain::{
    ErrorKind, Tenant,
    ports::{Breaker, StoreStates},
};
use nearcast_serve::{Freshness, Memory, Recommender, ServeConfig, Stores, http::router_of};
use nearcast_stores::guard::{
    Guard, GuardConfig, GuardStates, GuardedCache, GuardedEmbedder, GuardedEngagement, GuardedGraph, GuardedLedger,
    GuardedProgress, GuardedSink, GuardedVectors,
};
use support::{Caller, Fakes, Fault, SECRET, STORES, World};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Refused at once, reset after a moment, stalled, half a second late, a byte a second, broken off half way.
const FAULTS: [Fault; 6] = [
    Fault::Error,
    Fault::After(Duration::from_millis(3), ErrorKind::Unavailable),
    Fault::Hang,
    Fault::Slow(Duration::from_millis(500)),
    Fault::Slow(Duration::from_secs(20)),
    Fault::After(Duration::from_millis(30), ErrorKind::Corrupt),
];
const BUDGET: u128 = 80;
/// What a known user asks.
const FAN: &str = "/recommendations/chess-fan-03?cache=false";

struct Guarded {
    c: Caller,
    states: GuardStates,
}

/// Everything behind guards, and nothing that was read stays fresh: each request asks every store.
fn guarded(config: ServeConfig) -> Guarded {
    let mut config = config;
    config.items.fresh_ms = 0;
    config.sources.near_fresh_ms = 0;
    config.sources.trending_fresh_ms = 1;
    config.sources.trending_tolerated_ms = 0;
    let fakes = Fakes::new(World::sample());
    let memory = Memory::new(Freshness::Shared { max_age: Duration::ZERO }, &config.items);
    let (states, guards) = (GuardStates::new(), GuardConfig::default());
    let guard = |store| Guard::new(store, "", &guards, &states);
    let bare = fakes.stores(memory);
    let stores = Stores {
        ledger: Arc::new(GuardedLedger::new(bare.ledger.clone(), guard("ledger"))),
        vectors: Arc::new(GuardedVectors::new(bare.vectors.clone(), guard("vectors"))),
        graph: Arc::new(GuardedGraph::new(bare.graph.clone(), guard("graph"))),
        engagement: Arc::new(GuardedEngagement::new(bare.engagement.clone(), guard("engagement"))),
        cache: Arc::new(GuardedCache::new(bare.cache.clone(), guard("cache"))),
        embedder: Arc::new(GuardedEmbedder::new(bare.embedder.clone(), guard("embedder"))),
        sink: Arc::new(GuardedSink::new(bare.sink.clone(), guard("log"))),
        progress: Arc::new(GuardedProgress::new(bare.progress.clone(), guard("log"))),
        states: Arc::new(states.clone()),
        ..bare
    };
    let recommender = Arc::new(Recommender::new(stores, config).unwrap());
    let shutdown = CancellationToken::new();
    let router = router_of(recommender.clone(), shutdown.clone());
    Guarded { c: Caller { fakes, recommender, router, shutdown }, states }
}

/// What must be named when stores are away, for a known user who asks without the cache.
fn named(stores: &[&str]) -> BTreeSet<&'static str> {
    let of = |store: &&str| -> &[&'static str] {
        match *store {
            "ledger" => &["ledger"],
            "vectors" => &["similar_users", "similar_text"],
            "graph" => &["graph", "similar_users"],
            "engagement" => &["trending"],
            _ => &[],
        }
    };
    stores.iter().flat_map(|s| of(s).iter().copied()).collect()
}

impl Guarded {
    fn fail(&self, stores: &[&'static str], fault: Fault) {
        stores.iter().for_each(|s| self.c.fakes.break_store(s, fault));
    }

    /// An answer that keeps every promise, whatever is sick. Answers what it names.
    async fn kept(&self, path: &str, what: &str) -> BTreeSet<String> {
        let begun = Instant::now();
        let a = self.c.get(path).await;
        let took = begun.elapsed().as_millis();
        assert_eq!(a.status, 200, "{what}: {}", a.text);
        assert!(took <= BUDGET + 2, "{what}: {took} ms");
        assert!(!a.ids().is_empty(), "{what}: {}", a.text);
        assert!(!a.text.contains(SECRET), "{what}");
        assert_eq!(a.ids().iter().collect::<BTreeSet<_>>().len(), a.ids().len(), "{what}: twice the same");
        a.degraded().into_iter().collect()
    }

    /// Heals everything, and asks until nothing is missing. Answers how long that took.
    async fn whole_again(&self, what: &str) -> Duration {
        self.c.fakes.heal();
        let begun = Instant::now();
        while !self.kept(FAN, what).await.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}: not whole after {:?}", begun.elapsed());
            sleep(Duration::from_millis(200)).await;
        }
        begun.elapsed()
    }

    async fn nothing_left(&self, what: &str) {
        sleep(Duration::from_secs(5)).await;
        assert_eq!(self.c.recommender.late_calls(), 0, "{what}");
        assert!(self.states.states().iter().all(|s| s.in_flight == 0), "{what}");
        // What works in the background (the reader of what rises) has ended too.
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert!(alive <= 1, "{what}: {alive} tasks are left");
    }
}

/// What is read in the background, and given once it has come however late.
fn comes_late(name: &str, fault: Fault) -> bool {
    name == "trending" && fault == Fault::Slow(Duration::from_millis(500))
}

/// The names that must stand in every answer.
fn always(stores: &[&str], fault: Fault) -> BTreeSet<&'static str> {
    named(stores).into_iter().filter(|name| !comes_late(name, fault)).collect()
}

fn contains(all: &BTreeSet<String>, names: &BTreeSet<&str>) -> bool {
    names.iter().all(|n| all.contains(*n))
}

#[tokio::test(start_paused = true)]
async fn each_store_each_fault_while_serving() {
    for fault in FAULTS {
        for store in STORES {
            let what = format!("{store} {fault:?}");
            let g = guarded(ServeConfig::default());
            g.c.recommender.warm().await;
            let well = g.c.get(FAN).await;
            assert!(well.degraded().is_empty(), "{what}: {}", well.text);
            g.fail(&[store], fault);
            sleep(Duration::from_millis(10)).await;
            for n in 0..20 {
                let missing = g.kept(FAN, &what).await;
                let mut expected = named(&[store]);
                if n > 0 {
                    expected.retain(|name| !comes_late(name, fault));
                }
                assert!(contains(&missing, &expected), "{what}, request {n}: {missing:?}");
                let others = missing.iter().filter(|m| !named(&[store]).contains(m.as_str())).count();
                assert_eq!(others, 0, "{what}, request {n}: {missing:?}");
                sleep(Duration::from_millis(50)).await;
            }
            g.whole_again(&what).await;
            assert_eq!(g.c.get(FAN).await.ids(), well.ids(), "{what}: the same answer as before");
            g.nothing_left(&what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_store_each_fault_from_the_start() {
    for fault in FAULTS {
        for store in STORES {
            let what = format!("{store} {fault:?} from the start");
            let g = guarded(ServeConfig::default());
            g.fail(&[store], fault);
            for _ in 0..10 {
                let missing = g.kept(FAN, &what).await;
                assert!(contains(&missing, &always(&[store], fault)), "{what}: {missing:?}");
            }
            g.whole_again(&what).await;
            g.nothing_left(&what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_stores_at_once() {
    for fault in FAULTS {
        for (n, one) in STORES.iter().enumerate() {
            for two in &STORES[n + 1..] {
                let (what, both) = (format!("{one} and {two} {fault:?}"), [*one, *two]);
                let g = guarded(ServeConfig::default());
                g.c.recommender.warm().await;
                g.fail(&both, fault);
                sleep(Duration::from_millis(10)).await;
                for _ in 0..8 {
                    let missing = g.kept(FAN, &what).await;
                    assert!(contains(&missing, &always(&both, fault)), "{what}: {missing:?}");
                    g.kept("/recommendations/chess-fan-03", &what).await;
                    g.kept("/recommendations/nobody", &what).await;
                }
                g.whole_again(&what).await;
                g.nothing_left(&what).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_stores_at_once_and_healed() {
    for fault in FAULTS {
        let what = format!("all {fault:?}");
        let g = guarded(ServeConfig::default());
        g.c.recommender.warm().await;
        g.fail(&STORES, fault);
        sleep(Duration::from_millis(10)).await;
        for _ in 0..30 {
            for path in [FAN, "/recommendations/chess-fan-03", "/recommendations/nobody"] {
                let missing = g.kept(path, &what).await;
                assert!(contains(&missing, &always(&STORES, fault)), "{what}: {missing:?}");
            }
        }
        let not_closed = || g.states.states().iter().filter(|s| s.breaker != Breaker::Closed).count();
        let open = not_closed();
        // Half a second late is slow, and judged by more calls than failures are.
        let least = if fault == Fault::Slow(Duration::from_millis(500)) { 1 } else { 4 };
        assert!(open >= least, "{what}: {open} breakers are not closed");
        let ready = g.c.get("/health/ready").await;
        assert_eq!((ready.status.as_u16(), ready.json["ready"].as_bool()), (200, Some(true)), "{what}: {}", ready.text);
        // Calls that end late may open one more in between: then it is looked at again.
        loop {
            let open = not_closed();
            let metrics = g.c.get("/metrics").await.text;
            let told = metrics.lines().filter(|l| l.starts_with("nearcast_store_breaker{") && !l.ends_with(" 0")).count();
            if not_closed() == open {
                assert_eq!(told, open, "{metrics}");
                break;
            }
        }
        g.whole_again(&what).await;
        g.nothing_left(&what).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_costs_no_time() {
    let g = guarded(ServeConfig::default());
    g.fail(&["graph"], Fault::Hang);
    for _ in 0..40 {
        g.kept(FAN, "graph hangs").await;
    }
    // Slow calls are judged once the guard has given them up.
    sleep(Duration::from_millis(1_200)).await;
    g.kept(FAN, "graph hangs").await;
    let begun = Instant::now();
    let missing = g.kept(FAN, "graph is left alone").await;
    assert!(contains(&missing, &named(&["graph"])) && begun.elapsed() < Duration::from_millis(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_was_ever_learned_and_nothing_answers() {
    let g = guarded(ServeConfig::default());
    g.fail(&STORES, Fault::Error);
    let a = g.c.get("/recommendations/nobody").await;
    assert_eq!((a.status.as_u16(), a.ids().len()), (200, 0), "{}", a.text);
    let missing: BTreeSet<String> = a.degraded().into_iter().collect();
    for name in ["graph", "similar_users", "similar_text", "trending", "newest", "ledger", "cache"] {
        assert!(missing.contains(name), "{name} is not named: {}", a.text);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_life_knew_is_given_when_nothing_answers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("last-resort.json");
    let config = || ServeConfig { snapshot_file: Some(file.clone()), ..ServeConfig::default() };
    let first = guarded(config());
    let hidden = first.c.get("/recommendations/nobody?cache=false").await.ids().remove(0);
    {
        let mut world = first.c.fakes.world.lock().unwrap();
        let key = (Tenant::default(), nearcast_domain::ItemId::trusted(hidden.as_str()));
        world.change(&key, |i| i.hidden = true);
    }
    let stop = CancellationToken::new();
    let warm = tokio::spawn({
        let (r, stop) = (first.c.recommender.clone(), stop.clone());
        async move { r.keep_warm(stop).await }
    });
    for _ in 0..1_000 {
        if file.exists() {
            break;
        }
        // The file is written off the runtime's threads, where the clock does not stand still.
        std::thread::sleep(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
    stop.cancel();
    warm.await.unwrap();
    let second = guarded(config());
    second.fail(&STORES, Fault::Hang);
    second.c.recommender.recall(&file).await;
    let a = second.c.get("/recommendations/nobody").await;
    assert_eq!((a.status.as_u16(), a.ids().len()), (200, 10), "{}", a.text);
    assert!(!a.ids().contains(&hidden), "hidden stays hidden: {}", a.text);
    assert!(a.degraded().contains(&"trending".to_owned()), "{}", a.text);
}

#[tokio::test(start_paused = true)]
async fn late_answers_warm_the_memory() {
    let mut config = ServeConfig::default();
    config.sources.near_fresh_ms = 60_000;
    let fakes = Fakes::new(World::sample());
    let memory = Memory::new(Freshness::Shared { max_age: Duration::from_secs(60) }, &config.items);
    let recommender = Arc::new(Recommender::new(fakes.stores(memory), config).unwrap());
    let router = router_of(recommender.clone(), CancellationToken::new());
    let c = Caller { fakes, recommender, router, shutdown: CancellationToken::new() };
    // As slow as an index can be that is not sick: never within the budget.
    c.fakes.break_store("vectors", Fault::Slow(Duration::from_millis(170)));
    let first = c.get(FAN).await;
    assert_eq!(first.degraded(), ["similar_users", "similar_text"], "{}", first.text);
    let mut rounds = 0;
    loop {
        sleep(Duration::from_millis(400)).await;
        let next = c.get(FAN).await;
        rounds += 1;
        if next.degraded().is_empty() {
            break;
        }
        assert!(rounds < 5, "{}", next.text);
    }
    assert_eq!(c.recommender.late_calls(), 0);
}

/// Where others write, a card is good for as long as its item's epoch, however old it is; then it is read again before it is shown.
#[tokio::test(start_paused = true)]
async fn a_card_lives_as_long_as_its_items_epoch() {
    let c = Caller::new(Fakes::new(World::sample()), ServeConfig::default());
    let first = c.get(FAN).await;
    let reads = || c.fakes.world.lock().unwrap().calls["ledger.items"];
    let before = reads();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(c.get(FAN).await.ids(), first.ids());
    assert_eq!(reads(), before, "nothing changed, nothing is read");
    let hidden = first.ids()[0].clone();
    let key = (nearcast_domain::Tenant::default(), nearcast_domain::ItemId::trusted(&*hidden));
    c.fakes.world.lock().unwrap().change(&key, |i| i.hidden = true);
    sleep(Duration::from_secs(1)).await;
    let next = c.get(FAN).await;
    assert!(reads() > before, "what changed is read");
    assert!(!next.ids().contains(&hidden), "before it is shown: {}", next.text);
    // Whoever cannot ask for epochs asks for cards.
    c.fakes.break_store("cache", Fault::Error);
    let before = reads();
    sleep(Duration::from_secs(60)).await;
    assert!(c.get(FAN).await.degraded().iter().all(|d| d == "cache"));
    assert!(reads() > before);
}
