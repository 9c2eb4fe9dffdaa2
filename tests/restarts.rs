//! Each real server ends and comes back while workers write: nothing is lost, nothing is written twice, no worker ends.
//!
//! A file of its own, so that no other test runs beside it: the servers of `infra/local/` are everybody's.
#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::time::Duration;

use support::{
    Running, digests, run_ok,
    stack::{Stack, films},
};

/// How many of the films' events are told.
const EVENTS: usize = 15_000;
/// In the order in which they end.
const SERVERS: [&str; 6] = ["redis", "postgres", "neo4j", "milvus", "ferretdb", "kafka"];

/// Starts all servers again however the test ends.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        Stack::server("up", &SERVERS);
    }
}

#[test]
fn each_server_ends_and_comes_back() {
    let Some(stack) = Stack::new("restarts") else { return };
    let Some(events) = films(EVENTS) else { return };
    if !Stack::ours() {
        eprintln!("skipped: these servers were not started by infra/local/up");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    std::fs::write(&file, events.join("\n")).unwrap();
    run_ok(&dir.path().join("data"), &["import", file.to_str().unwrap()]);
    let expected = digests(&dir.path().join("data"));

    let _restored = Restored;
    stack.run_ok(&["setup"]);
    let log = dir.path().join("workers.log");
    let mut workers: Vec<Running> = (0..3).map(|_| stack.worker(&log)).collect();
    let parts: Vec<&[String]> = events.chunks(events.len().div_ceil(SERVERS.len())).collect();
    for (server, part) in SERVERS.iter().zip(parts) {
        // The broker takes its part before it ends; what every other server misses is told while it is away.
        let (before, meanwhile) = if *server == "kafka" { part.split_at(part.len()) } else { part.split_at(part.len() / 2) };
        stack.produce(before);
        std::thread::sleep(Duration::from_millis(500));
        Stack::server("down", &[server]);
        if !meanwhile.is_empty() {
            stack.produce(meanwhile);
        }
        std::thread::sleep(Duration::from_secs(3));
        Stack::server("up", &SERVERS);
    }
    stack.run_ok(&["ingest", "--drain"]);
    for worker in &mut workers {
        let ended = worker.0.try_wait().unwrap();
        assert!(ended.is_none(), "a worker ended, {ended:?}: {}", std::fs::read_to_string(&log).unwrap());
    }
    drop(workers);
    assert_eq!(stack.digests(), expected, "{}", std::fs::read_to_string(&log).unwrap());
    assert_eq!(stack.run_ok(&["dlq", "list"]), "", "nothing was wrong with these events");
}
