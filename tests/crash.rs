//! A process that is killed at any moment, and started again, ends where an undisturbed one ends.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{Running, digests, free_port, nearcast, post, run_ok, serve, town, write_lines};

const KILLS: usize = 20;

#[test]
fn import_killed_at_random_moments() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("town.jsonl");
    write_lines(&file, &town(7, 300, 20_000));
    let file = file.to_str().unwrap();
    let calm = dir.path().join("calm");
    let begun = Instant::now();
    run_ok(&calm, &["import", file]);
    let whole = begun.elapsed();
    let expected = digests(&calm);

    let shaken = dir.path().join("shaken");
    let mut rng = fastrand::Rng::with_seed(8);
    let mut kills = 0;
    for _ in 0..KILLS {
        let mut child =
            Running(nearcast(&shaken, &["import", file]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        std::thread::sleep(whole.mul_f64(rng.f64()));
        kills += usize::from(child.0.try_wait().unwrap().is_none());
        drop(child);
    }
    assert!(kills > 0, "every import had ended before it was killed");
    run_ok(&shaken, &["import", file]);
    assert_eq!(digests(&shaken), expected, "after {kills} kills");
    // And once more, whole: nothing changes.
    run_ok(&shaken, &["import", file]);
    assert_eq!(digests(&shaken), expected);
}

#[test]
fn run_killed_at_random_moments() {
    let dir = tempfile::tempdir().unwrap();
    let events = town(9, 100, 4000);
    let file = dir.path().join("town.jsonl");
    write_lines(&file, &events);
    let calm = dir.path().join("calm");
    run_ok(&calm, &["import", file.to_str().unwrap()]);
    let expected = digests(&calm);

    let shaken = dir.path().join("shaken");
    let port = free_port();
    let mut rng = fastrand::Rng::with_seed(10);
    let mut server = serve(&shaken, port);
    let mut kills = 0;
    let mut next_kill = Instant::now() + Duration::from_millis(rng.u64(5..400));
    for batch in events.chunks(20) {
        loop {
            if kills < KILLS && Instant::now() >= next_kill {
                drop(server);
                kills += 1;
                server = serve(&shaken, port);
                next_kill = Instant::now() + Duration::from_millis(rng.u64(5..400));
            }
            // Not accepted, or not told whether it was: sent again, as a producer does.
            match post(port, "/events", &Value::Array(batch.to_vec())) {
                Ok((202, _)) => break,
                Ok((status, body)) => assert!(status == 503 || status == 429, "{status} {body}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
    while kills < KILLS {
        std::thread::sleep(Duration::from_millis(rng.u64(1..50)));
        drop(server);
        kills += 1;
        server = serve(&shaken, port);
    }
    drop(server);
    run_ok(&shaken, &["ingest", "--drain"]);
    assert_eq!(digests(&shaken), expected);
}
