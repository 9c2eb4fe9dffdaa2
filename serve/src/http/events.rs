//! `POST /events`: from a body to events that are durable in the log.
//!
//! Answers 202 only after the log has them. What cannot be used is named by its index and kept among the dead letters
//! before anything is published, so that a call that fails may be repeated whole.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
};
use nearcast_domain::{
    Event, Tenant, Timestamp, UserId,
    decode::{Context, decode},
    event::hex,
    ports::{DeadLetter, Token},
};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    App, body,
    params::{Caller, Params},
    problem::Problem,
};
use crate::{config::Limits, recommend::budget::by};

/// How long the log and the dead letters may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bodies up to this size are read on the spot; larger ones on a thread for computing.
const ON_THE_SPOT: usize = 16 * 1024;
/// What dead letters say about where they came from.
const ORIGIN: &str = "http";

/// What became of the events of a call.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Published {
    /// How many are durable in the log.
    pub accepted: usize,
    /// Which could not be used, and why. They are kept among the dead letters.
    pub rejected: Vec<Rejected>,
    /// Give this as `after` to see an answer that reflects the events; null where none was accepted.
    #[schema(value_type = Option<String>)]
    pub token: Option<Token>,
}

/// An event that could not be used.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Rejected {
    /// Its place in the array, or the number of its line, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// What a body holds.
#[derive(Debug, Default)]
struct Parsed {
    records: Vec<(String, Arc<[u8]>)>,
    rejected: Vec<Rejected>,
    letters: Vec<DeadLetter>,
}

/// Send events
///
/// One object, an array of them, or NDJSON (a line each; `Content-Type: application/x-ndjson`), plain or gzip. Events without
/// a timestamp happened now. Answers after the events are durable in the log.
#[utoipa::path(post, path = "/events", tag = "events",
    request_body(content((serde_json::Value = "application/json"), (String = "application/x-ndjson")),
        description = "A message, an engagement, an item or an erasure; or many"),
    params(("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 202, body = Published), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 408, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")))]
pub async fn publish(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    uri: Uri,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Published>), Problem> {
    Params::read(&uri, &[])?;
    let limits = app.recommender().config().limits;
    let packed = body::packed(request.headers())?;
    let lines = says_lines(request.headers());
    let bytes = body::read(request.into_body(), &limits).await?;
    let cx = Context::arriving(tenant.clone(), Timestamp::now());
    let small = bytes.len() <= ON_THE_SPOT && packed == body::Packed::Plain;
    let parse = move || body::unpack(bytes, packed, limits.body_bytes).and_then(|b| parsed(&b, lines, &limits, &cx));
    let parsed = if small {
        parse()?
    } else {
        let fault = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the program is at fault; its log says more");
        tokio::task::spawn_blocking(parse).await.map_err(fault)??
    };
    metrics::counter!("nearcast_events_total", "result" => "rejected").increment(parsed.rejected.len() as u64);
    if !parsed.letters.is_empty() {
        let put =
            by(Instant::now() + PATIENCE, "dead_letters", app.recommender().stores.dead_letters.put(&parsed.letters)).await;
        put.map_err(|e| Problem::store(&e, "rejected events cannot be kept just now; nothing was accepted"))?;
    }
    let accepted = parsed.records.len();
    let token = if accepted == 0 { None } else { Some(send(&app, &tenant, &parsed.records).await?) };
    metrics::counter!("nearcast_events_total", "result" => "accepted").increment(accepted as u64);
    Ok((StatusCode::ACCEPTED, Json(Published { accepted, rejected: parsed.rejected, token })))
}

/// Publishes records (key, bytes); durable when this returns.
pub async fn send(app: &App, tenant: &Tenant, records: &[(String, Arc<[u8]>)]) -> Result<Token, Problem> {
    let sent = by(Instant::now() + PATIENCE, "log", app.recommender().stores.sink.publish(tenant, records)).await;
    sent.map_err(|e| Problem::store(&e, "the event log cannot be written just now"))
}

/// Whether the caller says that each line is an event.
fn says_lines(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(
        kind.as_str(),
        "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/json-lines"
    )
}

