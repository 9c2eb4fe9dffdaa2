//! The arrows between the crates, and what every file must say of itself.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

/// Who may know whom.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("nearcast-domain", &[]),
    ("nearcast-stores", &["nearcast-domain"]),
    ("nearcast-embed", &["nearcast-domain"]),
    ("nearcast-ingest", &["nearcast-domain"]),
    ("nearcast-serve", &["nearcast-domain"]),
    ("nearcast-pipelines", &["nearcast-domain"]),
    ("nearcast-benches", &["nearcast-domain"]),
    (
        "nearcast",
        &["nearcast-domain", "nearcast-embed", "nearcast-ingest", "nearcast-pipelines", "nearcast-serve", "nearcast-stores"],
    ),
];

/// Databases and their drivers: only stores may know them.
const DRIVERS: [&str; 6] = ["sqlx", "hnsw_rs", "mongodb", "neo4rs", "redis", "rdkafka"];

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn arrows_between_crates() {
    let metadata = metadata();
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), ALLOWED.len(), "a crate is missing from the list of allowed arrows");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            // Tests may use the real stores.
            if dependency["kind"] == "dev" {
                continue;
            }
            if to.starts_with("nearcast-") {
                assert!(allowed[name].contains(&to), "{name} may not depend on {to}");
            }
            if DRIVERS.contains(&to) {
                assert_eq!(name, "nearcast-stores", "{name} may not know {to}");
            }
        }
    }
}

fn rust_files(dir: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, out);
        } else if name.ends_with(".rs") {
            out.push(path);
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut files = Vec::new();
    rust_files(Path::new(env!("CARGO_MANIFEST_DIR")), &mut files);
    assert!(files.len() > 50);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} does not open with //!", file.display());
    }
}
