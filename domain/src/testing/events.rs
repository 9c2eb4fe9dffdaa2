//! Events for tests, short to write: times are in seconds, ids are texts.

use std::sync::Arc;

use crate::{
    Engagement, Erasure, Event, EventId, Item, ItemId, Message, Tenant, Timestamp, UserId, Vector, ports::Append, profile::unit,
};

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

pub fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).unwrap()
}

pub fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

pub fn users(ids: &[&str]) -> Vec<UserId> {
    ids.iter().map(|id| user(id)).collect()
}

pub fn item(id: &str) -> ItemId {
    ItemId::parse(id).unwrap()
}

pub fn items(ids: &[&str]) -> Vec<ItemId> {
    ids.iter().map(|id| item(id)).collect()
}

/// A unit vector that differs with its seed.
pub fn vector(seed: u64) -> Vector {
    let mut rng = fastrand::Rng::with_seed(seed);
    unit(&(0..8).map(|_| rng.f64() - 0.5).collect::<Vec<_>>()).unwrap()
}

pub fn append(event: Event) -> Append {
    Append { hash: event.content_hash(), event, vector: None }
}

/// With the vector of a seed.
pub fn with_vector(mut append: Append, seed: u64) -> Append {
    append.vector = Some(vector(seed));
    append
}

/// Makes the events of one tenant.
#[derive(Clone)]
pub struct Maker(pub Tenant);

impl Maker {
    pub fn new(name: &str) -> Self {
        Self(tenant(name))
    }

    pub fn engagement(&self, id: &str, who: &str, what: &str, kind: &str, value: f64, seconds: i64) -> Append {
        append(Event::Engagement(Engagement {
            tenant: self.0.clone(),
            event_id: EventId::parse(id).unwrap(),
            user_id: user(who),
            item_id: item(what),
            kind: kind.into(),
            value,
            timestamp: at(seconds),
        }))
    }

    pub fn view(&self, id: &str, who: &str, what: &str, seconds: i64) -> Append {
        self.engagement(id, who, what, "view", 1.0, seconds)
    }

    pub fn message(&self, id: &str, who: &str, text: &str, about: Option<&str>, seconds: i64) -> Append {
        append(Event::Message(Message {
            tenant: self.0.clone(),
            message_id: EventId::parse(id).unwrap(),
            user_id: user(who),
            text: text.into(),
            item_id: about.map(item),
            timestamp: at(seconds),
        }))
    }

    pub fn item(&self, id: &str, text: Option<&str>, categories: &[&str], change: impl FnOnce(&mut Item)) -> Append {
        let mut state = Item {
            tenant: self.0.clone(),
            item_id: item(id),
            text: text.map(Arc::from),
            categories: categories.iter().map(|c| Arc::from(*c)).collect(),
            expires_at: None,
            hidden: false,
            attributes: serde_json::Map::new(),
            timestamp: None,
        };
        change(&mut state);
        append(Event::Item(state))
    }

    pub fn erasure(&self, who: &str, seconds: i64) -> Append {
        append(Event::Erasure(Erasure { tenant: self.0.clone(), user_id: user(who), timestamp: at(seconds) }))
    }
}
