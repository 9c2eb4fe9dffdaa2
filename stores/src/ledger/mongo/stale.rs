//! Marks of users whose profile may be out of date because an item of theirs got another vector.
//!
//! The order matters where one worker appends an engagement while another writes the item. A note of the items comes first; then they
//! are written; then it is asked who engaged with them; then those are marked; then the note goes. The other worker appends first and
//! reads item vectors then. So either that one reads the new vector, or its engagement was there when this one asked.
//!
//! A crash leaves the note. Whoever states one of its items finds it and marks again, so a batch that is repeated is finished by its
//! repetition. Where nobody repeats it, whoever asks for marks finishes once the note has been there for longer than any writer takes.
//!
//! A note is one document for many items and a mark is inserted, never changed: to change a document costs FerretDB a transaction, and a
//! disk's wait, for each.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use mongodb::{
    bson::{Document, doc},
    options::ReturnDocument,
};
use nearcast_domain::{StoreResult, Tenant, UserId};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{
    COLLECTIONS, MongoLedger,
    documents::{DueDoc, KeyDoc, StaleDoc},
    keys, vectors,
};
use crate::mongo::{BATCH, Mongo, collect, ids, inserted};

/// The low bits of a mark are drawn by chance: where a server lets two writers draw the same number, their marks still differ.
const CHANCE_BITS: u32 = 10;
/// Marks written at once.
const PORTION: usize = 10_000;
/// On FerretDB asking who engaged with one item costs about as much as reading so many events.
const READ_FOR_AN_ITEM: usize = 40;
/// Questions between two writes of marks.
const QUESTIONS: usize = 256;

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

/// Notes that these items are about to be written; answers the note's key.
pub(super) async fn note(mongo: &Mongo, tis: &[String]) -> StoreResult<String> {
    let collection = mongo.write::<DueDoc>(COLLECTIONS.due).await?;
    let note = DueDoc { key: format!("{:016x}", fastrand::u64(..)), tis: tis.to_vec() };
    inserted(mongo, &collection, std::slice::from_ref(&note), |d| d.tis.iter().map(|t| t.len() + 16).sum()).await?;
    Ok(note.key)
}

async fn notes(mongo: &Mongo) -> StoreResult<Vec<DueDoc>> {
    let due = mongo.write::<DueDoc>(COLLECTIONS.due).await?;
    let rows = mongo.call(due.find(doc! {})).await?;
    collect(mongo, rows).await
}

async fn done(mongo: &Mongo, notes: &[String]) -> StoreResult<()> {
    let all = notes.chunks(1_000).map(ids).collect();
    mongo.delete(COLLECTIONS.due, all).await?;
    Ok(())
}

/// Marks everyone who engaged with what was written, and with whatever of `stated` a note of somebody else speaks of; then takes the own
/// notes away.
pub(super) async fn spread(
    mongo: &Mongo,
    mut stated: Vec<String>,
    mut written: Vec<String>,
    own: Vec<String>,
) -> StoreResult<()> {
    if stated.is_empty() {
        return Ok(());
    }
    stated.sort_unstable();
    // Behind all writes: what this one found there already has its note here, or its marks.
    let others = notes(mongo).await?.into_iter().filter(|n| !own.contains(&n.key)).flat_map(|n| n.tis);
    let left: Vec<String> = others.filter(|ti| stated.binary_search(ti).is_ok()).collect();
    if !left.is_empty() {
        // Whoever left it may not have come so far as to say so.
        vectors::changed(mongo).await?;
    }
    written.extend(left);
    written.sort_unstable();
    written.dedup();
    mark_fans(mongo, &written).await?;
    done(mongo, &own).await
}

/// Marks everyone who engaged with these items.
pub(super) async fn mark_fans(mongo: &Mongo, items: &[String]) -> StoreResult<()> {
    if items.is_empty() {
        return Ok(());
    }
    let events = mongo.write::<KeyDoc>(COLLECTIONS.events).await?;
    let number = OnceCell::new();
    if mongo.whole_costs_less(COLLECTIONS.events, items.len(), READ_FOR_AN_ITEM).await? {
        return mark_among_all(mongo, items, &number).await;
    }
    let at_once = if mongo.one_by_one().await? { 1 } else { 1_000 };
    let (events, number) = (&events, &number);
    let of_part = |part: &[String]| {
        let filter = match part {
            [ti] => doc! { "ti": ti },
            many => doc! { "ti": { "$in": many } },
        };
        async move {
            let pipeline = [doc! { "$match": filter }, doc! { "$group": { "_id": "$tu" } }];
            let mut rows = mongo.call(events.aggregate(pipeline).allow_disk_use(true).with_type::<KeyDoc>()).await?;
            let mut fans: BTreeSet<String> = BTreeSet::new();
            while let Some(row) = mongo.call(async { rows.next().await.transpose() }).await? {
                fans.insert(row.key);
                if fans.len() >= PORTION {
                    mark(mongo, std::mem::take(&mut fans), number).await?;
                }
            }
            Ok(fans)
        }
        .boxed()
    };
    // Of most items few are fans, and many are fans of several: each is marked once.
    let mut fans = BTreeSet::new();
    for some in items.chunks(at_once * QUESTIONS) {
        for mut part in mongo.together(some.chunks(at_once).map(of_part).collect()).await? {
            fans.append(&mut part);
        }
        if fans.len() >= PORTION {
            mark(mongo, std::mem::take(&mut fans), number).await?;
        }
    }
    mark(mongo, fans, number).await
}

