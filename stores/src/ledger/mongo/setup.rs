//! Makes collections and indexes. May be repeated, and by several processes at once.

use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};
use nearcast_domain::{ErrorKind, StoreResult};

use super::COLLECTIONS;
use crate::mongo::Mongo;

/// Every index: its collection, its name, its keys.
fn indexes() -> Vec<(&'static str, &'static str, Document)> {
    let c = COLLECTIONS;
    vec![
        // A user's latest, of each kind.
        (c.events, "history", doc! { "tu": 1, "k": 1, "at": -1, "id": -1 }),
        // A user and an item, `at` so that whether they engaged is told by the index alone.
        (c.events, "pair", doc! { "tu": 1, "ti": 1, "at": 1 }),
        // Who engaged with an item: the one question that goes to every shard, asked when an item's text changes.
        (c.events, "fans", doc! { "ti": 1, "tu": 1 }),
        (c.items, "newest", doc! { "t": 1, "hidden": 1, "arrival": -1, "_id": 1 }),
        (c.items, "newest_of_category", doc! { "t": 1, "categories": 1, "hidden": 1, "arrival": -1, "_id": 1 }),
        (c.stale, "oldest", doc! { "mark": 1, "_id": 1 }),
        (c.stale, "of_user", doc! { "tu": 1, "mark": -1 }),
    ]
}

/// Makes what is missing; says what there is then.
pub(super) async fn setup(mongo: &Mongo) -> StoreResult<Vec<String>> {
    if mongo.read_only().await? {
        return Err(mongo.error(ErrorKind::ReadOnly, "the server takes no writes: name its primary in mongodb.uri"));
    }
    let database = mongo.database().await?;
    let mut there = mongo.call(database.list_collection_names()).await?;
    let mut done = Vec::new();
    for name in COLLECTIONS.all() {
        if !there.iter().any(|c| c == name) {
            let made = mongo.call(database.create_collection(name)).await;
            // Another process may have been faster.
            if made.is_err() {
                there = mongo.call(database.list_collection_names()).await?;
                if !there.iter().any(|c| c == name) {
                    made?;
                }
            }
        }
        done.push(format!("collection {}.{name}", mongo.config.database));
    }
    for (collection, name, keys) in indexes() {
        let mut options = IndexOptions::default();
        options.name = Some(name.to_owned());
        let index = IndexModel::builder().keys(keys).options(options).build();
        mongo.call(database.collection::<Document>(collection).create_index(index)).await?;
        done.push(format!("index {collection}.{name}"));
    }
    Ok(done)
}
