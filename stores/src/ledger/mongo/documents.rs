//! The documents of each collection, and how they become what the port hands out.
//!
//! | collection | `_id` | shard key | holds |
//! |---|---|---|---|
//! | `events` | tenant, user, kind, id | `tu` | a message or an engagement, a message's vectors with it |
//! | `users` | `tu` | `_id` | that somebody has events, and the time of their newest conflict |
//! | `erasures` | `tu` | `_id` | that somebody was erased, and whether their events are still being removed |
//! | `items` | `ti` | `_id` | the newest version of an item, its vectors with it |
//! | `stale` | mark, `tu` | `tu` | whose profile may be out of date |
//! | `due` | a write | none needed | items whose people are still to be marked |
//! | `tenants` | tenant | none needed | who there is, and how many items have arrived |
//! | `counters` | name | none needed | the last mark; the newest change of an item's vector |
//!
//! `tu` and `ti` are tenant and user, tenant and item ([`super::keys`]). Names are short because they stand in every document.

use std::{collections::BTreeMap, sync::Arc};

use mongodb::bson::{Binary, Bson, spec::BinarySubtype};
use nearcast_domain::{
    Event, EventId, Item, ItemId, StoreResult, Tenant, Timestamp, Vector,
    digest::vector_bytes,
    event::{ContentHash, hex},
    ports::{Append, EngagedEvent, ItemState, MessageEvent},
    taste::MESSAGE_KIND,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

use super::keys;
use crate::mongo::Mongo;

/// An engagement.
pub(super) const ENGAGEMENT: &str = "e";
/// A message about nothing in particular.
pub(super) const MESSAGE: &str = "m";
/// A message about an item: an engagement too.
pub(super) const MESSAGE_ABOUT: &str = "n";

/// A text. One that holds NUL, which not every server takes in a string, is kept as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub Arc<str>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.0.contains('\0') { binary(self.0.as_bytes()).serialize(s) } else { s.serialize_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Bson::deserialize(d)? {
            Bson::String(text) => Ok(Self(text.into())),
            Bson::Binary(b) => String::from_utf8(b.bytes).map(|t| Self(t.into())).map_err(D::Error::custom),
            other => Err(D::Error::custom(format!("a text is a {:?}", other.element_type()))),
        }
    }
}

/// A vector under one revision of a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct VectorDoc {
    /// The revision.
    pub r: String,
    /// Little-endian `f32`.
    pub b: Binary,
}

pub(super) type Vectors = BTreeMap<String, VectorDoc>;

/// The name of a revision's field within `v`: a revision may hold dots, which field names must not.
pub(super) fn revision_field(revision: &str) -> String {
    hex(&Sha256::digest(revision.as_bytes())[..8])
}

/// The vector of a revision as it is stored.
pub(super) fn vector_doc(revision: &str, vector: &Vector) -> VectorDoc {
    VectorDoc { r: revision.to_owned(), b: binary(&vector_bytes(vector)) }
}

fn vectors(revision: &str, vector: Option<&Vector>) -> Vectors {
    vector.map(|v| (revision_field(revision), vector_doc(revision, v))).into_iter().collect()
}

/// A message or an engagement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EventDoc {
    #[serde(rename = "_id")]
    pub key: String,
    pub tu: String,
    /// With which item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ti: Option<String>,
    /// [`ENGAGEMENT`], [`MESSAGE`] or [`MESSAGE_ABOUT`].
    pub k: String,
    /// When, in milliseconds.
    pub at: i64,
    pub id: String,
    /// An engagement's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text>,
    /// The bits of an engagement's value: not every server keeps every `f64` as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<i64>,
    pub hash: Binary,
    /// What was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub v: Vectors,
}

impl EventDoc {
    /// The document of a message or an engagement; `None` for other events.
    pub fn new(append: &Append, vector: Option<&Vector>, revision: &str) -> Option<Self> {
        let mut doc = match &append.event {
            Event::Message(m) => Self {
                key: keys::event(&m.tenant, m.user_id.as_str(), true, m.message_id.as_str()),
                tu: keys::owned(&m.tenant, m.user_id.as_str()),
                ti: m.item_id.as_ref().map(|i| keys::owned(&m.tenant, i.as_str())),
                k: if m.item_id.is_some() { MESSAGE_ABOUT } else { MESSAGE }.to_owned(),
                at: m.timestamp.millis(),
                id: m.message_id.as_str().to_owned(),
                kind: None,
                value: None,
                hash: binary(&append.hash),
                text: Some(Text(m.text.clone())),
                v: vectors(revision, vector),
            },
            Event::Engagement(e) => Self {
                key: keys::event(&e.tenant, e.user_id.as_str(), false, e.event_id.as_str()),
                tu: keys::owned(&e.tenant, e.user_id.as_str()),
                ti: Some(keys::owned(&e.tenant, e.item_id.as_str())),
                k: ENGAGEMENT.to_owned(),
                at: e.timestamp.millis(),
                id: e.event_id.as_str().to_owned(),
                kind: Some(Text(e.kind.clone())),
                value: Some(e.value.to_bits().cast_signed()),
                hash: binary(&append.hash),
                text: None,
                v: Vectors::new(),
            },
            Event::Item(_) | Event::Erasure(_) => return None,
        };
        doc.v.retain(|_, _| doc.k != ENGAGEMENT);
        Some(doc)
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let text = self.text.as_ref().map_or(0, |t| t.0.len());
        let vectors: usize = self.v.values().map(|v| v.b.bytes.len() + v.r.len() + 64).sum();
        128 + 2 * (self.key.len() + self.tu.len()) + text + vectors
    }

