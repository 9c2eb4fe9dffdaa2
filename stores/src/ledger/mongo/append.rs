//! Taking in a batch without transactions: the order of the writes makes every point safe to stop at.
//!
//! 1. An erasure's record, then the removal of what it covers, then the end of the record's `clearing`: a repeated batch finds the
//!    record and finishes. Readers leave out what a record covers, also what a writer that was cut off puts there later.
//! 2. The users of new events, so that nobody of whom there is an event is missing among them.
//! 3. Events, as new as far as the batch alone can tell: those that are there already come back as duplicates of their `_id` and
//!    are compared then. Beside them a note of the items whose new vectors are to be spread, then the items.
//! 4. Vectors that came late, and the times of conflicts.
//! 5. Behind both, the marks of whoever engaged with the items, then the end of the note ([`super::stale`]).
//!
//! Every write states a fact by its key, so that the same batch again, whole or in part, ends in the same documents.

use std::collections::HashMap;

use mongodb::bson::{Bson, doc, serialize_to_bson};
use nearcast_domain::{
    StoreError, StoreResult, Tenant, UserId,
    ports::{Append, Appended},
};

use super::{
    COLLECTIONS, MongoLedger,
    documents::{EventDoc, KeyDoc, revision_field, vector_doc},
    items, keys,
    load::{self, Loaded, Present, event_key, user_keys},
    seen::Looked,
};
use crate::{
    ledger::plan::{Batch, Erased, Known, Plan, plan},
    mongo::{Mongo, inserted},
};

/// What would become of a batch.
pub(super) async fn foresee(ledger: &MongoLedger, appends: &[Append]) -> StoreResult<Vec<Appended>> {
    let mongo = &ledger.mongo;
    let batch = Batch::new(appends);
    let mut looked = Looked::default();
    let (loaded, present) =
        futures_util::try_join!(load::load(mongo, &batch, None, &mut looked), load::likely_present(mongo, &batch))?;
    // Whoever asks what would become of a batch is about to append it.
    ledger.seen.look(looked);
    let events = load::known_events(mongo, &batch, &loaded.users, &present)?;
    Ok(plan(&batch, Known { users: loaded.users, items: loaded.items, events }).outcomes)
}

/// Takes a batch in.
pub(super) async fn take_in(ledger: &MongoLedger, appends: &[Append], revision: &str) -> StoreResult<Vec<Appended>> {
    if appends.is_empty() {
        return Ok(Vec::new());
    }
    let mongo = &ledger.mongo;
    let batch = Batch::new(appends);
    let tus = user_keys(&batch);
    let mut loaded = load::load(mongo, &batch, Some(revision), &mut ledger.seen.looked()).await?;
    finish_clearing(mongo, &tus, &mut loaded).await?;
    // Of those whom the batch erases, what is there must be known before it goes.
    let erases = |place: &usize| batch.erases.get(batch.slots[*place].0).copied().unwrap_or(false);
    let doomed: Vec<usize> = (0..appends.len()).filter(erases).collect();
    let mut present = load::present(mongo, &batch, &doomed).await?;
    let planned = |present: &HashMap<String, Present>| {
        let events = load::known_events(mongo, &batch, &loaded.users, present)?;
        Ok::<_, StoreError>(plan(&batch, Known { users: loaded.users.clone(), items: loaded.items.clone(), events }))
    };
    let first = planned(&present)?;
    tenants(ledger, &batch).await?;
    erase(mongo, &tus, &first.erased).await?;
    // What becomes of items does not depend on events.
    let (duplicates, written) = futures_util::try_join!(
        async {
            users(ledger, &batch, &tus, &loaded, &first, &present).await?;
            events(mongo, &batch, &loaded, &first, revision).await
        },
        items::write(ledger, &batch, &loaded, &first.items, revision)
    )?;
    let mut plan = if duplicates.is_empty() {
        first
    } else {
        present.extend(duplicates);
        planned(&present)?
    };
    futures_util::try_join!(late_vectors(mongo, &batch, &plan, revision), refuse(mongo, &tus, &plan))?;
    let mut outcomes = std::mem::take(&mut plan.outcomes);
    items::finish(ledger, &batch, written, &mut outcomes, revision).await?;
    Ok(outcomes)
}

/// Finishes erasures that a crash has left half done.
async fn finish_clearing(mongo: &Mongo, tus: &[String], loaded: &mut Loaded) -> StoreResult<()> {
    let left = loaded.clearing.iter().zip(&loaded.users).zip(tus).filter(|((clearing, _), _)| **clearing);
    let left: Vec<(&String, Erased)> = left.filter_map(|((_, user), tu)| Some((tu, user.erased?))).collect();
    clear(mongo, &left).await
}

