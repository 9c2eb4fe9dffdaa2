//! Each of the five stores that requests ask, behind a proxy that misbehaves in six ways: every answer is 200 and not empty, what is
//! missing is named, and when it is over the answers are whole again.
//!
//! Needs the servers of `infra/local/`. How soon answers come is measured by `benches/load`, not judged here.
#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, ToSocketAddrs},
    time::{Duration, Instant},
};

use support::{
    Running, get, get_json,
    proxy::{FAULTS, Fault, Proxy},
    stack::Stack,
    town,
};

/// The stores, and the keys that say where they are.
const STORES: [(&str, &str); 5] = [
    ("ledger", "MONGODB__URI"),
    ("vectors", "MILVUS__ADDRESS"),
    ("graph", "NEO4J__URI"),
    ("engagement", "POSTGRES__URI"),
    ("cache", "REDIS__URI"),
];
/// Requests during a fault.
const ASKED: usize = 6;
/// How long an answer may be incomplete after a fault, on a machine that is busy with other things.
const WHOLE_AGAIN: Duration = Duration::from_secs(60);
const PEOPLE: usize = 20;

/// The name that a store's absence has in answers that need it.
fn named(store: &str) -> &'static [&'static str] {
    match store {
        "ledger" => &["ledger"],
        "vectors" => &["similar_users", "similar_text"],
        "graph" => &["graph"],
        "engagement" => &["trending"],
        _ => &["cache"],
    }
}

/// The host and port in an address of any scheme.
fn target(address: &str) -> SocketAddr {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split(['/', '?']).next().unwrap();
    host.to_socket_addrs().unwrap().find(SocketAddr::is_ipv4).unwrap()
}

struct Matrix {
    stack: Stack,
    proxies: BTreeMap<&'static str, Proxy>,
    dir: tempfile::TempDir,
    asked: usize,
}

impl Matrix {
    /// A town in the real servers, and proxies before them for whoever serves it.
    fn new() -> Option<Self> {
        let mut stack = Stack::new("faults")?;
        let dir = tempfile::tempdir().unwrap();
        stack.run_ok(&["setup"]);
        let events: Vec<String> =
            town(3, PEOPLE, 400).iter().filter(|e| e["type"] != "erasure").map(ToString::to_string).collect();
        stack.produce(&events);
        stack.run_ok(&["ingest", "--drain"]);
        let mut proxies = BTreeMap::new();
        for (store, key) in STORES {
            let address = stack.value(key);
            let proxy = Proxy::new(target(&address));
            let port = target(&address).port();
            stack.set(key, &address.replace(&format!(":{port}"), &format!(":{}", proxy.port())));
            proxies.insert(store, proxy);
        }
        // What rises is asked for with every request, so that its absence shows; the last resort lies where the next start finds it.
        stack.set("SERVE__SOURCES__TRENDING_FRESH_MS", "1");
        stack.set("SERVE__SOURCES__TRENDING_TOLERATED_MS", "0");
        stack.set("SERVE__SNAPSHOT_FILE", dir.path().join("last.json").to_str().unwrap());
        Some(Self { stack, proxies, dir, asked: 0 })
    }

