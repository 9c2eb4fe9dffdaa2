//! `nearcast models`: the built-in model beside the others, one made from texts, and which one a data directory begins with.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{path::Path, process::Command};

use nearcast_embed::{ModelStore, registry::DEFAULT_MODEL, statics::BUILT_IN};
use serde_json::Value;
use support::{nearcast, town, write_lines};

/// The program with a model to choose for itself.
fn program(data: &Path, args: &[&str]) -> Command {
    let mut command = nearcast(data, args);
    command.env_remove("NEARCAST__MODEL__NAME").env("NEARCAST__MODEL__OFFLINE", "true");
    command
}

fn good(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn bad(command: &mut Command, words: &[&str]) {
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

/// MiniLM on this machine, fetched once.
fn minilm() -> bool {
    match ModelStore::in_default_dir(false).pull(DEFAULT_MODEL, &mut |_| ()) {
        Ok(_) => true,
        Err(e) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{e}");
            eprintln!("not run: {e}");
            false
        }
    }
}

#[test]
fn the_built_in_model_is_one_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let list: Value = serde_json::from_str(&good(&mut program(dir.path(), &["models", "list", "--json"]))).unwrap();
    let of = |name: &str| list.as_array().unwrap().iter().find(|m| m["name"] == name).unwrap().clone();
    assert_eq!((of(BUILT_IN)["state"].as_str(), of(BUILT_IN)["kind"].as_str()), (Some("ready"), Some("static")));
    assert_eq!(of(DEFAULT_MODEL)["kind"], "bert");
    assert!(good(&mut program(dir.path(), &["models", "list"])).contains("built in, 5.0 MB"));
    let info: Value = serde_json::from_str(&good(&mut program(dir.path(), &["models", "info", BUILT_IN]))).unwrap();
    assert_eq!(info["dimension"], 152);
    assert!(info["made_from"].as_str().unwrap().contains(DEFAULT_MODEL), "{info}");
    let verified = good(&mut program(dir.path(), &["models", "verify", BUILT_IN]));
    assert!(verified.contains(info["revision"].as_str().unwrap()), "{verified}");
    good(&mut program(dir.path(), &["models", "pull", BUILT_IN]));
    bad(&mut program(dir.path(), &["models", "info", "no-such"]), &["no-such", BUILT_IN, DEFAULT_MODEL]);
}

#[test]
fn a_data_directory_begins_with_the_model_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let about = || -> Value { serde_json::from_slice(&std::fs::read(data.join("nearcast.json")).unwrap()).unwrap() };
    let chosen = good(&mut program(&data, &["models", "use", BUILT_IN]));
    assert!(chosen.contains(BUILT_IN), "{chosen}");
    // `auto` finds it there.
    let events = dir.path().join("town.jsonl");
    write_lines(&events, &town(6, 10, 100));
    good(&mut program(&data, &["verify"]));
    assert!(about()["model"].as_str().unwrap().starts_with(BUILT_IN));
    assert!(good(&mut program(&data, &["models", "use", BUILT_IN])).contains("already"));
    let named = program(&data, &["models", "use", BUILT_IN]).env("NEARCAST__MODEL__NAME", DEFAULT_MODEL).output().unwrap();
    assert!(!named.status.success() && String::from_utf8_lossy(&named.stderr).contains("goes first"));
    bad(&mut program(&data, &["models", "use", "no-such"]), &["no-such"]);
    if !minilm() {
        return;
    }
    // Nothing is in it yet: it may change its mind, to and fro.
    good(&mut program(&data, &["models", "use", DEFAULT_MODEL]));
    assert!(about()["model"].as_str().unwrap().starts_with(DEFAULT_MODEL));
    good(&mut program(&data, &["models", "use", BUILT_IN]));
    good(&mut program(&data, &["import", events.to_str().unwrap()]));
    let before = about();
    bad(&mut program(&data, &["models", "use", DEFAULT_MODEL]), &["nearcast reembed --model all-MiniLM-L6-v2", BUILT_IN]);
    assert_eq!(about(), before);
    good(&mut program(&data, &["verify"]));
}

