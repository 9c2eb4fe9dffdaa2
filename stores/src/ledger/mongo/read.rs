//! What serving and the worker read. Every filter names the users or items that it asks for; the calls of one question run together,
//! a bounded number at a time.

use std::collections::HashMap;

use futures_util::FutureExt as _;
use mongodb::bson::{Document, doc, serialize_to_bson};
use nearcast_domain::{
    ErrorKind, ItemId, StoreResult, Tenant, UserId,
    ports::{EngagedEvent, History, HistoryLimit, ItemState, MessageEvent, PairEvents},
};
use serde::Deserialize;

use super::{
    COLLECTIONS, MongoLedger,
    documents::{ENGAGEMENT, ErasureDoc, EventDoc, ItemDoc, KeyDoc, MESSAGE, MESSAGE_ABOUT, Text},
    keys,
    load::{alive, by_id, erasures},
};
use crate::{
    ledger::prefix::behind,
    mongo::{BATCH, Mongo, collect},
};

pub(super) async fn histories(
    mongo: &Mongo,
    tenant: &Tenant,
    users: &[UserId],
    limit: HistoryLimit,
    revision: Option<&str>,
) -> StoreResult<Vec<History>> {
    let tus: Vec<String> = users.iter().map(|u| keys::owned(tenant, u.as_str())).collect();
    let events = mongo.read::<EventDoc>(COLLECTIONS.events).await?;
    let events = &events;
    // An engagement and a message may share time and id: one more than wanted is read, and cut off in their full order.
    let newest = |tu: String, kinds: [&'static str; 2], limit: usize, without: Document| async move {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut find =
            events.find(doc! { "tu": tu, "k": { "$in": kinds.to_vec() } }).sort(doc! { "at": -1, "id": -1 }).batch_size(BATCH);
        if let Some(limit) = limit.checked_add(1).and_then(|l| i64::try_from(l).ok()) {
            find = find.limit(limit);
        }
        let find = if without.is_empty() { find } else { find.projection(without) };
        collect(mongo, mongo.call(find).await?).await
    };
    let without_vectors = if revision.is_none() {
        doc! { "v": 0 }
    } else {
        Document::new()
    };
    // Where an index finds a user's events and not the newest of them, one look costs as much as either.
    let whole = mongo.one_by_one().await? && limit.engagements > 0 && limit.messages > 0;
    let without = &without_vectors;
    let of_user = |tu: &String| {
        let tu = tu.clone();
        async move {
            if whole {
                let mut find = events.find(doc! { "tu": tu }).batch_size(BATCH);
                if !without.is_empty() {
                    find = find.projection(without.clone());
                }
                return Ok(split(collect(mongo, mongo.call(find).await?).await?, limit));
            }
            let engaged = newest(tu.clone(), [ENGAGEMENT, MESSAGE_ABOUT], limit.engagements, doc! { "text": 0, "v": 0 });
            let wrote = newest(tu, [MESSAGE, MESSAGE_ABOUT], limit.messages, without.clone());
            futures_util::try_join!(engaged, wrote)
        }
        .boxed()
    };
    let (records, found) = futures_util::try_join!(erasures(mongo, &tus), mongo.together(tus.iter().map(of_user).collect()))?;
    let mut histories = Vec::with_capacity(users.len());
    for (engaged, wrote) in found {
        let mut history = History::default();
        let engaged = engaged.iter().filter(|e| alive(e, &records));
        history.engagements =
            engaged.map(|e| e.engaged().ok_or_else(|| mongo.torn("an engagement"))).collect::<StoreResult<_>>()?;
        for event in wrote.iter().filter(|e| alive(e, &records)) {
            history.messages.push(event.message(mongo, revision)?.ok_or_else(|| mongo.torn("a message"))?);
        }
        history.engagements.sort_by(EngagedEvent::newest_first);
        history.engagements.truncate(limit.engagements);
        history.messages.sort_by(MessageEvent::newest_first);
        history.messages.truncate(limit.messages);
        histories.push(history);
    }
    Ok(histories)
}

/// The newest of all of a user's events: those about items, and messages; one more of each than is wanted.
fn split(mut events: Vec<EventDoc>, limit: HistoryLimit) -> (Vec<EventDoc>, Vec<EventDoc>) {
    events.sort_unstable_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
    let wrote = events.iter().filter(|e| e.is_message()).take(limit.messages.saturating_add(1)).cloned().collect();
    events.retain(|e| e.k != MESSAGE);
    events.truncate(limit.engagements.saturating_add(1));
    (events, wrote)
}

