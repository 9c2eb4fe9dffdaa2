//! Every call of the contract: what it answers, and each way of asking wrongly.

mod support;

use std::{io::Write, time::Duration};

use axum::{body::Body, http::Request};
use nearcast_domain::{ItemId, Tenant, Timestamp};
use nearcast_serve::{ServeConfig, config::ItemMemoryConfig};
use support::{Caller, Fakes, World};

fn caller() -> Caller {
    caller_with(ServeConfig::default())
}

fn caller_with(config: ServeConfig) -> Caller {
    Caller::new(Fakes::new(World::sample()), config)
}

#[tokio::test]
async fn recommendations_have_reasons_and_fit_the_person() {
    let c = caller();
    let a = c.get("/recommendations/chess-fan-03?explain=true").await;
    assert_eq!(
        (a.status.as_u16(), a.json["cache"].as_str(), a.json["user_id"].as_str()),
        (200, Some("miss"), Some("chess-fan-03"))
    );
    let ids = a.ids();
    assert_eq!(ids.len(), 10);
    assert!(ids.iter().all(|i| i.starts_with("chess-")), "{ids:?}");
    let mut scores = Vec::new();
    for r in a.json["recommendations"].as_array().unwrap() {
        let reasons = r["reasons"].as_array().unwrap();
        let sum: f64 = reasons.iter().map(|x| x["weight"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-3 && reasons.iter().all(|x| x["score"].as_f64().unwrap() > 0.0));
        for voice in reasons.iter().filter(|x| x["source"] == "graph" || x["source"] == "similar_users") {
            assert!((1..=3).contains(&voice["via"].as_array().unwrap().len()), "{voice}");
        }
        assert!(r["text"].as_str().unwrap().starts_with("chess thing") && r["categories"][0] == "chess");
        scores.push(r["score"].as_f64().unwrap());
    }
    assert!(scores.windows(2).all(|w| w[0] >= w[1]) && scores[0] <= 1.0 && scores[9] > 0.0, "{scores:?}");
    assert!(a.json["recommendations"][0]["reasons"].as_array().unwrap().iter().any(|x| x["source"] == "graph"), "{}", a.text);
    let removed = a.json["removed"].as_array().unwrap();
    assert!(removed.iter().any(|r| r["reason"] == "engaged" && !r["sources"].as_array().unwrap().is_empty()));
    assert_eq!(a.json["model"], "words@words-32");
    assert!(Timestamp::parse(a.json["generated_at"].as_str().unwrap()).is_ok());
    assert!(c.get("/recommendations/chess-fan-03").await.json.get("removed").is_none());
}

#[tokio::test]
async fn every_size_is_filled_while_the_catalogue_has_items() {
    let c = caller();
    for (k, expected) in [(1, 1), (20, 20), (55, 55), (100, 55)] {
        for user in ["chess-fan-03", "nobody"] {
            let a = c.get(&format!("/recommendations/{user}?top={k}&cache=false")).await;
            let mut ids = a.ids();
            // Someone who knows nothing can be shown all sixty.
            let expected = if user == "nobody" && k == 100 { 60 } else { expected };
            assert_eq!(ids.len(), expected, "{user} {k}");
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), expected, "an item stands there twice");
        }
    }
}

#[tokio::test]
async fn filters_category_exclude_and_expiry() {
    let c = caller();
    let only = c.get("/recommendations/chess-fan-03?category=baking&k=30&explain=true").await;
    assert_eq!(only.ids().len(), 20);
    assert!(only.ids().iter().all(|i| i.starts_with("baking-")));
    assert!(only.json["removed"].as_array().unwrap().iter().any(|r| r["reason"] == "category"));
    let first = c.get("/recommendations/chess-fan-03").await.ids();
    let without = c.get(&format!("/recommendations/chess-fan-03?exclude={}&exclude={}", first[0], first[1])).await.ids();
    assert!(!without.contains(&first[0]) && !without.contains(&first[1]) && without.len() == 10);
    assert_eq!(c.get("/recommendations/x?category=nothing").await.ids().len(), 0);
    let key = (Tenant::default(), ItemId::trusted(first[2].as_str()));
    let c = caller_with(ServeConfig { items: ItemMemoryConfig { fresh_ms: 0, ..Default::default() }, ..Default::default() });
    c.fakes.world.lock().unwrap().change(&key, |i| i.expires_at = Some(Timestamp::now()));
    assert!(!c.get("/recommendations/chess-fan-03").await.ids().contains(&first[2]));
}

