//! A service that embeds, configured as an operator would: checked, used by every command, its revision kept with the data, its
//! key shown nowhere.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

#[path = "../embed/tests/support/server.rs"]
#[allow(dead_code, missing_docs, reason = "this test uses a part")]
mod server;
mod support;

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::{Value, json};
use server::{Reply, Request, Server};
use support::{free_port, get, get_json, nearcast, town, write_lines};

const KEY: &str = "sk-very-secret";
const DIMENSION: usize = 8;

/// A vector by which a text is known again.
fn vector(text: &str) -> Vec<f32> {
    let mut v = vec![0.1; DIMENSION];
    for (i, b) in text.bytes().enumerate() {
        v[(i + usize::from(b)) % DIMENSION] += 1.0;
    }
    v
}

/// An OpenAI-compatible service that throttles, fails and hangs up now and then, and counts what it was sent.
fn service(asked: Arc<AtomicU32>) -> Server {
    Server::start(move |r: &Request| {
        if r.path != "/v1/embeddings" || r.header("authorization") != Some(&format!("Bearer {KEY}")) {
            return Reply::new(401, KEY);
        }
        let body: Value = serde_json::from_slice(&r.body).unwrap();
        let texts = body["input"].as_array().unwrap();
        let data = texts.iter().enumerate().map(|(i, t)| json!({"index": i, "embedding": vector(t.as_str().unwrap())}));
        let good = json!({"data": data.collect::<Vec<_>>(), "usage": {"total_tokens": texts.len()}}).to_string();
        match asked.fetch_add(1, Ordering::SeqCst) % 5 {
            1 => Reply { headers: vec![("Retry-After", "0.1".into())], ..Reply::new(429, "slow down") },
            3 => Reply { cut: Some(10), ..Reply::new(200, good) },
            _ => Reply::new(200, good),
        }
    })
}

fn configured(command: &mut Command, url: &str, key: &Path) -> std::process::Output {
    for (name, value) in [
        ("API", "openai"),
        ("NAME", "text-embedding-test"),
        ("URL", url),
        ("DIMENSION", &DIMENSION.to_string()),
        ("KEY", &format!("file:{}", key.display())),
        ("TIMEOUT_MS", "60000"),
    ] {
        command.env(format!("NEARCAST__MODEL__{name}"), value);
    }
    let out = command.output().unwrap();
    let all = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(!all.contains(KEY), "the key was shown: {all}");
    out
}

