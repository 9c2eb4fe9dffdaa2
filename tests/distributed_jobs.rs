//! Another model and mended projections on the servers of `infra/local/`, while a worker and a server go on.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{get_json, models::narrower, nearcast, stack::Stack, town};

/// How many events are told, unless NEARCAST_JOB_EVENTS says otherwise: FerretDB and milvus-lite are slow.
const EVENTS: usize = 250;

/// The digests of the same events on embedded stores that began with a model.
fn begun_with(model: &Path, dir: &Path, events: &[String]) -> Value {
    let (data, file) = (dir.join("begun"), dir.join("events.jsonl"));
    std::fs::write(&file, events.join("\n")).unwrap();
    let run = |args: &[&str]| {
        let mut command = nearcast(&data, args);
        let out = command.env("NEARCAST__MODEL__NAME", "auto").env("NEARCAST__MODEL__DIR", model).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    run(&["import", file.to_str().unwrap()]);
    serde_json::from_str(&run(&["verify", "--json"])).unwrap()
}

#[test]
fn another_model_while_workers_and_servers_go_on() {
    let Some(stack) = Stack::new("jobs") else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = narrower(dir.path());
    let number = std::env::var("NEARCAST_JOB_EVENTS").map_or(EVENTS, |n| n.parse().unwrap());
    let line = |e: Value| e.to_string();
    let events: Vec<String> = town(41, 25, number).into_iter().map(line).collect();
    stack.run_ok(&["setup"]);
    let log = dir.path().join("log");
    let worker = stack.worker(&log);
    let (server, port) = stack.serve(&log);
    let (first, second) = events.split_at(events.len() * 3 / 4);
    stack.produce(first);
    stack.run_ok(&["ingest", "--drain"]);
    let before = get_json(port, "/recommendations/u1?k=3")["model"].clone();
    stack.produce(second);
    let report = stack.run_ok(&["reembed", "--model", model.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["switched"], true, "{report}");
    // The server has followed, or does within its next look.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let now = get_json(port, "/recommendations/u1?k=3&cache=false")["model"].clone();
        if now != before {
            assert!(now.as_str().unwrap().starts_with("narrower@"), "{now}");
            break;
        }
        assert!(std::time::Instant::now() < until, "{}", std::fs::read_to_string(&log).unwrap());
    }
    stack.run_ok(&["ingest", "--drain"]);
    stack.run_ok(&["reembed", "--prune"]);
    drop((worker, server));
    let said: Value = serde_json::from_str(&stack.run_ok(&["reconcile", "--repair", "--json"])).unwrap();
    assert_eq!(said["parts"].as_array().unwrap().len(), 5, "{said}");
    stack.run_ok(&["rebuild", "graph", "engagement", "users"]);
    assert_eq!(stack.digests(), begun_with(&model, dir.path(), &events), "{}", std::fs::read_to_string(&log).unwrap());
    let runs = stack.run_ok(&["runs", "--json"]);
    let jobs: Vec<Value> = runs.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["job"].clone()).collect();
    assert_eq!(jobs, [json!("rebuild"), json!("reconcile"), json!("reembed"), json!("reembed")]);
}
