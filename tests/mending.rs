//! Projections that were lost or altered are told from the ledger and put right; what was erased is gone from everywhere.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use support::{digests, free_port, post, run, run_ok, serve, town, write_lines};

/// Runs a statement on a file of the data directory; answers how many rows it changed.
fn alter(file: &Path, sql: &'static str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected()
    })
}

fn parts(report: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(report).unwrap()["parts"].as_array().unwrap().clone()
}

fn sum(parts: &[Value], what: &str) -> u64 {
    parts.iter().map(|p| p[what].as_u64().unwrap()).sum()
}

#[test]
fn lost_and_altered_projections_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("town.jsonl"));
    write_lines(&file, &town(31, 300, 8000));
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let whole = digests(&data);
    let said = parts(&run_ok(&data, &["reconcile", "--json"]));
    assert_eq!((said.len(), sum(&said, "wrong"), sum(&said, "ranges_different")), (5, 0, 0), "{said:?}");
    assert!(sum(&said, "rows") > 5000, "{said:?}");

    // One row in a hundred of each table.
    for (name, sql) in [
        ("graph.db", "UPDATE edges SET weight = weight + 1 WHERE rowid % 100 = 7"),
        ("graph.db", "DELETE FROM edges WHERE rowid % 100 = 9"),
        ("engagement.db", "UPDATE totals SET weight = weight + 5 WHERE item % 30 = 3"),
        ("engagement.db", "DELETE FROM labels WHERE item % 20 = 3"),
        ("engagement.db", "DELETE FROM counted WHERE user % 40 = 3"),
    ] {
        let sql = if name == "graph.db" { sql.replace("rowid", "(user * 31 + item)") } else { sql.to_owned() };
        assert!(alter(&data.join(name), String::leak(sql)) > 0, "{name}");
    }
    assert_ne!(digests(&data), whole);
    let out = run(&data, &["reconcile"]);
    assert_eq!(out.status.code(), Some(1), "told, and nothing written");
    assert_ne!(digests(&data), whole);
    let said = parts(&run_ok(&data, &["reconcile", "--repair", "--json"]));
    assert!(sum(&said, "wrong") > 10 && sum(&said, "wrong") == sum(&said, "repaired"), "{said:?}");
    assert_eq!(digests(&data), whole);

    // Whole projections.
    for lost in ["graph.db", "engagement.db", "vectors"] {
        let path = data.join(lost);
        let gone = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        gone.unwrap();
        for beside in ["-wal", "-shm"] {
            drop(std::fs::remove_file(data.join(format!("{lost}{beside}"))));
        }
    }
    assert_ne!(digests(&data), whole);
    run_ok(&data, &["rebuild", "items", "users", "graph", "engagement", "neighbours"]);
    assert_eq!(digests(&data), whole);
    // The log holds none of what was imported: nothing is told again, and nothing changes.
    let said: Value = serde_json::from_str(&run_ok(&data, &["replay", "--from", "earliest", "--json"])).unwrap();
    assert_eq!(said["records"], 0);
    let runs = run_ok(&data, &["runs", "--json"]);
    assert!(runs.lines().any(|l| l.contains("\"job\":\"rebuild\"") && l.contains("\"done\"")), "{runs}");
}

/// How many edges, unless NEARCAST_EDGES says otherwise.
const EDGES: u64 = 60_000;

/// With NEARCAST_EDGES=1000000 the figure of docs/pipelines.md, in minutes.
#[test]
fn one_row_is_found_without_reading_all() {
    let number = std::env::var("NEARCAST_EDGES").map_or(EDGES, |n| n.parse().unwrap());
    let people = number / 10;
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("many.jsonl"));
    // Ten edges each.
    let events: Vec<Value> = (0..number)
        .map(|n| {
            let time = format!("2026-01-{:02}T{:02}:00:00Z", 1 + n % 28, n % 24);
            json!({"type":"engagement","event_id":format!("e{n}"),"user_id":format!("user-{}", n % people),
                   "item_id":format!("i{}", (n * 7919) % 997),"kind":"click","timestamp":time})
        })
        .collect();
    write_lines(&file, &events);
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let whole = digests(&data);
    let altered = if number >= 1_000_000 { 10 } else { 5 };
    let sql = format!(
        "UPDATE edges SET weight = weight + 1 WHERE (user, item) IN (SELECT user, item FROM edges ORDER BY user * 7919 % 104729, item LIMIT {altered})"
    );
    assert_eq!(alter(&data.join("graph.db"), String::leak(sql)), altered);
    let said = parts(&run_ok(&data, &["reconcile", "--repair", "--parts", "graph", "--json"]));
    let (rows, read) = (sum(&said, "rows"), sum(&said, "rows_read"));
    eprintln!("{rows} rows, {read} read");
    assert!(rows > number * 9 / 10 && read > 0 && read * 100 < rows, "{said:?}");
    assert_eq!(digests(&data), whole);
}

#[test]
fn the_erased_are_found_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("town.jsonl"));
    let mut events = town(33, 40, 1000);
    for n in 0..20 {
        let time = format!("2026-02-01T00:00:{n:02}Z");
        events.push(json!({"type":"message","user_id":"somebody-special","text":format!("rye bread {n}"),"timestamp":time}));
        events.push(
            json!({"type":"engagement","user_id":"somebody-special","item_id":format!("i{n}"),"kind":"click","timestamp":time}),
        );
    }
    write_lines(&file, &events);
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let port = free_port();
    let server = serve(&data, port);
    let message = json!([{"type":"message","user_id":"somebody-special","text":"a star map","timestamp":"2026-02-02T00:00:00Z"},
                         {"type":"message","user_id":"somebody-special","timestamp":"2026-02-02T00:00:00Z"}]);
    assert_eq!(post(port, "/events", &message).unwrap().0, 202);
    drop(server);
    run_ok(&data, &["ingest", "--drain"]);
    let out = run(&data, &["erase", "--verify", "somebody-special"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    for place in ["ledger", "graph", "vector index", "engagement totals", "dead letter", "log:", "vectors/"] {
        assert!(said.contains(place), "{place}: {said}");
    }
    let list = dir.path().join("list");
    std::fs::write(&list, "somebody-special\n").unwrap();
    let receipts: Value = serde_json::from_str(&run_ok(&data, &["erase", "--list", list.to_str().unwrap(), "--json"])).unwrap();
    let receipt = &receipts["receipts"][0];
    assert_eq!((&receipt["deleted"]["messages"], &receipt["deleted"]["edges"]), (&json!(21), &json!(20)), "{receipt}");
    assert_eq!(receipt["left"], json!({"messages":0,"engagements":0,"edges":0,"profiles":0}), "{receipt}");
    let said = run_ok(&data, &["erase", "--verify", "somebody-special"]);
    assert!(said.contains("nothing"), "{said}");
    // The others are as they were.
    run_ok(&data, &["reconcile"]);
}
