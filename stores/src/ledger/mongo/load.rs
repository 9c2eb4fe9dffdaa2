//! Loads what the ledger knows that bears on a batch. Reads from the primary, and writes nothing.

use std::collections::{BTreeMap, HashMap};

use futures_util::{FutureExt as _, StreamExt as _};
use mongodb::bson::{Document, doc};
use nearcast_domain::{Event, StoreResult, Timestamp, ports::Append};
use serde::Deserialize;

use super::{
    COLLECTIONS,
    documents::{ErasureDoc, EventDoc, ItemDoc, hash, revision_field},
    keys,
    seen::{Looked, Rest},
};
use crate::{
    ledger::plan::{Batch, Erased, KnownEvent, KnownItem, KnownUser},
    mongo::{BATCH, Mongo, collect, ids},
};

/// On FerretDB looking up a key costs about as much as reading so many documents with a vector.
const READ_FOR_A_KEY: usize = 12;
/// About so many keys stand for many, where each is a call of its own. Mostly all of a batch is there, or nothing: what a look misses
/// costs a second insertion.
const SAMPLE: usize = 6;
/// Of fewer keys each is looked at.
const FEW: usize = 64;

/// What is known of a batch's users and items.
pub(super) struct Loaded {
    pub users: Vec<KnownUser>,
    /// By user: whether an erasure is half done.
    pub clearing: Vec<bool>,
    pub items: Vec<Option<KnownItem>>,
    /// By item: what the store itself needs to replace it.
    pub stored: Vec<Option<Stored>>,
}

/// Where a stored item stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    pub n: i64,
    pub arrival: i64,
}

/// The keys of a batch's users.
pub(super) fn user_keys(batch: &Batch<'_>) -> Vec<String> {
    batch.users.iter().map(|(t, u)| keys::owned(t, u.as_str())).collect()
}

/// `looked`: what was read of items a moment ago, which is not read again; what is read here joins it.
pub(super) async fn load(mongo: &Mongo, batch: &Batch<'_>, revision: Option<&str>, looked: &mut Looked) -> StoreResult<Loaded> {
    let (people, (items, stored)) = futures_util::try_join!(users(mongo, batch), items(mongo, batch, revision, looked))?;
    let (users, clearing) = people;
    Ok(Loaded { users, clearing, items, stored })
}

async fn users(mongo: &Mongo, batch: &Batch<'_>) -> StoreResult<(Vec<KnownUser>, Vec<bool>)> {
    let tus = user_keys(batch);
    let mut users = vec![KnownUser::default(); tus.len()];
    let mut clearing = vec![false; tus.len()];
    let records = erasures(mongo, &tus).await?;
    for (place, tu) in tus.iter().enumerate() {
        if let Some(record) = records.get(tu) {
            users[place].erased = Some(erased(record));
            clearing[place] = record.clearing;
        }
    }
    let asked: Vec<usize> = (0..tus.len()).filter(|u| batch.erases[*u]).collect();
    let newest = mongo.together(asked.iter().map(|u| newest(mongo, &tus[*u]).boxed()).collect()).await?;
    for (user, time) in asked.into_iter().zip(newest) {
        users[user].newest = time;
    }
    Ok((users, clearing))
}

pub(super) fn erased(record: &ErasureDoc) -> Erased {
    Erased { until: Timestamp::from_millis(record.until), asked: Timestamp::from_millis(record.asked) }
}

/// The erasures of these users. There are few, so that asking for all at once is quick on every server.
pub(super) async fn erasures(mongo: &Mongo, tus: &[String]) -> StoreResult<HashMap<String, ErasureDoc>> {
    let collection = mongo.read::<ErasureDoc>(COLLECTIONS.erasures).await?;
    let mut found = HashMap::new();
    for part in tus.chunks(1_000) {
        let rows = mongo.call(collection.find(ids(part)).batch_size(BATCH)).await?;
        found.extend(collect(mongo, rows).await?.into_iter().map(|r| (r.tu.clone(), r)));
    }
    Ok(found)
}

/// The time of a user's newest event or conflict.
async fn newest(mongo: &Mongo, tu: &str) -> StoreResult<Option<Timestamp>> {
    #[derive(Deserialize)]
    struct Refused {
        #[serde(default)]
        refused: Option<i64>,
    }
    #[derive(Deserialize)]
    struct At {
        at: i64,
    }
    let events = mongo.read::<At>(COLLECTIONS.events).await?;
    let users = mongo.read::<Refused>(COLLECTIONS.users).await?;
    let last = events.find_one(doc! { "tu": tu }).sort(doc! { "at": -1 }).projection(doc! { "_id": 0, "at": 1 });
    let (last, user) = futures_util::try_join!(mongo.call(last), mongo.call(users.find_one(doc! { "_id": tu })))?;
    Ok(last.map(|e| e.at).into_iter().chain(user.and_then(|u| u.refused)).max().map(Timestamp::from_millis))
}

