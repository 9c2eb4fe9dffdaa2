//! From the servers of `infra/local/` to embedded stores by an export; and aggregates that both agree on.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use serde_json::Value;
use support::{digests, run_ok, stack::Stack, town};

/// How many events are told: FerretDB and milvus-lite are slow.
const EVENTS: usize = 250;

#[test]
fn exported_from_servers_imported_into_files() {
    let Some(stack) = Stack::new("transfer") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("out"));
    let out = out.to_str().unwrap();
    let events: Vec<String> = town(61, 25, EVENTS).iter().map(Value::to_string).collect();
    stack.run_ok(&["setup"]);
    stack.produce(&events);
    stack.run_ok(&["ingest", "--drain"]);
    let report: Value = serde_json::from_str(&stack.run_ok(&["export", "--json", "--out", out])).unwrap();
    assert!(report["counts"]["profiles"].as_u64().unwrap() > 10, "{report}");
    run_ok(&data, &["import", out]);
    assert_eq!(digests(&data), stack.digests());
    for span in ["--hourly", "--daily"] {
        stack.run_ok(&["aggregate", span]);
        run_ok(&data, &["aggregate", span]);
        let rows = stack.run_ok(&["aggregate", span, "--print"]);
        assert!(rows.lines().count() >= 10, "{rows}");
        assert_eq!(rows, run_ok(&data, &["aggregate", span, "--print"]), "{span}");
        let again: Value = serde_json::from_str(&stack.run_ok(&["aggregate", span, "--json"])).unwrap();
        assert_eq!(again["tenants"][0]["spans"], 0, "{again}");
    }
    stack.run_ok(&["aggregate", "--hourly", "--keep-hours", "1"]);
    run_ok(&data, &["aggregate", "--hourly", "--keep-hours", "1"]);
    assert_eq!(stack.run_ok(&["aggregate", "--hourly", "--print"]), run_ok(&data, &["aggregate", "--hourly", "--print"]));
}