/// Takes a body apart.
fn parsed(bytes: &Bytes, lines: bool, limits: &Limits, cx: &Context) -> Result<Parsed, Problem> {
    let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
    let mut out = Parsed::default();
    match first {
        None => return Err(Problem::body("the body is empty; an event, an array of events or a line an event is expected")),
        _ if lines => out.take_lines(bytes, limits, cx)?,
        Some(b'[') => {
            let all: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|e| broken(&e))?;
            bounded(all.len(), limits)?;
            for (index, one) in all.into_iter().enumerate() {
                out.take(index, one.get().as_bytes(), cx);
            }
        }
        Some(_) => match serde_json::from_slice::<&RawValue>(bytes) {
            Ok(one) if one.get().starts_with('{') => out.take(0, one.get().as_bytes(), cx),
            Ok(_) => return Err(Problem::body("the body is JSON, but neither an object nor an array")),
            Err(_) if has_object_line(bytes) => out.take_lines(bytes, limits, cx)?,
            Err(e) => return Err(broken(&e)),
        },
    }
    Ok(out)
}

/// serde_json's reason, which may quote a little of the body.
fn broken(e: &serde_json::Error) -> Problem {
    let what: String = e.to_string().chars().take(200).collect();
    Problem::body(format!("the body is not JSON: {what}"))
}

fn bounded(events: usize, limits: &Limits) -> Result<(), Problem> {
    if events <= limits.events {
        return Ok(());
    }
    Err(Problem::body(format!("the body holds more than {} events", limits.events)).status(StatusCode::PAYLOAD_TOO_LARGE))
}

/// Whether the body has lines, and one of them is an object of its own: then it is NDJSON, whatever its type says.
fn has_object_line(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty());
    lines.clone().nth(1).is_some()
        && lines.any(|l| l.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(l).is_ok())
}

impl Parsed {
    fn take_lines(&mut self, bytes: &[u8], limits: &Limits, cx: &Context) -> Result<(), Problem> {
        let lines = || bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).enumerate().filter(|(_, l)| !l.is_empty());
        bounded(lines().count(), limits)?;
        for (index, line) in lines() {
            self.take(index, line, cx);
        }
        Ok(())
    }

    fn take(&mut self, index: usize, bytes: &[u8], cx: &Context) {
        match decode(bytes, cx) {
            Ok(event) => self.records.push((event.key().to_owned(), completed(bytes, &event))),
            Err(reject) => {
                self.letters.push(letter(bytes, &reject.0, &cx.tenant, cx.now));
                self.rejected.push(Rejected { index, reason: reject.0 });
            }
        }
    }
}

