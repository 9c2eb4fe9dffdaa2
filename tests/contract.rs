//! The whole path through the real program: events in by HTTP and by file, answers out, dead letters, erasure, tenants.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{agent, digests, free_port, get, get_json, post, run, run_ok, serve, town, write_lines};

fn items(answer: &Value) -> Vec<String> {
    answer["recommendations"].as_array().unwrap().iter().map(|r| r["item_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn from_event_to_recommendation() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("town.jsonl");
    let events: Vec<Value> = town(5, 80, 3000).into_iter().filter(|e| e["type"] != "erasure").collect();
    write_lines(&file, &events);
    let data = dir.path().join("data");
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let port = free_port();
    let server = serve(&data, port);

    let answer = get_json(port, "/recommendations/u3?k=10&explain=true");
    let before = items(&answer);
    assert_eq!(before.len(), 10);
    assert_eq!(answer["degraded"], json!([]));
    assert!(answer["recommendations"][0]["reasons"][0]["source"].is_string(), "{answer}");

    // What was done is not recommended, at once, in the very answer that the token asks for.
    let best = &before[0];
    let event = json!({"type":"engagement","user_id":"u3","item_id":best,"kind":"purchase","timestamp":"2026-02-01T00:00:00Z"});
    let (status, accepted) = post(port, "/events", &event).unwrap();
    assert_eq!((status, &accepted["accepted"]), (202, &json!(1)), "{accepted}");
    let token = accepted["token"].as_str().unwrap();
    let after = get_json(port, &format!("/recommendations/u3?after={token}&budget_ms=5000"));
    assert_eq!(after["degraded"], json!([]));
    assert!(!items(&after).contains(best), "{after}");

    // Someone never seen; a tenant with nothing.
    assert_eq!(items(&get_json(port, "/recommendations/nobody")).len(), 10);
    let (_, session) = post(port, "/recommendations", &json!({"text":"a quiet coffee grinder","k":5})).unwrap();
    assert_eq!(items(&session).len(), 5);
    let mut other =
        agent().get(format!("http://127.0.0.1:{port}/recommendations/u3")).header("x-tenant", "other").call().unwrap();
    let other: Value = serde_json::from_str(&other.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(items(&other).len(), 0, "{other}");

    // Bad ones are rejected by their index, kept with their bytes, and stop nothing.
    let batch = json!([{"type":"message","user_id":"u3"}, {"user_id":"u3","text":"stars","timestamp":"2026-02-02T00:00:00Z"}]);
    let (status, answer) = post(port, "/events", &batch).unwrap();
    assert_eq!((status, &answer["accepted"], &answer["rejected"][0]["index"]), (202, &json!(1), &json!(0)), "{answer}");
    assert_eq!(get(port, "/recommendations/u3?k=1000").unwrap().0, 400);

    // Forgotten: nothing of them is left to be shown, and nobody is near them.
    let deleted = agent().delete(format!("http://127.0.0.1:{port}/users/u3")).call().unwrap();
    assert_eq!(deleted.status().as_u16(), 202);
    let until = Instant::now() + Duration::from_secs(20);
    while get_json(port, "/users?prefix=u3").to_string().contains("\"u3\"") {
        assert!(Instant::now() < until, "u3 is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!get_json(port, "/users/u4/similar").to_string().contains("\"u3\""));
    drop(server);

    run_ok(&data, &["ingest", "--drain"]);
    let erased = digests(&data);
    // Told all over again, the erased stay erased.
    run_ok(&data, &["import", file.to_str().unwrap()]);
    assert_eq!(digests(&data), erased);
}

#[test]
fn dead_letters_are_listed_shown_and_taken_in_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let file = dir.path().join("mixed.jsonl");
    let lines = [
        r#"{"type":"message","message_id":"m1","user_id":"u1","text":"first","timestamp":"2026-01-01T00:00:00Z"}"#,
        r#"{"type":"message","message_id":"m1","user_id":"u1","text":"second","timestamp":"2026-01-01T00:00:00Z"}"#,
        "not json at all",
        r#"{"type":"message","user_id":"u2","text":"","timestamp":"2026-01-01T00:00:00Z"}"#,
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let said = run_ok(&data, &["import", file.to_str().unwrap()]);
    assert!(said.contains("1 new") && said.contains("1 in conflict") && said.contains("2 rejected"), "{said}");
    let list = run_ok(&data, &["dlq", "list", "--json"]);
    let letters: Vec<Value> = list.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(letters.len(), 3, "{list}");
    let broken = letters.iter().find(|l| l["bytes"] == "not json at all").unwrap();
    assert!(broken["origin"].as_str().unwrap().ends_with("mixed.jsonl:3"), "{broken}");
    assert_eq!(run_ok(&data, &["dlq", "show", broken["id"].as_str().unwrap(), "--raw"]), "not json at all");
    // Read twice, kept once.
    run_ok(&data, &["import", file.to_str().unwrap()]);
    assert_eq!(run_ok(&data, &["dlq", "list"]).lines().count(), 3);
    assert!(run_ok(&data, &["dlq", "redrive", "--all"]).contains("0 of 3"));
    assert_eq!(run(&data, &["dlq", "redrive"]).status.code(), Some(1));
    assert_eq!(run_ok(&data, &["dlq", "list"]).lines().count(), 3);
}
