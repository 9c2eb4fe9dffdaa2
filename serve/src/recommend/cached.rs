//! Answers that were given before: their keys, and whether they may be given again.
//!
//! A cached answer is checked against what is known of its items before it is given: a hidden item disappears from it as
//! fast as from a new one. Answers that lack a source are never cached.

use std::{sync::Arc, time::Duration};

use futures_util::future::join;
use nearcast_domain::{
    StoreError, Tenant, Timestamp, UserId,
    event::hex,
    ports::{CachedAnswer, answer_prefix},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    Query, Recommender,
    answer::{Answer, CacheState},
    budget::by,
    filters::allowed,
};

/// What lies in the cache.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Until when it is fresh, in milliseconds since 1970.
    fresh_until: i64,
    answer: Answer,
}

/// What was found before anything was computed.
pub struct Found {
    key: String,
    /// The user's epoch; `None` where the cache did not answer: then nothing is written either.
    epoch: Option<u64>,
    /// May be given as it is.
    pub fresh: Option<Answer>,
    /// From before: for when nothing better can be made.
    pub stale: Option<Answer>,
    /// Why the cache gave nothing.
    pub error: Option<StoreError>,
}

/// Looks an answer up. The epoch is read before anything is computed, so that an event in between ends the answer.
pub async fn look_up(on: &Recommender, tenant: &Tenant, user: &UserId, query: &Query, deadline: Instant) -> Found {
    let key = key(on, tenant, user, query);
    let cache = &on.stores.cache;
    let (epoch, kept) = join(by(deadline, "cache", cache.epoch(tenant, user)), by(deadline, "cache", cache.get(&key))).await;
    let (epoch, kept) = match (epoch, kept) {
        (Ok(epoch), Ok(kept)) => (epoch, kept),
        (Err(e), _) | (_, Err(e)) => return Found { key, epoch: None, fresh: None, stale: None, error: Some(e) },
    };
    let mut found = Found { key, epoch: Some(epoch), fresh: None, stale: None, error: None };
    let Some(cached) = kept else { return found };
    // What an older version of the program wrote may not be readable: then it was never there.
    let Ok(kept) = serde_json::from_slice::<Kept>(&cached.body) else { return found };
    let now = Timestamp::now();
    if cached.epoch == epoch && now.millis() < kept.fresh_until {
        match revived(on, tenant, query, kept.answer, now, deadline).await {
            (answer, true) => found.fresh = Some(Answer { cache: CacheState::Hit, ..answer }),
            (answer, false) => found.stale = Some(answer),
        }
    } else {
        found.stale = Some(kept.answer);
    }
    found
}

/// A stale answer, made presentable: without what may no longer be shown, and without naming others, who may have been
/// erased since.
pub async fn last_resort(on: &Recommender, tenant: &Tenant, query: &Query, stale: Answer, deadline: Instant) -> Answer {
    let (mut answer, _) = revived(on, tenant, query, stale, Timestamp::now(), deadline).await;
    for r in answer.recommendations.iter_mut().flat_map(|r| &mut r.reasons) {
        r.via.clear();
    }
    Answer { cache: CacheState::Stale, ..answer }
}

/// Takes out items that may no longer be shown and renews what is shown of the others; false where one was taken out.
async fn revived(
    on: &Recommender,
    tenant: &Tenant,
    query: &Query,
    mut answer: Answer,
    now: Timestamp,
    deadline: Instant,
) -> (Answer, bool) {
    let ids: Vec<_> = answer.recommendations.iter().map(|r| r.item_id.clone()).collect();
    let (cards, _) = on.items.cards(&*on.stores.ledger, tenant, &ids, |_| false, deadline).await;
    let before = answer.recommendations.len();
    let mut cards = cards.into_iter();
    answer.recommendations.retain_mut(|r| {
        let Some(card) = cards.next().flatten() else { return true };
        r.text.clone_from(&card.text);
        r.categories.clone_from(&card.categories);
        allowed(&card, query.category.as_ref(), now).is_ok()
    });
    let whole = answer.recommendations.len() == before;
    (answer, whole)
}

/// Keeps an answer. Failure costs nothing but the next hit.
pub async fn keep(on: &Recommender, found: &Found, answer: &Answer, deadline: Instant) -> Result<(), StoreError> {
    let (Some(epoch), config) = (found.epoch, &on.config.cache) else { return Ok(()) };
    let now = Timestamp::now();
    let spread = 1.0 + config.jitter * f64::from(jitter(&found.key, now)) / 256.0;
    let ttl_ms = (config.ttl_ms as f64 * spread) as i64;
    let kept = Kept { fresh_until: now.plus_millis(ttl_ms).millis(), answer: answer.clone() };
    let Ok(body) = serde_json::to_vec(&kept) else { return Ok(()) };
    let ttl = Duration::from_millis(config.stale_ms.max(ttl_ms as u64));
    let cached = CachedAnswer { body: Arc::from(body), epoch };
    by(deadline, "cache", on.stores.cache.put(&found.key, cached, ttl)).await
}

/// Something between 0 and 255 that differs between keys and moments.
fn jitter(key: &str, now: Timestamp) -> u8 {
    key.bytes().fold(now.millis() as u8, |h, b| h.wrapping_mul(31).wrapping_add(b))
}

/// Everything that changes an answer, save the user's epoch.
fn key(on: &Recommender, tenant: &Tenant, user: &UserId, query: &Query) -> String {
    let mut exclude: Vec<&str> = query.exclude.iter().map(AsRef::as_ref).collect();
    exclude.sort_unstable();
    exclude.dedup();
    let mut h = Sha256::new();
    let head = format!("{}/{}/{}", on.fingerprint, query.k, query.explain);
    for part in [head.as_str(), on.stores.embedder.model().revision.as_str()] {
        h.update((part.len() as u64).to_le_bytes());
        h.update(part);
    }
    h.update([u8::from(query.category.is_some())]);
    for part in query.category.iter().map(AsRef::as_ref).chain(exclude) {
        h.update((part.len() as u64).to_le_bytes());
        h.update(part);
    }
    format!("{}{}", answer_prefix(tenant, user), hex(&h.finalize()[..16]))
}
