//! Every store away, alone and all at once, failing at once or hanging: always 200, never empty, and what is missing is named.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use nearcast_domain::{ItemId, Tenant};
use nearcast_serve::ServeConfig;
use support::{Caller, Fakes, Fault, SECRET, STORES, World};

const USER: &str = "/recommendations/chess-fan-03?cache=false&budget_ms=60";

/// A world in which nothing that was read stays fresh: each request asks every store.
fn caller() -> Caller {
    let mut config = ServeConfig::default();
    config.items.fresh_ms = 0;
    config.sources.near_fresh_ms = 0;
    config.sources.trending_fresh_ms = 1;
    config.sources.trending_tolerated_ms = 0;
    Caller::new(Fakes::new(World::sample()), config)
}

/// Long enough for what rises to need reading again.
async fn grow_old() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// What must be named when a store is away, for a known user who asks without the cache.
fn named(store: &str) -> &'static [&'static str] {
    match store {
        "ledger" => &["ledger"],
        "vectors" => &["similar_users", "similar_text"],
        "graph" => &["graph", "similar_users"],
        "engagement" => &["trending"],
        _ => &[],
    }
}

#[tokio::test(start_paused = true)]
async fn each_store_alone() {
    for fault in [Fault::Error, Fault::Hang] {
        for store in STORES {
            let c = caller();
            c.recommender.warm().await;
            let well = c.get(USER).await;
            assert!(well.degraded().is_empty(), "{}", well.text);
            c.fakes.break_store(store, fault);
            grow_old().await;
            let ill = c.get(USER).await;
            assert_eq!(ill.status, 200, "{store} {fault:?}: {}", ill.text);
            assert_eq!(ill.ids().len(), 10, "{store} {fault:?}: {}", ill.text);
            assert!(!ill.text.contains(SECRET));
            assert_eq!(ill.degraded(), named(store), "{store} {fault:?}");
            for id in ill.ids() {
                assert!(!liked_by_chess_fan_03(&id), "{store} {fault:?} recommends {id}, which they know");
            }
        }
    }
}

fn liked_by_chess_fan_03(id: &str) -> bool {
    (0..5).any(|n| id == format!("chess-{:02}", (3 + n * 3) % 20))
}