pub(super) async fn items(
    ledger: &MongoLedger,
    tenant: &Tenant,
    items: &[ItemId],
    revision: Option<&str>,
) -> StoreResult<Vec<Option<ItemState>>> {
    let tis: Vec<String> = items.iter().map(|i| keys::owned(tenant, i.as_str())).collect();
    let mongo = &ledger.mongo;
    let fresh: HashMap<&String, ItemDoc> = tis.iter().filter_map(|ti| Some((ti, ledger.seen.written(ti)?))).collect();
    let wanted: Vec<String> = tis.iter().filter(|ti| !fresh.contains_key(ti)).cloned().collect();
    let mut found = by_id::<ItemDoc>(mongo, COLLECTIONS.items, &wanted, without_vectors(revision), |d| &d.ti).await?;
    found.extend(fresh.into_iter().map(|(ti, document)| (ti.clone(), document)));
    tis.iter().map(|ti| found.get(ti).cloned().map(|d| d.state(mongo, revision)).transpose()).collect()
}

fn without_vectors(revision: Option<&str>) -> Option<Document> {
    revision.is_none().then(|| doc! { "v": 0 })
}

pub(super) async fn engaged(mongo: &Mongo, tenant: &Tenant, user: &UserId, items: &[ItemId]) -> StoreResult<Vec<bool>> {
    #[derive(Deserialize)]
    struct Touch {
        ti: String,
        at: i64,
    }
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let tu = [keys::owned(tenant, user.as_str())];
    let mut tis: Vec<String> = items.iter().map(|i| keys::owned(tenant, i.as_str())).collect();
    let events = mongo.read::<Touch>(COLLECTIONS.events).await?;
    let of_all = async {
        let mut touched = std::collections::HashMap::<String, i64>::new();
        for part in tis.chunks(1_000) {
            let filter = doc! { "tu": &tu[0], "ti": { "$in": part } };
            let rows =
                mongo.call(events.find(filter).projection(doc! { "_id": 0, "ti": 1, "at": 1 }).batch_size(BATCH)).await?;
            for row in collect(mongo, rows).await? {
                let last = touched.entry(row.ti).or_insert(row.at);
                *last = row.at.max(*last);
            }
        }
        Ok(touched)
    };
    let (records, touched) = futures_util::try_join!(erasures(mongo, &tu), of_all)?;
    let until = records.get(&tu[0]).map_or(i64::MIN, |r| r.until);
    Ok(tis.drain(..).map(|ti| touched.get(&ti).is_some_and(|at| *at > until)).collect())
}

pub(super) async fn pairs(mongo: &Mongo, tenant: &Tenant, pairs: &[(UserId, ItemId)]) -> StoreResult<Vec<PairEvents>> {
    let mut found: Vec<PairEvents> =
        pairs.iter().map(|(user, item)| PairEvents { user: user.clone(), item: item.clone(), events: Vec::new() }).collect();
    if pairs.is_empty() {
        return Ok(found);
    }
    // By user, so that each user's events are one call.
    let mut by_user: HashMap<String, Vec<String>> = HashMap::new();
    let mut places: HashMap<(String, String), Vec<usize>> = HashMap::new();
    for (place, (user, item)) in pairs.iter().enumerate() {
        let (tu, ti) = (keys::owned(tenant, user.as_str()), keys::owned(tenant, item.as_str()));
        by_user.entry(tu.clone()).or_default().push(ti.clone());
        places.entry((tu, ti)).or_default().push(place);
    }
    let mut groups: Vec<(String, Vec<String>)> = by_user.into_iter().collect();
    groups.sort_unstable();
    let tus: Vec<String> = groups.iter().map(|(tu, _)| tu.clone()).collect();
    let (records, events) = futures_util::try_join!(erasures(mongo, &tus), of_pairs(mongo, &groups))?;
    for event in events.iter().filter(|e| alive(e, &records)) {
        let Some(ti) = event.ti.clone() else { continue };
        let Some(at) = places.get(&(event.tu.clone(), ti)) else { continue };
        for place in at {
            found[*place].events.push(event.engaged().ok_or_else(|| mongo.torn("an engagement"))?);
        }
    }
    for pair in &mut found {
        pair.events.sort_by(|a, b| EngagedEvent::newest_first(b, a));
    }
    Ok(found)
}

