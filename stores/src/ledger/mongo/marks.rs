//! Marks by which one process tells all others that something changed: one document each, set anew behind a write.
//!
//! A mark is drawn by chance and never comes again, also where a server lets two writers count to the same number.

use mongodb::bson::{Document, doc};
use nearcast_domain::StoreResult;

use super::COLLECTIONS;
use crate::mongo::Mongo;

/// An item got another vector.
pub(super) const VECTORS: &str = "vectors";
/// Somebody who owns no partitions wrote events.
pub(super) const BESIDE: &str = "beside";
const FIELD: &str = "changed";

/// Sets a mark: behind the write that it tells of.
pub(super) async fn set(mongo: &Mongo, mark: &str) -> StoreResult<()> {
    let drawn = doc! { "$set": { FIELD: fastrand::i64(1..) } };
    mongo.update(COLLECTIONS.counters, vec![doc! { "q": { "_id": mark }, "u": drawn, "upsert": true }]).await.map(drop)
}

/// The newest mark; 0 where there was none yet.
pub(super) async fn get(mongo: &Mongo, mark: &str) -> StoreResult<i64> {
    let counters = mongo.read::<Document>(COLLECTIONS.counters).await?;
    let found = mongo.call(counters.find_one(doc! { "_id": mark })).await?;
    Ok(found.and_then(|d| d.get_i64(FIELD).ok()).unwrap_or(0))
}
