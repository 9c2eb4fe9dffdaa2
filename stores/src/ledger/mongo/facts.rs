//! What jobs ask of the whole ledger: tenants, counts, erasures, and the digest, which is made while reading.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt as _};
use mongodb::bson::{Binary, Document, doc};
use nearcast_domain::{
    StoreResult, Tenant, Timestamp, UserId,
    digest::Digest,
    ports::{ErasureRecord, LedgerCounts},
};
use serde::Deserialize;

use super::{
    COLLECTIONS,
    documents::{ENGAGEMENT, ErasureDoc, KeyDoc, Vectors, hash, revision_field},
    keys, read, vectors,
};
use crate::{
    ledger::prefix::behind,
    mongo::{Mongo, collect},
};

pub(super) async fn tenants(mongo: &Mongo) -> StoreResult<Vec<Tenant>> {
    let tenants = mongo.read::<KeyDoc>(COLLECTIONS.tenants).await?;
    let rows = mongo.call(tenants.find(doc! {}).projection(doc! { "_id": 1 })).await?;
    let mut all: Vec<Tenant> = collect(mongo, rows).await?.into_iter().map(|t| Tenant::trusted(t.key)).collect();
    all.sort();
    Ok(all)
}

/// Counts that were made lately: counting reads an index from end to end.
#[derive(Default)]
pub(super) struct Counted(Mutex<HashMap<Tenant, (Instant, LedgerCounts)>>);

impl Counted {
    fn get(&self, tenant: &Tenant, age: Duration) -> Option<LedgerCounts> {
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.get(tenant).filter(|(at, _)| at.elapsed() < age).map(|(_, counts)| *counts)
    }

    fn put(&self, tenant: &Tenant, counts: LedgerCounts) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.len() >= 10_000 {
            known.clear();
        }
        known.insert(tenant.clone(), (Instant::now(), counts));
    }
}

pub(super) async fn counts(mongo: &Mongo, counted: &Counted, tenant: &Tenant) -> StoreResult<LedgerCounts> {
    let age = Duration::from_secs(mongo.config.counts_max_age_s);
    if let Some(counts) = counted.get(tenant, age) {
        return Ok(counts);
    }
    // A tenant's keys are one range.
    let begin = keys::owned(tenant, "");
    let mut range = doc! { "$gte": &begin };
    if let Some(end) = behind(&begin) {
        range.insert("$lt", end);
    }
    let count = |collection: &'static str, field: &'static str| {
        let range = range.clone();
        async move {
            let collection = mongo.read::<Document>(collection).await?;
            mongo.call(collection.count_documents(doc! { field: range })).await
        }
    };
    let (users, items, events) = futures_util::try_join!(
        count(COLLECTIONS.users, "_id"),
        count(COLLECTIONS.items, "_id"),
        count(COLLECTIONS.events, "tu")
    )?;
    let counts = LedgerCounts { users, items, events };
    counted.put(tenant, counts);
    Ok(counts)
}

pub(super) async fn erasures(mongo: &Mongo) -> StoreResult<Vec<ErasureRecord>> {
    let mut all = Vec::new();
    for record in all_erasures(mongo).await?.into_values() {
        let (tenant, user) = keys::parts(&record.tu).ok_or_else(|| mongo.torn("an erasure's key"))?;
        let until = Timestamp::from_millis(record.until);
        all.push(ErasureRecord { tenant: Tenant::trusted(tenant), user: UserId::trusted(user), until });
    }
    all.sort_by(|a, b| (&a.tenant, &a.user).cmp(&(&b.tenant, &b.user)));
    Ok(all)
}

async fn all_erasures(mongo: &Mongo) -> StoreResult<HashMap<String, ErasureDoc>> {
    let collection = mongo.read::<ErasureDoc>(COLLECTIONS.erasures).await?;
    let rows = mongo.call(collection.find(doc! {})).await?;
    Ok(collect(mongo, rows).await?.into_iter().map(|r| (r.tu.clone(), r)).collect())
}

/// What an event adds to the digest.
#[derive(Deserialize)]
struct EventFacts {
    tu: String,
    k: String,
    at: i64,
    id: String,
    hash: Binary,
    #[serde(default)]
    v: Vectors,
}

/// What an item adds to the digest.
#[derive(Deserialize)]
struct ItemFacts {
    #[serde(rename = "_id")]
    ti: String,
    hash: Binary,
    #[serde(default)]
    v: Vectors,
}

pub(super) async fn digest(mongo: &Mongo) -> StoreResult<Digest> {
    let mut digest = Digest::default();
    let erased = all_erasures(mongo).await?;
    for record in erased.values() {
        let (tenant, user) = keys::parts(&record.tu).ok_or_else(|| mongo.torn("an erasure's key"))?;
        digest.add_erasure(tenant, user, Timestamp::from_millis(record.until));
    }
    let events = mongo.read::<EventFacts>(COLLECTIONS.events).await?;
    let rows = mongo.call(events.find(doc! {}).projection(doc! { "text": 0, "kind": 0, "value": 0, "ti": 0 })).await?;
    each(mongo, rows, |event: EventFacts| {
        if event.at <= read::until(&erased, &event.tu) {
            return Ok(());
        }
        let (tenant, user) = keys::parts(&event.tu).ok_or_else(|| mongo.torn("an event's key"))?;
        let kind = if event.k == ENGAGEMENT { "engagement" } else { "message" };
        digest.add_event(kind, tenant, user, &event.id, &hash(mongo, &event.hash)?);
        for vector in event.v.values() {
            digest.add_message_vector(&vector.r, tenant, user, &event.id, &vector.b.bytes);
        }
        Ok(())
    })
    .await?;
    let items = mongo.read::<ItemFacts>(COLLECTIONS.items).await?;
    let rows = mongo.call(items.find(doc! {}).projection(doc! { "hash": 1, "v": 1 })).await?;
    each(mongo, rows, |item: ItemFacts| {
        let (tenant, name) = keys::parts(&item.ti).ok_or_else(|| mongo.torn("an item's key"))?;
        digest.add_item(tenant, name, &hash(mongo, &item.hash)?);
        for vector in item.v.values() {
            digest.add_item_vector(&vector.r, tenant, name, &vector.b.bytes);
        }
        Ok(())
    })
    .await?;
    Ok(digest)
}

/// Hands every document on as it comes, and lets others work in between.
async fn each<T>(
    mongo: &Mongo,
    mut rows: impl Stream<Item = mongodb::error::Result<T>> + Unpin,
    mut take: impl FnMut(T) -> StoreResult<()>,
) -> StoreResult<()> {
    let mut since = 0;
    while let Some(row) = mongo.call(async { rows.next().await.transpose() }).await? {
        take(row)?;
        since += 1;
        if since == 1024 {
            since = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Takes the vectors of a revision out of every event and item.
pub(super) async fn drop_vectors(mongo: &Mongo, revision: &str) -> StoreResult<u64> {
    let field = format!("v.{}", revision_field(revision));
    let mut gone = 0;
    for name in [COLLECTIONS.events, COLLECTIONS.items] {
        let collection = mongo.write::<Document>(name).await?;
        let without = doc! { "$unset": { &field: "" } };
        gone += mongo.call(collection.update_many(doc! { &field: { "$exists": true } }, without)).await?.modified_count;
    }
    vectors::changed(mongo).await?;
    Ok(gone)
}
