//! Rows a second of each store call while the films of `$NEARCAST_TEST_DATA` are taken in, and the times of the usual reads.
//!
//! `NEARCAST_TEST_DATA=… cargo run --release -p nearcast-stores --example ingest_rates [batch]`
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::PathBuf,
    time::{Duration, Instant},
};

use nearcast_domain::{
    Engagement, Event, EventId, Item, ItemId, Tenant, Timestamp, UserId,
    ports::{
        Append, Edge, EngagementRead, EngagementWrite, GraphRead, GraphWrite, HistoryLimit, ItemLabels, LedgerRead,
        LedgerWrite, Neighbour, Tally, TrendingQuery,
    },
    taste::Taste,
};
use nearcast_stores::{engagement::SqliteEngagement, graph::SqliteGraph, ledger::SqliteLedger};

#[derive(Default)]
struct Clock(Vec<(&'static str, usize, Duration)>);

impl Clock {
    async fn time<T>(&mut self, name: &'static str, rows: usize, call: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let result = call.await;
        let took = start.elapsed();
        match self.0.iter_mut().find(|c| c.0 == name) {
            Some(c) => (c.1, c.2) = (c.1 + rows, c.2 + took),
            None => self.0.push((name, rows, took)),
        }
        result
    }

    fn print(&self) {
        let all: Duration = self.0.iter().map(|c| c.2).sum();
        for (name, rows, took) in &self.0 {
            println!(
                "{name:22} {rows:8} rows {:8.1} ms {:10.0} rows/s",
                took.as_secs_f64() * 1e3,
                *rows as f64 / took.as_secs_f64()
            );
        }
        println!("{:22} {:22.1} ms of the clock; {} ms of processors so far", "all", all.as_secs_f64() * 1e3, processor_ms());
    }
}

/// Time of all threads on processors: says more than the clock where others use the machine too. Linux only.
fn processor_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) * 10
}

fn events() -> Option<Vec<Event>> {
    let file = PathBuf::from(std::env::var_os("NEARCAST_TEST_DATA")?).join("movielens.events.jsonl.gz");
    let lines = BufReader::new(flate2::read::MultiGzDecoder::new(std::fs::File::open(file).ok()?)).lines();
    let tenant = Tenant::default();
    let text = |v: &serde_json::Value, f: &str| v[f].as_str().unwrap().to_owned();
    let event = |line: String| {
        let v: serde_json::Value = serde_json::from_str(&line).unwrap();
        let item_id = ItemId::trusted(text(&v, "item_id"));
        if v["type"] == "item" {
            let categories = v["categories"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().into()).collect();
            let text = v["text"].as_str().map(Into::into);
            return Event::Item(Item {
                tenant: tenant.clone(),
                item_id,
                text,
                categories,
                expires_at: None,
                hidden: false,
                attributes: serde_json::Map::new(),
                timestamp: None,
            });
        }
        Event::Engagement(Engagement {
            tenant: tenant.clone(),
            event_id: EventId::trusted(text(&v, "event_id")),
            user_id: UserId::trusted(text(&v, "user_id")),
            item_id,
            kind: v["kind"].as_str().unwrap().into(),
            value: v["value"].as_f64().unwrap(),
            timestamp: Timestamp::parse(v["timestamp"].as_str().unwrap()).unwrap(),
        })
    };
    Some(lines.map(|l| event(l.unwrap())).collect())
}

#[tokio::main]
async fn main() {
    let Some(events) = events() else {
        println!("needs $NEARCAST_TEST_DATA/movielens.events.jsonl.gz (MovieLens latest-small as events)");
        return;
    };
    let size = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(4096);
    let appends: Vec<Append> =
        events.into_iter().map(|event| Append { hash: event.content_hash(), event, vector: None }).collect();
    let dir = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&dir.path().join("ledger.db")).await.unwrap();
    let graph = SqliteGraph::open(&dir.path().join("graph.db")).await.unwrap();
    let engagement = SqliteEngagement::open(&dir.path().join("engagement.db")).await.unwrap();
    let t = Tenant::default();
    let taste = Taste::default();
    println!("{} ms of processors for reading the file", processor_ms());
    for round in ["first time", "again"] {
        let mut clock = Clock::default();
        for batch in appends.chunks(size) {
            clock.time("ledger.preview", batch.len(), ledger.preview(batch)).await.unwrap();
            clock.time("ledger.append", batch.len(), ledger.append(batch, "none")).await.unwrap();
            let (mut pairs, mut tallies, mut labels) = (BTreeSet::new(), Vec::new(), Vec::new());
            for a in batch {
                match &a.event {
                    Event::Engagement(e) => {
                        pairs.insert((e.user_id.clone(), e.item_id.clone()));
                        let weight = taste.strength(&e.kind, e.value).weight;
                        let (id, user, item) = (e.event_id.clone(), e.user_id.clone(), e.item_id.clone());
                        tallies.push(Tally { id, user, item, weight, timestamp: e.timestamp });
                    }
                    Event::Item(i) => {
                        let categories = i.categories.iter().map(ToString::to_string).collect();
                        labels.push(ItemLabels { item: i.item_id.clone(), categories });
                    }
                    _ => {}
                }
            }
            let pairs: Vec<_> = pairs.into_iter().collect();
            let found = clock.time("ledger.pairs", pairs.len(), ledger.pairs(&t, &pairs)).await.unwrap();
            let edges: Vec<Edge> = found
                .iter()
                .map(|p| {
                    let strength = taste.combined(p.events.iter().map(|e| (&e.kind, e.value)));
                    let (first, last) = (p.events[0].timestamp, p.events[p.events.len() - 1].timestamp);
                    let (weight, positive) = (strength.weight, strength.positive);
                    Edge { user: p.user.clone(), item: p.item.clone(), weight, positive, first, last }
                })
                .collect();
            clock.time("graph.set_edges", edges.len(), graph.set_edges(&t, &edges)).await.unwrap();
            clock.time("engagement.record", tallies.len(), engagement.record(&t, &tallies)).await.unwrap();
            clock.time("engagement.set_labels", labels.len(), engagement.set_labels(&t, &labels)).await.unwrap();
        }
        println!("-- {round}, batches of {size}");
        clock.print();
    }
    reads(&t, &ledger, &graph, &engagement).await;
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len() / 1024;
    println!(
        "ledger.db {} KiB, graph.db {} KiB, engagement.db {} KiB",
        size("ledger.db"),
        size("graph.db"),
        size("engagement.db")
    );
}

