//! Hosted services: nothing lost, order kept, limits never exceeded, whatever the service does.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nearcast_domain::{
    ErrorKind,
    ports::{Embedder as _, Priority},
};
use nearcast_embed::hosted::{Api, HostedConfig, HostedEmbedder, KeySource};
use serde_json::{Value, json};
use support::server::{Reply, Request, Server};

const KEY: &str = "sk-very-secret";

/// A vector by which a text is known again.
fn vector(text: &str) -> Vec<f32> {
    let n: f32 = text.split('-').next_back().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    vec![1.0, n]
}

fn answer(api: Api, body: &[u8]) -> Value {
    let request: Value = serde_json::from_slice(body).unwrap();
    let field = match api {
        Api::OpenAi => "input",
        Api::Cohere => "texts",
        Api::Tei => "inputs",
    };
    let texts = request[field].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect::<Vec<_>>();
    let vectors = texts.iter().map(|t| vector(t)).collect::<Vec<_>>();
    match api {
        Api::OpenAi => {
            // In another order, as the index allows.
            let data = vectors.iter().enumerate().rev().map(|(i, v)| json!({"index": i, "embedding": v})).collect::<Vec<_>>();
            json!({"data": data, "usage": {"total_tokens": 7}})
        }
        Api::Cohere => json!({"embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 7}}}),
        Api::Tei => json!(vectors),
    }
}

fn config(api: Api, server: &Server, key: &std::path::Path) -> HostedConfig {
    HostedConfig {
        attempt: Duration::from_millis(500),
        deadline: Duration::from_secs(60),
        rest: Duration::from_millis(100),
        batch_texts: 10,
        ..HostedConfig::new(api, &server.url, "m", 2, KeySource::File(key.to_path_buf()))
    }
}

fn key_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{KEY}\n")).unwrap();
    file
}

fn numbered(n: usize) -> Vec<Arc<str>> {
    (0..n).map(|i| format!("text-{i}").into()).collect()
}

fn check(vectors: &[nearcast_domain::Vector], n: usize) {
    assert_eq!(vectors.len(), n);
    for (i, v) in vectors.iter().enumerate() {
        assert!((v[0].hypot(v[1]) - 1.0).abs() < 1e-5);
        assert!((v[1] / v[0] - i as f32).abs() < 0.01 * (i as f32 + 1.0), "text {i} got the vector of {}", v[1] / v[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_dialects() {
    for api in [Api::OpenAi, Api::Cohere, Api::Tei] {
        let server = Server::start(move |r: &Request| {
            assert_eq!((r.method.as_str(), r.path.as_str()), ("POST", api.path()));
            assert_eq!(r.header("authorization"), Some("Bearer sk-very-secret"));
            Reply::new(200, answer(api, &r.body).to_string())
        });
        let key = key_file();
        let embedder = HostedEmbedder::new(config(api, &server, key.path())).unwrap();
        check(&embedder.embed(&numbered(57), Priority::Bulk).await.unwrap(), 57);
        assert_eq!(embedder.embed(&["".into()], Priority::Query).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_nothing_is_lost() {
    // The service counts requests and tokens in any window of its own clock, fails, stalls, hangs up and throttles in turn.
    let window = Duration::from_millis(400);
    let (most_requests, most_tokens) = (6_usize, 120_u64);
    let seen: Arc<Mutex<VecDeque<(Instant, u64)>>> = Arc::default();
    let worst = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let turn = AtomicU32::new(0);
    let (log, top) = (Arc::clone(&seen), Arc::clone(&worst));
    let server = Server::start(move |r: &Request| {
        let request: Value = serde_json::from_slice(&r.body).unwrap();
        let tokens = request["input"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().len() as u64 / 3 + 1).sum::<u64>();
        {
            let mut log = log.lock().unwrap();
            let now = Instant::now();
            log.push_back((now, tokens));
            while log.front().is_some_and(|(at, _)| now - *at > window) {
                log.pop_front();
            }
            top.0.fetch_max(log.len(), Ordering::SeqCst);
            top.1.fetch_max(log.iter().map(|(_, t)| *t as usize).sum(), Ordering::SeqCst);
        }
        let good = || Reply::new(200, answer(Api::OpenAi, &r.body).to_string());
        match turn.fetch_add(1, Ordering::SeqCst) % 8 {
            1 => Reply { headers: vec![("Retry-After", "0.3".into())], ..Reply::new(429, "slow down") },
            3 => Reply::new(503, "sick"),
            5 => Reply { cut: Some(20), ..good() },
            6 => Reply { stall: Duration::from_secs(2), ..good() },
            _ => good(),
        }
    });
    let key = key_file();
    let config = HostedConfig {
        requests_per_window: most_requests as u32,
        tokens_per_window: most_tokens,
        window,
        batch_tokens: 40,
        ..config(Api::OpenAi, &server, key.path())
    };
    let embedder = Arc::new(HostedEmbedder::new(config).unwrap());
    let other = tokio::spawn({
        let embedder = Arc::clone(&embedder);
        async move { embedder.embed(&numbered(40), Priority::Query).await }
    });
    check(&embedder.embed(&numbered(150), Priority::Bulk).await.unwrap(), 150);
    check(&other.await.unwrap().unwrap(), 40);
    assert!(worst.0.load(Ordering::SeqCst) <= most_requests, "requests: {}", worst.0.load(Ordering::SeqCst));
    assert!(worst.1.load(Ordering::SeqCst) as u64 <= most_tokens, "tokens: {}", worst.1.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_refused() {
    let lies: [(&str, &str); 6] = [
        (r#"{"data":[{"index":0,"embedding":[1,2,3]}]}"#, "3 numbers"),
        (r#"{"data":[]}"#, "0 vectors"),
        (r#"{"data":[{"index":1,"embedding":[1,2]}]}"#, "indexes"),
        (r#"{"data":[{"index":0,"embedding":[0,0]}]}"#, "direction"),
        (r#"{"data":[{"index":0,"embedding":[1e39,1]}]}"#, ""),
        ("<html>", "cannot be read"),
    ];
    for (body, says) in lies {
        let server = Server::start(move |_: &Request| Reply::new(200, body));
        let key = key_file();
        let embedder = HostedEmbedder::new(config(Api::OpenAi, &server, key.path())).unwrap();
        let error = embedder.embed(&["a".into()], Priority::Query).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{body}");
        assert!(error.message.contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_service_is_an_error_in_time_and_the_key_is_never_shown() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(move |r: &Request| {
        count.fetch_add(1, Ordering::SeqCst);
        // A service that shows what it was sent.
        Reply::new(500, r.header("authorization").unwrap_or_default())
    });
    let key = key_file();
    let config = HostedConfig {
        deadline: Duration::from_secs(2),
        failures: 2,
        rest: Duration::from_millis(700),
        ..config(Api::OpenAi, &server, key.path())
    };
    assert!(!format!("{config:?}").contains(KEY));
    let embedder = HostedEmbedder::new(config).unwrap();
    let error = embedder.embed(&["a".into()], Priority::Query).await.unwrap_err();
    assert!(error.kind.is_transient() && !error.to_string().contains(KEY), "{error}");
    // With a rest of 700 ms after two failures, two seconds hold few attempts.
    assert!((2..=6).contains(&asked.load(Ordering::SeqCst)), "{}", asked.load(Ordering::SeqCst));

    let refusing = Server::start(|_: &Request| Reply::new(401, KEY));
    let embedder = HostedEmbedder::new(self::config(Api::Cohere, &refusing, key.path())).unwrap();
    let error = embedder.embed(&["a".into()], Priority::Query).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(!error.to_string().contains(KEY));
    let unset = KeySource::Env("NEARCAST_TEST_NO_SUCH_VARIABLE".into());
    let error =
        HostedEmbedder::new(HostedConfig { key: unset, ..self::config(Api::Tei, &refusing, key.path()) }).err().unwrap();
    assert!(error.to_string().contains("NEARCAST_TEST_NO_SUCH_VARIABLE"), "{error}");
}
