//! From the bytes of a producer to a valid event, or to the reason why not.
//!
//! The only place where DESIGN's rules of input are written. It never panics, whatever the bytes, and it changes nothing
//! that it accepts: what cannot be kept by every store is refused here.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    Engagement, Erasure, Event, EventId, Item, ItemId, Message, Tenant, Timestamp, UserId,
    event::derived_id,
    ids::{self, IdError},
    time::DAY_MS,
};

/// The longest text of a message or an item, in bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 32 * 1024;
/// The most categories of one item.
pub const MAX_CATEGORIES: usize = 64;
/// The longest serialised attributes of one item, in bytes.
pub const MAX_ATTRIBUTES_BYTES: usize = 64 * 1024;
/// The largest record that is looked at, in bytes.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// What decoding needs to know beside the bytes.
#[derive(Debug, Clone)]
pub struct Context {
    /// The tenant of events that name none.
    pub tenant: Tenant,
    /// The time of arrival: bounds timestamps.
    pub now: Timestamp,
    /// How far ahead of `now` a timestamp may be, in milliseconds.
    pub max_ahead_ms: i64,
    /// The timestamp of events that carry none; where `None`, they are refused.
    pub default_timestamp: Option<Timestamp>,
    /// When set, an event that names another tenant is refused: callers with a tenant of their own.
    pub only_tenant: bool,
}

impl Context {
    /// For a file or a log: every event carries its timestamp.
    pub fn stored(now: Timestamp) -> Self {
        Self { tenant: Tenant::default(), now, max_ahead_ms: DAY_MS, default_timestamp: None, only_tenant: false }
    }

    /// For a caller of the API: an event without a timestamp happened on arrival.
    pub fn arriving(tenant: Tenant, now: Timestamp) -> Self {
        Self { tenant, now, max_ahead_ms: DAY_MS, default_timestamp: Some(now), only_tenant: true }
    }
}

/// Why a record is no event. The text names the field and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reject(pub String);

impl Reject {
    fn field(field: &str, what: impl std::fmt::Display) -> Self {
        Self(format!("{field} {what}"))
    }
}

/// A name as producers write it: text, or a whole number.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawId {
    Text(String),
    Number(i64),
}

impl RawId {
    fn text(self) -> String {
        match self {
            Self::Text(t) => t,
            Self::Number(n) => n.to_string(),
        }
    }
}

/// Every field that any event may carry.
#[derive(Deserialize)]
struct Raw {
    r#type: Option<String>,
    tenant: Option<RawId>,
    message_id: Option<RawId>,
    event_id: Option<RawId>,
    user_id: Option<RawId>,
    item_id: Option<RawId>,
    campaign_id: Option<RawId>,
    text: Option<String>,
    message: Option<String>,
    kind: Option<String>,
    value: Option<f64>,
    timestamp: Option<String>,
    categories: Option<Vec<String>>,
    expires_at: Option<String>,
    hidden: Option<bool>,
    attributes: Option<Map<String, Value>>,
}

/// Reads one event.
pub fn decode(bytes: &[u8], cx: &Context) -> Result<Event, Reject> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(Reject(format!("record is {} bytes; at most {MAX_RECORD_BYTES} are allowed", bytes.len())));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Reject("record is empty".into()));
    }
    // serde would read an array as the fields in order.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Reject("record is not a JSON object".into()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Reject("record is not valid UTF-8".into()))?;
    let raw: Raw = serde_json::from_str(text).map_err(|e| Reject(json_reason(&e)))?;
    validate(raw, cx)
}

/// serde_json's reason, shortened: it may quote the input.
fn json_reason(e: &serde_json::Error) -> String {
    let what = e.to_string();
    let short: String = what.chars().take(160).collect();
    match e.classify() {
        serde_json::error::Category::Data => format!("record has a field of the wrong type: {short}"),
        _ => format!("record is not JSON: {short}"),
    }
}

