//! Marks of users whose profile may be out of date because an item of theirs got another vector.
//!
//! The order matters where one worker appends an engagement while another writes the item. The item's vector is written first, with
//! the note that it is `due` to be spread in the same write; then it is asked who engaged with it; then they are marked; then the
//! note goes. The other worker appends first and reads item vectors then. So either that one reads the new vector, or its
//! engagement was there when this one asked. A crash leaves the note, and whoever asks for marks next finishes the work.

use std::collections::BTreeSet;

use futures_util::{FutureExt as _, StreamExt as _};
use mongodb::{
    bson::{Document, doc},
    options::ReturnDocument,
};
use nearcast_domain::{StoreResult, Tenant, UserId};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{
    COLLECTIONS,
    documents::{KeyDoc, StaleDoc},
    keys,
};
use crate::mongo::{Mongo, inserted};

/// The note on an item.
pub(super) const DUE: &str = "due";
/// The low bits of a mark are drawn by chance: where a server lets two writers draw the same number, their marks still differ.
const CHANCE_BITS: u32 = 10;
/// Marks written at once.
const PORTION: usize = 1_000;

/// Adds to a number and answers what it is then. Its document is made apart: two that make it at once would be an error.
pub(super) async fn counted(mongo: &Mongo, collection: &str, key: &str, field: &str, by: i64) -> StoreResult<i64> {
    let counters = mongo.write::<Document>(collection).await?;
    for _ in 0..2 {
        let add = counters
            .find_one_and_update(doc! { "_id": key }, doc! { "$inc": { field: by } })
            .return_document(ReturnDocument::After);
        if let Some(document) = mongo.call(add).await? {
            return document.get_i64(field).map_err(|_| mongo.torn("a counter"));
        }
        inserted(mongo, &counters, &[doc! { "_id": key }], |_| 64).await?;
    }
    Err(mongo.torn("a counter"))
}

/// Marks everyone who engaged with these items, then takes the notes off the items.
pub(super) async fn spread(mongo: &Mongo, mut items: Vec<String>) -> StoreResult<()> {
    items.sort_unstable();
    items.dedup();
    if items.is_empty() {
        return Ok(());
    }
    // Who wrote each note: another writer's later note is not ours to take off.
    #[derive(Deserialize)]
    struct Note {
        #[serde(rename = "_id")]
        ti: String,
        spreader: String,
    }
    let collection = mongo.write::<Note>(COLLECTIONS.items).await?;
    let due = collection.find(doc! { "spread": DUE }).projection(doc! { "spreader": 1 });
    let mut due = mongo.call(due).await?;
    let mut notes: Vec<Note> = Vec::new();
    while let Some(note) = mongo.call(async { due.next().await.transpose() }).await? {
        if items.binary_search(&note.ti).is_ok() {
            notes.push(note);
        }
    }
    let wanted: Vec<String> = notes.iter().map(|n| n.ti.clone()).collect();
    mark_fans(mongo, &wanted).await?;
    let spreaders: BTreeSet<&str> = notes.iter().map(|n| n.spreader.as_str()).collect();
    let done = spreaders.into_iter().map(|spreader| {
        let tis: Vec<&str> = notes.iter().filter(|n| n.spreader == spreader).map(|n| n.ti.as_str()).collect();
        doc! {
            "q": { "spread": DUE, "_id": { "$in": tis }, "spreader": spreader },
            "u": { "$unset": { "spread": "", "spreader": "" } },
        }
    });
    mongo.update(COLLECTIONS.items, done.collect()).await?;
    Ok(())
}

