//! The same events through Kafka, three workers and five stores give the digests of the embedded run, whatever happens meanwhile.
//!
//! Needs the servers of `infra/local/`.
#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    Running, digests, get, get_json, post, run_ok,
    stack::{Stack, films},
};

/// How long a run may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// How many of the films' events are told, unless NEARCAST_FILMS says otherwise.
const FILMS: usize = 60_000;
/// How often a worker is killed, unless NEARCAST_KILLS says otherwise.
const KILLS: usize = 20;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |n| n.parse().unwrap())
}

/// The digests of the same events on embedded stores.
fn embedded(events: &[String]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    std::fs::write(&file, events.join("\n")).unwrap();
    run_ok(&dir.path().join("data"), &["import", file.to_str().unwrap()]);
    digests(&dir.path().join("data"))
}

/// Waits until nothing waits in the log.
fn drained(stack: &Stack) {
    let out = stack.run_ok(&["ingest", "--drain"]);
    assert!(out.is_empty(), "{out}");
}

#[test]
fn three_workers_killed_again_and_again() {
    let Some(stack) = Stack::new("kills") else { return };
    let Some(events) = films(setting("NEARCAST_FILMS", FILMS)) else { return };
    let dir = tempfile::tempdir().unwrap();
    let expected = embedded(&events);
    stack.run_ok(&["setup"]);
    let kills = setting("NEARCAST_KILLS", KILLS);
    let mut rng = fastrand::Rng::with_seed(11);
    let log = dir.path().join("workers.log");
    let mut workers: Vec<Running> = (0..3).map(|_| stack.worker(&log)).collect();
    let begun = Instant::now();
    // Not all at once, so that kills fall into the middle of the work.
    for (n, part) in events.chunks(events.len().div_ceil(kills.max(1))).enumerate() {
        stack.produce(part);
        std::thread::sleep(Duration::from_millis(rng.u64(200..1_500)));
        if n < kills {
            let victim = rng.usize(..workers.len());
            workers[victim] = stack.worker(&log);
        }
    }
    // With a rebalance under way while the rest is worked off.
    workers.push(stack.worker(&log));
    drained(&stack);
    drop(workers);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(stack.digests(), expected, "{}", std::fs::read_to_string(&log).unwrap());
    assert_eq!(stack.run_ok(&["dlq", "list"]), "", "nothing was wrong with these events");
    eprintln!("{} events, {kills} kills: {:?}", events.len(), begun.elapsed());
}

#[test]
fn answers_follow_events_through_the_whole_stack() {
    let Some(mut stack) = Stack::new("fresh") else { return };
    // What is answered is judged here, not how soon.
    stack.set("SERVE__BUDGET_MS", "5000");
    let dir = tempfile::tempdir().unwrap();
    stack.run_ok(&["setup"]);
    let log = dir.path().join("log");
    let _worker = stack.worker(&log);
    let (_server, port) = stack.serve(&log);
    let subjects = ["coffee grinder", "trail shoe", "star map"];
    let items: Vec<Value> = (0..30)
        .map(|i| json!({"type":"item","item_id":format!("i{i}"),"text":format!("{} {i}", subjects[i % 3]),"categories":["c"]}))
        .collect();
    let (status, _) = post(port, "/events", &Value::Array(items)).unwrap();
    assert_eq!(status, 202);
    let message =
        json!({"type":"message","user_id":"u","text":"a trail shoe for the mountains","timestamp":"2026-01-01T00:00:00Z"});
    let (status, body) = post(port, "/events", &message).unwrap();
    assert_eq!(status, 202, "{body}");
    let token = body["token"].as_str().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let answer = loop {
        let answer = get_json(port, &format!("/recommendations/u?k=5&after={token}&cache=false"));
        let degraded = answer["degraded"].as_array().unwrap();
        if !degraded.iter().any(|d| d == "after") && !answer["recommendations"].as_array().unwrap().is_empty() {
            break answer;
        }
        assert!(Instant::now() < until, "{answer}: {}", std::fs::read_to_string(&log).unwrap());
    };
    let first = answer["recommendations"][0]["item_id"].as_str().unwrap();
    let number: usize = first[1..].parse().unwrap();
    assert_eq!(number % 3, 1, "a shoe comes first: {answer}");
    // An erasure reaches every store.
    let mut delete = support::agent().delete(format!("http://127.0.0.1:{port}/users/u")).call().unwrap();
    assert_eq!(delete.status().as_u16(), 202, "{}", delete.body_mut().read_to_string().unwrap());
    drained(&stack);
    let (_, similar) = get(port, "/users/u/similar").unwrap();
    assert!(!similar.contains("\"score\""), "{similar}");
}

/// Records that no worker can use, and the word that their letter's reason must hold. (Records that are too long: the tests of the
/// Kafka backend.)
fn bad_records() -> Vec<(&'static str, Option<Vec<u8>>, &'static str)> {
    let foreign = br#"{"type":"message","user_id":"u2","text":"hello","timestamp":"2026-01-01T00:00:00Z"}"#;
    vec![
        ("u", Some(Vec::new()), "empty"),
        ("u", None, "tombstone"),
        ("somebody else", Some(foreign.to_vec()), "key"),
        ("u", Some(vec![b'{', 0xff, 0xfe, b'}']), "UTF-8"),
        ("u", Some(br#"{"type":"wish","user_id":"u"}"#.to_vec()), "wish"),
        ("u", Some(vec![0, 0, 0, 0, 7, 2, b'u']), "Avro"),
    ]
}

#[test]
fn what_cannot_be_used_stops_nothing() {
    use rdkafka::producer::{BaseRecord, Producer as _};
    let Some(stack) = Stack::new("bad") else { return };
    stack.run_ok(&["setup"]);
    let producer = stack.producer();
    let topic = stack.value("KAFKA__TOPIC");
    let bad = bad_records();
    for (key, bytes, _) in &bad {
        let record = BaseRecord::<str, [u8]>::to(&topic).key(*key).partition(0);
        let record = match bytes {
            Some(bytes) => record.payload(bytes.as_slice()),
            None => record,
        };
        producer.send(record).map_err(|(e, _)| e).unwrap();
    }
    let good = br#"{"type":"message","message_id":"m","user_id":"u","text":"hello","timestamp":"2026-01-01T00:00:00Z"}"#;
    let last = BaseRecord::<str, [u8]>::to(&topic).key("u").partition(0).payload(good.as_slice());
    producer.send(last).map_err(|(e, _)| e).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    drained(&stack);
    let letters = stack.run_ok(&["dlq", "list", "--json"]);
    for (_, _, word) in &bad {
        assert!(letters.contains(word), "a letter whose reason says {word}: {letters}");
    }
    assert_eq!(letters.lines().count(), bad.len(), "{letters}");
    let digests = stack.digests();
    let ledger = digests["stores"].as_array().unwrap().iter().find(|s| s["store"] == "ledger").unwrap();
    assert!(ledger["rows"].as_u64().unwrap() >= 1, "the message behind them was taken in: {digests}");
}