#[tokio::test(start_paused = true)]
async fn cached_answers_end_with_an_event_and_never_show_what_was_hidden() {
    let c = caller_with(ServeConfig { items: ItemMemoryConfig { fresh_ms: 0, ..Default::default() }, ..Default::default() });
    let path = "/recommendations/chess-fan-03";
    let first = c.get(path).await;
    let second = c.get(path).await;
    assert_eq!((second.json["cache"].as_str(), second.ids()), (Some("hit"), first.ids()));
    assert_eq!(c.get("/recommendations/chess-fan-03?k=9").await.json["cache"], "miss");
    assert_eq!(c.get("/recommendations/chess-fan-03?cache=false").await.json["cache"], "miss");
    let liked = first.ids()[0].clone();
    let event = format!(r#"{{"user_id":"chess-fan-03","item_id":"{liked}","kind":"like"}}"#);
    let token = c.post("/events", event).await.json["token"].as_str().unwrap().to_owned();
    let third = c.get(&format!("{path}?after={token}")).await;
    assert_eq!(third.json["cache"], "miss");
    assert!(!third.ids().contains(&liked) && third.degraded().is_empty(), "{}", third.text);
    assert_eq!(c.get(path).await.json["cache"], "hit");
    let hidden = third.ids()[0].clone();
    let key = (Tenant::default(), ItemId::trusted(hidden.as_str()));
    c.fakes.world.lock().unwrap().change(&key, |i| i.hidden = true);
    let fourth = c.get(path).await;
    assert!(fourth.json["cache"] == "miss" && !fourth.ids().contains(&hidden), "{}", fourth.text);
}

#[tokio::test]
async fn without_cache_nothing_is_written() {
    let c = caller();
    c.get("/recommendations/chess-fan-03?cache=false").await;
    assert!(c.fakes.world.lock().unwrap().cache.is_empty());
}

#[tokio::test(start_paused = true)]
async fn waiting_for_events_that_do_not_come_is_bounded() {
    let c = caller();
    let a = c.get("/recommendations/chess-fan-03?after=999").await;
    assert_eq!((a.status.as_u16(), a.degraded(), a.ids().len()), (200, vec!["after".to_owned()], 10));
    assert!(c.get("/recommendations/chess-fan-03?after=rubbish").await.problem(400).contains("after"));
}

#[tokio::test]
async fn sessions_texts_and_searches() {
    let c = caller();
    let by_text = c.post("/recommendations", r#"{"text":"anything about baking","k":5}"#).await;
    assert_eq!((by_text.status.as_u16(), by_text.json["user_id"].is_null(), by_text.ids().len()), (200, true, 5));
    assert!(by_text.ids().iter().all(|i| i.starts_with("baking-")), "{}", by_text.text);
    let by_items = c.post("/recommendations", r#"{"items":["running-01","running-04"],"explain":true}"#).await;
    assert!(by_items.ids().iter().all(|i| i.starts_with("running-") && !["running-01", "running-04"].contains(&i.as_str())));
    assert!(by_items.json["recommendations"][0]["reasons"].as_array().unwrap().iter().any(|r| r["source"] == "graph"));
    assert_eq!(c.post("/recommendations", "{}").await.ids().len(), 10);
    for (body, what) in [
        ("", "object"),
        ("[]", "object"),
        ("{", "body"),
        (r#"{"k":0}"#, "1 to 100"),
        (r#"{"k":101}"#, "1 to 100"),
        (r#"{"kk":1}"#, "kk"),
        (r#"{"items":[""]}"#, "items"),
        (r#"{"text":7}"#, "string"),
        (r#"{"k":-1}"#, "-1"),
        (r#"{"budget_ms":0}"#, "budget_ms"),
    ] {
        let p = c.post("/recommendations", body).await.problem(400);
        assert!(p.contains(what), "{body}: {p}");
    }
}

#[tokio::test]
async fn parameters_out_of_range_are_named() {
    let c = caller();
    for (path, what) in [
        ("/recommendations/u?k=0", "k"),
        ("/recommendations/u?k=101", "1 to 100"),
        ("/recommendations/u?k=ten", "k"),
        ("/recommendations/u?k=5&k=5", "k"),
        ("/recommendations/u?k=5&top=6", "top"),
        ("/recommendations/u?budget_ms=0", "budget_ms"),
        ("/recommendations/u?budget_ms=99999999", "budget_ms"),
        ("/recommendations/u?explain=maybe", "explain"),
        ("/recommendations/u?cache=yes", "cache"),
        ("/recommendations/u?categroy=x", "categroy"),
        ("/recommendations/u?category=", "category"),
        ("/recommendations/u?exclude=", "exclude"),
        ("/recommendations/u?after=", "after"),
        ("/recommendations/a%00b", "user"),
        ("/recommendations/%ff%fe", "user"),
        ("/users?limit=0", "limit"),
        ("/items?limit=501", "limit"),
        ("/trending?k=0", "k"),
        ("/items/a%0Ab", "item"),
        ("/status?x=1", "x"),
    ] {
        let a = c.get(path).await;
        let p = a.problem(400);
        assert!(p.contains(what) && a.json["allowed"].is_string(), "{path}: {}", a.text);
    }
    let long = format!("/recommendations/{}", "u".repeat(257));
    assert!(c.get(&long).await.problem(400).contains("256"));
    for path in ["/nothing", "/recommendations", "/recommendations/", "/users/a/b/c", "/items//similar"] {
        let a = c.get(path).await;
        assert!(matches!(a.status.as_u16(), 400 | 404 | 405), "{path}: {}", a.status);
        assert_eq!(a.headers["content-type"], "application/problem+json", "{path}");
    }
    let wrong = c.post("/recommendations/u", "").await;
    wrong.problem(405);
    assert!(wrong.headers["allow"].to_str().unwrap().contains("GET"));
}

#[tokio::test]
async fn tenants_are_apart() {
    let c = caller();
    let ask = |tenant: &'static str, path: &'static str| {
        let request = Request::get(path).header("x-tenant", tenant).body(Body::empty()).unwrap();
        c.send(request)
    };
    let empty = ask("acme", "/recommendations/chess-fan-03").await;
    assert_eq!((empty.status.as_u16(), empty.ids().len(), empty.degraded().len()), (200, 0, 0));
    assert_eq!(ask("default", "/recommendations/chess-fan-03").await.ids().len(), 10);
    assert!(ask("a\tb", "/status").await.problem(400).contains("X-Tenant"));
    let body = r#"{"tenant":"other","user_id":"u","text":"x"}"#;
    let mixed = Request::post("/events").header("x-tenant", "acme").body(Body::from(body)).unwrap();
    assert_eq!(c.send(mixed).await.json["rejected"][0]["index"], 0);
    let sent = Request::post("/events").header("x-tenant", "acme").body(Body::from(r#"{"item_id":"i","text":"x"}"#)).unwrap();
    assert_eq!(c.send(sent).await.status, 202);
    assert_eq!(ask("acme", "/recommendations/anyone").await.ids(), ["i"]);
    assert!(
        c.fakes
            .world
            .lock()
            .unwrap()
            .log
            .iter()
            .all(|(t, _, b)| t.as_str() == "acme" && b.starts_with(b"{\"tenant\":\"acme\""))
    );
}

#[tokio::test]
async fn keys_decide_the_tenant() {
    // The SHA-256 of "open sesame".
    let hash = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";
    let c = caller_with(ServeConfig { api_keys: [(hash.to_owned(), "default".to_owned())].into(), ..Default::default() });
    let ask = |key: &'static str, tenant: &'static str| {
        let request = Request::get("/recommendations/chess-fan-03").header("authorization", key).header("x-tenant", tenant);
        c.send(request.body(Body::empty()).unwrap())
    };
    c.get("/recommendations/u").await.problem(401);
    ask("Bearer guess", "default").await.problem(401);
    ask("open sesame", "default").await.problem(401);
    ask("Bearer open sesame", "acme").await.problem(403);
    assert_eq!(ask("Bearer open sesame", "default").await.ids().len(), 10);
    assert_eq!(c.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn events_in_every_shape() {
    let c = caller();
    let good = r#"{"user_id":"u1","text":"hello chess"}"#;
    let one = c.post("/events", good).await;
    assert_eq!((one.status.as_u16(), one.json["accepted"].as_u64()), (202, Some(1)));
    assert!(one.json["token"].is_string());
    let many = c.post("/events", format!("[{good}, 7, {good}, {{\"user_id\":\"\"}}]")).await;
    assert_eq!((many.json["accepted"].as_u64(), many.json["rejected"].as_array().unwrap().len()), (Some(2), 2));
    assert_eq!((many.json["rejected"][0]["index"].as_u64(), many.json["rejected"][1]["index"].as_u64()), (Some(1), Some(3)));
    let lines = Request::post("/events").header("content-type", "application/x-ndjson; charset=utf-8");
    let lines = c.send(lines.body(Body::from(format!("{good}\nbroken\n{good}\n"))).unwrap()).await;
    assert_eq!((lines.json["accepted"].as_u64(), lines.json["rejected"][0]["index"].as_u64()), (Some(2), Some(1)));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(good.as_bytes()).unwrap();
    let packed =
        Request::post("/events").header("content-encoding", "gzip").body(Body::from(packed.finish().unwrap())).unwrap();
    assert_eq!(c.send(packed).await.json["accepted"], 1);
    let letters = c.fakes.world.lock().unwrap().letters.clone();
    assert_eq!(letters.iter().map(|l| &*l.bytes).collect::<Vec<_>>(), [&b"7"[..], b"{\"user_id\":\"\"}", b"broken"]);
    assert!(letters.iter().all(|l| l.origin == "http" && !l.reason.is_empty()));
    let none = c.post("/events", "[]").await;
    assert!(none.status == 202 && none.json["token"].is_null());
}

#[tokio::test]
async fn bodies_that_are_broken_as_a_whole() {
    let c = caller();
    for body in ["", "  ", "hello", "{\"user_id\":", "[{}", "17", "\"x\"", "{]"] {
        assert!(c.post("/events", body).await.problem(400).contains("body"), "{body}");
    }
    let encoded = |encoding: &str, body: Vec<u8>| {
        c.send(Request::post("/events").header("content-encoding", encoding).body(Body::from(body)).unwrap())
    };
    encoded("gzip", b"not gzip".to_vec()).await.problem(400);
    encoded("br", b"x".to_vec()).await.problem(415);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..1024 {
        bomb.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 2 << 20);
    assert!(encoded("gzip", bomb).await.problem(413).contains("8388608"));
    c.post("/events", vec![b'x'; 10 << 20]).await.problem(413);
    let lines = "{}\n".repeat(100_001);
    assert!(c.post("/events", lines).await.problem(413).contains("100000"));
    assert!(c.fakes.world.lock().unwrap().log.is_empty());
}

#[tokio::test]
async fn nesting_and_long_lines_are_rejected_one_by_one() {
    let limits = nearcast_serve::config::Limits { body_bytes: 32 << 20, ..Default::default() };
    let c = caller_with(ServeConfig { limits, ..Default::default() });
    let deep = format!(r#"{{"item_id":"i","attributes":{{"a":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let long = format!(r#"{{"user_id":"u","text":"{}"}}"#, "x".repeat(10 << 20));
    let good = r#"{"user_id":"u","text":"x"}"#;
    let a = c.post("/events", format!("{deep}\n{long}\n{good}\n")).await;
    assert_eq!((a.json["accepted"].as_u64(), a.json["rejected"].as_array().unwrap().len()), (Some(1), 2), "{}", a.text);
    let a = c.post("/events", format!("[{deep},{long},{good}]")).await;
    assert_eq!((a.json["accepted"].as_u64(), a.json["rejected"].as_array().unwrap().len()), (Some(1), 2));
}

#[tokio::test]
async fn erasure_goes_through_the_log() {
    let c = caller();
    let a = c.send(Request::delete("/users/chess-fan-03").body(Body::empty()).unwrap()).await;
    assert_eq!((a.status.as_u16(), a.json["accepted"].as_u64()), (202, Some(1)));
    assert!(c.get("/users/chess-fan-03").await.json["messages"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn people_and_items() {
    let c = caller();
    let page = c.get("/users?prefix=chess&limit=3").await;
    assert_eq!(page.json["users"][2], "chess-fan-02");
    let next = c.get(&format!("/users?prefix=chess&limit=3&after={}", page.json["next"].as_str().unwrap())).await;
    assert_eq!(next.json["users"][0], "chess-fan-03");
    let user = c.get("/users/chess-fan-03").await;
    assert_eq!(user.json["engagements"][0]["item_id"], "chess-15");
    assert_eq!(user.json["engagements"][0]["text"], "chess thing chess-15");
    assert!(user.json["messages"][0]["text"].as_str().unwrap().contains("love chess"));
    let near = c.get("/users/chess-fan-03/similar?k=4").await;
    let near = near.json["similar"].as_array().unwrap().clone();
    assert!(near.len() == 4 && near.iter().all(|n| n["user_id"].as_str().unwrap().starts_with("chess-fan")));
    assert!(near.iter().all(|n| n["user_id"] != "chess-fan-03"));
    let item = c.get("/items/chess-01").await;
    assert_eq!((item.json["text"].as_str(), item.json["hidden"].as_bool()), (Some("chess thing chess-01"), Some(false)));
    c.get("/items/none").await.problem(404);
    let similar = c.get("/items/chess-01/similar?k=5").await;
    let similar = similar.json["similar"].as_array().unwrap().clone();
    assert!(similar.len() == 5 && similar.iter().all(|s| s["item_id"].as_str().unwrap().starts_with("chess-")));
    assert!(similar[0]["reasons"].as_array().unwrap().iter().any(|r| r["source"] == "graph"));
    assert_eq!(c.get("/items?limit=60&category=chess").await.json["items"].as_array().unwrap().len(), 20);
    let found = c.get("/items?q=baking%20thing&limit=5").await;
    assert!(found.json["items"].as_array().unwrap().iter().all(|i| i["item_id"].as_str().unwrap().starts_with("baking-")));
    let rising = c.get("/trending?k=7&category=running").await;
    assert_eq!(rising.json["trending"].as_array().unwrap().len(), 7);
    let status = c.get("/status").await;
    assert_eq!((status.json["users"].as_u64(), status.json["items"].as_u64()), (Some(60), Some(60)));
}

#[tokio::test]
async fn what_rises_is_read_once_for_many() {
    let c = caller();
    let asked = (0..50).map(|n| c.recommender.recommend(&TENANT, user(n), &QUERY));
    futures_util::future::join_all(asked).await;
    assert_eq!(c.fakes.world.lock().unwrap().calls["engagement.trending"], 1);
}

static TENANT: std::sync::LazyLock<Tenant> = std::sync::LazyLock::new(Tenant::default);
static QUERY: std::sync::LazyLock<nearcast_serve::Query> = std::sync::LazyLock::new(nearcast_serve::Query::default);

fn user(n: usize) -> &'static nearcast_domain::UserId {
    Box::leak(Box::new(nearcast_domain::UserId::trusted(format!("user-{n}"))))
}

#[tokio::test]
async fn operations() {
    let c = caller();
    assert_eq!(c.get("/health/live").await.json["status"], "live");
    let ready = c.get("/health/ready").await;
    assert_eq!((ready.status.as_u16(), ready.json["ready"].as_bool()), (200, Some(true)));
    c.get("/recommendations/u").await;
    let metrics = c.get("/metrics").await.text;
    for name in [
        "http_requests_total{method=\"GET\",route=\"/recommendations/{user}\",status=\"200\"}",
        "http_request_duration_seconds_bucket",
        "nearcast_source_duration_seconds",
        "nearcast_response_cache_total",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    let contract = c.get("/openapi.json").await;
    assert_eq!(contract.json["openapi"], "3.1.0");
    let paths = contract.json["paths"].as_object().unwrap();
    for path in ["/recommendations/{user}", "/recommendations", "/events", "/users/{user}", "/trending", "/metrics", "/docs"] {
        assert!(paths.contains_key(path), "{path}");
    }
    assert!(c.get("/docs").await.text.contains("/recommendations/{user}"));
    c.shutdown.cancel();
    let ready = c.get("/health/ready").await;
    assert_eq!((ready.status.as_u16(), ready.json["draining"].as_bool()), (503, Some(true)));
}

#[tokio::test]
async fn ids_of_requests_come_back() {
    let c = caller();
    let given = Request::get("/health/live").header("x-request-id", "abc-1").body(Body::empty()).unwrap();
    assert_eq!(c.send(given).await.headers["x-request-id"], "abc-1");
    let (a, b) = (c.get("/nothing").await, c.get("/nothing").await);
    assert_ne!(a.headers["x-request-id"], b.headers["x-request-id"]);
}

#[tokio::test(start_paused = true)]
async fn too_much_at_once_is_turned_away() {
    let limits = nearcast_serve::config::Limits { in_flight: 1, ..Default::default() };
    let c = caller_with(ServeConfig { limits, ..Default::default() });
    c.fakes.break_store("graph", support::Fault::Slow(Duration::from_millis(30)));
    let (first, second) = tokio::join!(c.get("/recommendations/u"), c.get("/recommendations/u"));
    assert_eq!(first.status, 200);
    second.problem(503);
    assert_eq!(second.headers["retry-after"], "1");
}

#[tokio::test(start_paused = true)]
async fn an_erasure_ends_every_cached_answer_that_may_name_whoever_is_gone() {
    let c = caller();
    let path = "/recommendations/chess-fan-03";
    let first = c.get(path).await;
    assert_eq!(c.get(path).await.json["cache"], "hit");
    let reasons = first.json["recommendations"].as_array().unwrap().iter().flat_map(|r| r["reasons"].as_array().unwrap());
    let named = reasons.filter(|r| r["source"] == "similar_users").find_map(|r| r["via"][0].as_str()).unwrap().to_owned();
    let gone = c.send(Request::delete(format!("/users/{named}")).body(Body::empty()).unwrap()).await;
    assert_eq!(gone.status, 202);
    for query in ["", "?cache=false", ""] {
        let later = c.get(&format!("{path}{query}")).await;
        assert!(!later.text.contains(&named), "{named} was erased: {}", later.text);
    }
    assert_eq!(c.get(path).await.json["cache"], "hit");
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_the_same_at_once_share_one_computation() {
    let c = caller();
    let asks = (0..20).map(|_| c.get("/recommendations/baking-fan-01"));
    let answers = futures_util::future::join_all(asks).await;
    assert!(answers.iter().all(|a| a.status == 200 && a.ids() == answers[0].ids() && a.degraded().is_empty()));
    let world = c.fakes.world.lock().unwrap();
    assert_eq!(world.calls["cache.put"], 1, "computed and kept once");
}