/// Everything that these users did with these items. Where users are asked for together, what one did with another's items comes
/// along.
async fn of_pairs(mongo: &Mongo, groups: &[(String, Vec<String>)]) -> StoreResult<Vec<EventDoc>> {
    let events = mongo.read::<EventDoc>(COLLECTIONS.events).await?;
    let events = &events;
    // On an index, one user at a time is right; where everything is read anyway, all at once.
    let together = mongo.reads_everything(groups.len()).await?;
    let look = |part: Vec<(String, Vec<String>)>| async move {
        let filter = match part.as_slice() {
            [(tu, tis)] => doc! { "tu": tu, "ti": { "$in": tis } },
            many => {
                let tus: Vec<&String> = many.iter().map(|(tu, _)| tu).collect();
                let mut tis: Vec<&String> = many.iter().flat_map(|(_, tis)| tis).collect();
                tis.sort_unstable();
                tis.dedup();
                doc! { "tu": { "$in": tus }, "ti": { "$in": tis } }
            }
        };
        let rows = mongo.call(events.find(filter).projection(doc! { "text": 0, "v": 0 }).batch_size(BATCH)).await?;
        collect(mongo, rows).await
    };
    let at_once = if together { 1_000 } else { 1 };
    let calls = groups.chunks(at_once).map(|part| look(part.to_vec()).boxed()).collect();
    Ok(mongo.together(calls).await?.into_iter().flatten().collect())
}

pub(super) async fn newest_items(
    mongo: &Mongo,
    tenant: &Tenant,
    category: Option<&str>,
    limit: usize,
) -> StoreResult<Vec<ItemState>> {
    let mut filter = doc! { "t": tenant.as_str(), "hidden": false };
    if let Some(category) = category {
        let category = serialize_to_bson(&Text(category.into())).map_err(|e| mongo.error(ErrorKind::Invalid, e))?;
        filter.insert("categories", category);
    }
    let items = mongo.read::<ItemDoc>(COLLECTIONS.items).await?;
    let Some(limit) = bounded(limit) else { return Ok(Vec::new()) };
    let find = items.find(filter).sort(doc! { "arrival": -1, "_id": 1 }).limit(limit).projection(doc! { "v": 0 });
    states(mongo, collect(mongo, mongo.call(find).await?).await?, None)
}

pub(super) async fn users(
    mongo: &Mongo,
    tenant: &Tenant,
    prefix: &str,
    after: Option<&UserId>,
    limit: usize,
) -> StoreResult<Vec<UserId>> {
    let Some(limit) = bounded(limit) else { return Ok(Vec::new()) };
    let begin = keys::owned(tenant, prefix);
    let mut range = doc! { "$gte": &begin };
    if let Some(end) = behind(&begin) {
        range.insert("$lt", end);
    }
    if let Some(after) = after {
        range.insert("$gt", keys::owned(tenant, after.as_str()));
    }
    let users = mongo.read::<KeyDoc>(COLLECTIONS.users).await?;
    let find = users.find(doc! { "_id": range }).sort(doc! { "_id": 1 }).limit(limit).projection(doc! { "_id": 1 });
    let rows = collect(mongo, mongo.call(find).await?).await?;
    let name = |row: &KeyDoc| keys::parts(&row.key).map(|(_, user)| UserId::trusted(user)).ok_or_else(|| mongo.torn("a user"));
    rows.iter().map(name).collect()
}

pub(super) async fn catalogue(
    mongo: &Mongo,
    tenant: &Tenant,
    after: Option<&ItemId>,
    limit: usize,
    revision: Option<&str>,
) -> StoreResult<Vec<ItemState>> {
    let Some(limit) = bounded(limit) else { return Ok(Vec::new()) };
    let begin = keys::owned(tenant, "");
    let mut range = doc! { "$gt": after.map_or(begin.clone(), |a| keys::owned(tenant, a.as_str())) };
    if let Some(end) = behind(&begin) {
        range.insert("$lt", end);
    }
    let items = mongo.read::<ItemDoc>(COLLECTIONS.items).await?;
    let mut find = items.find(doc! { "_id": range }).sort(doc! { "_id": 1 }).limit(limit);
    if let Some(fields) = without_vectors(revision) {
        find = find.projection(fields);
    }
    states(mongo, collect(mongo, mongo.call(find).await?).await?, revision)
}

fn states(mongo: &Mongo, rows: Vec<ItemDoc>, revision: Option<&str>) -> StoreResult<Vec<ItemState>> {
    rows.into_iter().map(|d| d.state(mongo, revision)).collect()
}

/// A limit as servers take it; to them, 0 means none.
fn bounded(limit: usize) -> Option<i64> {
    (limit > 0).then(|| i64::try_from(limit).unwrap_or(i64::MAX))
}

/// Whether an event is to be seen, by what is known of everyone's erasures.
pub(super) fn until(records: &HashMap<String, ErasureDoc>, tu: &str) -> i64 {
    records.get(tu).map_or(i64::MIN, |r| r.until)
}
