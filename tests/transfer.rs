//! An export is the whole of an instance: imported into an empty one, it gives the same digests. A torn one is refused.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use support::{Running, digests, free_port, nearcast, post, run, run_ok, serve, town, write_lines};

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// The events of a town in two tenants, with items that have every field, and someone who is erased and never comes back.
fn events() -> Vec<Value> {
    let mut all = town(31, 120, 3000);
    let mut other = town(32, 40, 500);
    other.iter_mut().for_each(|e| e["tenant"] = "other".into());
    all.extend(other);
    all.extend([
        json!({"type":"item","item_id":"whole","text":"Everything, \"quoted\"\n<&> ✓","categories":["a","b"],"hidden":true,
               "expires_at":"2030-01-02T03:04:05.678Z","timestamp":"2025-01-01T00:00:00Z",
               "attributes":{"price":0.1,"odd":1.2345678901234567e-7,"n":5,"deep":{"x":[1.5,null]}}}),
        json!({"type":"item","item_id":"bare"}),
        json!({"type":"engagement","user_id":"u1","item_id":"whole","kind":"rating","value":0.30000000000000004,"timestamp":"1969-12-31T23:59:59.999Z"}),
        json!({"type":"engagement","user_id":"vanished-user-77","item_id":"i1","kind":"view","timestamp":"2026-01-01T00:00:00Z"}),
        json!({"type":"message","user_id":"vanished-user-77","text":"what nobody may read","timestamp":"2026-01-01T00:00:01Z"}),
        json!({"type":"erasure","user_id":"vanished-user-77","timestamp":"2026-01-01T00:00:02Z"}),
    ]);
    all
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("town.jsonl"));
    write_lines(&file, &events());
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let before = digests(&data);
    // So little memory that buffers become files all the time; days instead of months; several shards.
    for (name, flags) in [
        ("parquet", &["--format", "parquet"][..]),
        ("ndjson", &["--format", "ndjson"]),
        ("small", &["--by", "day", "--shards", "5", "--memory-mb", "1"]),
    ] {
        let out = dir.path().join(name);
        let args = [&["export", "--json", "--out", out.to_str().unwrap()], flags].concat();
        let report = json_of(&run_ok(&data, &args));
        assert_eq!(report["anomalies"], json!([]), "{report}");
        let counts = &report["counts"];
        assert!(counts["erasures"].as_u64().unwrap() > 10 && counts["item_embeddings"].as_u64().unwrap() >= 61, "{report}");
        assert_eq!(counts["messages"], counts["message_embeddings"], "{report}");
        let manifest = json_of(&std::fs::read_to_string(out.join("manifest.json")).unwrap());
        assert_eq!(
            manifest["files"].as_array().unwrap().len(),
            files(&out).len() - 1,
            "every file is named, and nothing else lies there"
        );
        assert!(!dir.path().join(format!("{name}.partial")).exists() && !dir.path().join(format!("{name}.lock")).exists());

        let copy = dir.path().join(format!("{name} copy"));
        let totals = json_of(&run_ok(&copy, &["import", "--json", out.to_str().unwrap()]));
        // Vectors came along: none was made again.
        assert_eq!(totals["rejected"], 0, "{totals}");
        // Nearly all vectors come along.
        assert!(100 * totals["embedded"].as_u64().unwrap() < totals["new"].as_u64().unwrap(), "{totals}");
        assert_eq!(digests(&copy), before, "{name}");
        let again = json_of(&run_ok(&copy, &["import", "--json", out.join("manifest.json").to_str().unwrap()]));
        assert_eq!((&again["new"], &again["records"]), (&json!(0), &totals["records"]), "{name}");
        assert_eq!(digests(&copy), before, "{name} again");
    }
    // The lines are events as any producer sends them; of whoever is erased there is only that.
    let mut text = String::new();
    for file in files(&dir.path().join("ndjson")).iter().filter(|f| f.extension().is_some_and(|e| e == "gz")) {
        flate2::read::MultiGzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    }
    assert_eq!(text.matches("vanished-user-77").count(), 1);
    let erasure = text.lines().find(|l| l.contains("vanished-user-77")).unwrap();
    assert_eq!(json_of(erasure)["type"], "erasure");
    assert!(!text.contains("what nobody may read"));
    // What is there is not written over, unless that is asked for.
    let out = dir.path().join("parquet");
    let out = out.to_str().unwrap();
    let refused = run(&data, &["export", "--out", out]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--replace"));
    run_ok(&data, &["export", "--out", out, "--replace", "--what", "items"]);
    assert!(files(Path::new(out)).iter().all(|f| f.ends_with("manifest.json") || f.to_str().unwrap().contains("/items/")));
    let runs = run_ok(&data, &["runs", "--job", "export", "--json"]);
    assert_eq!(runs.lines().filter(|l| json_of(l)["outcome"] == "done").count(), 4, "{runs}");
}

#[test]
fn the_same_data_gives_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("town.jsonl"));
    write_lines(&file, &town(33, 60, 1000));
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let entries = |name: &str| {
        let out = dir.path().join(name);
        run_ok(&data, &["export", "--out", out.to_str().unwrap(), "--shards", "3"]);
        json_of(&std::fs::read_to_string(out.join("manifest.json")).unwrap())["files"].clone()
    };
    assert_eq!(entries("first"), entries("second"));
}

