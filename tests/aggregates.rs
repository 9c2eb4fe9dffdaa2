//! Engagement by hour and day equals a plain count of the events: with late ones, with erasures, and when hours are kept by day.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};
use support::{run, run_ok, write_lines};

/// Events and users of a tenant's item in a span.
type Plain = BTreeMap<(String, String, String), (u64, BTreeSet<String>)>;

/// A plain count: `length` of the timestamp's text is the span.
fn plain(events: &[Value], length: usize, tail: &str, since: &str) -> Plain {
    let mut erased: BTreeMap<String, String> = BTreeMap::new();
    for e in events.iter().filter(|e| e["type"] == "erasure") {
        erased.insert(e["user_id"].as_str().unwrap().into(), e["timestamp"].as_str().unwrap().into());
    }
    let mut all = Plain::new();
    for e in events.iter().filter(|e| !e["item_id"].is_null() && e["type"] != "item") {
        let (user, at) = (e["user_id"].as_str().unwrap(), e["timestamp"].as_str().unwrap());
        if erased.get(user).is_some_and(|until| at <= until.as_str()) || at < since {
            continue;
        }
        let start = format!("{}{tail}", &at[..length]);
        let tenant = e["tenant"].as_str().unwrap_or("default").to_owned();
        let sum = all.entry((tenant, start, e["item_id"].as_str().unwrap().into())).or_default();
        sum.0 += 1;
        sum.1.insert(user.into());
    }
    all
}

fn told(data: &Path, flags: &[&str]) -> BTreeMap<(String, String, String), (u64, u64)> {
    let text = run_ok(data, &[&["aggregate", "--print"], flags].concat());
    let of = |v: &Value| v.as_str().unwrap().to_owned();
    text.lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap())
        .map(|r| {
            (
                (of(&r["tenant"]), of(&r["start"]), of(&r["item_id"])),
                (r["events"].as_u64().unwrap(), r["users"].as_u64().unwrap()),
            )
        })
        .collect()
}

fn same(data: &Path, flags: &[&str], plain: &Plain) {
    let expected: BTreeMap<_, _> = plain.iter().map(|(key, (n, users))| (key.clone(), (*n, users.len() as u64))).collect();
    assert_eq!(told(data, flags), expected, "{flags:?}");
}

fn aggregate(data: &Path, flags: &[&str]) -> Value {
    let out = run_ok(data, &[&["aggregate", "--json"], flags].concat());
    serde_json::from_str(&out).unwrap()
}

/// The sum of a number of all tenants' reports.
fn sum(report: &Value, name: &str) -> u64 {
    report["tenants"].as_array().unwrap().iter().map(|t| t[name].as_u64().unwrap()).sum()
}

fn events(seed: u64, n: usize) -> Vec<Value> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..n)
        .map(|i| {
            let at = format!("2026-03-{:02}T{:02}:{:02}:00Z", 1 + rng.u8(..9), rng.u8(..24), rng.u8(..60));
            let (user, item) = (format!("u{}", rng.u8(..30)), format!("i{}", rng.u8(..12)));
            let tenant = if rng.u8(..4) == 0 { "other" } else { "default" };
            match rng.u8(..8) {
                0 => json!({"type":"message","message_id":format!("{seed}-{i}"),"tenant":tenant,"user_id":user,"item_id":item,"text":"about it","timestamp":at}),
                1 => json!({"type":"message","message_id":format!("{seed}-{i}"),"tenant":tenant,"user_id":user,"text":"about nothing","timestamp":at}),
                _ => json!({"type":"engagement","event_id":format!("{seed}-{i}"),"tenant":tenant,"user_id":user,"item_id":item,"kind":"view","timestamp":at}),
            }
        })
        .collect()
}

fn import(data: &Path, dir: &Path, events: &[Value]) {
    let file = dir.join("events.jsonl");
    write_lines(&file, events);
    run_ok(data, &["import", file.to_str().unwrap()]);
}