fn validate(raw: Raw, cx: &Context) -> Result<Event, Reject> {
    let tenant = match raw.tenant {
        None => cx.tenant.clone(),
        Some(t) => {
            let t = Tenant::parse(&t.text()).map_err(|e| Reject::field("tenant", e))?;
            if cx.only_tenant && t != cx.tenant {
                return Err(Reject::field("tenant", "is not the tenant of this call"));
            }
            t
        }
    };
    let text = raw.text.or(raw.message);
    let item = raw.item_id.or(raw.campaign_id);
    let kind_of_event = match raw.r#type.as_deref() {
        Some(t @ ("message" | "engagement" | "item" | "erasure")) => t.to_owned(),
        Some(other) => {
            let short: String = other.chars().take(40).collect();
            return Err(Reject::field(
                "type",
                format!("{short:?} is unknown; message, engagement, item and erasure are known"),
            ));
        }
        None if raw.kind.is_some() => "engagement".into(),
        None if raw.user_id.is_some() && text.is_some() => "message".into(),
        None if raw.user_id.is_none() && item.is_some() => "item".into(),
        None => return Err(Reject::field("type", "is missing, and the fields do not decide it")),
    };
    match kind_of_event.as_str() {
        "message" => {
            let user_id = required("user_id", raw.user_id, UserId::parse)?;
            let item_id = item.map(|i| ItemId::parse(&i.text())).transpose().map_err(|e| Reject::field("item_id", e))?;
            let text = checked_text(text.ok_or_else(|| Reject::field("text", "is missing"))?)?;
            let timestamp = timestamp(raw.timestamp, cx)?;
            let given = given_id("message_id", raw.message_id)?;
            let mut m = Message { tenant, message_id: EventId::trusted(""), user_id, text, item_id, timestamp };
            m.message_id = given.unwrap_or_else(|| derived_id(m.content_hash()));
            Ok(Event::Message(m))
        }
        "engagement" => {
            let user_id = required("user_id", raw.user_id, UserId::parse)?;
            let item_id = required("item_id", item, ItemId::parse)?;
            let kind = raw.kind.ok_or_else(|| Reject::field("kind", "is missing"))?;
            ids::check(&kind).map_err(|e| Reject::field("kind", e))?;
            let value = raw.value.unwrap_or(1.0);
            if !value.is_finite() {
                return Err(Reject::field("value", "is not a finite number"));
            }
            // -0.0 and 0.0 are one value, and must hash as one.
            let value = if value == 0.0 { 0.0 } else { value };
            let timestamp = timestamp(raw.timestamp, cx)?;
            let given = given_id("event_id", raw.event_id)?;
            let mut e =
                Engagement { tenant, event_id: EventId::trusted(""), user_id, item_id, kind: kind.into(), value, timestamp };
            e.event_id = given.unwrap_or_else(|| derived_id(e.content_hash()));
            Ok(Event::Engagement(e))
        }
        "item" => {
            let item_id = required("item_id", item, ItemId::parse)?;
            let text = text.map(checked_text).transpose()?;
            let attributes = raw.attributes.unwrap_or_default();
            let size = serde_json::to_string(&attributes).map(|t| t.len()).unwrap_or(usize::MAX);
            if size > MAX_ATTRIBUTES_BYTES {
                return Err(Reject::field("attributes", format!("are longer than {MAX_ATTRIBUTES_BYTES} bytes")));
            }
            Ok(Event::Item(Item {
                tenant,
                item_id,
                text,
                categories: categories(raw.categories.unwrap_or_default())?,
                expires_at: raw
                    .expires_at
                    .map(|t| Timestamp::parse(&t))
                    .transpose()
                    .map_err(|e| Reject::field("expires_at", e))?,
                hidden: raw.hidden.unwrap_or(false),
                attributes,
                timestamp: raw.timestamp.map(|t| bounded(&t, cx)).transpose()?,
            }))
        }
        _ => {
            let user_id = required("user_id", raw.user_id, UserId::parse)?;
            Ok(Event::Erasure(Erasure { tenant, user_id, timestamp: timestamp(raw.timestamp, cx)? }))
        }
    }
}

fn required<T>(field: &str, raw: Option<RawId>, parse: impl Fn(&str) -> Result<T, IdError>) -> Result<T, Reject> {
    let raw = raw.ok_or_else(|| Reject::field(field, "is missing"))?;
    parse(&raw.text()).map_err(|e| Reject::field(field, e))
}

fn given_id(field: &str, raw: Option<RawId>) -> Result<Option<EventId>, Reject> {
    raw.map(|i| EventId::parse(&i.text())).transpose().map_err(|e| Reject::field(field, e))
}

fn checked_text(text: String) -> Result<Arc<str>, Reject> {
    if text.trim().is_empty() {
        Err(Reject::field("text", "is empty"))
    } else if text.len() > MAX_TEXT_BYTES {
        Err(Reject::field("text", format!("is {} bytes; at most {MAX_TEXT_BYTES} are allowed", text.len())))
    } else if text.contains('\0') {
        Err(Reject::field("text", "holds a NUL character"))
    } else {
        Ok(text.into())
    }
}