#[test]
fn a_torn_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file, out) = (dir.path().join("data"), dir.path().join("town.jsonl"), dir.path().join("out"));
    write_lines(&file, &town(34, 60, 1500));
    run_ok(&data, &["import", file.to_str().unwrap()]);
    run_ok(&data, &["export", "--out", out.to_str().unwrap()]);
    let events = files(&out.join("events")).pop().unwrap();
    let whole = std::fs::read(&events).unwrap();
    let empty = dir.path().join("empty");
    let refused = |why: &str| {
        let said = run(&empty, &["import", out.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(1), "{text}");
        assert!(text.contains(why), "{why}: {text}");
        assert!(!empty.join("ledger.db").exists(), "nothing was begun");
    };
    std::fs::write(&events, &whole[..whole.len() - 7]).unwrap();
    refused("the export is torn");
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    std::fs::write(&events, &altered).unwrap();
    refused("SHA-256");
    std::fs::remove_file(&events).unwrap();
    refused(events.file_name().unwrap().to_str().unwrap());
    std::fs::write(&events, &whole).unwrap();
    let manifest = out.join("manifest.json");
    let text = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    refused("manifest.json");
    std::fs::remove_file(&manifest).unwrap();
    refused("was not finished");
    std::fs::write(&manifest, &text).unwrap();
    run_ok(&empty, &["import", out.to_str().unwrap()]);
    assert_eq!(digests(&empty), digests(&data));
}

#[test]
fn killed_and_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file, out) = (dir.path().join("data"), dir.path().join("town.jsonl"), dir.path().join("out"));
    write_lines(&file, &town(35, 400, 6000));
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let args = ["export", "--out", out.to_str().unwrap(), "--memory-mb", "1", "--shards", "8"];
    let slow = [&args[..], &["--share", "0.01"]].concat();
    let mut child = Running(nearcast(&data, &slow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let partial = dir.path().join("out.partial");
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !partial.exists() {
        assert!(child.0.try_wait().unwrap().is_none(), "it had ended before it was killed");
        assert!(std::time::Instant::now() < until, "nothing was begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(child);
    assert!(!out.exists(), "what is not whole has no name");
    let said = run(&dir.path().join("empty"), &["import", partial.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("was not finished"));
    run_ok(&data, &args);
    assert!(!partial.exists());
    let copy = dir.path().join("copy");
    run_ok(&copy, &["import", out.to_str().unwrap()]);
    assert_eq!(digests(&copy), digests(&data));
}

#[test]
fn beside_a_running_server() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file, out) = (dir.path().join("data"), dir.path().join("town.jsonl"), dir.path().join("out"));
    write_lines(&file, &town(36, 80, 1200));
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let port = free_port();
    let server = serve(&data, port);
    // A path that the command, not the server, is to understand.
    let mut command = nearcast(&data, &["export", "--out", "out", "--json"]);
    let done = command.current_dir(dir.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report = json_of(std::str::from_utf8(&done.stdout).unwrap());
    assert!(report["counts"]["users"].as_u64().unwrap() > 50, "{report}");
    let event = json!({"type":"engagement","user_id":"later","item_id":"i1","kind":"view","timestamp":"2026-02-01T00:00:00Z"});
    assert_eq!(post(port, "/events", &event).unwrap().0, 202);
    let rows = run_ok(&data, &["aggregate", "--daily", "--json"]);
    assert!(json_of(&rows)["tenants"][0]["events"].as_u64().unwrap() > 500, "{rows}");
    drop(server);
    let (copy, before) = (dir.path().join("copy"), dir.path().join("before"));
    run_ok(&copy, &["import", out.to_str().unwrap()]);
    run_ok(&before, &["import", file.to_str().unwrap()]);
    assert_eq!(digests(&copy), digests(&before));
}

/// All development sets in one instance, a tenant each, and over to another.
#[test]
fn the_development_sets() {
    let Some(root) = std::env::var_os("NEARCAST_TEST_DATA").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "NEARCAST_TEST_DATA must name the development data");
        println!(
            "skipped: NEARCAST_TEST_DATA does not name the development data (MovieLens latest-small, Amazon Office Products, beer.stackexchange.com, Ubuntu IRC)"
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (data, out, copy) = (dir.path().join("data"), dir.path().join("out"), dir.path().join("copy"));
    for set in ["movielens", "office", "beer", "ubuntu-irc"] {
        let file = root.join(format!("{set}.events.jsonl.gz"));
        let totals = json_of(&run_ok(&data, &["import", "--json", "--tenant", set, file.to_str().unwrap()]));
        assert!(totals["new"].as_u64().unwrap() > 3_000, "{set}: {totals}");
    }
    let report = json_of(&run_ok(&data, &["export", "--json", "--out", out.to_str().unwrap()]));
    println!("{report}");
    assert!(report["counts"]["messages"].as_u64().unwrap() > 200_000, "{report}");
    let totals = json_of(&run_ok(&copy, &["import", "--json", out.to_str().unwrap()]));
    println!("{totals}");
    assert_eq!(totals["rejected"], 0, "{totals}");
    // Nearly all vectors come along.
    assert!(100 * totals["embedded"].as_u64().unwrap() < totals["new"].as_u64().unwrap(), "{totals}");
    assert_eq!(digests(&copy), digests(&data));
}
