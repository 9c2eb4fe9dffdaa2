//! Answers that were given before: their keys, and whether they may be given again.
//!
//! An answer is kept as the bytes that are sent, behind a head that says what must still hold: the user's epoch, the epoch of
//! erasures, that no item changed since as far as this process was told, that none of its items has expired. Where the head does not
//! say enough, the answer is read and checked against what is known of its items: a hidden item disappears from it as
//! fast as from a new one. Answers that lack a source are never cached.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use futures_util::future::join3;
use nearcast_domain::{
    ItemId, StoreError, StoreResult, Tenant, Timestamp, UserId,
    event::hex,
    ports::{CachedAnswer, answer_prefix, erasures},
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    Query, Recommender,
    answer::{Answer, CacheState},
    budget::by,
    filters::allowed,
};
use crate::memory::Freshness;

/// What must still hold for a kept answer. Little-endian numbers of eight bytes, after the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    /// Which process made it: the count of changes is that process's own.
    maker: u64,
    /// How many changes of items it had been told of.
    cards: u64,
    /// Until when it is fresh, in milliseconds since 1970.
    fresh_until: i64,
    /// When the first of its items expires.
    expires: i64,
    /// When its items were last looked at.
    checked: i64,
    /// The epoch of erasures.
    erasures: u64,
}

const VERSION: u8 = 2;
const HEAD: usize = 1 + 6 * 8;

impl Head {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        for n in [self.maker, self.cards, self.fresh_until as u64, self.expires as u64, self.checked as u64, self.erasures] {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }

    /// What an older version of the program wrote may not be readable: then it was never there.
    fn read(body: &[u8]) -> Option<Self> {
        let (version, rest) = body.split_first().filter(|(v, rest)| **v == VERSION && rest.len() >= HEAD - 1)?;
        let _ = version;
        let n = |i: usize| u64::from_le_bytes(rest[i * 8..i * 8 + 8].try_into().unwrap_or_default());
        Some(Self {
            maker: n(0),
            cards: n(1),
            fresh_until: n(2) as i64,
            expires: n(3) as i64,
            checked: n(4) as i64,
            erasures: n(5),
        })
    }
}

/// An answer that may be given as it is.
#[derive(Debug, Clone)]
pub enum Fresh {
    /// As it is sent.
    Bytes(Bytes),
    /// Read and looked at.
    Answer(Box<Answer>),
}

/// What was found before anything was computed.
pub struct Found {
    /// Under which key.
    pub key: String,
    /// The epochs of the user and of erasures; `None` where the cache did not answer: then nothing is written either.
    pub epochs: Option<(u64, u64)>,
    /// May be given as it is.
    pub fresh: Option<Fresh>,
    /// Still right, but old: may be given while another is made.
    pub aging: bool,
    /// From before: for when nothing better can be made.
    pub stale: Option<Answer>,
    /// Why the cache gave nothing.
    pub error: Option<StoreError>,
}

/// The epochs of a user and of erasures.
pub async fn epochs(on: &Recommender, tenant: &Tenant, user: &UserId, deadline: Instant) -> StoreResult<(u64, u64)> {
    let (cache, everyone) = (on.stores.cache.clone(), erasures());
    let (tenant, user) = (tenant.clone(), user.clone());
    let both = async move { futures_util::try_join!(cache.epoch(&tenant, &user), cache.epoch(&tenant, &everyone)) };
    on.late.run(deadline, "cache", both).await
}