/// The same without anything remembered: everything that is missing is named.
#[tokio::test(start_paused = true)]
async fn each_store_alone_from_the_start() {
    for fault in [Fault::Error, Fault::Hang] {
        for store in STORES {
            let c = caller();
            c.fakes.break_store(store, fault);
            let ill = c.get(USER).await;
            assert_eq!(ill.status, 200);
            // Nobody vouches for what was proposed, so the rung behind it is due too, and it asks the same ledger.
            let rungs: &[&str] = if store == "ledger" { &["newest"] } else { &[] };
            assert_eq!(ill.degraded(), [rungs, named(store)].concat(), "{store} {fault:?}");
            assert!(!ill.ids().is_empty(), "{store} {fault:?}: {}", ill.text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_stores_at_once() {
    for fault in [Fault::Error, Fault::Hang] {
        let c = caller();
        c.recommender.warm().await;
        for store in STORES {
            c.fakes.break_store(store, fault);
        }
        grow_old().await;
        for user in ["chess-fan-03", "nobody"] {
            let begun = tokio::time::Instant::now();
            let ill = c.get(&format!("/recommendations/{user}?budget_ms=80")).await;
            assert!(begun.elapsed() <= Duration::from_millis(85), "{:?}", begun.elapsed());
            assert_eq!((ill.status.as_u16(), ill.ids().len()), (200, 10), "{fault:?}: {}", ill.text);
            for name in ["graph", "similar_users", "similar_text", "trending", "cache"] {
                assert!(ill.degraded().contains(&name.to_owned()), "{name} is not named: {}", ill.text);
            }
            assert!(!ill.text.contains(SECRET));
        }
        c.fakes.heal();
        // A read of what rises that hangs is given up after two seconds; another begins then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(c.get(USER).await.degraded().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn other_calls_never_fail_for_a_store_either() {
    let c = caller();
    c.recommender.warm().await;
    for fault in [Fault::Error, Fault::Hang] {
        for store in STORES.into_iter().chain(["dead_letters"]) {
            c.fakes.break_store(store, fault);
        }
        grow_old().await;
        for path in
            ["/users", "/users/u", "/users/u/similar", "/items", "/items?q=chess", "/items/x/similar", "/trending", "/status"]
        {
            let ill = c.get(path).await;
            assert_eq!(ill.status, 200, "{path}: {}", ill.text);
            assert!(!ill.degraded().is_empty() && !ill.text.contains(SECRET), "{path}: {}", ill.text);
        }
        let ready = c.get("/health/ready").await;
        assert_eq!((ready.status.as_u16(), ready.json["stores"]["ledger"]["up"].as_bool()), (200, Some(false)));
        let refused = c.post("/events", r#"{"user_id":"u","text":"x"}"#).await;
        refused.problem(503);
        assert!(refused.headers.contains_key("retry-after") && !refused.text.contains(SECRET));
        c.get("/items/chess-01").await.problem(503);
    }
}

#[tokio::test(start_paused = true)]
async fn late_sources_cost_only_themselves() {
    let c = caller();
    c.fakes.break_store("engagement", Fault::Slow(Duration::from_millis(200)));
    let ill = c.get("/recommendations/chess-fan-03?cache=false").await;
    assert_eq!(ill.degraded(), ["trending"]);
    assert!(ill.json["recommendations"][0]["reasons"][0]["source"] != "trending");
    // With time enough, it is there.
    let well = c.get("/recommendations/chess-fan-03?cache=false&budget_ms=1000").await;
    assert!(well.degraded().is_empty(), "{}", well.text);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_better_than_an_impersonal_one() {
    let c = caller();
    let first = c.get("/recommendations/chess-fan-03").await;
    assert_eq!(first.json["cache"], "miss");
    c.fakes.world.lock().unwrap().epochs.insert((Tenant::default(), nearcast_domain::UserId::trusted("chess-fan-03")), 9);
    for store in ["graph", "vectors"] {
        c.fakes.break_store(store, Fault::Error);
    }
    let stale = c.get("/recommendations/chess-fan-03").await;
    assert_eq!((stale.status.as_u16(), stale.json["cache"].as_str()), (200, Some("stale")), "{}", stale.text);
    assert_eq!(stale.ids(), first.ids());
    assert_eq!(stale.degraded(), ["graph", "similar_users", "similar_text"]);
    c.fakes.heal();
    assert_eq!(c.get("/recommendations/chess-fan-03").await.json["cache"], "miss");
}

#[tokio::test(start_paused = true)]
async fn what_rises_is_given_once_more_while_it_is_read_again() {
    let mut config = ServeConfig::default();
    config.sources.trending_fresh_ms = 1;
    let c = Caller::new(Fakes::new(World::sample()), config);
    assert!(c.get(USER).await.degraded().is_empty());
    c.fakes.break_store("engagement", Fault::Error);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(c.get(USER).await.degraded().is_empty());
    // By now the attempt to read it has failed.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let ill = c.get("/recommendations/nobody?cache=false").await;
    assert_eq!((ill.degraded(), ill.ids().len()), (vec!["trending".to_owned()], 10), "{}", ill.text);
    c.fakes.heal();
    c.get(USER).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(c.get(USER).await.degraded().is_empty());
}

#[tokio::test(start_paused = true)]
async fn hidden_stays_hidden_while_the_ledger_is_away() {
    let c = caller();
    let first = c.get(USER).await.ids().remove(0);
    hide(&c, &first);
    assert!(!c.get(USER).await.ids().contains(&first));
    c.fakes.break_store("ledger", Fault::Error);
    let ill = c.get(USER).await;
    assert!(!ill.ids().is_empty() && !ill.ids().contains(&first), "{}", ill.text);
}

fn hide(c: &Caller, item: &str) {
    let mut world = c.fakes.world.lock().unwrap();
    world.change(&(Tenant::default(), ItemId::trusted(item)), |i| i.hidden = true);
}
