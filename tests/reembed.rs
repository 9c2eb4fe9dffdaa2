//! Another model: as if the data had begun with it, whatever was killed on the way, and without anyone who asks noticing.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use support::{Running, digests, free_port, get, models::narrower, nearcast, post, run, run_ok, serve, town, write_lines};

/// The program on data that begins with a model of a directory.
fn with_model(data: &Path, model: &Path, args: &[&str]) -> Command {
    let mut command = nearcast(data, args);
    command.env("NEARCAST__MODEL__NAME", "auto").env("NEARCAST__MODEL__DIR", model);
    command
}

fn ok(mut command: Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The digests of these events, imported with a model from the beginning.
fn begun_with(model: &Path, dir: &Path, file: &Path) -> Value {
    let data = dir.join("begun");
    ok(with_model(&data, model, &["import", file.to_str().unwrap()]));
    serde_json::from_str(&ok(with_model(&data, model, &["verify", "--json"]))).unwrap()
}

#[test]
fn as_if_it_had_begun_so() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data, file) = (narrower(dir.path()), dir.path().join("data"), dir.path().join("town.jsonl"));
    write_lines(&file, &town(21, 150, 3000));
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let before = digests(&data);
    let expected = begun_with(&model, dir.path(), &file);
    let model = model.to_str().unwrap();

    // Another model is refused, with the remedy.
    let refused = with_model(&data, Path::new(model), &["verify"]).output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("nearcast reembed"), "{text}");

    // A gate that nothing passes switches nothing.
    let out = run(&data, &["reembed", "--model", model, "--min-overlap", "1.1", "--json"]);
    assert_eq!(out.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["switched"], false);
    assert!(report["filled"]["vectors"].as_u64().unwrap() > 500, "{report}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("overlap"), "{report}");
    // Given up, nothing is left of it.
    run_ok(&data, &["reembed", "--rollback"]);
    assert_eq!(digests(&data), before);

    let report: Value = serde_json::from_str(&run_ok(&data, &["reembed", "--model", model, "--json"])).unwrap();
    assert_eq!(report["switched"], true);
    let parity = &report["parity"];
    assert_eq!(parity["users"][0], parity["users"][1], "{report}");
    assert_eq!(parity["items"][0], parity["items"][1], "{report}");
    assert!(parity["overlap"].as_f64().unwrap() > 0.3, "components of the same model: {report}");
    // What comes after the switch is written to both: going back loses nothing.
    let later = dir.path().join("later.jsonl");
    write_lines(&later, &town(22, 150, 500));
    run_ok(&data, &["import", later.to_str().unwrap()]);
    run_ok(&data, &["reembed", "--rollback"]);
    run_ok(&data, &["reembed", "--prune"]);
    let both = dir.path().join("both");
    run_ok(&both, &["import", file.to_str().unwrap(), later.to_str().unwrap()]);
    assert_eq!(digests(&data), digests(&both), "rolled back");

    run_ok(&data, &["reembed", "--model", model]);
    let said = run_ok(&data, &["reembed", "--model", model]);
    assert!(said.contains("already"), "{said}");
    run_ok(&data, &["reembed", "--prune"]);
    let all = dir.path().join("all.jsonl");
    std::fs::write(&all, [std::fs::read(&file).unwrap(), std::fs::read(&later).unwrap()].concat()).unwrap();
    std::fs::remove_dir_all(dir.path().join("begun")).unwrap();
    assert_ne!(begun_with(Path::new(model), dir.path(), &all), expected);
    assert_eq!(digests(&data), digests_of(&dir.path().join("begun"), model), "switched and pruned");
    let runs = run_ok(&data, &["runs", "--job", "reembed", "--json"]);
    assert_eq!(runs.lines().count(), 8, "{runs}");
}

fn digests_of(data: &Path, model: &str) -> Value {
    serde_json::from_str(&ok(with_model(data, Path::new(model), &["verify", "--json"]))).unwrap()
}