/// The bytes of an event, with the tenant and the time of arrival written in where it has none: read again, at any time,
/// they are the same event.
fn completed(bytes: &[u8], event: &Event) -> Arc<[u8]> {
    let Ok(fields) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(bytes) else { return bytes.into() };
    let lacks = |field: &str| fields.get(field).is_none_or(|v| v.get() == "null");
    let mut given: Vec<(&str, String)> = Vec::new();
    if lacks("tenant") {
        given.push(("tenant", json(event.tenant())));
    }
    let timestamp = match event {
        Event::Message(m) => Some(m.timestamp),
        Event::Engagement(e) => Some(e.timestamp),
        Event::Erasure(e) => Some(e.timestamp),
        // Without a time of its own, the last state to arrive wins.
        Event::Item(_) => None,
    };
    if let Some(t) = timestamp.filter(|_| lacks("timestamp")) {
        given.push(("timestamp", json(&t)));
    }
    if given.is_empty() {
        return bytes.into();
    }
    let mut text = String::with_capacity(bytes.len() + 96);
    text.push('{');
    for (name, value) in &given {
        text.push_str(&format!("{}\"{name}\":{value}", if text.len() > 1 { "," } else { "" }));
    }
    if given.iter().any(|(name, _)| fields.contains_key(*name)) {
        // A field stands there as null: it must not stand there twice.
        for (name, value) in fields.iter().filter(|(n, _)| !given.iter().any(|(g, _)| g == n)) {
            text.push_str(&format!(",{}:{}", json(name), value.get()));
        }
        text.push('}');
    } else {
        let inside = bytes.iter().position(|b| *b == b'{').map_or(0, |at| at + 1);
        text.push(',');
        text.push_str(&String::from_utf8_lossy(&bytes[inside..]));
    }
    text.into_bytes().into()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// A dead letter; its id is derived from origin, reason and bytes, so that the same failure told twice is one letter.
fn letter(bytes: &[u8], reason: &str, tenant: &Tenant, at: Timestamp) -> DeadLetter {
    let mut h = Sha256::new();
    for part in [ORIGIN.as_bytes(), reason.as_bytes(), bytes] {
        h.update((part.len() as u64).to_le_bytes());
        h.update(part);
    }
    DeadLetter {
        id: hex(&h.finalize()[..12]),
        tenant: tenant.clone(),
        user: user_of(bytes),
        reason: reason.to_owned(),
        origin: ORIGIN.to_owned(),
        bytes: bytes.into(),
        key: None,
        at,
    }
}

/// The user that a broken event names, as far as it can be read: an erasure must find the letter.
fn user_of(bytes: &[u8]) -> Option<UserId> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).ok()?;
    let raw = fields.get("user_id")?.get();
    let text = serde_json::from_str::<String>(raw).or_else(|_| serde_json::from_str::<i64>(raw).map(|n| n.to_string()));
    UserId::parse(&text.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cx() -> Context {
        Context::arriving(Tenant::trusted("t"), Timestamp::parse("2026-06-01T00:00:00.123Z").unwrap())
    }

    fn parse(body: &str) -> Result<Parsed, Problem> {
        parsed(&Bytes::copy_from_slice(body.as_bytes()), false, &Limits::default(), &cx())
    }

    #[test]
    fn what_is_published_is_the_event_that_was_accepted() {
        let later = Context::stored(Timestamp::parse("2027-01-01T00:00:00Z").unwrap());
        for body in [
            r#"{"user_id":"u","text":"x"}"#,
            r#" { "user_id":"u","text":"x","tenant":null,"timestamp":null,"more":[1,{"a":2}]}"#,
            r#"{"user_id":1,"item_id":2,"kind":"view","timestamp":"2026-05-01T00:00:00Z"}"#,
            r#"{"item_id":"i","text":"shoe","attributes":{"a":"\u00e9"}}"#,
            r#"{"tenant":"t","user_id":"u","text":"x","timestamp":"2026-05-01T02:00:00+02:00"}"#,
            r#"{"type":"erasure","user_id":"u"}"#,
            r#"{"t\u0065nant":"t","user_id":"u","text":"x"}"#,
        ] {
            let first = decode(body.as_bytes(), &cx()).unwrap();
            let out = parse(body).unwrap();
            assert_eq!(decode(&out.records[0].1, &later).unwrap(), first, "{body}");
        }
    }

    #[test]
    fn complete_events_keep_their_bytes() {
        let body = r#"{"tenant":"t","user_id":"u","text":"x","timestamp":"2026-05-01T00:00:00Z"}"#;
        assert_eq!(&*parse(body).unwrap().records[0].1, body.as_bytes());
    }

    #[test]
    fn shapes_of_bodies() {
        let good = r#"{"user_id":"u","text":"x"}"#;
        assert_eq!(parse(&format!("[{good},{good},7]")).unwrap().rejected[0].index, 2);
        let lines = parse(&format!("{good}\r\n\nnot json\n{good}\n")).unwrap();
        assert_eq!((lines.records.len(), lines.rejected[0].index), (2, 2));
        assert_eq!(parse(&format!("oops\n{good}")).unwrap().rejected[0].index, 0);
        for bad in ["", "  \n", "oops", "{", "[", "7", "\"x\"", "{\n\"a\":1,\n", &format!("[\n{good},\n{good}\n")] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let only_bad = parse(r#"{"user_id":"u9"}"#).unwrap();
        assert_eq!((only_bad.records.len(), only_bad.letters[0].user.as_ref().unwrap().as_str()), (0, "u9"));
    }
}
