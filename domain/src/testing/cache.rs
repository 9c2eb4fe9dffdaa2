//! What every response cache must do.

use std::{sync::Arc, time::Duration};

use crate::{
    Tenant, UserId,
    ports::{CachedAnswer, ResponseCache, answer_prefix},
};

const LONG: Duration = Duration::from_secs(3600);

fn answer(body: &str, epoch: u64) -> CachedAnswer {
    CachedAnswer { body: Arc::from(body.as_bytes()), epoch }
}

/// Runs the whole suite on an empty cache. Panics where the port's promises are broken.
pub async fn cache(cache: &dyn ResponseCache) {
    answers(cache).await;
    lifetimes(cache).await;
    epochs(cache).await;
    forgetting(cache).await;
}

async fn answers(cache: &dyn ResponseCache) {
    assert_eq!(cache.get("a").await.unwrap(), None);
    cache.put("a", answer("1", 3), LONG).await.unwrap();
    cache.put("ключ \u{1f511}", answer("", 0), LONG).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), Some(answer("1", 3)));
    assert_eq!(cache.get("ключ \u{1f511}").await.unwrap(), Some(answer("", 0)));
    assert_eq!(cache.get("A").await.unwrap(), None);
    cache.put("a", answer("2", u64::from(u32::MAX) + 9), LONG).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), Some(answer("2", u64::from(u32::MAX) + 9)), "the later answer stands");
}

async fn lifetimes(cache: &dyn ResponseCache) {
    cache.put("short", answer("s", 0), Duration::from_millis(50)).await.unwrap();
    cache.put("long", answer("l", 0), LONG).await.unwrap();
    cache.put("was short", answer("s", 0), Duration::from_millis(50)).await.unwrap();
    cache.put("was short", answer("l", 0), LONG).await.unwrap();
    let mut waits = 0;
    while cache.get("short").await.unwrap().is_some() {
        waits += 1;
        assert!(waits < 2000, "an answer outlived its time by far");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(cache.get("long").await.unwrap().is_some());
    assert!(cache.get("was short").await.unwrap().is_some(), "the later time stands");
}

async fn epochs(cache: &dyn ResponseCache) {
    let (t1, t2) = (Tenant::trusted("epochs-1"), Tenant::trusted("epochs-2"));
    let (u, v) = (UserId::trusted("u"), UserId::trusted("v"));
    let mut last = cache.epoch(&t1, &u).await.unwrap();
    assert_eq!(cache.epoch(&t1, &u).await.unwrap(), last, "reading changes nothing");
    let (other_user, other_tenant) = (cache.epoch(&t1, &v).await.unwrap(), cache.epoch(&t2, &u).await.unwrap());
    for _ in 0..3 {
        cache.bump(&t1, std::slice::from_ref(&u)).await.unwrap();
        let now = cache.epoch(&t1, &u).await.unwrap();
        assert!(now > last);
        assert_eq!(cache.epoch(&t1, &u).await.unwrap(), now, "reading changes nothing");
        last = now;
    }
    assert_eq!(cache.epoch(&t1, &v).await.unwrap(), other_user, "another user's epoch is theirs");
    assert_eq!(cache.epoch(&t2, &u).await.unwrap(), other_tenant, "another tenant's user is another user");
    let third = cache.epoch(&t2, &v).await.unwrap();
    cache.bump(&t2, &[u.clone(), v.clone(), u.clone()]).await.unwrap();
    assert!(cache.epoch(&t2, &u).await.unwrap() > other_tenant && cache.epoch(&t2, &v).await.unwrap() > third);
    assert_eq!(cache.epoch(&t1, &u).await.unwrap(), last);
    cache.bump(&t1, &[]).await.unwrap();
    assert_eq!(cache.epoch(&t1, &u).await.unwrap(), last);
}

async fn forgetting(cache: &dyn ResponseCache) {
    let tenant = Tenant::trusted("forgetting");
    let key = |user: &str, what: &str| format!("{}{what}", answer_prefix(&tenant, &UserId::trusted(user)));
    for user in ["1", "11", "*", "1*"] {
        for what in ["k=10", "k=5", "*"] {
            cache.put(&key(user, what), answer(what, 0), LONG).await.unwrap();
        }
    }
    let before = cache.epoch(&tenant, &UserId::trusted("1")).await.unwrap();
    assert_eq!(cache.forget(&answer_prefix(&tenant, &UserId::trusted("1"))).await.unwrap(), 3);
    assert_eq!(cache.forget(&answer_prefix(&tenant, &UserId::trusted("*"))).await.unwrap(), 3, "a prefix is no pattern");
    assert_eq!(cache.forget(&answer_prefix(&tenant, &UserId::trusted("nobody"))).await.unwrap(), 0);
    for what in ["k=10", "k=5", "*"] {
        assert_eq!(cache.get(&key("1", what)).await.unwrap(), None);
        assert_eq!(cache.get(&key("*", what)).await.unwrap(), None);
        assert!(cache.get(&key("11", what)).await.unwrap().is_some());
        assert!(cache.get(&key("1*", what)).await.unwrap().is_some());
    }
    assert!(cache.epoch(&tenant, &UserId::trusted("1")).await.unwrap() >= before, "an epoch never falls");
}
