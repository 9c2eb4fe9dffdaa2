//! The embedded response cache keeps the port's promises, and its bounds.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use nearcast_domain::{
    Tenant, UserId,
    ports::{CachedAnswer, ResponseCache},
    testing,
};
use nearcast_stores::cache::MokaCache;

#[tokio::test]
async fn conforms() {
    testing::cache::cache(&MokaCache::new(1 << 20, 1000)).await;
}

#[tokio::test]
async fn bytes_are_bounded() {
    let cache = MokaCache::new(100_000, 10);
    let body: Arc<[u8]> = vec![7; 1000].into();
    for i in 0..2000 {
        cache.put(&format!("k{i}"), CachedAnswer { body: body.clone(), epoch: 0 }, Duration::from_secs(60)).await.unwrap();
    }
    let mut kept = 0;
    for i in 0..2000 {
        kept += usize::from(cache.get(&format!("k{i}")).await.unwrap().is_some());
    }
    // Eviction lags behind by a batch of writes.
    assert!(kept > 0 && kept < 1000, "{kept}");
}

#[tokio::test]
async fn a_forgotten_epoch_brings_no_old_answer_back() {
    let cache = MokaCache::new(1 << 20, 3);
    let tenant = Tenant::default();
    let users: Vec<UserId> = (0..10).map(|u| UserId::trusted(format!("u{u}"))).collect();
    let begun = cache.epoch(&tenant, &users[0]).await.unwrap();
    cache.bump(&tenant, &users[..1]).await.unwrap();
    let after = cache.epoch(&tenant, &users[0]).await.unwrap();
    cache.bump(&tenant, &users[1..]).await.unwrap();
    let forgotten = cache.epoch(&tenant, &users[0]).await.unwrap();
    assert!(begun < after && after <= forgotten);
    cache.bump(&tenant, &users[..1]).await.unwrap();
    assert!(cache.epoch(&tenant, &users[0]).await.unwrap() > forgotten);
}
