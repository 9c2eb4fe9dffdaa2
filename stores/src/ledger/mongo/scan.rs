//! Every event there is, in pages in the order of their keys. The token of a page is the key of its last event: it survives restarts
//! of whoever reads, and of the server.

use mongodb::bson::doc;
use nearcast_domain::{
    Engagement, Event, EventId, Message, StoreResult, Tenant, UserId,
    ports::{EngagedEvent, StoredEvent},
};

use super::{
    COLLECTIONS,
    documents::EventDoc,
    keys,
    load::{alive, erasures},
};
use crate::mongo::{Mongo, collect};

/// A page of events.
#[derive(Debug, Clone, PartialEq)]
pub struct MongoPage {
    /// The events.
    pub events: Vec<StoredEvent>,
    /// Where the next page begins; `None` behind the last.
    pub next: Option<String>,
}

pub(super) async fn page(mongo: &Mongo, after: Option<&str>, limit: usize, revision: Option<&str>) -> StoreResult<MongoPage> {
    let limit = limit.clamp(1, 100_000);
    let collection = mongo.read::<EventDoc>(COLLECTIONS.events).await?;
    let filter = after.map_or_else(Default::default, |key| doc! { "_id": { "$gt": key } });
    let mut find = collection.find(filter).sort(doc! { "_id": 1 }).limit(limit as i64);
    if revision.is_none() {
        find = find.projection(doc! { "v": 0 });
    }
    let rows = collect(mongo, mongo.call(find).await?).await?;
    let next = rows.last().filter(|_| rows.len() == limit).map(|r| r.key.clone());
    let mut tus: Vec<String> = rows.iter().map(|r| r.tu.clone()).collect();
    tus.sort_unstable();
    tus.dedup();
    let records = erasures(mongo, &tus).await?;
    let events = rows.iter().filter(|e| alive(e, &records)).map(|e| stored(mongo, e, revision)).collect::<StoreResult<_>>()?;
    Ok(MongoPage { events, next })
}

fn stored(mongo: &Mongo, doc: &EventDoc, revision: Option<&str>) -> StoreResult<StoredEvent> {
    let (tenant, user) = keys::parts(&doc.tu).ok_or_else(|| mongo.torn("an event's key"))?;
    let (tenant, user_id) = (Tenant::trusted(tenant), UserId::trusted(user));
    if let Some(m) = doc.message(mongo, revision)? {
        let message = Message { tenant, message_id: m.id, user_id, text: m.text, item_id: m.item, timestamp: m.timestamp };
        return Ok(StoredEvent { event: Event::Message(message), vector: m.vector });
    }
    let EngagedEvent { item, kind, value, timestamp, .. } = doc.engaged().ok_or_else(|| mongo.torn("an engagement"))?;
    let event_id = EventId::trusted(&*doc.id);
    let event = Event::Engagement(Engagement { tenant, event_id, user_id, item_id: item, kind, value, timestamp });
    Ok(StoredEvent { event, vector: None })
}
