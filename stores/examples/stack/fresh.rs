//! How soon an answer follows an event: a worker and a server on the real stores, 200 events a second from one side, and people whose
//! first recommendation becomes theirs from the other. Probed until the answer is without it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::program::Program;

/// Events a second beside the probes.
const RATE: f64 = 200.0;
/// Probes at once.
const PROBES: u64 = 4;
/// Between two looks of a probe.
const LOOK: Duration = Duration::from_millis(50);
/// Between two probes of one prober: who looks must not be the load.
const REST: Duration = Duration::from_millis(1_000);
/// The stream begins so long before the first probe: a worker that has just been started reads what it will remember of its users.
const BEFORE: Duration = Duration::from_secs(5);
/// A probe that sees nothing for so long gives up, and counts as that long.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Seen {
    /// How long each probe took, and when it began.
    probes: Vec<(Duration, Duration)>,
    answers: Vec<Duration>,
    degraded: std::collections::BTreeMap<String, usize>,
    incomplete: usize,
}

fn get(stream: &mut BufReader<TcpStream>, path: &str) -> Value {
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the server closed the connection");
        let lower = line.trim_end().to_ascii_lowercase();
        if let Some(n) = lower.strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
        if lower.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap_or_default()
}

fn engagement(id: &str, user: &str, item: &str) -> String {
    json!({"type": "engagement", "event_id": id, "user_id": user, "item_id": item, "kind": "rating", "value": 8.0,
        "timestamp": "2026-01-02T00:00:00Z"})
    .to_string()
}

/// Prints the median and the 99th percentile, and how many answers were incomplete.
pub fn measure(program: &Program, events: &[String], time: Duration) {
    let field = |name: &str, kind: &str| {
        let of = |e: &String| {
            let e: Value = serde_json::from_str(e).unwrap();
            (e["type"] == kind).then(|| e[name].as_str().unwrap().to_owned())
        };
        let mut all: Vec<String> = events.iter().filter_map(of).collect();
        all.sort();
        all.dedup();
        all
    };
    let (users, items) = (field("user_id", "engagement"), field("item_id", "engagement"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _worker = program.start(&["ingest"]);
    let _server = program.start(&["serve", "--listen", &format!("127.0.0.1:{port}")]);
    let until = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "the server does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The worker joins its group meanwhile.
    std::thread::sleep(Duration::from_secs(8));
    let (producer, ended, seen) = (program.producer(), AtomicBool::new(false), Mutex::new(Seen::default()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let (users, items, producer, ended, seen) = (&users, &items, &producer, &ended, &seen);
        scope.spawn(move || {
            let (mut n, mut rng) = (0, fastrand::Rng::with_seed(1));
            while !ended.load(Ordering::Relaxed) {
                let (user, item) = (&users[rng.usize(..users.len())], &items[rng.usize(..items.len())]);
                program.send(producer, &engagement(&format!("beside-{n}"), user, item));
                n += 1;
                let due = begun + Duration::from_secs_f64(f64::from(n) / RATE);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        let probes: Vec<_> = (0..PROBES)
            .map(|probe| {
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(100 + probe);
                    std::thread::sleep(BEFORE);
                    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
                    let mut recommended = |user: &str| -> Vec<String> {
                        let asked = Instant::now();
                        let answer = get(&mut stream, &format!("/recommendations/{user}?k=10"));
                        let mut seen = seen.lock().unwrap();
                        seen.answers.push(asked.elapsed());
                        let names = answer["degraded"].as_array().cloned().unwrap_or_default();
                        seen.incomplete += usize::from(!names.is_empty());
                        for name in names {
                            *seen.degraded.entry(name.as_str().unwrap().to_owned()).or_default() += 1;
                        }
                        let all = answer["recommendations"].as_array().cloned().unwrap_or_default();
                        all.iter().map(|r| r["item_id"].as_str().unwrap().to_owned()).collect()
                    };
                    for n in 0.. {
                        if begun.elapsed() > BEFORE + time {
                            break;
                        }
                        let user = &users[rng.usize(..users.len())];
                        let Some(first) = recommended(user).into_iter().next() else { continue };
                        let sent = Instant::now();
                        program.send(producer, &engagement(&format!("probe-{probe}-{n}"), user, &first));
                        while recommended(user).contains(&first) && sent.elapsed() < PATIENCE {
                            std::thread::sleep(LOOK);
                        }
                        seen.lock().unwrap().probes.push((sent.elapsed(), sent.saturating_duration_since(begun)));
                        std::thread::sleep(REST);
                    }
                })
            })
            .collect();
        probes.into_iter().for_each(|p| p.join().unwrap());
        ended.store(true, Ordering::Relaxed);
    });
    let mut seen = seen.into_inner().unwrap();
    println!(
        "\nat {RATE} events/s and {:.1} requests/s for {} s, from producing to a changed answer:",
        seen.answers.len() as f64 / time.as_secs_f64(),
        time.as_secs()
    );
    seen.probes.sort();
    seen.answers.sort();
    let fresh: Vec<Duration> = seen.probes.iter().map(|(took, _)| *took).collect();
    for (name, times) in [("freshness", &fresh), ("an answer", &seen.answers)] {
        let at = |share: usize| times.get((times.len().max(1) - 1) * share / 100).map_or(f64::NAN, |t| t.as_secs_f64() * 1e3);
        println!("{name:10} n {:6}   p50 {:8.1} ms   p90 {:8.1} ms   p99 {:8.1} ms", times.len(), at(50), at(90), at(99));
    }
    let slowest =
        seen.probes.iter().rev().take(5).map(|(took, at)| format!("{:.2} s at {:.0} s", took.as_secs_f64(), at.as_secs_f64()));
    println!("slowest: {}", slowest.collect::<Vec<_>>().join(", "));
    let share = 100.0 * seen.incomplete as f64 / seen.answers.len().max(1) as f64;
    println!("answers that lacked something: {share:.1} % {:?}", seen.degraded);
}