async fn items(
    mongo: &Mongo,
    batch: &Batch<'_>,
    revision: Option<&str>,
    looked: &mut Looked,
) -> StoreResult<(Vec<Option<KnownItem>>, Vec<Option<Stored>>)> {
    let mut items = vec![None; batch.items.len()];
    let mut stored = vec![None; batch.items.len()];
    let tis: Vec<(usize, String)> = (0..items.len())
        .filter(|i| batch.states[*i])
        .map(|i| (i, keys::owned(batch.items[i].0, batch.items[i].1.as_str())))
        .collect();
    let wanted: Vec<String> = tis.iter().map(|(_, ti)| ti.clone()).filter(|ti| !looked.items.contains_key(ti)).collect();
    look(mongo, wanted, looked).await?;
    for (place, ti) in tis {
        let Some(doc) = looked.items.get(&ti).cloned().flatten() else { continue };
        stored[place] = Some(Stored { n: doc.n, arrival: doc.arrival });
        let (hash, has_any) = (hash(mongo, &doc.hash)?, !doc.v.is_empty());
        let has_vector = revision.is_some_and(|r| doc.v.contains_key(&revision_field(r)));
        let state = doc.state(mongo, None)?.item;
        items[place] = Some(KnownItem { hash, timestamp: state.timestamp, text: state.embedding_text(), has_vector, has_any });
    }
    Ok((items, stored))
}

/// Looks at items; where each is a call of its own, at a few of them first: when none of those is there, the rest is taken to be new too.
async fn look(mongo: &Mongo, mut wanted: Vec<String>, looked: &mut Looked) -> StoreResult<()> {
    if looked.rest == Rest::New || wanted.is_empty() {
        return Ok(());
    }
    let some = if looked.rest == Rest::Sampled { sample(mongo, wanted.len()).await? } else { None };
    if let Some(every) = some {
        let few: Vec<String> = wanted.iter().step_by(every).cloned().collect();
        wanted = wanted.into_iter().enumerate().filter(|(at, _)| at % every != 0).map(|(_, ti)| ti).collect();
        if !look_at(mongo, few, looked).await? {
            looked.rest = Rest::New;
            return Ok(());
        }
    }
    look_at(mongo, wanted, looked).await.map(drop)
}

/// Looks at each of these items; answers whether any is there.
async fn look_at(mongo: &Mongo, wanted: Vec<String>, looked: &mut Looked) -> StoreResult<bool> {
    let mut read = by_id::<ItemDoc>(mongo, COLLECTIONS.items, &wanted, None, |d| &d.ti).await?;
    let any = !read.is_empty();
    looked.items.extend(wanted.into_iter().map(|ti| {
        let document = read.remove(&ti);
        (ti, document)
    }));
    Ok(any)
}

/// Of so many keys, every how many-th is looked at first; `None`: all at once.
pub(super) async fn sample(mongo: &Mongo, keys: usize) -> StoreResult<Option<usize>> {
    Ok((keys >= FEW && mongo.one_by_one().await?).then_some(keys / SAMPLE))
}

/// Goes over a whole collection.
pub(super) async fn every<T>(
    mongo: &Mongo,
    collection: &str,
    projection: Option<Document>,
    mut then: impl FnMut(T) + Send,
) -> StoreResult<()>
where
    T: serde::de::DeserializeOwned + Unpin + Send + Sync,
{
    let rows = mongo.read::<T>(collection).await?;
    let mut find = rows.find(doc! {}).batch_size(BATCH);
    if let Some(fields) = projection {
        find = find.projection(fields);
    }
    let mut all = mongo.call(find).await?;
    while let Some(document) = mongo.call(async { all.next().await.transpose() }).await? {
        then(document);
    }
    Ok(())
}

/// Documents by `_id`, in as few calls as is quick on this server.
pub(super) async fn by_id<T>(
    mongo: &Mongo,
    collection: &str,
    wanted: &[String],
    projection: Option<Document>,
    key: impl Fn(&T) -> &String + Sync,
) -> StoreResult<HashMap<String, T>>
where
    T: serde::de::DeserializeOwned + Unpin + Send + Sync,
{
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = mongo.read::<T>(collection).await?;
    if mongo.whole_costs_less(collection, wanted.len(), READ_FOR_A_KEY).await? {
        let mut found = HashMap::new();
        every(mongo, collection, projection, |document: T| {
            if wanted.binary_search(key(&document)).is_ok() {
                found.insert(key(&document).clone(), document);
            }
        })
        .await?;
        return Ok(found);
    }
    let (rows, projection) = (&rows, &projection);
    let at_once = if mongo.one_by_one().await? { 1 } else { 1_000 };
    let look = |part: Vec<String>| async move {
        let mut find = rows.find(ids(&part)).batch_size(BATCH);
        if let Some(fields) = projection {
            find = find.projection(fields.clone());
        }
        let found = mongo.call(find).await?;
        collect(mongo, found).await
    };
    let found = mongo.together(wanted.chunks(at_once).map(|part| look(part.to_vec()).boxed()).collect()).await?;
    Ok(found.into_iter().flatten().map(|d| (key(&d).clone(), d)).collect())
}

