//! The embedded response cache keeps the port's promises, and its bounds.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use nearcast_domain::{
    Tenant, UserId,
    ports::{CachedAnswer, ResponseCache, answer_prefix},
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

/// A million requests of 100,000 users, the r-th of whom asks 1/r as often as the first: nine of ten answers are found.
#[tokio::test]
async fn nine_of_ten_answers_are_found_where_some_ask_far_more_often() {
    const USERS: usize = 100_000;
    let cache = MokaCache::default();
    let mut sums = Vec::with_capacity(USERS);
    let mut sum = 0.0;
    for rank in 1..=USERS {
        sum += 1.0 / rank as f64;
        sums.push(sum);
    }
    // As large as ten recommendations with their reasons.
    let body: Arc<[u8]> = vec![7; 2_300].into();
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut hits, mut asked) = (0_u32, 0_u32);
    let tenant = Tenant::default();
    for n in 0..1_000_000 {
        let at = rng.f64() * sum;
        let rank = sums.partition_point(|s| *s < at);
        let key = answer_prefix(&tenant, &UserId::trusted(format!("user-{rank}")));
        // The first half fills it.
        asked += u32::from(n >= 500_000);
        if cache.get(&key).await.unwrap().is_some() {
            hits += u32::from(n >= 500_000);
        } else {
            let answer = CachedAnswer { body: Arc::from(&body[..]), epoch: 0 };
            cache.put(&key, answer, Duration::from_secs(600)).await.unwrap();
        }
    }
    let rate = f64::from(hits) / f64::from(asked);
    assert!(rate > 0.9, "{rate}");
}
