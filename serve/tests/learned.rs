//! What was learned is served: noticed, blended in, told truly, and gone when it is taken out of service. And why an item is not there.

#![allow(clippy::expect_used, reason = "a test ends there")]

mod support;

use std::sync::Arc;

use nearcast_domain::{
    ItemId, Tenant, Timestamp,
    event::Event,
    learned::{Blend, Learned},
    ports::{Artefacts, NewArtefact},
};
use nearcast_serve::{Freshness, Memory, Recommender, ServeConfig, http::router_of};
use nearcast_stores::artefacts::SqliteArtefacts;
use support::{Caller, Fakes, World};
use tokio_util::sync::CancellationToken;

/// Having anything of chess leads to one thing of baking.
fn learned(weight: f32) -> NewArtefact {
    let mut items: Vec<ItemId> = (0..20).map(|n| ItemId::trusted(format!("chess-{n:02}"))).collect();
    items.insert(0, ItemId::trusted("baking-07"));
    let mut lists = vec![vec![(0, 0.5)]; items.len()];
    lists[0] = Vec::new();
    let blend = Blend { learned: weight, ..Blend::default() };
    let body = Learned { blend, items, lists, ..Learned::default() }.to_bytes();
    NewArtefact { created: Timestamp::from_millis(1), digest: String::new(), figures: serde_json::Value::Null, body }
}

async fn caller(store: Arc<dyn Artefacts>) -> Caller {
    let (fakes, config) = (Fakes::new(World::sample()), ServeConfig::default());
    let mut stores = fakes.stores(Memory::new(Freshness::Exclusive, &config.items));
    stores.artefacts = store;
    let recommender = Arc::new(Recommender::new(stores, config).expect("the default configuration"));
    let shutdown = CancellationToken::new();
    let router = router_of(recommender.clone(), shutdown.clone());
    Caller { fakes, recommender, router, shutdown }
}

#[tokio::test]
async fn what_is_in_service_makes_the_answer_and_its_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteArtefacts::open(&dir.path().join("artefacts.db")).await.unwrap());
    let c = caller(store.clone()).await;
    let tenant = Tenant::default();
    let path = "/recommendations/chess-fan-03?explain=true";
    let before = c.get(path).await;
    assert!(!before.text.contains("\"learned\"") && !before.ids().contains(&"baking-07".into()));
    for (weight, there) in [(5.0, true), (0.0, false)] {
        let version = store.put(&tenant, &learned(weight)).await.unwrap();
        store.switch(&tenant, Some(version)).await.unwrap();
        c.recommender.notice_trained().await.unwrap();
        // A cached answer of before is not given.
        let a = c.get(path).await;
        assert_eq!(a.ids().first().map(String::as_str) == Some("baking-07"), there, "{}", a.text);
        assert_eq!(a.ids().len(), 10);
        if there {
            let first = &a.json["recommendations"][0];
            let reasons = first["reasons"].as_array().unwrap();
            let sum: f64 = reasons.iter().map(|r| r["weight"].as_f64().unwrap()).sum();
            assert!(reasons[0]["source"] == "learned" && (sum - 1.0).abs() < 1e-5, "{first}");
            let via = reasons[0]["via"].as_array().unwrap();
            assert!((1..=3).contains(&via.len()) && via.iter().all(|v| v.as_str().unwrap().starts_with("chess-")));
            assert_eq!(c.get(path).await.json["cache"], "hit");
        }
    }
    store.switch(&tenant, None).await.unwrap();
    c.recommender.notice_trained().await.unwrap();
    let after = c.get(&format!("{path}&cache=false")).await;
    assert_eq!(after.ids(), before.ids(), "without an artefact everything is as before");
}

/// What is in service with this blend, and chess leads to baking next.
async fn with_blend(c: &Caller, store: &SqliteArtefacts, blend: Blend) {
    let mut items: Vec<ItemId> = (0..20).map(|n| ItemId::trusted(format!("chess-{n:02}"))).collect();
    items.insert(0, ItemId::trusted("baking-07"));
    let next = (0..items.len()).map(|i| if i == 0 { Vec::new() } else { vec![(0, 0.5)] }).collect();
    let body = Learned { blend, items, next, span_hours: 48.0, ..Learned::default() }.to_bytes();
    let artefact = NewArtefact { body, ..learned(1.0) };
    let version = store.put(&Tenant::default(), &artefact).await.expect("written");
    store.switch(&Tenant::default(), Some(version)).await.expect("switched");
    c.recommender.notice_trained().await.expect("noticed");
}

