//! Whatever is sent, the answer is an answer: no panic, no 5xx, and no id that is not text.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::LazyLock;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, Request, Uri},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use support::{Caller, Fakes, World};
use tokio::runtime::Runtime;

/// Cases of each test; many more by `NEARCAST_FUZZ_CASES`.
fn cases() -> u32 {
    std::env::var("NEARCAST_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000)
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
static CALLER: LazyLock<Caller> =
    LazyLock::new(|| Caller::new(Fakes::new(small_world()), nearcast_serve::ServeConfig::default()));

/// Enough for every stage to have work, and quick to answer.
fn small_world() -> World {
    let mut world = World::sample();
    world.histories.retain(|(_, user), _| user.as_str().ends_with('1'));
    world
}

const WORDS: [&str; 26] = [
    "recommendations",
    "users",
    "items",
    "events",
    "trending",
    "similar",
    "health",
    "ready",
    "status",
    "docs",
    "metrics",
    "openapi.json",
    "chess-fan-01",
    "%00",
    "%ff%fe",
    "%2F",
    "%25",
    "..",
    ".",
    "",
    "{user}",
    "*",
    "a b",
    "\u{1F600}",
    "%C3%28",
    "page",
];
const NAMES: [&str; 14] =
    ["k", "top", "category", "exclude", "explain", "budget_ms", "after", "cache", "prefix", "limit", "q", "k%00", "%ff", ""];
const VALUES: [&str; 22] = [
    "10",
    "0",
    "-1",
    "101",
    "1e3",
    "NaN",
    "true",
    "TRUE",
    "%00",
    "%ff",
    "%",
    "%zz",
    "18446744073709551616",
    "",
    "chess",
    "a=b",
    "%E2%80%AE",
    "+",
    "1",
    "3",
    "9999999999999999999999",
    "%0d%0aX: y",
];

fn path() -> impl Strategy<Value = String> {
    (vec(select(&WORDS[..]), 0..5), vec((select(&NAMES[..]), select(&VALUES[..])), 0..4), any::<bool>()).prop_map(
        |(segments, pairs, known)| {
            let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let path = if known { "recommendations/chess-fan-01".to_owned() } else { segments.join("/") };
            format!("/{path}?{}", pairs.join("&"))
        },
    )
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(
            &[
                "null",
                "true",
                "1e999",
                "-0",
                "1e-999",
                "\"\"",
                "\"u\"",
                "\"\\u0000\"",
                "\"\\ud800\"",
                "9223372036854775808",
                "\"9999-12-31T23:59:59Z\"",
                "\"2026-01-01T00:00:00Z\"",
                "\"-9999-01-01T00:00:00Z\"",
                "[]",
                "{}",
                "NaN",
                "\"message\"",
                "\"item\"",
                "\"erasure\"",
                "\"engagement\"",
                "\"rating\"",
                "5",
                "\"running-01\"",
            ][..]
        )
        .prop_map(str::to_owned),
        any::<f64>().prop_map(|f| f.to_string()),
        any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
    ];
    let field = select(
        &[
            "type",
            "tenant",
            "user_id",
            "item_id",
            "text",
            "message",
            "kind",
            "value",
            "timestamp",
            "categories",
            "expires_at",
            "hidden",
            "attributes",
            "message_id",
            "event_id",
            "campaign_id",
            "items",
            "k",
            "x",
        ][..],
    );
    let object = vec((field, leaf), 0..7).prop_map(|fields| {
        let fields: Vec<String> = fields.iter().map(|(n, v)| format!("\"{n}\":{v}")).collect();
        format!("{{{}}}", fields.join(","))
    });
    (vec(object, 0..4), select(&["[", "\n", "", "{", "\r\n"][..])).prop_map(|(objects, shape)| match shape {
        "[" => format!("[{}]", objects.join(",")),
        between => objects.join(between),
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => json().prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..200), 1 => torn()]
}

/// Something that was fine before bytes of it were changed.
fn torn() -> impl Strategy<Value = Vec<u8>> {
    (json(), vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes
    })
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let name = select(
        &["x-tenant", "content-type", "content-encoding", "authorization", "x-request-id", "accept-encoding", "content-length"]
            [..],
    );
    let value = prop_oneof![
        select(&["gzip", "application/x-ndjson", "br", "default", "Bearer x", "", "-1", "999999999999"][..])
            .prop_map(|s| s.as_bytes().to_vec()),
        vec(any::<u8>(), 0..20),
    ];
    vec((name, value), 0..3)
}

fn check(method: &str, path: &str, headers: &[(&'static str, Vec<u8>)], body: Vec<u8>) -> Result<(), TestCaseError> {
    // What cannot be a request line or a header never gets so far.
    let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(uri);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            request = request.header(HeaderName::from_static(name), value);
        }
    }
    let answer = RUNTIME.block_on(CALLER.send(request.body(Body::from(body)).unwrap()));
    prop_assert!(answer.status.as_u16() < 500, "{method} {path}: {} {}", answer.status, answer.text);
    // The answer to HEAD has no body.
    if answer.status.as_u16() >= 400 && method != "HEAD" {
        prop_assert_eq!(&answer.headers["content-type"], "application/problem+json");
        prop_assert!(answer.json["detail"].is_string());
    }
    prop_assert!(answer.headers.contains_key("x-request-id"));
    Ok(())
}

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(strategy, test).unwrap();
}

#[test]
fn any_path_and_query() {
    run(&(select(&["GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS", "BREW"][..]), path(), headers()), |(m, p, h)| {
        check(m, &p, &h, Vec::new())
    });
}

#[test]
fn any_events() {
    run(&(headers(), body()), |(h, b)| check("POST", "/events", &h, b));
}

#[test]
fn any_session() {
    run(&(headers(), body()), |(h, b)| check("POST", "/recommendations", &h, b));
}

#[test]
fn any_text_as_an_id() {
    run(&any::<String>(), |text| {
        let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
        check("GET", &format!("/recommendations/{encoded}?exclude={encoded}"), &[], Vec::new())?;
        check("GET", &format!("/items/{encoded}/similar"), &[], Vec::new())?;
        check("GET", &format!("/users?prefix={encoded}"), &[], Vec::new())
    });
}
