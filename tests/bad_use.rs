//! Bad use ends in one line that names the remedy, with exit code 1 (failed) or 2 (wrong usage).

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
};

use support::{free_port, nearcast, run, run_ok, serve, town, write_lines};

/// One line on standard error, this exit code, and all of these words in it.
fn refused(out: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr);
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("nearcast: ")).collect();
    assert_eq!(out.status.code(), Some(code), "{text}");
    assert_eq!(lines.len(), 1, "{text}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is not in {:?}", lines[0]);
    }
}

#[test]
fn a_port_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&run(dir.path(), &["run", "--listen", &address]), 1, &[&address, "--listen"]);
}

#[test]
fn a_second_process_on_the_same_data() {
    let dir = tempfile::tempdir().unwrap();
    let _first = serve(dir.path(), free_port());
    refused(&run(dir.path(), &["verify"]), 1, &["in use", "--data-dir"]);
}

#[test]
fn a_newer_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("nearcast.json"), r#"{"format":99}"#).unwrap();
    refused(&run(dir.path(), &["verify"]), 1, &["format 99", "update nearcast"]);
}

#[test]
fn a_data_directory_that_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    refused(&run(&file, &["verify"]), 1, &["cannot be written", "--data-dir"]);
}

#[test]
fn unknown_keys_and_impossible_values() {
    let dir = tempfile::tempdir().unwrap();
    let with = |key: &str, value: &str| nearcast(dir.path(), &["config", "check"]).env(key, value).output().unwrap();
    refused(&with("NEARCAST__SERVE__BUDGT_MS", "50"), 2, &["budgt_ms", "budget_ms", "config print"]);
    refused(&with("NEARCAST__INGEST__QUEUE", "0"), 2, &["ingest.queue"]);
    refused(&with("NEARCAST__SERVE__BUDGET_MS", "soon"), 2, &["soon"]);
    let file = dir.path().join("n.toml");
    std::fs::write(&file, "[serve]\nbudget_ms = 50\nbugdet = 1\n").unwrap();
    let out = nearcast(dir.path(), &["config", "check", "--config", file.to_str().unwrap()]).output().unwrap();
    refused(&out, 2, &["n.toml", "line 3", "bugdet"]);
    let out = nearcast(dir.path(), &["config", "check", "--config", "/nowhere.toml"]).output().unwrap();
    refused(&out, 2, &["/nowhere.toml"]);
    assert_eq!(run(dir.path(), &["fly"]).status.code(), Some(2));
}

#[test]
fn a_truncated_model_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("config.json"), r#"{"hidden_size":384}"#).unwrap();
    std::fs::write(model.join("tokenizer.json"), "{").unwrap();
    std::fs::write(model.join("model.safetensors"), [0xff; 100]).unwrap();
    let out = nearcast(&dir.path().join("data"), &["verify"])
        .env("NEARCAST__MODEL__NAME", "auto")
        .env("NEARCAST__MODEL__DIR", &model)
        .output()
        .unwrap();
    refused(&out, 1, &[model.to_str().unwrap()]);

    // One that was fetched, and torn later.
    let cache = dir.path().join("cache");
    let fetched = cache.join("all-MiniLM-L6-v2");
    std::fs::create_dir_all(&fetched).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::write(fetched.join(file), "{").unwrap();
    }
    let out = nearcast(&dir.path().join("data"), &["verify"])
        .env("NEARCAST__MODEL__NAME", "all-MiniLM-L6-v2")
        .env("NEARCAST__MODEL__CACHE_DIR", &cache)
        .env("NEARCAST__MODEL__OFFLINE", "true")
        .output()
        .unwrap();
    refused(&out, 1, &[fetched.to_str().unwrap(), "models pull"]);
}

#[test]
fn files_that_are_not_there_or_torn() {
    let dir = tempfile::tempdir().unwrap();
    refused(&run(dir.path(), &["import", "/nowhere.jsonl"]), 1, &["/nowhere.jsonl"]);
    let torn = dir.path().join("torn.jsonl.gz");
    let mut whole = Vec::new();
    let mut zip = flate2::write::GzEncoder::new(&mut whole, flate2::Compression::default());
    for event in town(1, 20, 3000) {
        std::io::Write::write_all(&mut zip, format!("{event}\n").as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    std::fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
    let data = dir.path().join("data");
    refused(&run(&data, &["import", torn.to_str().unwrap()]), 1, &["torn.jsonl.gz"]);
    // What came before the damage is kept.
    assert!(run_ok(&data, &["verify"]).contains("ledger"));
}

/// In a mount namespace of its own, with a small or read-only file system at `at`; `None` where that is not permitted.
fn mounted(options: &str, at: &Path, program: &mut Command) -> Option<Output> {
    let script = format!("mount -t tmpfs -o {options} none '{}' && exec \"$@\"", at.display());
    let probe = Command::new("unshare").args(["-m", "sh", "-c", &script, "sh", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|s| s.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must be able to mount a file system (unshare -m)");
        eprintln!("skipped: mounting a file system of one's own is not permitted here");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).arg(program.get_program()).args(program.get_args());
    for (key, value) in program.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    Some(command.stdin(Stdio::null()).output().unwrap())
}

#[test]
fn a_read_only_or_full_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("mount");
    std::fs::create_dir(&at).unwrap();
    let file = dir.path().join("town.jsonl");
    write_lines(&file, &town(3, 500, 60_000));
    let file = file.to_str().unwrap();
    let data = at.join("data");
    if let Some(out) = mounted("ro", &at, &mut nearcast(&data, &["import", file])) {
        refused(&out, 1, &["cannot be written", "--data-dir"]);
    }
    for size in ["4k", "400k", "4m"] {
        let options = format!("size={size}");
        if let Some(out) = mounted(&options, &at, &mut nearcast(&data, &["import", file])) {
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(text.contains("room") || text.contains("space"), "{size}: {text}");
            refused(&out, 1, &[]);
        }
    }
}