/// Removes what erasures cover. What came after them stays.
pub(super) async fn clear(mongo: &Mongo, erased: &[(&String, Erased)]) -> StoreResult<()> {
    if erased.is_empty() {
        return Ok(());
    }
    let covered = |(tu, e): &(&String, Erased)| doc! { "tu": tu, "at": { "$lte": e.until.millis() } };
    mongo.delete(COLLECTIONS.events, erased.iter().map(covered).collect()).await?;
    let by_key = || erased.iter().map(|(tu, _)| doc! { "_id": tu }).collect::<Vec<_>>();
    mongo.delete(COLLECTIONS.users, by_key()).await?;
    mongo.delete(COLLECTIONS.stale, erased.iter().map(|(tu, _)| doc! { "tu": tu }).collect()).await?;
    let done = |(tu, e): &(&String, Erased)| {
        doc! { "q": { "_id": tu, "asked": e.asked.millis() }, "u": { "$set": { "clearing": false } } }
    };
    mongo.update(COLLECTIONS.erasures, erased.iter().map(done).collect()).await?;
    Ok(())
}

/// Writes the records of new erasures, then removes what they cover.
async fn erase(mongo: &Mongo, tus: &[String], erased: &[Option<Erased>]) -> StoreResult<()> {
    let new: Vec<(&String, Erased)> = tus.iter().zip(erased).filter_map(|(tu, e)| Some((tu, (*e)?))).collect();
    let record = |(tu, e): &(&String, Erased)| {
        let fields = doc! { "until": e.until.millis(), "asked": e.asked.millis(), "clearing": true };
        doc! { "q": { "_id": tu }, "u": { "$set": fields }, "upsert": true }
    };
    mongo.update(COLLECTIONS.erasures, new.iter().map(record).collect()).await?;
    clear(mongo, &new).await
}

/// Inserts the events that the batch alone would have as new; answers those of the batch that were there already.
async fn events(
    mongo: &Mongo,
    batch: &Batch<'_>,
    loaded: &Loaded,
    first: &Plan<'_>,
    revision: &str,
) -> StoreResult<HashMap<String, Present>> {
    let documents = |places: &[usize]| -> Vec<EventDoc> {
        let new = places.iter().filter_map(|at| {
            let (index, vector) = &first.events[*at];
            EventDoc::new(&batch.appends[*index], vector.as_ref(), revision)
        });
        new.collect()
    };
    let all: Vec<usize> = (0..first.events.len()).collect();
    let collection = mongo.write::<EventDoc>(COLLECTIONS.events).await?;
    let duplicates = inserted(mongo, &collection, &documents(&all), EventDoc::size).await?;
    if duplicates.is_empty() {
        return Ok(HashMap::new());
    }
    let places: Vec<usize> = duplicates.iter().map(|at| first.events[*at].0).collect();
    let mut present = load::present(mongo, batch, &places).await?;
    // What an erased life left under the same key, put there by a writer that was cut off, makes room.
    let (mut gone, mut again) = (Vec::new(), Vec::new());
    for at in duplicates {
        let index = first.events[at].0;
        let (user, _) = batch.slots[index];
        let Some(key) = event_key(&batch.appends[index]) else { continue };
        let until = first.erased[user].or(loaded.users[user].erased).map(|e| e.until.millis());
        match (present.get(&key), until) {
            (Some(found), Some(until)) if found.at <= until => {
                let tu = EventDoc::new(&batch.appends[index], None, revision).map(|d| d.tu);
                gone.push(doc! { "_id": &key, "tu": tu, "at": { "$lte": until } });
                present.remove(&key);
                again.push(at);
            }
            // It went between the insertion and the look.
            (None, _) => again.push(at),
            _ => {}
        }
    }
    if !again.is_empty() {
        mongo.delete(COLLECTIONS.events, gone).await?;
        inserted(mongo, &collection, &documents(&again), EventDoc::size).await?;
    }
    Ok(present)
}

/// Makes the tenants of a batch known.
async fn tenants(ledger: &MongoLedger, batch: &Batch<'_>) -> StoreResult<()> {
    let all = batch.users.iter().map(|(t, _)| *t).chain(batch.items.iter().map(|(t, _)| *t));
    let mut new: Vec<&Tenant> = all.filter(|t| !ledger.seen.has_tenant(t)).collect();
    new.sort();
    new.dedup();
    if new.is_empty() {
        return Ok(());
    }
    let collection = ledger.mongo.write::<KeyDoc>(COLLECTIONS.tenants).await?;
    let documents: Vec<KeyDoc> = new.iter().map(|t| KeyDoc { key: t.as_str().to_owned() }).collect();
    inserted(&ledger.mongo, &collection, &documents, |d| d.key.len() + 32).await?;
    new.into_iter().for_each(|t| ledger.seen.tenant(t));
    Ok(())
}

