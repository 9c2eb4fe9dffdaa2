//! The four facts that a producer can state, and what makes two of them the same.
//!
//! An event is plain data: nothing here reads a clock, a file or a store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{EventId, ItemId, Tenant, Timestamp, UserId};

/// 128 bits of SHA-256 over an event's content without its id: equal content, equal hash.
pub type ContentHash = [u8; 16];

/// One fact from a producer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    /// Something a user wrote.
    Message(Message),
    /// Something a user did with an item.
    Engagement(Engagement),
    /// The state of an item, whole.
    Item(Item),
    /// All that is known of a user is to be forgotten.
    Erasure(Erasure),
}

/// Something a user wrote, perhaps about an item (which then counts as an engagement of kind `message`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Whose data this is.
    pub tenant: Tenant,
    /// Given by the producer or derived from the content.
    pub message_id: EventId,
    /// Who wrote it.
    pub user_id: UserId,
    /// What was written: not blank, at most 32 KiB.
    pub text: Arc<str>,
    /// What it is about.
    pub item_id: Option<ItemId>,
    /// When it was written.
    pub timestamp: Timestamp,
}

/// Something a user did with an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Engagement {
    /// Whose data this is.
    pub tenant: Tenant,
    /// Given by the producer or derived from the content.
    pub event_id: EventId,
    /// Who did it.
    pub user_id: UserId,
    /// With what.
    pub item_id: ItemId,
    /// `view`, `click`, `like`, `rating`, `purchase`, …: an open set.
    pub kind: Arc<str>,
    /// Stars, amount, seconds: what it means depends on the kind. Always finite.
    pub value: f64,
    /// When it was done.
    pub timestamp: Timestamp,
}

/// The whole state of an item. A later one replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Whose data this is.
    pub tenant: Tenant,
    /// Which item.
    pub item_id: ItemId,
    /// What it is, in words. `None` for a catalogue without texts: such an item has no vector.
    pub text: Option<Arc<str>>,
    /// Sorted, without doubles.
    #[serde(default)]
    pub categories: Vec<Arc<str>>,
    /// From when on it is no longer recommended.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Whether it is kept from everyone.
    #[serde(default)]
    pub hidden: bool,
    /// Whatever else the producer wants back.
    #[serde(default)]
    pub attributes: serde_json::Map<String, serde_json::Value>,
    /// When this state began. Where given, the newest wins whatever the order of arrival; without it, the last to arrive.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
}

/// A user's wish to be forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Erasure {
    /// Whose data this is.
    pub tenant: Tenant,
    /// Who is to be forgotten.
    pub user_id: UserId,
    /// When it was asked for: what the user does later is a new beginning.
    pub timestamp: Timestamp,
}

impl Event {
    /// Whose data this is.
    pub fn tenant(&self) -> &Tenant {
        match self {
            Self::Message(e) => &e.tenant,
            Self::Engagement(e) => &e.tenant,
            Self::Item(e) => &e.tenant,
            Self::Erasure(e) => &e.tenant,
        }
    }

    /// Whose event this is; an item belongs to nobody.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Message(e) => Some(&e.user_id),
            Self::Engagement(e) => Some(&e.user_id),
            Self::Erasure(e) => Some(&e.user_id),
            Self::Item(_) => None,
        }
    }

    /// What the log is partitioned by: the user, or the item of an item.
    pub fn key(&self) -> &str {
        match self {
            Self::Item(e) => e.item_id.as_str(),
            Self::Message(e) => e.user_id.as_str(),
            Self::Engagement(e) => e.user_id.as_str(),
            Self::Erasure(e) => e.user_id.as_str(),
        }
    }

    /// The name of the kind of event, as in the field `type`.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Message(_) => "message",
            Self::Engagement(_) => "engagement",
            Self::Item(_) => "item",
            Self::Erasure(_) => "erasure",
        }
    }

    /// The hash of everything but the id.
    pub fn content_hash(&self) -> ContentHash {
        match self {
            Self::Message(e) => e.content_hash(),
            Self::Engagement(e) => e.content_hash(),
            Self::Item(e) => e.content_hash(),
            Self::Erasure(e) => Hasher::new("erasure", &e.tenant).text(e.user_id.as_str()).int(e.timestamp.millis()).end(),
        }
    }
}

impl Message {
    /// The hash of everything but the id.
    pub fn content_hash(&self) -> ContentHash {
        Hasher::new("message", &self.tenant)
            .text(self.user_id.as_str())
            .text(&self.text)
            .maybe(self.item_id.as_ref().map(ItemId::as_str))
            .int(self.timestamp.millis())
            .end()
    }
}

impl Engagement {
    /// The hash of everything but the id.
    pub fn content_hash(&self) -> ContentHash {
        Hasher::new("engagement", &self.tenant)
            .text(self.user_id.as_str())
            .text(self.item_id.as_str())
            .text(&self.kind)
            .int(self.value.to_bits() as i64)
            .int(self.timestamp.millis())
            .end()
    }
}

impl Item {
    /// The hash of the whole state: two versions with the same hash are the same version.
    pub fn content_hash(&self) -> ContentHash {
        let mut h = Hasher::new("item", &self.tenant).text(self.item_id.as_str()).maybe(self.text.as_deref());
        h = h.int(self.categories.len() as i64);
        for c in &self.categories {
            h = h.text(c);
        }
        // `serde_json::Map` keeps its keys sorted, so equal attributes give equal text.
        let attributes = serde_json::to_string(&self.attributes).unwrap_or_default();
        h.int(self.expires_at.map_or(i64::MIN, Timestamp::millis))
            .int(i64::from(self.hidden))
            .text(&attributes)
            .int(self.timestamp.map_or(i64::MIN, Timestamp::millis))
            .end()
    }

    /// The text that stands for the item in the vector space: its own, then its categories.
    pub fn embedding_text(&self) -> Option<Arc<str>> {
        let text = self.text.as_ref()?;
        if self.categories.is_empty() {
            return Some(text.clone());
        }
        Some(format!("{text}. {}", self.categories.join(", ")).into())
    }
}

/// The id of an event whose producer gave none.
pub fn derived_id(hash: ContentHash) -> EventId {
    EventId::trusted(hex(&hash))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

/// Hashes fields with their lengths, so that no two contents run together.
struct Hasher(Sha256);

impl Hasher {
    fn new(kind: &str, tenant: &Tenant) -> Self {
        Self(Sha256::new()).text(kind).text(tenant.as_str())
    }

    fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
        self
    }

    fn maybe(mut self, text: Option<&str>) -> Self {
        self.0.update([u8::from(text.is_some())]);
        self.text(text.unwrap_or_default())
    }

    fn int(mut self, n: i64) -> Self {
        self.0.update(n.to_le_bytes());
        self
    }

    fn end(self) -> ContentHash {
        let mut out = [0; 16];
        out.copy_from_slice(&self.0.finalize()[..16]);
        out
    }
}