#[test]
fn a_model_made_from_texts() {
    let dir = tempfile::tempdir().unwrap();
    let texts = dir.path().join("texts.txt");
    let words = ["trail", "shoe", "bread", "kernel", "star", "quiet", "old", "winter"];
    let lines = (0..300).map(|i| format!("the {} {} is {}\n", words[i % 8], words[i / 8 % 8], words[i / 64 % 8]));
    std::fs::write(&texts, lines.collect::<String>()).unwrap();
    let texts = texts.to_str().unwrap();
    let data = dir.path().join("data");
    let make =
        |name: &'static str| ["models", "distill", "--texts", texts, "--dimension", "24", "--rounds", "4", "--name", name];
    bad(&mut program(&data, &make(DEFAULT_MODEL)), &["--name"]);
    bad(&mut program(&data, &make("../up")), &["--name"]);
    bad(&mut program(&data, &["models", "distill", "--texts", "/nowhere.txt", "--name", "x"]), &["/nowhere.txt"]);
    if !minilm() {
        return;
    }
    // A cache of its own, with MiniLM in it.
    let cache = dir.path().join("models");
    let fetched = ModelStore::in_default_dir(true).open(DEFAULT_MODEL).unwrap().dir;
    std::fs::create_dir(&cache).unwrap();
    std::os::unix::fs::symlink(&fetched, cache.join(DEFAULT_MODEL)).unwrap();
    let cached = |args: &[&str]| {
        let mut command = program(&data, args);
        command.env("NEARCAST__MODEL__CACHE_DIR", &cache);
        command
    };
    let sts = dir.path().join("sts.tsv");
    std::fs::write(
        &sts,
        "a\tb\tc\td\t5\tthe old shoe\tan old shoe\na\tb\tc\td\t0\tquiet star\tbread\na\tb\tc\td\t2\tshoe\ttrail\n",
    )
    .unwrap();
    let mut with_sts = make("mine").to_vec();
    with_sts.extend(["--json", "--sts", sts.to_str().unwrap()]);
    let made: Value = serde_json::from_str(&good(&mut cached(&with_sts))).unwrap();
    assert_eq!((made["texts"].as_u64(), made["vocabulary"].as_u64()), (Some(300), Some(30_522)));
    assert!(made["seen"].as_u64().unwrap() >= 10 && made["tokens"].as_u64().unwrap() >= 1500, "{made}");
    assert!(made["spearman"]["table"].as_f64().unwrap() > 0.0, "{made}");
    assert!(std::fs::read_to_string(cache.join("mine/README.md")).unwrap().contains("--ridge 0.1"));
    bad(&mut cached(&make("mine")), &["holds a model already"]);
    // By its name, and by its directory.
    let list = good(&mut cached(&["models", "list"]));
    assert!(list.lines().any(|l| l.starts_with("mine ") && l.contains("24-d")), "{list}");
    let by_name = good(&mut cached(&["embed", texts, "--model", "mine"]));
    let by_dir = good(&mut cached(&["embed", texts, "--model", cache.join("mine").to_str().unwrap()]));
    assert_eq!(by_name.lines().count(), 300);
    assert_eq!(by_name, by_dir);
    good(&mut cached(&["models", "use", "mine"]));
    good(&mut cached(&["verify"]));
}

#[test]
fn long_texts_are_cut_or_read_in_windows() {
    if !minilm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("texts.txt");
    let long = format!("{}{}", "the dog sleeps in the sun ".repeat(60), "quarterly tax returns of companies ".repeat(60));
    std::fs::write(&file, format!("{long}\nshort\n")).unwrap();
    let embed = |long_texts: &str| {
        let args = ["embed", file.to_str().unwrap(), "--model", DEFAULT_MODEL, "--stats"];
        let out = program(dir.path(), &args).env("NEARCAST__MODEL__LONG_TEXTS", long_texts).output().unwrap();
        let stats: Value = serde_json::from_str(String::from_utf8_lossy(&out.stderr).lines().last().unwrap()).unwrap();
        let lines = String::from_utf8(out.stdout).unwrap();
        let vectors = lines.lines().map(|l| serde_json::from_str::<Vec<f32>>(l).unwrap()).collect::<Vec<_>>();
        (stats["tokens"].as_u64().unwrap(), vectors)
    };
    let (cut, windows) = (embed("cut"), embed("windows"));
    assert_eq!(cut.0, 256 + 3);
    assert!(windows.0 > 600, "{}", windows.0);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert!(dot(&cut.1[0], &windows.1[0]) < 0.95);
    assert!(dot(&cut.1[1], &windows.1[1]) > 0.999_99);
    // Vectors of the two are not compared: data made with one is refused under the other.
    let data = dir.path().join("data");
    good(program(&data, &["models", "use", DEFAULT_MODEL]).env("NEARCAST__MODEL__LONG_TEXTS", "windows"));
    bad(&mut program(&data, &["verify"]), &["model.long_texts"]);
    good(program(&data, &["verify"]).env("NEARCAST__MODEL__LONG_TEXTS", "windows"));
}