fn timestamp(raw: Option<String>, cx: &Context) -> Result<Timestamp, Reject> {
    match raw {
        Some(text) => bounded(&text, cx),
        None => cx.default_timestamp.ok_or_else(|| Reject::field("timestamp", "is missing")),
    }
}

fn bounded(text: &str, cx: &Context) -> Result<Timestamp, Reject> {
    let t = Timestamp::parse(text).map_err(|e| Reject::field("timestamp", e))?;
    if t > cx.now.plus_millis(cx.max_ahead_ms) {
        return Err(Reject::field("timestamp", format!("is more than {} h in the future", cx.max_ahead_ms / 3_600_000)));
    }
    Ok(t)
}

fn categories(raw: Vec<String>) -> Result<Vec<Arc<str>>, Reject> {
    if raw.len() > MAX_CATEGORIES {
        return Err(Reject::field("categories", format!("are more than {MAX_CATEGORIES}")));
    }
    for c in &raw {
        ids::check(c).map_err(|e| Reject::field("categories", format!("hold one that {e}")))?;
    }
    let mut out: Vec<Arc<str>> = raw.into_iter().map(Into::into).collect();
    out.sort();
    out.dedup();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cx() -> Context {
        Context::stored(Timestamp::parse("2026-06-01T00:00:00Z").unwrap())
    }

    fn reason(json: &str) -> String {
        decode(json.as_bytes(), &cx()).unwrap_err().0
    }

    #[test]
    fn the_older_record_is_a_message() {
        let e = decode(br#"{"user_id":"u1","message":"hello","timestamp":"2026-01-01T00:00:00Z"}"#, &cx()).unwrap();
        let Event::Message(m) = e else { panic!("not a message") };
        assert_eq!((m.user_id.as_str(), &*m.text, m.message_id.as_str().len()), ("u1", "hello", 32));
    }

    #[test]
    fn campaign_is_an_alias_and_fields_decide_the_type() {
        let e = decode(br#"{"user_id":7,"campaign_id":"c","kind":"click","timestamp":"2026-01-01T00:00:00Z"}"#, &cx()).unwrap();
        let Event::Engagement(e) = e else { panic!("not an engagement") };
        assert_eq!((e.user_id.as_str(), e.item_id.as_str(), e.value), ("7", "c", 1.0));
        assert!(matches!(decode(br#"{"item_id":"i","text":"shoe"}"#, &cx()).unwrap(), Event::Item(_)));
    }

    #[test]
    fn the_same_fact_has_the_same_derived_id() {
        let a = decode(br#"{"user_id":"u","message":"x","timestamp":"2026-01-01T00:00:00Z"}"#, &cx()).unwrap();
        let b =
            decode(br#"{"timestamp":"2026-01-01T01:00:00+01:00","text":"x","user_id":"u","type":"message"}"#, &cx()).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn bad_input_names_its_reason() {
        let t = r#""timestamp":"2026-01-01T00:00:00Z""#;
        assert!(reason("not json").contains("not a JSON object"));
        assert!(reason(&format!(r#"{{"type":"message","text":"x",{t}}}"#)).contains("user_id is missing"));
        assert!(reason(&format!(r#"{{"user_id":"u","text":"  ",{t}}}"#)).contains("text is empty"));
        assert!(reason(&format!(r#"{{"user_id":"u","item_id":"i","kind":"k","value":1e999,{t}}}"#)).contains("not JSON"));
        assert!(reason(r#"{"user_id":"u","text":"x","timestamp":"9999-01-01T00:00:00Z"}"#).contains("future"));
        assert!(reason(&format!(r#"{{"user_id":"{}","text":"x",{t}}}"#, "u".repeat(257))).contains("256"));
        assert!(reason(&format!(r#"{{"user_id":"u","text":"{}",{t}}}"#, "x".repeat(MAX_TEXT_BYTES + 1))).contains("32768"));
        assert!(reason(&format!(r#"{{"user_id":"u","text":"a\u0000b",{t}}}"#)).contains("NUL"));
        assert!(reason(&format!(r#"{{"type":"like","user_id":"u",{t}}}"#)).contains("unknown"));
        assert!(reason(&format!("{{\"attributes\":{{\"a\":{}", "[".repeat(100_000))).contains("not JSON"));
        assert_eq!(decode(b"{\xff\xfe}", &cx()).unwrap_err().0, "record is not valid UTF-8");
    }
}