    fn serve(&self) -> (Running, u16) {
        let (process, port) = self.stack.serve(&self.dir.path().join("serve.log"));
        // Some seconds at most, whatever is away.
        let until = Instant::now() + WHOLE_AGAIN;
        while get(port, "/health/ready").unwrap().0 != 200 {
            assert!(Instant::now() < until, "not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        (process, port)
    }

    fn set(&self, stores: &[&str], fault: Fault) {
        stores.iter().for_each(|s| self.proxies[s].set(fault));
    }

    /// Asks as often as is said; every answer is one, and all names together are given.
    fn asks(&mut self, port: u16, times: usize, what: &str) -> BTreeSet<String> {
        (0..times).flat_map(|_| self.ask(port, &format!("u{}", (self.asked + 1) % PEOPLE), what)).collect()
    }

    /// Asks once.
    fn ask(&mut self, port: u16, user: &str, what: &str) -> BTreeSet<String> {
        self.asked += 1;
        // Made anew and from the cache, in turns; with items left out, so that no answer was given before.
        let n = self.asked;
        let cache = if n.is_multiple_of(2) { "&cache=false" } else { "" };
        let (status, body) = get(port, &format!("/recommendations/{user}?exclude=x{n}{cache}")).unwrap();
        assert_eq!(status, 200, "{what}: {body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(!answer["recommendations"].as_array().unwrap().is_empty(), "{what}: {body}");
        answer["degraded"].as_array().unwrap().iter().map(|d| d.as_str().unwrap().to_owned()).collect()
    }

    /// Asks until nothing is missing, three times in a row.
    fn whole(&mut self, port: u16, what: &str) -> Duration {
        let (begun, mut in_a_row) = (Instant::now(), 0);
        while in_a_row < 3 {
            let names = self.asks(port, 1, what);
            in_a_row = if names.is_empty() { in_a_row + 1 } else { 0 };
            assert!(begun.elapsed() < WHOLE_AGAIN, "{what}: {names:?} still after {:?}", begun.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        begun.elapsed()
    }

    /// One fault while serving, and its end.
    fn during(&mut self, port: u16, stores: &[&str], fault: Fault) -> Duration {
        let what = format!("{stores:?} {fault:?}");
        self.set(stores, fault);
        let mut names = BTreeSet::new();
        // What is remembered of people's neighbours needs no vectors: events that happened meanwhile do.
        let asked_of_memory = |s: &&&str| **s == "vectors";
        let shows = |names: &BTreeSet<String>| {
            stores.iter().filter(|s| !asked_of_memory(s)).all(|s| named(s).iter().any(|n| names.contains(*n)))
        };
        // What rises counts as known for a while after it was read, longer where reading took long.
        let begun = Instant::now();
        loop {
            names.extend(self.asks(port, ASKED, &what));
            // Of people who were asked for before it is remembered what the ledger said.
            names.extend(self.ask(port, &format!("new{}", self.asked), &what));
            if shows(&names) {
                break;
            }
            assert!(begun.elapsed() < WHOLE_AGAIN, "{what}: only {names:?} named");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.set(stores, Fault::None);
        self.whole(port, &what)
    }
}

/// Kilobytes resident, and threads.
fn held(process: &Running) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (of("VmRSS:"), of("Threads:"))
}

#[test]
fn every_store_every_fault() {
    let Some(mut m) = Matrix::new() else { return };
    let (process, port) = m.serve();
    m.whole(port, "before");
    let before = held(&process);
    let mut longest = Duration::ZERO;
    for (store, _) in STORES {
        for fault in FAULTS {
            longest = longest.max(m.during(port, &[store], fault));
        }
    }
    for (pair, fault) in
        [(["graph", "vectors"], Fault::Stall), (["ledger", "cache"], Fault::Refuse), (["engagement", "graph"], Fault::Reset)]
    {
        longest = longest.max(m.during(port, &pair, fault));
    }
    let all = STORES.map(|(s, _)| s);
    for fault in [Fault::Refuse, Fault::Stall] {
        longest = longest.max(m.during(port, &all, fault));
    }
    let after = held(&process);
    eprintln!("whole again after {longest:?} at the longest, {} requests, {before:?} to {after:?} (kB, threads)", m.asked);
    assert!(after.0 < before.0 + 150_000 && after.1 < before.1 + 64, "{before:?} grew to {after:?}");
    let figures = get(port, "/metrics").unwrap().1;
    for line in figures.lines().filter(|l| l.starts_with("nearcast_store_in_flight{")) {
        assert!(line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() <= 2, "{line}");
    }
    for proxy in m.proxies.values() {
        assert!(proxy.connections() <= 64, "{} connections", proxy.connections());
    }
    drop(process);

    // From the start: nothing was ever read, except what an earlier life wrote down.
    assert!(m.dir.path().join("last.json").exists());
    for (n, (store, _)) in STORES.iter().enumerate() {
        m.set(&[*store], FAULTS[n % FAULTS.len()]);
        let (_process, port) = m.serve();
        let what = format!("{store} {:?} from the start", FAULTS[n % FAULTS.len()]);
        m.asks(port, ASKED, &what);
        m.set(&[*store], Fault::None);
        longest = longest.max(m.whole(port, &what));
    }
    m.set(&all, Fault::Refuse);
    let (_process, port) = m.serve();
    m.asks(port, ASKED, "all away from the start");
    assert_eq!(get_json(port, "/health/live")["status"], "live");
    m.set(&all, Fault::None);
    m.whole(port, "all away from the start");
}