/// The same where a question for each item would cost more than reading every event once: `$in` would, too, as the server goes through
/// its whole list for each of them.
async fn mark_among_all(mongo: &Mongo, items: &[String], number: &OnceCell<i64>) -> StoreResult<()> {
    #[derive(Deserialize)]
    struct Touch {
        tu: String,
        #[serde(default)]
        ti: Option<String>,
    }
    let items: HashSet<&str> = items.iter().map(|ti| &**ti).collect();
    let events = mongo.write::<Touch>(COLLECTIONS.events).await?;
    let find = events.find(doc! {}).projection(doc! { "_id": 0, "tu": 1, "ti": 1 }).batch_size(BATCH);
    let mut rows = mongo.call(find).await?;
    let mut fans: BTreeSet<String> = BTreeSet::new();
    while let Some(row) = mongo.call(async { rows.next().await.transpose() }).await? {
        if row.ti.is_some_and(|ti| items.contains(&*ti)) {
            fans.insert(row.tu);
            if fans.len() >= PORTION {
                mark(mongo, std::mem::take(&mut fans), number).await?;
            }
        }
    }
    mark(mongo, fans, number).await
}

/// Marks users with a number that is drawn at the first of them.
async fn mark(mongo: &Mongo, users: BTreeSet<String>, number: &OnceCell<i64>) -> StoreResult<()> {
    if users.is_empty() {
        return Ok(());
    }
    let draw = || async {
        let drawn = counted(mongo, COLLECTIONS.counters, "marks", "last", 1).await?;
        Ok(drawn << CHANCE_BITS | fastrand::i64(0..1 << CHANCE_BITS))
    };
    let mark = *number.get_or_try_init(draw).await?;
    let documents: Vec<StaleDoc> = users.into_iter().map(|tu| StaleDoc::new(tu, mark)).collect();
    let collection = mongo.write::<StaleDoc>(COLLECTIONS.stale).await?;
    // What is there already is this very mark.
    inserted(mongo, &collection, &documents, |d| 2 * d.tu.len() + 64).await?;
    Ok(())
}

/// Whose marks are the oldest, each with their newest mark; after those that a crash has left undone.
pub(super) async fn users(ledger: &MongoLedger, limit: usize) -> StoreResult<Vec<(Tenant, UserId, u64)>> {
    let mongo = &ledger.mongo;
    let there = notes(mongo).await?;
    let left = ledger.seen.left(there.iter().map(|n| &*n.key), Duration::from_secs(mongo.config.left_after_s));
    if !left.is_empty() {
        let mut tis: Vec<String> = there.into_iter().filter(|n| left.contains(&n.key)).flat_map(|n| n.tis).collect();
        tis.sort_unstable();
        tis.dedup();
        vectors::changed(mongo).await?;
        mark_fans(mongo, &tis).await?;
        done(mongo, &left).await?;
    }
    if limit == 0 {
        return Ok(Vec::new());
    }
    let stale = mongo.write::<StaleDoc>(COLLECTIONS.stale).await?;
    let mut find = stale.find(doc! {}).sort(doc! { "mark": 1, "_id": 1 });
    if let Ok(limit) = i64::try_from(limit) {
        find = find.limit(limit);
    }
    let rows = mongo.call(find).await?;
    let rows = collect(mongo, rows).await?;
    let whole = rows.len() < limit;
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    let mut note = |row: StaleDoc| {
        let mark = newest.entry(row.tu).or_insert(row.mark);
        *mark = row.mark.max(*mark);
    };
    if whole {
        rows.into_iter().for_each(&mut note);
    } else {
        let tus: BTreeSet<String> = rows.into_iter().map(|r| r.tu).collect();
        of_users(mongo, tus.into_iter().collect()).await?.into_iter().for_each(&mut note);
    }
    let mut marks = Vec::new();
    for (tu, mark) in newest {
        let (tenant, user) = keys::parts(&tu).ok_or_else(|| mongo.torn("a mark"))?;
        marks.push((Tenant::trusted(tenant), UserId::trusted(user), mark.cast_unsigned()));
    }
    marks.sort_by(|a, b| (a.2, &a.0, &a.1).cmp(&(b.2, &b.0, &b.1)));
    Ok(marks)
}

/// All marks of these users.
async fn of_users(mongo: &Mongo, tus: Vec<String>) -> StoreResult<Vec<StaleDoc>> {
    let stale = mongo.write::<StaleDoc>(COLLECTIONS.stale).await?;
    let mut all = Vec::new();
    for part in tus.chunks(1_000) {
        let rows = mongo.call(stale.find(doc! { "tu": { "$in": part } })).await?;
        all.extend(collect(mongo, rows).await?);
    }
    Ok(all)
}

/// Takes marks back up to these numbers: what was marked before a number was drawn was written before it, too.
pub(super) async fn clear(mongo: &Mongo, marks: &[(Tenant, UserId, u64)]) -> StoreResult<()> {
    let mut upto: BTreeMap<String, i64> = BTreeMap::new();
    for (tenant, user, mark) in marks {
        let most = upto.entry(keys::owned(tenant, user.as_str())).or_insert(mark.cast_signed());
        *most = mark.cast_signed().max(*most);
    }
    let there = of_users(mongo, upto.keys().cloned().collect()).await?;
    let gone: Vec<StaleDoc> = there.into_iter().filter(|d| upto.get(&d.tu).is_some_and(|most| d.mark <= *most)).collect();
    let mut filters = Vec::new();
    for part in gone.chunks(1_000) {
        let keys: Vec<&str> = part.iter().map(|d| &*d.key).collect();
        let mut tus: Vec<&str> = part.iter().map(|d| &*d.tu).collect();
        tus.dedup();
        filters.push(doc! { "_id": { "$in": keys }, "tu": { "$in": tus } });
    }
    mongo.delete(COLLECTIONS.stale, filters).await?;
    Ok(())
}