/// Looks an answer up. The epochs are read before anything is computed, so that an event in between ends the answer.
pub async fn look_up(on: &Recommender, tenant: &Tenant, user: &UserId, query: &Query, deadline: Instant) -> Found {
    let key = key(on, tenant, user, query);
    let (cache, everyone) = (on.stores.cache.clone(), erasures());
    let (of, asker, asked) = (tenant.clone(), user.clone(), key.clone());
    let read = async move {
        let (user, all, kept) = join3(cache.epoch(&of, &asker), cache.epoch(&of, &everyone), cache.get(&asked)).await;
        Ok(((user?, all?), kept?))
    };
    let none = |epochs, error| Found { key: String::new(), epochs, fresh: None, aging: false, stale: None, error };
    let (epochs, kept) = match on.late.run(deadline, "cache", read).await {
        Ok(found) => found,
        Err(e) => return Found { key, ..none(None, Some(e)) },
    };
    let mut found = Found { key, ..none(Some(epochs), None) };
    let Some(cached) = kept else { return found };
    let Some(head) = Head::read(&cached.body) else { return found };
    let now = Timestamp::now().millis();
    let same = (cached.epoch, head.erasures) == epochs;
    let ttl = on.config.cache.ttl_ms as i64;
    let usable = same && now < head.fresh_until.saturating_add(ttl);
    if usable && now < head.fresh_until && nothing_changed(on, tenant, &head, now) {
        found.fresh = Some(Fresh::Bytes(Bytes::from_owner(Whole(cached.body)).slice(HEAD..)));
        return found;
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(&cached.body[HEAD..]) else { return found };
    if !usable {
        found.stale = Some(answer);
        return found;
    }
    match revived(on, tenant, query, answer, Timestamp::now(), deadline).await {
        (answer, true) => {
            found.aging = now >= head.fresh_until;
            let cache = if found.aging { CacheState::Stale } else { CacheState::Hit };
            found.fresh = Some(Fresh::Answer(Box::new(Answer { cache, ..answer })));
        }
        (answer, false) => found.stale = Some(answer),
    }
    found
}

struct Whole(Arc<[u8]>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Whether the items of an answer need no look, as far as this process was told.
fn nothing_changed(on: &Recommender, tenant: &Tenant, head: &Head, now: i64) -> bool {
    let told = match on.stores.memory.freshness {
        Freshness::Exclusive => head.maker == on.nonce && head.cards == on.stores.memory.tenant(tenant).cards_mark(),
        Freshness::Shared { max_age } => (now - head.checked).unsigned_abs() < max_age.as_millis() as u64,
    };
    told && now < head.expires
}

/// A stale answer, made presentable: without what may no longer be shown or was engaged with since, and without naming others, who
/// may have been erased since.
pub async fn last_resort(
    on: &Recommender,
    tenant: &Tenant,
    user: &UserId,
    query: &Query,
    stale: Answer,
    deadline: Instant,
) -> Answer {
    let (mut answer, _) = revived(on, tenant, query, stale, Timestamp::now(), deadline).await;
    if !on.config.recommend_engaged {
        let ids: Vec<ItemId> = answer.recommendations.iter().map(|r| r.item_id.clone()).collect();
        let engaged = match by(deadline, "ledger", on.stores.ledger.engaged(tenant, user, &ids)).await {
            Ok(engaged) => engaged,
            Err(_) => {
                let mem = on.stores.memory.tenant(tenant);
                let known = mem.edges(user, 1, true);
                let numbers = mem.numbers(ids.iter());
                let own = |n: &u32| known.as_ref().is_some_and(|k| k.own.iter().any(|o| o.item == *n));
                numbers.iter().map(own).collect()
            }
        };
        let mut engaged = engaged.into_iter();
        answer.recommendations.retain(|_| !engaged.next().unwrap_or(false));
    }
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
    let (cards, _) = on.cards(tenant, &ids, deadline).await;
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

/// What is kept of an answer. `cards`: how many changes of items had been told when it was begun.
pub fn keepable(on: &Recommender, tenant: &Tenant, found: &Found, answer: &Answer, cards: u64) -> Option<CachedAnswer> {
    let (epoch, erasures) = found.epochs?;
    let config = &on.config.cache;
    let now = Timestamp::now();
    let spread = 1.0 + config.jitter * f64::from(jitter(&found.key, now)) / 256.0;
    let mem = on.stores.memory.tenant(tenant);
    let mut expires = i64::MAX;
    let numbers = mem.numbers(answer.recommendations.iter().map(|r| &r.item_id));
    mem.each_card(numbers.into_iter(), |_, known| {
        if let Some(at) = known.and_then(|seen| seen.card.expires_at) {
            expires = expires.min(at.millis());
        }
    });
    let head = Head {
        maker: on.nonce,
        cards,
        fresh_until: now.plus_millis((config.ttl_ms as f64 * spread) as i64).millis(),
        expires,
        checked: now.millis(),
        erasures,
    };
    let mut body = Vec::with_capacity(4_096);
    head.write(&mut body);
    let kept = Answer { cache: CacheState::Hit, ..answer.clone() };
    serde_json::to_writer(&mut body, &kept).ok()?;
    Some(CachedAnswer { body: Arc::from(body), epoch })
}

/// Keeps an answer. Failure costs nothing but the next hit.
pub async fn keep(on: &Recommender, key: &str, cached: CachedAnswer, deadline: Instant) -> Result<(), StoreError> {
    let config = &on.config.cache;
    let longest = (config.ttl_ms as f64 * (1.0 + config.jitter)) as u64;
    let ttl = Duration::from_millis(config.stale_ms.max(longest));
    by(deadline, "cache", on.stores.cache.put(key, cached, ttl)).await
}

/// Something between 0 and 255 that differs between keys and moments.
fn jitter(key: &str, now: Timestamp) -> u8 {
    key.bytes().fold(now.millis() as u8, |h, b| h.wrapping_mul(31).wrapping_add(b))
}

/// Everything that changes an answer, save the user's epoch.
fn key(on: &Recommender, tenant: &Tenant, user: &UserId, query: &Query) -> String {
    use std::fmt::Write as _;
    let mut key = answer_prefix(tenant, user);
    let explain = if query.explain { "x" } else { "" };
    // Writing to a string does not fail.
    let _ = write!(key, "{}/{}{explain}", on.fingerprint, query.k);
    if let Some(learned) = on.stores.memory.tenant(tenant).learned() {
        let _ = write!(key, "v{}", learned.version);
    }
    if query.category.is_none() && query.exclude.is_empty() {
        return key;
    }
    let mut exclude: Vec<&str> = query.exclude.iter().map(AsRef::as_ref).collect();
    exclude.sort_unstable();
    exclude.dedup();
    let mut h = Sha256::new();
    h.update([u8::from(query.category.is_some())]);
    for part in query.category.iter().map(AsRef::as_ref).chain(exclude) {
        h.update((part.len() as u64).to_le_bytes());
        h.update(part);
    }
    let _ = write!(key, "/{}", hex(&h.finalize()[..16]));
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_were_written_and_others_are_not() {
        let head = Head { maker: 7, cards: u64::MAX, fresh_until: -5, expires: i64::MAX, checked: 3, erasures: 1 };
        let mut out = Vec::new();
        head.write(&mut out);
        assert_eq!((out.len(), Head::read(&out)), (HEAD, Some(head)));
        assert_eq!(Head::read(&out[..HEAD - 1]), None);
        out[0] = b'{';
        assert_eq!(Head::read(&out), None);
        assert_eq!(Head::read(b""), None);
    }
}