    pub fn is_message(&self) -> bool {
        self.k != ENGAGEMENT
    }

    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.at)
    }

    /// The item that it is about.
    pub fn item(&self) -> Option<ItemId> {
        self.ti.as_deref().and_then(keys::parts).map(|(_, item)| ItemId::trusted(item))
    }

    /// As an engagement, where it is about an item.
    pub fn engaged(&self) -> Option<EngagedEvent> {
        let is_message = self.is_message();
        Some(EngagedEvent {
            id: EventId::trusted(&*self.id),
            is_message,
            item: self.item()?,
            kind: if is_message { MESSAGE_KIND.into() } else { self.kind.as_ref()?.0.clone() },
            value: if is_message { 1.0 } else { f64::from_bits(self.value?.cast_unsigned()) },
            timestamp: self.timestamp(),
        })
    }

    /// As a message, where it is one.
    pub fn message(&self, mongo: &Mongo, revision: Option<&str>) -> StoreResult<Option<MessageEvent>> {
        let Some(text) = &self.text else { return Ok(None) };
        Ok(Some(MessageEvent {
            id: EventId::trusted(&*self.id),
            text: text.0.clone(),
            item: self.item(),
            timestamp: self.timestamp(),
            vector: vector(mongo, &self.v, revision)?,
        }))
    }
}

/// That somebody was erased. The record comes first, then everything up to `until` goes, then `clearing` does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ErasureDoc {
    #[serde(rename = "_id")]
    pub tu: String,
    pub until: i64,
    pub asked: i64,
    #[serde(default)]
    pub clearing: bool,
}

/// An item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ItemDoc {
    #[serde(rename = "_id")]
    pub ti: String,
    /// The tenant.
    pub t: String,
    /// Grows with each write: whoever replaces a version names the one that they saw.
    pub n: i64,
    pub hash: Binary,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
    pub categories: Vec<Text>,
    pub hidden: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// JSON: every number comes back as it was written.
    pub attributes: String,
    /// The place of its first arrival among the tenant's items.
    pub arrival: i64,
    #[serde(default)]
    pub v: Vectors,
}

impl ItemDoc {
    /// A version of an item, without its place among others.
    pub fn new(item: &Item, hash: &ContentHash, vector: Option<&Vector>, revision: &str) -> Self {
        Self {
            ti: keys::owned(&item.tenant, item.item_id.as_str()),
            t: item.tenant.as_str().to_owned(),
            n: 1,
            hash: binary(hash),
            at: item.timestamp.map(Timestamp::millis),
            text: item.text.clone().map(Text),
            categories: item.categories.iter().cloned().map(Text).collect(),
            hidden: item.hidden,
            expires: item.expires_at.map(Timestamp::millis),
            attributes: serde_json::Value::Object(item.attributes.clone()).to_string(),
            arrival: 0,
            v: vectors(revision, vector),
        }
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let texts: usize = self.text.iter().chain(&self.categories).map(|t| t.0.len() + 16).sum();
        let vectors: usize = self.v.values().map(|v| v.b.bytes.len() + v.r.len() + 64).sum();
        256 + self.ti.len() + texts + self.attributes.len() + vectors
    }

    /// As the port hands it out.
    pub fn state(self, mongo: &Mongo, revision: Option<&str>) -> StoreResult<ItemState> {
        let vector = vector(mongo, &self.v, revision)?;
        let (_, id) = keys::parts(&self.ti).ok_or_else(|| mongo.torn("an item's key"))?;
        let item = Item {
            tenant: Tenant::trusted(self.t),
            item_id: ItemId::trusted(id),
            text: self.text.map(|t| t.0),
            categories: self.categories.into_iter().map(|c| c.0).collect(),
            expires_at: self.expires.map(Timestamp::from_millis),
            hidden: self.hidden,
            attributes: serde_json::from_str(&self.attributes).map_err(|_| mongo.torn("a list of attributes"))?,
            timestamp: self.at.map(Timestamp::from_millis),
        };
        Ok(ItemState { item, vector })
    }
}

/// A mark of somebody whose profile may be out of date. A newer mark is a document of its own: on FerretDB a document is changed in a
/// transaction of its own, and thousands are inserted in one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StaleDoc {
    /// The mark and the user.
    #[serde(rename = "_id")]
    pub key: String,
    pub tu: String,
    pub mark: i64,
}

impl StaleDoc {
    /// A user's mark.
    pub fn new(tu: String, mark: i64) -> Self {
        Self { key: format!("{mark}:{tu}"), tu, mark }
    }
}

/// That somebody is about to write these items, and to mark whoever engaged with them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DueDoc {
    #[serde(rename = "_id")]
    pub key: String,
    pub tis: Vec<String>,
}

/// A document of which only the key matters.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeyDoc {
    #[serde(rename = "_id")]
    pub key: String,
}

/// Bytes.
pub(super) fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// A content hash that was stored.
pub(super) fn hash(mongo: &Mongo, stored: &Binary) -> StoreResult<ContentHash> {
    stored.bytes.as_slice().try_into().map_err(|_| mongo.torn("a content hash"))
}

pub(super) fn vector(mongo: &Mongo, vectors: &Vectors, revision: Option<&str>) -> StoreResult<Option<Vector>> {
    let Some(found) = revision.and_then(|r| vectors.get(&revision_field(r))) else { return Ok(None) };
    let (floats, rest) = found.b.bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(mongo.torn("a vector"));
    }
    Ok(Some(floats.iter().map(|f| f32::from_le_bytes(*f)).collect()))
}
