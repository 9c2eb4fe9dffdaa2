//! Searches of the vector index on behalf of a user, and what was found before for the same question.
//!
//! A search goes on when its request no longer waits for it: the next request finds its result.

use std::{sync::Arc, time::Duration};

use nearcast_domain::{
    ItemId, StoreResult, UserId, Vector,
    ports::{Collection, Hit, VectorQuery},
};
use tokio::time::{Instant, timeout_at};

use super::Ask;
use crate::{
    memory::{NearKey, NearKnown, Own, Stamp, TenantMemory},
    recommend::formulas::standing_out,
};

/// Users near the asker, the nearest first, each with how far they stand out.
pub async fn near_users(ask: &Ask<'_>) -> StoreResult<Arc<[(UserId, f32)]>> {
    let key = ask.user.map(|u| NearKey::Users(u.clone()));
    if let Some(known) = found_before(ask, key.as_ref()) {
        return Ok(known.users);
    }
    let Some(vector) = ask.vector().await? else { return Ok(Arc::default()) };
    let stamp = stamp(ask, vector.clone(), None);
    if let Some(known) = found_same(ask, key.as_ref(), &stamp) {
        return Ok(known.users);
    }
    let taken = ask.on.config.sources.users;
    let exclude = ask.user.map(|u| u.as_str().to_owned()).into_iter().collect();
    let query = VectorQuery { vector, limit: taken + 1, label: None, exclude };
    let keep = move |mem: &TenantMemory, hits: Vec<Hit>| {
        let near = hits.into_iter().map(|h| (UserId::trusted(h.id), h.score)).collect();
        let users: Arc<[(UserId, f32)]> = standing_out(near, taken).into();
        if let Some(key) = key {
            mem.keep_found(key, NearKnown { stamp, users: users.clone(), items: Arc::default() });
        }
        users
    };
    search(ask, Collection::Users, query, keep).await
}

/// Items near the asker by text, the nearest first, each with how far they stand out.
pub async fn near_items(ask: &Ask<'_>) -> StoreResult<Arc<[(u32, f32)]>> {
    let key = ask.user.map(|u| NearKey::Items(u.clone(), ask.category.cloned()));
    if let Some(known) = found_before(ask, key.as_ref()) {
        return Ok(known.items);
    }
    let Some(vector) = ask.vector().await? else { return Ok(Arc::default()) };
    let mut own: Option<Arc<[Own]>> = None;
    if !ask.on.config.recommend_engaged
        && let Ok(Ok(edges)) = timeout_at(ask.halfway, ask.own()).await
    {
        own = Some(edges.own);
    }
    let stamp = stamp(ask, vector.clone(), own.clone());
    if let Some(known) = found_same(ask, key.as_ref(), &stamp) {
        return Ok(known.items);
    }
    let taken = ask.on.config.sources.texts;
    let exclude = {
        let catalogue = ask.mem.catalogue();
        own.iter().flat_map(|own| own.iter()).map(|o| catalogue.id(o.item).as_str().to_owned()).collect()
    };
    let query = VectorQuery { vector, limit: taken + 1, label: ask.category.map(|c| c.as_ref().to_owned()), exclude };
    let keep = move |mem: &TenantMemory, hits: Vec<Hit>| {
        let near: Vec<(ItemId, f32)> = hits.into_iter().map(|h| (ItemId::trusted(h.id), h.score)).collect();
        let near = standing_out(near, taken);
        let numbers = mem.numbers(near.iter().map(|(i, _)| i));
        let items: Arc<[(u32, f32)]> = numbers.into_iter().zip(near).map(|(n, (_, s))| (n, s)).collect();
        // Without the asker's own items in it the search is not the one that is meant.
        if let Some(key) = key.filter(|_| stamp.own.is_some()) {
            mem.keep_found(key, NearKnown { stamp, users: Arc::default(), items: items.clone() });
        }
        items
    };
    search(ask, Collection::Items, query, keep).await
}

fn stamp(ask: &Ask<'_>, vector: Vector, own: Option<Arc<[Own]>>) -> Stamp {
    Stamp { vector, own, epochs: ask.epochs, writes: ask.mem.searches_mark(), at: Instant::now() }
}

/// What was found for the same user, where others write too: judged by epochs and age alone, without asking for the vector.
fn found_before(ask: &Ask<'_>, key: Option<&NearKey>) -> Option<NearKnown> {
    if ask.mem.exclusive() {
        return None;
    }
    let most = Duration::from_millis(ask.on.config.sources.near_fresh_ms);
    let known = ask.mem.found(key?)?;
    let age = Instant::now().saturating_duration_since(known.stamp.at);
    (known.stamp.epochs.is_some() && known.stamp.epochs == ask.epochs && age < most).then_some(known)
}

/// What was found for exactly the same question.
fn found_same(ask: &Ask<'_>, key: Option<&NearKey>, stamp: &Stamp) -> Option<NearKnown> {
    if !ask.mem.exclusive() {
        return None;
    }
    ask.mem.found(key?).filter(|known| known.stamp.same(stamp))
}

async fn search<T: Send + 'static>(
    ask: &Ask<'_>,
    collection: Collection,
    query: VectorQuery,
    keep: impl FnOnce(&TenantMemory, Vec<Hit>) -> T + Send + 'static,
) -> StoreResult<T> {
    let (vectors, tenant, mem) = (ask.on.stores.vectors.clone(), ask.tenant.clone(), ask.mem.clone());
    let work = async move { Ok(keep(&mem, vectors.search(&tenant, collection, query).await?)) };
    ask.on.late.run(ask.deadline, "vectors", work).await
}