fn good(out: std::process::Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn embed_import_and_run_by_a_service() {
    let dir = tempfile::tempdir().unwrap();
    let (key, data) = (dir.path().join("key"), dir.path().join("data"));
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let server = service(Arc::clone(&asked));

    let printed = good(configured(&mut nearcast(&data, &["config", "print"]), &server.url, &key));
    assert!(printed.contains("file:") && printed.contains("text-embedding-test"), "{printed}");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "checking sends nothing");

    let texts = (0..700).map(|i| format!("text number {i}\n")).collect::<String>();
    let file = dir.path().join("texts.txt");
    std::fs::write(&file, texts).unwrap();
    let out = configured(&mut nearcast(&data, &["embed", file.to_str().unwrap(), "--stats"]), &server.url, &key);
    let stats: Value = serde_json::from_str(String::from_utf8_lossy(&out.stderr).lines().last().unwrap()).unwrap();
    let vectors = good(out).lines().map(|l| serde_json::from_str::<Vec<f32>>(l).unwrap()).collect::<Vec<_>>();
    assert_eq!((vectors.len(), stats["texts"].as_u64(), stats["tokens"].as_u64()), (700, Some(700), Some(700)));
    for (i, v) in vectors.iter().enumerate() {
        let want = vector(&format!("text number {i}"));
        let (norm, dot) = want.iter().zip(v).fold((0.0, 0.0), |(n, d), (w, v)| (n + w * w, d + w * v));
        assert!((dot / f32::sqrt(norm) - 1.0).abs() < 1e-4, "text {i} has the vector of another");
    }

    let events = dir.path().join("town.jsonl");
    write_lines(&events, &town(5, 20, 300));
    good(configured(&mut nearcast(&data, &["import", events.to_str().unwrap()]), &server.url, &key));
    let about: Value = serde_json::from_slice(&std::fs::read(data.join("nearcast.json")).unwrap()).unwrap();
    assert_eq!(about["model"], format!("text-embedding-test@openai-text-embedding-test-{DIMENSION}"));

    // The same data under another model is refused, with the remedy.
    let out = nearcast(&data, &["verify"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("reembed") && text.contains("openai-text-embedding-test"), "{text}");

    let port = free_port();
    let mut serving = nearcast(&data, &["run", "--listen", &format!("127.0.0.1:{port}")]);
    for (name, value) in [("API", "openai"), ("NAME", "text-embedding-test"), ("URL", &server.url), ("DIMENSION", "8")] {
        serving.env(format!("NEARCAST__MODEL__{name}"), value);
    }
    // However busy the machine is, a good answer comes within this.
    serving.env("NEARCAST__SERVE__BUDGET_MS", "2000");
    serving.env("NEARCAST__MODEL__KEY", format!("file:{}", key.display()));
    let _running = support::Running(serving.spawn().unwrap());
    for _ in 0..1500 {
        if get(port, "/health/ready").is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let answer = get_json(port, "/recommendations/u1?k=5&cache=false");
    assert_eq!(answer["recommendations"].as_array().unwrap().len(), 5);
    assert!(answer["model"].as_str().unwrap().starts_with("text-embedding-test@"), "{answer}");
    // A text is embedded by the service as it is asked for. An answer that the service makes wait is given without it.
    let mut whole = false;
    for i in 0..20 {
        let (before, body) = (asked.load(Ordering::SeqCst), json!({"text": format!("quiet trail shoes {i}"), "k": 3}));
        let (status, answer) = support::post(port, "/recommendations", &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["recommendations"].as_array().unwrap().len(), 3, "{answer}");
        assert!(asked.load(Ordering::SeqCst) > before);
        whole |= answer["degraded"].as_array().unwrap().is_empty();
    }
    assert!(whole, "the service answered in time for none of 20");
    let (_, metrics) = get(port, "/metrics").unwrap();
    assert!(metrics.contains("nearcast_embed_hosted_tokens_total{model=\"text-embedding-test\"}"), "{metrics}");
    assert!(!metrics.contains(KEY));
}

#[test]
fn bad_combinations_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let check = |pairs: &[(&str, &str)]| {
        let mut command = nearcast(dir.path(), &["config", "check"]);
        command.env_remove("NEARCAST__MODEL__NAME");
        for (name, value) in pairs {
            command.env(format!("NEARCAST__MODEL__{name}"), value);
        }
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let service = [("API", "openai"), ("NAME", "m"), ("DIMENSION", "8")];
    assert_eq!(check(&service), (Some(0), String::new()));
    for (more, words) in [
        (("KEY", KEY), "env:NAME"),
        (("KEY", "12345678"), "env:NAME"),
        (("OFFLINE", "true"), "model.offline"),
        (("URL", "http://far.example/"), "https"),
        (("TOKENS_PER_MINUTE", "0"), "limits"),
    ] {
        let mut pairs = service.to_vec();
        pairs.push(more);
        if more.0 == "URL" {
            pairs.push(("KEY", "env:SOME_KEY"));
        }
        let (code, text) = check(&pairs);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(words) && !text.contains(KEY) && !text.contains("12345678"), "{text}");
    }
    assert_eq!(check(&[("API", "openai"), ("DIMENSION", "8")]).0, Some(2));
    assert_eq!(check(&[("DIMENSION", "8")]).0, Some(2));
    // A key that is nowhere is told when the service is to be used, by its place.
    let mut command = nearcast(dir.path(), &["verify"]);
    for (name, value) in service {
        command.env(format!("NEARCAST__MODEL__{name}"), value);
    }
    let out = command.env("NEARCAST__MODEL__KEY", "env:NEARCAST_TEST_NO_SUCH_KEY").output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("NEARCAST_TEST_NO_SUCH_KEY"), "{text}");
}
