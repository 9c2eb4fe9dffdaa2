//! Positions and leases in one collection of MongoDB, for all processes of a cluster.
//!
//! A lease is judged by the server's clock. Where the server changes documents under conditions at once (MongoDB does, FerretDB
//! nearly), one process at a time has it; nothing relies on that for correctness.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::{
    Collection,
    bson::{Document, doc},
};
use nearcast_domain::{
    StoreResult,
    ports::{Leases, Positions},
};
use serde::{Deserialize, Serialize};

use crate::mongo::{Mongo, MongoConfig, inserted};

const COLLECTION: &str = "positions";

#[derive(Serialize, Deserialize)]
struct Position {
    #[serde(rename = "_id")]
    key: String,
    value: String,
}

#[derive(Serialize, Deserialize)]
struct Lease {
    #[serde(rename = "_id")]
    key: String,
    holder: String,
    /// In milliseconds of the server's clock.
    until: i64,
}

/// The collection `positions`.
#[derive(Clone)]
pub struct MongoPositions {
    mongo: Mongo,
}

impl MongoPositions {
    /// Checks the configuration; the first call connects.
    pub fn new(config: &MongoConfig) -> StoreResult<Self> {
        Ok(Self { mongo: Mongo::new(config, "positions")? })
    }

    /// Makes the collection; says what there is then. May be repeated.
    pub async fn setup(&self) -> StoreResult<Vec<String>> {
        let database = self.mongo.database().await?;
        let there = self.mongo.call(database.list_collection_names()).await?;
        if !there.iter().any(|c| c == COLLECTION) {
            let made = self.mongo.call(database.create_collection(COLLECTION)).await;
            // Another process may have been faster.
            if !self.mongo.call(database.list_collection_names()).await?.iter().any(|c| c == COLLECTION) {
                made?;
            }
        }
        Ok(vec![format!("collection {}.{COLLECTION}", self.mongo.config.database)])
    }

    /// Gives the connections back. Calls after it fail.
    pub async fn close(&self) {
        self.mongo.close().await;
    }

    async fn leases(&self) -> StoreResult<Collection<Lease>> {
        self.mongo.write(COLLECTION).await
    }
}

/// Positions and leases have names of their own.
fn position(key: &str) -> String {
    format!("position:{key}")
}

fn lease(name: &str) -> String {
    format!("lease:{name}")
}

#[async_trait]
impl Positions for MongoPositions {
    async fn get(&self, key: &str) -> StoreResult<Option<String>> {
        let positions = self.mongo.read::<Position>(COLLECTION).await?;
        let found = self.mongo.call(positions.find_one(doc! { "_id": position(key) })).await?;
        Ok(found.map(|p| p.value))
    }

    async fn set(&self, key: &str, value: &str) -> StoreResult<()> {
        let set = doc! { "q": { "_id": position(key) }, "u": { "$set": { "value": value } }, "upsert": true };
        self.mongo.update(COLLECTION, vec![set]).await?;
        Ok(())
    }

    async fn remove(&self, key: &str) -> StoreResult<()> {
        self.mongo.delete(COLLECTION, vec![doc! { "_id": position(key) }]).await?;
        Ok(())
    }
}

#[async_trait]
impl Leases for MongoPositions {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> StoreResult<bool> {
        let now = self.mongo.now().await?;
        let until = now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        let leases = self.leases().await?;
        let free = doc! { "_id": lease(name), "$or": [{ "holder": holder }, { "until": { "$lte": now } }] };
        let taken: Document = doc! { "$set": { "holder": holder, "until": until } };
        if self.mongo.call(leases.update_one(free, taken)).await?.matched_count > 0 {
            // Where two took it over in the same moment, the later one has it.
            let found = self.mongo.call(leases.find_one(doc! { "_id": lease(name) })).await?;
            return Ok(found.is_some_and(|l| l.holder == holder));
        }
        let new = [Lease { key: lease(name), holder: holder.to_owned(), until }];
        Ok(inserted(&self.mongo, &leases, &new, |_| 256).await?.is_empty())
    }

    async fn release(&self, name: &str, holder: &str) -> StoreResult<()> {
        let gone = doc! { "_id": lease(name), "holder": holder };
        self.mongo.delete(COLLECTION, vec![gone]).await?;
        Ok(())
    }
}