/// Marks everyone who engaged with these items.
pub(super) async fn mark_fans(mongo: &Mongo, items: &[String]) -> StoreResult<()> {
    if items.is_empty() {
        return Ok(());
    }
    let events = mongo.write::<KeyDoc>(COLLECTIONS.events).await?;
    let at_once = mongo.keys_at_once(items.len()).await?;
    let number = OnceCell::new();
    let (events, number) = (&events, &number);
    let of_part = |part: Vec<String>| async move {
        let filter = match part.as_slice() {
            [ti] => doc! { "ti": ti },
            many => doc! { "ti": { "$in": many } },
        };
        let pipeline = [doc! { "$match": filter }, doc! { "$group": { "_id": "$tu" } }];
        let mut rows = mongo.call(events.aggregate(pipeline).allow_disk_use(true).with_type::<KeyDoc>()).await?;
        let mut fans: BTreeSet<String> = BTreeSet::new();
        while let Some(row) = mongo.call(async { rows.next().await.transpose() }).await? {
            fans.insert(row.key);
            if fans.len() >= PORTION {
                mark(mongo, std::mem::take(&mut fans), number).await?;
            }
        }
        mark(mongo, fans, number).await
    };
    mongo.together(items.chunks(at_once).map(|part| of_part(part.to_vec()).boxed()).collect()).await?;
    Ok(())
}

/// Marks users with a number that is drawn at the first of them. A mark that is there already gets the newer number.
async fn mark(mongo: &Mongo, users: BTreeSet<String>, number: &OnceCell<i64>) -> StoreResult<()> {
    if users.is_empty() {
        return Ok(());
    }
    let draw = || async {
        let drawn = counted(mongo, COLLECTIONS.counters, "marks", "last", 1).await?;
        Ok(drawn << CHANCE_BITS | fastrand::i64(0..1 << CHANCE_BITS))
    };
    let mark = *number.get_or_try_init(draw).await?;
    let documents: Vec<StaleDoc> = users.into_iter().map(|tu| StaleDoc { tu, mark }).collect();
    let collection = mongo.write::<StaleDoc>(COLLECTIONS.stale).await?;
    let there = inserted(mongo, &collection, &documents, |d| d.tu.len() + 48).await?;
    let renewed = there.into_iter().filter_map(|at| documents.get(at)).map(|d| {
        doc! { "q": { "_id": &d.tu }, "u": { "$max": { "mark": mark } }, "upsert": true }
    });
    mongo.update(COLLECTIONS.stale, renewed.collect()).await?;
    Ok(())
}

/// The oldest marks, after those that a crash has left undone.
pub(super) async fn users(mongo: &Mongo, limit: usize) -> StoreResult<Vec<(Tenant, UserId, u64)>> {
    let items = mongo.write::<KeyDoc>(COLLECTIONS.items).await?;
    let mut due = mongo.call(items.find(doc! { "spread": DUE }).projection(doc! { "_id": 1 })).await?;
    let mut left = Vec::new();
    while let Some(item) = mongo.call(async { due.next().await.transpose() }).await? {
        left.push(item.key);
    }
    spread(mongo, left).await?;
    let stale = mongo.write::<StaleDoc>(COLLECTIONS.stale).await?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut find = stale.find(doc! {}).sort(doc! { "mark": 1, "_id": 1 });
    if let Ok(limit) = i64::try_from(limit) {
        find = find.limit(limit);
    }
    let rows = mongo.call(find).await?;
    let mut marks = Vec::new();
    for row in crate::mongo::collect(mongo, rows).await? {
        let (tenant, user) = keys::parts(&row.tu).ok_or_else(|| mongo.torn("a mark"))?;
        marks.push((Tenant::trusted(tenant), UserId::trusted(user), row.mark.cast_unsigned()));
    }
    marks.sort_by(|a, b| (a.2, &a.0, &a.1).cmp(&(b.2, &b.0, &b.1)));
    Ok(marks)
}

/// Takes marks back that still have these numbers.
pub(super) async fn clear(mongo: &Mongo, marks: &[(Tenant, UserId, u64)]) -> StoreResult<()> {
    let gone = |(tenant, user, mark): &(Tenant, UserId, u64)| {
        doc! { "_id": keys::owned(tenant, user.as_str()), "mark": mark.cast_signed() }
    };
    mongo.delete(COLLECTIONS.stale, marks.iter().map(gone).collect()).await?;
    Ok(())
}
