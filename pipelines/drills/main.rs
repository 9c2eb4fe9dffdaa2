//! Things lost, torn and altered on purpose; then `reconcile` or `rebuild`; then every digest of `verify` is what it was.
//!
//! `pipelines/drills/run` runs them all. Only data of their own is touched.
#![allow(clippy::unwrap_used, reason = "a drill says where it broke")]

mod embedded;
mod servers;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::Path;

use serde_json::Value;

/// What a `--json` report says of each part.
fn parts(report: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(report).unwrap()["parts"].as_array().unwrap().clone()
}

fn sum(parts: &[Value], what: &str) -> u64 {
    parts.iter().map(|p| p[what].as_u64().unwrap()).sum()
}

/// Copies a directory whole.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
