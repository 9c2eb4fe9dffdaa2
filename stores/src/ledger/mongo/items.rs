//! Writing versions of items, which several writers may do at once: each replaces the version that it saw, or looks again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mongodb::bson::{Bson, Document, doc, serialize_to_bson};
use nearcast_domain::{
    ErrorKind, Event, StoreResult, Tenant,
    ports::{Append, Appended},
};
use serde::Deserialize;

use super::{
    COLLECTIONS, MongoLedger,
    documents::{ItemDoc, binary, hash, revision_field, vector_doc},
    keys,
    load::{self, Loaded, Stored},
    seen::Looked,
    stale, vectors,
};
use crate::{
    ledger::plan::{Batch, ItemChange, Known, plan},
    mongo::{Mongo, inserted},
};

/// What attempts at writing items leave behind.
#[derive(Default)]
pub(super) struct Written {
    /// Items whose people are to be marked.
    spread: Vec<String>,
    /// This writer's notes of that.
    notes: Vec<String>,
    /// Items that were not there before.
    made: Vec<ItemDoc>,
    /// Those where another writer was faster.
    lost: Vec<usize>,
}

/// Writes what is planned for the items of a batch. What is left to do [`finish`] does, behind the batch's events.
pub(super) async fn write(
    ledger: &MongoLedger,
    batch: &Batch<'_>,
    loaded: &Loaded,
    changes: &[ItemChange<'_>],
    revision: &str,
) -> StoreResult<Written> {
    let mut written = Written::default();
    let changed: Vec<(usize, &ItemChange<'_>)> = changes.iter().enumerate().filter(|(_, c)| touches(c)).collect();
    written.lost = attempt(ledger, batch, &changed, &loaded.stored, &mut written, revision).await?;
    Ok(written)
}

/// Writes again where another writer was faster, and puts `outcomes` right there; then marks whoever engaged with what changed.
pub(super) async fn finish(
    ledger: &MongoLedger,
    batch: &Batch<'_>,
    mut written: Written,
    outcomes: &mut [Appended],
    revision: &str,
) -> StoreResult<()> {
    let mongo = &ledger.mongo;
    let mut lost = std::mem::take(&mut written.lost);
    for _ in 0..8 {
        if lost.is_empty() {
            let all = (0..batch.items.len()).filter(|i| batch.states[*i]).map(|i| key(batch, i)).collect();
            stale::spread(mongo, all, written.spread, written.notes).await?;
            ledger.seen.wrote(written.made);
            return Ok(());
        }
        lost = again(ledger, batch, &lost, outcomes, &mut written, revision).await?;
    }
    Err(mongo.error(ErrorKind::Busy, "others write versions of the same items all the time"))
}

/// Looks at items anew that another writer has changed meanwhile, and plans their part of the batch again.
async fn again(
    ledger: &MongoLedger,
    batch: &Batch<'_>,
    lost: &[usize],
    outcomes: &mut [Appended],
    written: &mut Written,
    revision: &str,
) -> StoreResult<Vec<usize>> {
    let concerned = |(at, append): (usize, &Append)| {
        let mine = matches!(append.event, Event::Item(_)) && lost.contains(&batch.slots[at].1);
        mine.then(|| (at, append.clone()))
    };
    let (places, part): (Vec<usize>, Vec<Append>) = batch.appends.iter().enumerate().filter_map(concerned).unzip();
    let part = Batch::new(&part);
    let loaded = load::load(&ledger.mongo, &part, Some(revision), &mut Looked::whole()).await?;
    let known = Known { users: loaded.users, items: loaded.items, events: std::collections::HashMap::new() };
    let planned = plan(&part, known);
    for (place, outcome) in places.iter().zip(planned.outcomes) {
        outcomes[*place] = outcome;
    }
    let changed: Vec<(usize, &ItemChange<'_>)> = planned.items.iter().enumerate().filter(|(_, c)| touches(c)).collect();
    let lost = attempt(ledger, &part, &changed, &loaded.stored, written, revision).await?;
    let first = |i: &usize| part.slots.iter().position(|(_, item)| item == i).map(|at| batch.slots[places[at]].1);
    Ok(lost.iter().filter_map(first).collect())
}

/// Adds vectors to what is there with just this content: the filter names the hash, so no version is ever put back.
pub(super) async fn add_vectors(mongo: &Mongo, made: &[Append], revision: &str, stale: bool) -> StoreResult<u64> {
    let field = format!("v.{}", revision_field(revision));
    let (mut events, mut items, mut spread) = (Vec::new(), Vec::new(), Vec::new());
    for append in made {
        let Some(vector) = &append.vector else { continue };
        let vector = serialize_to_bson(&vector_doc(revision, vector)).map_err(|e| mongo.error(ErrorKind::Invalid, e))?;
        let hash = binary(&append.hash);
        match &append.event {
            Event::Message(m) => {
                let tu = keys::owned(&m.tenant, m.user_id.as_str());
                let key = keys::event(&m.tenant, m.user_id.as_str(), true, m.message_id.as_str());
                let q = doc! { "_id": key, "tu": tu, "hash": hash, &field: { "$exists": false } };
                events.push(doc! { "q": q, "u": { "$set": { &field: vector } } });
            }
            Event::Item(i) => {
                let ti = keys::owned(&i.tenant, i.item_id.as_str());
                let q = doc! { "_id": &ti, "hash": hash, &field: { "$exists": false } };
                items.push(doc! { "q": q, "u": { "$set": { &field: vector }, "$inc": { "n": 1_i64 } } });
                spread.push(ti);
            }
            Event::Engagement(_) | Event::Erasure(_) => {}
        }
    }
    let added = mongo.update(COLLECTIONS.events, events).await? + mongo.update(COLLECTIONS.items, items).await?;
    if stale {
        stale::mark_fans(mongo, &spread).await?;
    }
    Ok(added)
}

fn touches(change: &ItemChange<'_>) -> bool {
    change.state.is_some() || change.vector.is_some()
}

fn key(batch: &Batch<'_>, item: usize) -> String {
    keys::owned(batch.items[item].0, batch.items[item].1.as_str())
}

/// Writes once; answers the items whose stored version was no longer the one that was seen.
async fn attempt(
    ledger: &MongoLedger,
    batch: &Batch<'_>,
    changed: &[(usize, &ItemChange<'_>)],
    stored: &[Option<Stored>],
    written: &mut Written,
    revision: &str,
) -> StoreResult<Vec<usize>> {
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let mongo = &ledger.mongo;
    let begun = Instant::now();
    let tis: Vec<String> = changed.iter().filter(|(_, c)| c.stale).map(|(i, _)| key(batch, *i)).collect();
    let fresh = |i: usize, c: &ItemChange<'_>| stored[i].is_none() && c.state.is_some();
    let arriving = changed.iter().filter(|(i, c)| fresh(*i, c)).map(|(i, _)| *i);
    // All before the items: from the note on somebody knows what is left to do, should this writer not come that far.
    let note = async { if tis.is_empty() { Ok(None) } else { stale::note(mongo, &tis).await.map(Some) } };
    let (as_of, note, mut arrivals) = futures_util::try_join!(vectors::as_of(ledger), note, arrivals(mongo, batch, arriving))?;
    written.notes.extend(note);
    written.spread.extend(tis);
    // And not so long behind the note that others could take this writer for dead.
    let patience = Duration::from_secs(mongo.config.left_after_s) / 2;
    let in_time = || {
        let late = !patience.is_zero() && begun.elapsed() > patience;
        if late { Err(mongo.error(ErrorKind::Timeout, "writing items took too long")) } else { Ok(()) }
    };
    let (mut new, mut of_new, mut replaced, mut of_replaced) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // In the order of the batch, which is the order of arrival.
    for (i, change) in changed {
        let version = match change.state.map(|a| (a, &a.event)) {
            Some((append, Event::Item(item))) => Some(ItemDoc::new(item, &append.hash, change.vector.as_ref(), revision)),
            _ => None,
        };
        match (stored[*i], version) {
            (None, Some(mut version)) => {
                version.arrival = arrivals.get_mut(batch.items[*i].0).and_then(Iterator::next).unwrap_or(0);
                new.push(version);
                of_new.push(*i);
            }
            (Some(at), version) => {
                replaced.push(statement(mongo, &key(batch, *i), at, version, change, revision)?);
                of_replaced.push(*i);
            }
            (None, None) => {}
        }
    }
    let collection = mongo.write::<ItemDoc>(COLLECTIONS.items).await?;
    in_time()?;
    let duplicates = inserted(mongo, &collection, &new, ItemDoc::size).await?;
    let made = new.into_iter().enumerate().filter(|(at, _)| duplicates.binary_search(at).is_err());
    let made: Vec<ItemDoc> = made.map(|(_, document)| document).collect();
    ledger.vectors.made(as_of, &made, mongo)?;
    written.made.extend(made);
    let mut lost: Vec<usize> = duplicates.into_iter().filter_map(|at| of_new.get(at).copied()).collect();
    in_time()?;
    let number = replaced.len() as u64;
    let done = mongo.update(COLLECTIONS.items, replaced).await?;
    if changed.iter().any(|(i, c)| c.stale && stored[*i].is_some()) {
        vectors::changed(mongo).await?;
    }
    if done < number {
        lost.extend(missed(mongo, batch, changed, stored, &of_replaced).await?);
    }
    Ok(lost)
}

/// The statement that puts a version or a vector in the place of what was seen.
fn statement(
    mongo: &Mongo,
    ti: &str,
    at: Stored,
    version: Option<ItemDoc>,
    change: &ItemChange<'_>,
    revision: &str,
) -> StoreResult<Document> {
    let bson = |value: mongodb::bson::error::Result<Bson>| value.map_err(|e| mongo.error(ErrorKind::Invalid, e));
    let (mut set, mut unset) = (doc! { "n": at.n + 1 }, Document::new());
    if let Some(version) = version {
        let Bson::Document(mut fields) = bson(serialize_to_bson(&ItemDoc { n: at.n + 1, arrival: at.arrival, ..version }))?
        else {
            return Err(mongo.torn("an item"));
        };
        for field in ["_id", "v"] {
            fields.remove(field);
        }
        for field in ["at", "text", "expires"] {
            if !fields.contains_key(field) {
                unset.insert(field, "");
            }
        }
        set.extend(fields);
    }
    let field = revision_field(revision);
    let vector = change.vector.as_ref().map(|v| bson(serialize_to_bson(&vector_doc(revision, v)))).transpose()?;
    match (change.drop_vectors, vector) {
        (true, Some(vector)) => drop(set.insert("v", doc! { field: vector })),
        (true, None) => drop(set.insert("v", Document::new())),
        (false, Some(vector)) => drop(set.insert(format!("v.{field}"), vector)),
        (false, None) => {}
    }
    let mut update = doc! { "$set": set };
    if !unset.is_empty() {
        update.insert("$unset", unset);
    }
    Ok(doc! { "q": { "_id": ti, "n": at.n }, "u": update })
}

/// Which of these items do not hold what was written to them.
async fn missed(
    mongo: &Mongo,
    batch: &Batch<'_>,
    changed: &[(usize, &ItemChange<'_>)],
    stored: &[Option<Stored>],
    written: &[usize],
) -> StoreResult<Vec<usize>> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "_id")]
        ti: String,
        n: i64,
        hash: mongodb::bson::Binary,
    }
    let tis: Vec<String> = written.iter().map(|i| key(batch, *i)).collect();
    let fields = Some(doc! { "n": 1, "hash": 1 });
    let found = load::by_id::<Version>(mongo, COLLECTIONS.items, &tis, fields, |v| &v.ti).await?;
    let mut lost = Vec::new();
    for (i, ti) in written.iter().zip(&tis) {
        let state = changed.iter().find(|(at, _)| at == i).and_then(|(_, c)| c.state);
        let ours = match (found.get(ti), stored[*i]) {
            (Some(now), Some(before)) => {
                let same = state.map_or(Ok(true), |s| hash(mongo, &now.hash).map(|h| h == s.hash))?;
                now.n == before.n + 1 && same
            }
            _ => false,
        };
        if !ours {
            lost.push(*i);
        }
    }
    Ok(lost)
}

/// Takes numbers of arrival for new items, a row of them for each tenant. Numbers that a crash leaves unused are no harm: only
/// their order counts, and it is no fact.
async fn arrivals<'a>(
    mongo: &Mongo,
    batch: &Batch<'a>,
    new: impl Iterator<Item = usize>,
) -> StoreResult<BTreeMap<&'a Tenant, std::ops::RangeInclusive<i64>>> {
    let mut numbers: BTreeMap<&Tenant, i64> = BTreeMap::new();
    new.for_each(|i| *numbers.entry(batch.items[i].0).or_default() += 1);
    let mut rows = BTreeMap::new();
    for (tenant, number) in numbers {
        let last = stale::counted(mongo, COLLECTIONS.tenants, tenant.as_str(), "arrivals", number).await?;
        rows.insert(tenant, last - number + 1..=last);
    }
    Ok(rows)
}