#[test]
fn killed_on_the_way() {
    const KILLS: usize = 12;
    let dir = tempfile::tempdir().unwrap();
    let (model, data, file) = (narrower(dir.path()), dir.path().join("data"), dir.path().join("town.jsonl"));
    write_lines(&file, &town(23, 200, 6000));
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let expected = begun_with(&model, dir.path(), &file);
    let args = ["reembed", "--model", model.to_str().unwrap(), "--share", "0.2"];
    let mut rng = fastrand::Rng::with_seed(24);
    let mut kills = 0;
    for _ in 0..KILLS {
        let mut child = Running(nearcast(&data, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(rng.u64(50..1500)));
        kills += usize::from(child.0.try_wait().unwrap().is_none());
        drop(child);
    }
    assert!(kills > 0, "every one had ended before it was killed");
    // Leases of the dead end by themselves.
    run_ok(&data, &["reembed", "--model", model.to_str().unwrap()]);
    let mut child =
        Running(nearcast(&data, &["reembed", "--prune"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    std::thread::sleep(Duration::from_millis(rng.u64(20..200)));
    drop(child.0.kill());
    drop(child);
    run_ok(&data, &["reembed", "--prune"]);
    assert_eq!(digests(&data), expected, "after {kills} kills");
}

#[test]
fn while_people_ask_and_write() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data, file) = (narrower(dir.path()), dir.path().join("data"), dir.path().join("town.jsonl"));
    let (past, present) = (town(25, 200, 5000), town(26, 200, 1500));
    write_lines(&file, &past);
    run_ok(&data, &["import", file.to_str().unwrap()]);
    let port = free_port();
    let server = serve(&data, port);
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let models = Arc::new(Mutex::new(Vec::<String>::new()));
    let asking: Vec<_> = (0..2)
        .map(|n| {
            let (stop, answered, models) = (stop.clone(), answered.clone(), models.clone());
            std::thread::spawn(move || {
                let mut rng = fastrand::Rng::with_seed(n);
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) = get(port, &format!("/recommendations/u{}?k=5", rng.u8(..200))).unwrap();
                    assert_eq!(status, 200, "{body}");
                    let answer: Value = serde_json::from_str(&body).unwrap();
                    assert!(!answer["recommendations"].as_array().unwrap().is_empty(), "{body}");
                    let model = answer["model"].as_str().unwrap().to_owned();
                    if n == 0 {
                        let mut models = models.lock().unwrap();
                        if models.last() != Some(&model) {
                            models.push(model);
                        }
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        })
        .collect();
    let writing = {
        let present = present.clone();
        std::thread::spawn(move || {
            for part in present.chunks(15) {
                let (status, body) = post(port, "/events", &Value::Array(part.to_vec())).unwrap();
                assert_eq!(status, 202, "{body}");
                std::thread::sleep(Duration::from_millis(30));
            }
        })
    };
    // Handed to the process that has the directory.
    let report = run_ok(&data, &["reembed", "--model", model.to_str().unwrap(), "--share", "0.3", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["switched"], true, "{report}");
    writing.join().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    asking.into_iter().for_each(|a| a.join().unwrap());
    let models = models.lock().unwrap().clone();
    assert_eq!(models.len(), 2, "one model, then the other: {models:?}");
    assert!(models[1].starts_with("narrower@"), "{models:?}");
    assert!(answered.load(Ordering::Relaxed) > 20);
    run_ok(&data, &["reembed", "--prune"]);
    let said = run(&data, &["reconcile"]);
    assert!(said.status.success() || String::from_utf8_lossy(&said.stdout).contains("neighbours"), "{said:?}");
    drop(server);
    run_ok(&data, &["ingest", "--drain"]);
    // Items without a time are as the last to arrive: both histories in their order.
    let all: Vec<Value> = past.into_iter().chain(present).collect();
    let kinds: BTreeSet<&str> = all.iter().filter_map(|e| e["type"].as_str()).collect();
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    write_lines(&file, &all);
    assert_eq!(digests(&data), begun_with(&model, dir.path(), &file));
}