#[tokio::test]
async fn what_came_next_and_what_rises_in_ones_categories_are_learned_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteArtefacts::open(&dir.path().join("artefacts.db")).await.unwrap());
    let c = caller(store.clone()).await;
    with_blend(&c, &store, Blend { next: 5.0, ..Blend::default() }).await;
    let a = c.get("/recommendations/chess-fan-03?explain=true").await;
    let first = &a.json["recommendations"][0];
    assert_eq!(
        (first["item_id"].as_str(), first["reasons"][0]["source"].as_str()),
        (Some("baking-07"), Some("next")),
        "{first}"
    );
    let via = first["reasons"][0]["via"].as_array().unwrap();
    assert!(!via.is_empty() && via.iter().all(|v| v.as_str().unwrap().starts_with("chess-")));
    // Trending alone is the same for all; to the taste, everyone's own subject comes first.
    let none = Blend { graph: 0.0, similar_users: 0.0, similar_text: 0.0, trending: 1.0, ..Blend::default() };
    for (trending_taste, trending_pace, alike) in [(0.0, 0.0, true), (0.0, 0.01, true), (1.0, 0.01, false), (1.0, 0.0, false)] {
        with_blend(&c, &store, Blend { trending_taste, trending_pace, ..none }).await;
        let of = async |user: &str| c.get(&format!("/recommendations/{user}?k=8&cache=false")).await.ids();
        let (chess, running) = (of("chess-fan-03").await, of("running-fan-03").await);
        let own = chess.iter().all(|i| i.starts_with("chess")) && running.iter().all(|i| i.starts_with("running"));
        assert_eq!(own, !alike, "{trending_taste} {trending_pace}: {chess:?} {running:?}");
    }
}

#[tokio::test]
async fn an_artefact_that_cannot_be_read_is_left_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteArtefacts::open(&dir.path().join("artefacts.db")).await.unwrap());
    let c = caller(store.clone()).await;
    let torn = NewArtefact { body: b"NCLEARN1 and no more".to_vec(), ..learned(1.0) };
    let version = store.put(&Tenant::default(), &torn).await.unwrap();
    store.switch(&Tenant::default(), Some(version)).await.unwrap();
    c.recommender.notice_trained().await.unwrap();
    assert_eq!(c.get("/recommendations/chess-fan-03").await.ids().len(), 10);
}

#[tokio::test]
async fn why_not_tells_what_became_of_an_item() {
    let c = Caller::new(Fakes::new(World::sample()), ServeConfig::default());
    let answer = c.get("/recommendations/chess-fan-03?k=3&cache=false").await;
    let why = async |item: &str| c.get(&format!("/users/chess-fan-03/why-not/{item}?k=3")).await.json;
    let first = why(&answer.ids()[0]).await;
    assert_eq!((first["fate"].as_str(), first["rank"].as_u64()), (Some("recommended"), Some(1)), "{first}");
    assert!(!first["reasons"].as_array().unwrap().is_empty());
    // One that ranked behind.
    let all = c.get("/recommendations/chess-fan-03?k=10&cache=false").await.ids();
    let behind = why(&all[5]).await;
    assert_eq!((behind["fate"].as_str(), behind["rank"].as_u64()), (Some("outranked"), Some(6)), "{behind}");
    assert!(behind["score"].as_f64().unwrap() <= behind["needed"].as_f64().unwrap() && behind["of"].as_u64().unwrap() > 6);
    let engaged = why("chess-03").await;
    assert_eq!((engaged["fate"].as_str(), engaged["removed"].as_str()), (Some("removed"), Some("engaged")), "{engaged}");
    assert_eq!(why("no-such-item").await["fate"], "unknown");
    let hidden = nearcast_domain::Item { hidden: true, ..support::item(&Tenant::default(), "chess-99", "chess") };
    c.fakes.world.lock().unwrap().apply(Event::Item(hidden));
    let hidden = why("chess-99").await;
    assert_eq!((hidden["fate"].as_str(), hidden["removed"].as_str()), (Some("removed"), Some("hidden")), "{hidden}");
    c.get("/users/chess-fan-03/why-not/chess-01?k=0").await.problem(400);
    c.get("/users/chess-fan-03/why-not/chess-01?what=1").await.problem(400);
    let contract = c.get("/openapi.json").await.json;
    assert!(contract["paths"]["/users/{user}/why-not/{item}"]["get"].is_object());
}