#[test]
fn equal_a_plain_count() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut all = events(1, 3000);
    // Before 1970 too, where hours are negative.
    all.push(json!({"type":"engagement","user_id":"old","item_id":"i0","kind":"view","timestamp":"1969-12-31T22:30:00Z"}));
    import(&data, dir.path(), &all);
    let digest = support::digests(&data);
    let first = aggregate(&data, &["--hourly"]);
    same(&data, &["--hourly"], &plain(&all, 13, ":00:00Z", ""));
    assert_eq!(sum(&first, "events"), all.iter().filter(|e| !e["item_id"].is_null()).count() as u64);
    aggregate(&data, &["--daily"]);
    same(&data, &["--daily"], &plain(&all, 10, "T00:00:00Z", ""));
    assert_eq!(support::digests(&data), digest, "aggregates are no facts");
    for span in ["--hourly", "--daily"] {
        assert_eq!(sum(&aggregate(&data, &[span]), "spans"), 0, "nothing changed");
        // Counted anew where that is asked for, and found the same.
        let again = aggregate(&data, &[span, "--since", "2026-03-02T00:00:00Z", "--until", "2026-03-04T00:00:00Z"]);
        assert!(sum(&again, "events") > 300 && sum(&again, "events") < 2000, "{again}");
        assert_eq!((sum(&again, "written"), sum(&again, "removed")), (0, 0), "{again}");
    }
    // Late ones touch the hours they fall in, and no others.
    let late = vec![
        json!({"type":"engagement","event_id":"late","user_id":"u1","item_id":"i3","kind":"view","timestamp":"2026-03-01T05:00:00Z"}),
        json!({"type":"engagement","event_id":"later","user_id":"u2","item_id":"new","kind":"view","timestamp":"2026-02-01T05:00:00Z"}),
    ];
    import(&data, dir.path(), &late);
    all.extend(late);
    let report = aggregate(&data, &["--hourly"]);
    assert_eq!((sum(&report, "spans"), sum(&report, "written")), (2, 2), "{report}");
    same(&data, &["--hourly"], &plain(&all, 13, ":00:00Z", ""));
    // What is erased is out of them.
    let erasure = vec![
        json!({"type":"erasure","user_id":"u1","timestamp":"2026-03-20T00:00:00Z"}),
        json!({"type":"erasure","user_id":"old","timestamp":"2026-03-20T00:00:00Z"}),
    ];
    import(&data, dir.path(), &erasure);
    let default_only = |all: &[Value]| -> Vec<Value> { all.iter().filter(|e| e["tenant"] != "other").cloned().collect() };
    all.extend(erasure);
    let report = aggregate(&data, &["--hourly", "--tenant", "default"]);
    assert!(sum(&report, "removed") > 0, "{report}");
    same(&data, &["--hourly", "--tenant", "default"], &plain(&default_only(&all), 13, ":00:00Z", ""));
    aggregate(&data, &["--daily"]);
    same(&data, &["--daily", "--tenant", "default"], &plain(&default_only(&all), 10, "T00:00:00Z", ""));
    assert!(run_ok(&data, &["runs", "--job", "aggregate", "--json"]).lines().count() > 5);
}

#[test]
fn old_hours_are_kept_by_day() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut all = events(2, 2000);
    for tenant in ["default", "other"] {
        all.push(json!({"type":"engagement","tenant":tenant,"user_id":"u1","item_id":"i0","kind":"view","timestamp":"2026-03-09T23:59:00Z"}));
    }
    import(&data, dir.path(), &all);
    aggregate(&data, &["--hourly"]);
    // The newest hour is the last of the ninth: 48 hours back is the beginning of the eighth.
    let report = aggregate(&data, &["--hourly", "--keep-hours", "48"]);
    assert!(sum(&report, "folded") > 500, "{report}");
    let recent = |all: &[Value]| plain(all, 13, ":00:00Z", "2026-03-08T00:00:00Z");
    let days = |all: &[Value]| -> Plain {
        let all = plain(all, 10, "T00:00:00Z", "");
        all.into_iter().filter(|((_, start, _), _)| start.as_str() < "2026-03-08").collect()
    };
    same(&data, &["--hourly"], &recent(&all));
    same(&data, &["--daily"], &days(&all));
    // A late event of a folded hour is found in its day, also when the next run says nothing of keeping; an erasure too.
    let late = vec![
        json!({"type":"engagement","event_id":"late","user_id":"u9","item_id":"i3","kind":"view","timestamp":"2026-03-01T05:00:00Z"}),
        json!({"type":"erasure","user_id":"u2","timestamp":"2026-03-20T00:00:00Z"}),
        json!({"type":"erasure","tenant":"other","user_id":"u2","timestamp":"2026-03-20T00:00:00Z"}),
    ];
    import(&data, dir.path(), &late);
    all.extend(late);
    aggregate(&data, &["--hourly"]);
    same(&data, &["--hourly"], &recent(&all));
    same(&data, &["--daily"], &days(&all));
    // By day, everything is there again.
    aggregate(&data, &["--daily"]);
    same(&data, &["--daily"], &plain(&all, 10, "T00:00:00Z", ""));
    let out = run(&data, &["aggregate"]);
    assert_eq!(out.status.code(), Some(2));
}