async fn reads(t: &Tenant, ledger: &SqliteLedger, graph: &SqliteGraph, engagement: &SqliteEngagement) {
    println!("-- reads");
    let mut clock = Clock::default();
    let touched = clock.time("graph.touched", 9000, graph.touched(t, usize::MAX)).await.unwrap();
    let edges = clock.time("graph.scan", 79_748, graph.scan(t)).await.unwrap();
    let near = |at: usize| {
        (1..=50)
            .map(|n| Neighbour { item: touched.items[(at + n) % touched.items.len()].clone(), weight: 1.0 / n as f32 })
            .collect()
    };
    let lists: Vec<_> = touched.items.iter().enumerate().map(|(at, i)| (i.clone(), near(at))).collect();
    clock.time("graph.replace", lists.len(), graph.replace_neighbours(t, &lists, touched.upto)).await.unwrap();
    for (name, digest) in [
        ("ledger.digest", clock.time("ledger.digest", 79_748, ledger.digest()).await.unwrap()),
        ("graph.digest", clock.time("graph.digest", 79_748, graph.digest()).await.unwrap()),
        ("engagement.digest", clock.time("engagement.digest", 79_748, engagement.digest()).await.unwrap()),
    ] {
        println!("{name} {} rows {}", digest.rows(), &digest.to_hex()[..16]);
    }
    let users: Vec<UserId> = (1..=671).map(|n| UserId::trusted(n.to_string())).collect();
    let items: Vec<ItemId> = edges.iter().step_by(800).map(|e| e.item.clone()).collect();
    let limit = HistoryLimit { engagements: 200, messages: 32 };
    for n in 0..200 {
        let one = &users[n * 3 % 671..][..1];
        let near = &users[n..n + 50];
        clock.time("history of one", 1, ledger.histories(t, one, limit, Some("none"))).await.unwrap();
        clock.time("engaged of 100", 1, ledger.engaged(t, &one[0], &items)).await.unwrap();
        clock.time("items 100", 1, ledger.items(t, &items, None)).await.unwrap();
        clock.time("own edges 200", 1, graph.edges_of_users(t, one, 200)).await.unwrap();
        clock.time("edges of 50 x 20", 1, graph.edges_of_users(t, near, 20)).await.unwrap();
        clock.time("edges of items 20 x 20", 1, graph.edges_of_items(t, &items[..20], 20)).await.unwrap();
        clock.time("neighbours 100 x 50", 1, graph.neighbours(t, &items, 50)).await.unwrap();
        clock.time("users by prefix", 1, ledger.users(t, "6", None, 20)).await.unwrap();
        clock.time("newest items", 1, ledger.newest_items(t, Some("Comedy"), 20)).await.unwrap();
    }
    for category in [None, Some("Comedy".to_owned())] {
        for half_life_hours in [None, Some(24.0 * 30.0)] {
            let name = match (&category, half_life_hours) {
                (None, None) => "trending ever",
                (None, _) => "trending fading",
                (_, None) => "trending ever, comedy",
                _ => "trending fading, comedy",
            };
            for _ in 0..10 {
                let query = TrendingQuery { category: category.clone(), half_life_hours, limit: 100 };
                clock.time(name, 1, engagement.trending(t, query)).await.unwrap();
            }
        }
    }
    clock.time("hours", 80_000, engagement.hours(t, usize::MAX)).await.unwrap();
    for (name, n, took) in &clock.0 {
        let each = if *n > 1000 { 1 } else { *n };
        println!("{name:24} {:8.3} ms", took.as_secs_f64() * 1e3 / each as f64);
    }
}
