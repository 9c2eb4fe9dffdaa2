//! `speed`: the figures of the README, in the order in which a user meets them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use axum::{Router, routing::get};
use serde_json::Value;

use crate::{client::Client, data, program, program::Server};

/// How long a changed answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures and prints a table.
pub fn run(program: &Path, data: &Path, requests: usize, connections: usize, events: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let parts = data::movielens(data, dir.path())?;
    let store = dir.path().join("data");
    let text = |p: &Path| p.display().to_string();

    let items = program::run(program, &store, &["import", &text(&parts.items)])?;
    row("import of the items, embedded", format!("{:.1} s", items.as_secs_f64()));
    let took = program::run(program, &store, &["import", &text(&parts.engagements)])?;
    row("import of the engagements, whole process", rate(parts.count, took, "events/s"));
    let again = program::run(program, &store, &["import", &text(&parts.engagements)])?;
    row("the same once more, all duplicates", rate(parts.count, again, "events/s"));

    let server = Server::start(program, &store)?;
    let path = |user: &str| format!("/recommendations/{user}?cache=false");
    load(server.port, connections, 20, &parts.users, &path)?;
    let fresh = load(server.port, connections, requests, &parts.users, &path)?;
    row(&format!("uncached answers, {connections} connections"), fresh.to_string());
    let cached = load(server.port, connections, requests, &parts.users, &|u| format!("/recommendations/{u}"))?;
    row("answers from the cache, mostly", cached.to_string());
    let hello = hello(connections, requests * 4)?;
    row("a bare HTTP server beside it", hello.to_string());
    row("uncached answers against it", format!("{:.1} %", 100.0 * fresh.per_second / hello.per_second));
    row("cached answers against it", format!("{:.1} %", 100.0 * cached.per_second / hello.per_second));

    let fresh = freshness(server.port, &parts.users, events)?;
    row("event to changed answer", format!("p50 {:.1} ms, p99 {:.1} ms", quantile(&fresh, 0.5), quantile(&fresh, 0.99)));
    let (now, peak) = server.memory_mb()?;
    row("resident memory", format!("{now:.0} MB, {peak:.0} MB at its highest"));
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the result of the benchmark")]
fn row(what: &str, figure: String) {
    println!("| {what} | {figure} |");
}

fn rate(count: usize, took: Duration, unit: &str) -> String {
    format!("{:.0} {unit} ({:.2} s)", count as f64 / took.as_secs_f64(), took.as_secs_f64())
}

/// What a load gave.
struct Load {
    per_second: f64,
    latencies: Vec<f64>,
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let q = |q| quantile(&self.latencies, q);
        write!(f, "{:.0}/s, p50 {:.2} ms, p99 {:.2} ms", self.per_second, q(0.5), q(0.99))
    }
}

/// The q-quantile of sorted figures.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = ((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// So many requests on each of so many connections, for users drawn evenly.
fn load(
    port: u16,
    connections: usize,
    requests: usize,
    users: &[String],
    path: &(dyn Fn(&str) -> String + Sync),
) -> anyhow::Result<Load> {
    let begun = Instant::now();
    let mut latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|n| {
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(n as u64);
                    let mut client = Client::connect(port)?;
                    let mut out = Vec::with_capacity(requests);
                    for _ in 0..requests {
                        let path = path(rng.choice(users).map_or("", |u| u));
                        let begun = Instant::now();
                        let answer = client.get(&path)?;
                        out.push(begun.elapsed().as_secs_f64() * 1000.0);
                        ensure!(answer.status == 200, "{path}: {}", answer.status);
                    }
                    Ok(out)
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a connection died"))??);
        }
        anyhow::Ok(all)
    })?;
    let per_second = latencies.len() as f64 / begun.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    Ok(Load { per_second, latencies })
}

/// The same load on a server that does nothing.
fn hello(connections: usize, requests: usize) -> anyhow::Result<Load> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let port = listener.local_addr()?.port();
    let server = axum::serve(listener, Router::new().route("/", get(|| async { "hello" })));
    let task = runtime.spawn(async move { server.await });
    let nobody = [String::new()];
    let figures = load(port, connections, requests, &nobody, &|_| "/".into());
    task.abort();
    figures
}

/// For one event after another: milliseconds from sending a purchase of the best recommendation until it is recommended
/// no more. Answers come with the cache on, as an app asks.
fn freshness(port: u16, users: &[String], events: usize) -> anyhow::Result<Vec<f64>> {
    let mut rng = fastrand::Rng::with_seed(99);
    let mut client = Client::connect(port)?;
    let mut out = Vec::with_capacity(events);
    for n in 0..events {
        let user = rng.choice(users).context("no users")?;
        let path = format!("/recommendations/{user}");
        let first = |client: &mut Client| -> anyhow::Result<String> {
            let body: Value = serde_json::from_slice(&client.get(&path)?.body)?;
            Ok(body["recommendations"][0]["item_id"].as_str().context("an empty answer")?.to_owned())
        };
        let best = first(&mut client)?;
        let event = serde_json::json!({"type":"engagement","event_id":format!("bench-{n}"),"user_id":user,"item_id":best,
            "kind":"purchase","value":1.0,"timestamp":"2026-01-01T00:00:00Z"});
        let begun = Instant::now();
        let answer = client.post("/events", &event.to_string())?;
        ensure!(answer.status == 202, "POST /events: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        while first(&mut client)? == best {
            ensure!(begun.elapsed() < PATIENCE, "the answer for {user} did not change");
        }
        out.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    out.sort_by(f64::total_cmp);
    Ok(out)
}
