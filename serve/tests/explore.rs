//! New items get their chance where that is switched on: as often as configured, told with its probability, never against a filter,
//! never out of a cache.

mod support;

use std::collections::BTreeMap;

use nearcast_domain::{Item, Tenant, event::Event};
use nearcast_serve::{ExploreConfig, ServeConfig};
use support::{Caller, Fakes, World, item};

const REQUESTS: usize = 400;

#[tokio::test]
async fn a_share_of_the_answers_ends_with_a_new_item() {
    let explore = ExploreConfig { share: 0.5, newest: 10 };
    let c = Caller::new(Fakes::new(World::sample()), ServeConfig { explore, ..ServeConfig::default() });
    let hidden = Item { hidden: true, ..item(&Tenant::default(), "chess-15", "chess") };
    c.fakes.world.lock().unwrap().apply(Event::Item(hidden));
    c.recommender.warm().await;
    let path = "/recommendations/chess-fan-03?k=5";
    let own: Vec<String> = ["03", "06", "09", "12", "15"].iter().map(|n| format!("chess-{n}")).collect();
    let (mut drawn, mut plain, mut hits) = (BTreeMap::<String, usize>::new(), 0, 0);
    for _ in 0..REQUESTS {
        let a = c.get(path).await;
        let list = a.json["recommendations"].as_array().unwrap();
        assert_eq!(list.len(), 5);
        assert!(list[..4].iter().all(|r| r["propensity"].is_null()), "only the last place is given away");
        let ids = a.ids();
        assert!(ids.iter().all(|i| !own.contains(i)) && (1..5).all(|n| !ids[..n].contains(&ids[n])), "{ids:?}");
        let last = &list[4];
        if last["propensity"].is_null() {
            plain += 1;
            hits += usize::from(a.json["cache"] == "hit");
            continue;
        }
        assert_eq!((last["reasons"][0]["source"].as_str(), a.json["cache"].as_str()), (Some("newest"), Some("miss")));
        let pool = 0.5 / last["propensity"].as_f64().unwrap();
        assert!((pool - pool.round()).abs() < 1e-4 && (1.0..=10.0).contains(&pool), "{pool}");
        assert!(list.windows(2).all(|w| w[0]["score"].as_f64() >= w[1]["score"].as_f64()));
        *drawn.entry(ids[4].clone()).or_default() += 1;
    }
    let explored: usize = drawn.values().sum();
    assert!((REQUESTS * 2 / 5..REQUESTS * 3 / 5).contains(&explored), "{explored}");
    assert!(drawn.len() > 2, "one of several: {drawn:?}");
    assert_eq!(hits, plain - 1, "all others come from the cache, save the first");
}

#[tokio::test]
async fn by_default_nothing_is_drawn() {
    let c = Caller::new(Fakes::new(World::sample()), ServeConfig::default());
    c.recommender.warm().await;
    for _ in 0..50 {
        assert!(!c.get("/recommendations/chess-fan-03?cache=false").await.text.contains("propensity"));
    }
}