/// Makes the users of new events known, save those of whom this process knows that they are: since their last erasure.
async fn users(
    ledger: &MongoLedger,
    batch: &Batch<'_>,
    tus: &[String],
    loaded: &Loaded,
    first: &Plan<'_>,
    present: &HashMap<String, Present>,
) -> StoreResult<()> {
    let mut needed = vec![false; tus.len()];
    first.events.iter().for_each(|(index, _)| needed[batch.slots[*index].0] = true);
    let erased = |user: usize| first.erased[user].or(loaded.users[user].erased);
    // Events that are there already and stay: a crash may have come between them and their user.
    if !present.is_empty() {
        for (append, (user, _)) in batch.appends.iter().zip(&batch.slots) {
            let stays = |found: &Present| erased(*user).is_none_or(|e| found.at > e.until.millis());
            if event_key(append).and_then(|key| present.get(&key)).is_some_and(stays) {
                needed[*user] = true;
            }
        }
    }
    let life = |user: usize| erased(user).map(|e| e.asked.millis());
    let new: Vec<usize> = (0..tus.len()).filter(|u| needed[*u] && !ledger.seen.has_user(&tus[*u], life(*u))).collect();
    write_users(&ledger.mongo, new.iter().map(|u| tus[*u].clone())).await?;
    new.into_iter().for_each(|u| ledger.seen.user(&tus[u], life(u)));
    Ok(())
}

/// Writes users down; answers the places of those who were there already.
async fn write_users(mongo: &Mongo, tus: impl Iterator<Item = String>) -> StoreResult<Vec<usize>> {
    let documents: Vec<KeyDoc> = tus.map(|key| KeyDoc { key }).collect();
    let collection = mongo.write::<KeyDoc>(COLLECTIONS.users).await?;
    inserted(mongo, &collection, &documents, |d| d.key.len() + 32).await
}

/// Writes users down before their first events; answers of each whether nothing is there of them: whoever was there already, or was
/// erased once, may have more. All of them are one command, where a look at each would be one of its own.
pub(super) async fn introduce(ledger: &MongoLedger, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<bool>> {
    let tus: Vec<String> = users.iter().map(|u| keys::owned(tenant, u.as_str())).collect();
    let erased = load::erasures(&ledger.mongo, &tus).await?;
    let mut new: Vec<bool> = tus.iter().map(|tu| !erased.contains_key(tu)).collect();
    let places: Vec<usize> = (0..tus.len()).filter(|at| new[*at]).collect();
    let known = write_users(&ledger.mongo, places.iter().map(|at| tus[*at].clone())).await?;
    places.iter().for_each(|at| ledger.seen.user(&tus[*at], None));
    known.into_iter().for_each(|at| new[places[at]] = false);
    Ok(new)
}

/// Gives messages that were there without a vector theirs; the first stays.
async fn late_vectors(mongo: &Mongo, batch: &Batch<'_>, plan: &Plan<'_>, revision: &str) -> StoreResult<()> {
    let field = format!("v.{}", revision_field(revision));
    let mut statements = Vec::with_capacity(plan.late_vectors.len());
    for (place, vector) in &plan.late_vectors {
        let Some(append) = usize::try_from(*place).ok().and_then(|p| batch.appends.get(p)) else { continue };
        let Some(event) = EventDoc::new(append, None, revision) else { continue };
        let vector = serialize_to_bson(&vector_doc(revision, vector)).unwrap_or(Bson::Null);
        statements.push(doc! {
            "q": { "_id": event.key, "tu": event.tu, &field: { "$exists": false } },
            "u": { "$set": { &field: vector } },
        });
    }
    mongo.update(COLLECTIONS.events, statements).await?;
    Ok(())
}

/// Notes the newest conflict of each user.
async fn refuse(mongo: &Mongo, tus: &[String], plan: &Plan<'_>) -> StoreResult<()> {
    let noted = tus.iter().zip(&plan.refused).filter_map(|(tu, time)| {
        let time = (*time)?.millis();
        Some(doc! { "q": { "_id": tu }, "u": { "$max": { "refused": time } }, "upsert": true })
    });
    mongo.update(COLLECTIONS.users, noted.collect()).await?;
    Ok(())
}