/// An event that is there already.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Present {
    #[serde(rename = "_id")]
    pub key: String,
    pub at: i64,
    pub hash: mongodb::bson::Binary,
}

/// Those of the events at these places of a batch that are there already, by key. The events of a user are asked for together.
pub(super) async fn present(mongo: &Mongo, batch: &Batch<'_>, places: &[usize]) -> StoreResult<HashMap<String, Present>> {
    let mut by_user: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for place in places {
        let append = &batch.appends[*place];
        if let (Some(user), Some(key)) = (append.event.user(), event_key(append)) {
            by_user.entry(keys::owned(append.event.tenant(), user.as_str())).or_default().push(key);
        }
    }
    if by_user.is_empty() {
        return Ok(HashMap::new());
    }
    let events = mongo.read::<Present>(COLLECTIONS.events).await?;
    let events = &events;
    let groups: Vec<(String, Vec<String>)> = by_user.into_iter().collect();
    let at_once = mongo.keys_at_once(groups.len()).await?;
    let look = |part: Vec<(String, Vec<String>)>| async move {
        let filter = match part.as_slice() {
            [(tu, keys)] => doc! { "tu": tu, "_id": { "$in": keys } },
            many => {
                let tus: Vec<&String> = many.iter().map(|(tu, _)| tu).collect();
                let keys: Vec<&String> = many.iter().flat_map(|(_, keys)| keys).collect();
                doc! { "tu": { "$in": tus }, "_id": { "$in": keys } }
            }
        };
        let found = mongo.call(events.find(filter).projection(doc! { "at": 1, "hash": 1 }).batch_size(BATCH)).await?;
        collect(mongo, found).await
    };
    let found = mongo.together(groups.chunks(at_once).map(|part| look(part.to_vec()).boxed()).collect()).await?;
    Ok(found.into_iter().flatten().map(|d| (d.key.clone(), d)).collect())
}

/// Those of a batch's events that are there already; where a look at each user is a call of its own and nothing of a few users is there,
/// nothing of the others is taken to be.
pub(super) async fn likely_present(mongo: &Mongo, batch: &Batch<'_>) -> StoreResult<HashMap<String, Present>> {
    let all: Vec<usize> = (0..batch.appends.len()).collect();
    let Some(every) = sample(mongo, batch.users.len()).await? else { return present(mongo, batch, &all).await };
    let (few, rest): (Vec<usize>, Vec<usize>) = all.into_iter().partition(|at| batch.slots[*at].0.is_multiple_of(every));
    let mut found = present(mongo, batch, &few).await?;
    if !found.is_empty() {
        found.extend(present(mongo, batch, &rest).await?);
    }
    Ok(found)
}

/// The `_id` of a message or an engagement.
pub(super) fn event_key(append: &Append) -> Option<String> {
    match &append.event {
        Event::Message(m) => Some(keys::event(&m.tenant, m.user_id.as_str(), true, m.message_id.as_str())),
        Event::Engagement(e) => Some(keys::event(&e.tenant, e.user_id.as_str(), false, e.event_id.as_str())),
        _ => None,
    }
}

/// The events at these places as the plan knows them. What lies before an erasure is on its way out, and not known.
pub(super) fn known_events<'a>(
    mongo: &Mongo,
    batch: &Batch<'a>,
    users: &[KnownUser],
    present: &HashMap<String, Present>,
) -> StoreResult<HashMap<(usize, bool, &'a str), KnownEvent>> {
    let mut events = HashMap::new();
    if present.is_empty() {
        return Ok(events);
    }
    for (place, (append, (user, _))) in batch.appends.iter().zip(&batch.slots).enumerate() {
        let Some(found) = event_key(append).and_then(|key| present.get(&key)) else { continue };
        if users[*user].erased.is_some_and(|e| found.at <= e.until.millis()) {
            continue;
        }
        let (is_message, id) = match &append.event {
            Event::Message(m) => (true, m.message_id.as_str()),
            Event::Engagement(e) => (false, e.event_id.as_str()),
            _ => continue,
        };
        // The store's own key of an event is its place in the batch: its `_id` follows from that.
        let message = i64::try_from(place).unwrap_or(i64::MAX);
        events.entry((*user, is_message, id)).or_insert(KnownEvent { hash: hash(mongo, &found.hash)?, message });
    }
    Ok(events)
}

/// Whether an event is to be seen, where its user may have been erased.
pub(super) fn alive(event: &EventDoc, records: &HashMap<String, ErasureDoc>) -> bool {
    records.get(&event.tu).is_none_or(|r| event.at > r.until)
}
