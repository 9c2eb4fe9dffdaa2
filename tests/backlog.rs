//! A worker's memory stays where it is when Kafka holds far more than fits, and one store is slow.
//!
//! Needs the servers of `infra/local/`. `NEARCAST_BACKLOG` says how many events wait (300,000; the bar is 10,000,000), and
//! `NEARCAST_BACKLOG_SECONDS` how long it is watched (80).
#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::{Duration, Instant},
};

use support::{
    Running,
    proxy::{Fault, Proxy},
    stack::Stack,
};

/// What the source may hold of records. The backlog is many times as much.
const BUFFER_BYTES: usize = 4 << 20;
/// What a worker may grow by once it has been at it for a while: what the allocator keeps.
const GROWTH_KB: u64 = 32 << 10;
const SECONDS: usize = 80;
const EVERY: Duration = Duration::from_millis(250);
/// Produced at once.
const PORTION: usize = 100_000;

fn address(uri: &str) -> SocketAddr {
    let host = uri.split("://").nth(1).unwrap().rsplit('@').next().unwrap();
    host.split(['/', '?']).next().unwrap().to_socket_addrs().unwrap().find(SocketAddr::is_ipv4).unwrap()
}

fn resident_kb(process: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn event(n: usize) -> String {
    let (user, item, day) = (n % 5_003, n % 1_009, 1 + n % 28);
    format!(
        r#"{{"type":"engagement","event_id":"e{n}","user_id":"u{user}","item_id":"i{item}","kind":"view","value":1.0,"timestamp":"2026-01-{day:02}T00:00:00Z"}}"#
    )
}

#[test]
fn memory_is_flat_while_a_store_is_slow() {
    let Some(mut stack) = Stack::new("backlog") else { return };
    let setting = |name: &str, default: usize| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let number = setting("NEARCAST_BACKLOG", 300_000);
    let all = setting("NEARCAST_BACKLOG_SECONDS", SECONDS) * 4;
    let dir = tempfile::tempdir().unwrap();
    stack.run_ok(&["setup"]);
    let mut bytes = 0;
    for first in (0..number).step_by(PORTION) {
        let events: Vec<String> = (first..number.min(first + PORTION)).map(event).collect();
        bytes += events.iter().map(String::len).sum::<usize>();
        stack.produce(&events);
    }
    assert!(bytes > 5 * BUFFER_BYTES, "a backlog of {bytes} bytes would show nothing");
    let uri = stack.value("POSTGRES__URI");
    let server = address(&uri);
    let proxy = Proxy::new(server);
    proxy.set(Fault::Slow);
    stack.set("POSTGRES__URI", &uri.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port())));
    stack.set("KAFKA__BUFFER_BYTES", &BUFFER_BYTES.to_string());
    stack.set("INGEST__BATCH_RECORDS", "2000");
    // What is remembered of users comes to its size while it is watched, however long that is.
    stack.set("INGEST__HISTORIES_MIB", "16");
    let log = dir.path().join("worker.log");
    let mut worker = stack.worker(&log);
    // Work has begun when the slow store is asked.
    let until = Instant::now() + Duration::from_secs(300);
    while proxy.connections() == 0 {
        assert!(Instant::now() < until, "{}", std::fs::read_to_string(&log).unwrap());
        std::thread::sleep(EVERY);
    }
    let mut samples = Vec::new();
    for _ in 0..all {
        std::thread::sleep(EVERY);
        samples.push(resident_kb(&worker));
    }
    assert!(worker.0.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(&log).unwrap());
    drop(worker);
    let most: Vec<u64> = samples.chunks(all / 4).map(|quarter| quarter.iter().max().unwrap() >> 10).collect();
    eprintln!(
        "{number} events of {} MB waited: {} MB resident at first, at most {most:?} MB in each quarter of {:?}",
        bytes >> 20,
        samples[0] >> 10,
        EVERY * all as u32
    );
    // The first quarter is the beginning: pools and batches come to their size.
    let (beginning, rest) = samples.split_at(all / 4);
    let (early, late) = (beginning.iter().max().unwrap(), rest.iter().max().unwrap());
    assert!(*late < early + GROWTH_KB, "{samples:?}");
}
