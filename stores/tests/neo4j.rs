//! The graph on a real Neo4j. Needs `NEARCAST__NEO4J__URI` (and `…__USER`, `…__PASSWORD`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod proxy;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nearcast_domain::{
    ErrorKind, ItemId, Tenant, Timestamp, UserId,
    ports::{Edge, GraphRead as _, GraphWrite, Neighbour, NeighbourList},
    testing::{self, events::tenant, servers},
};
use nearcast_stores::{
    graph::{Neo4jConfig, Neo4jGraph, SqliteGraph},
    remote::{Address, Secret},
};
use proxy::{Line, Proxy};

/// Where the server is; `None` where there is none.
fn config(prefix: &str) -> Option<Neo4jConfig> {
    let uri = servers::address("NEARCAST__NEO4J__URI")?;
    let variable = |key: &str, other: &str| std::env::var(key).unwrap_or_else(|_| other.to_owned());
    Some(Neo4jConfig {
        uri: Address::new(uri),
        user: variable("NEARCAST__NEO4J__USER", "neo4j"),
        password: Secret::new(variable("NEARCAST__NEO4J__PASSWORD", "")),
        prefix: prefix.to_owned(),
        ..Neo4jConfig::default()
    })
}

/// A graph of its own in the server, taken away at the end.
struct Own {
    config: Neo4jConfig,
    graph: Neo4jGraph,
}

impl Own {
    async fn new() -> Option<Self> {
        let config = config(&servers::unique("t"))?;
        let graph = Neo4jGraph::new(&config).unwrap();
        graph.setup().await.unwrap();
        Some(Self { config, graph })
    }

    /// Removes everything that bears the prefix.
    async fn remove(self) {
        self.graph.close().await;
        let c = &self.config;
        let driver = neo4rs::Graph::new(c.uri.expose(), &*c.user, c.password.read("test").unwrap()).await.unwrap();
        for label in ["User", "Item", "Tenant"] {
            let label = format!("{}{label}", c.prefix);
            driver
                .run(neo4rs::query(&format!(
                    "MATCH (n:`{label}`) CALL {{ WITH n DETACH DELETE n }} IN TRANSACTIONS OF 1000 ROWS"
                )))
                .await
                .unwrap();
        }
        for (show, drop) in [("SHOW CONSTRAINTS", "CONSTRAINT"), ("SHOW INDEXES", "INDEX")] {
            let mut names = driver.execute(neo4rs::query(show)).await.unwrap();
            while let Some(row) = names.next().await.unwrap() {
                let name: String = row.get("name").unwrap();
                if name.starts_with(&c.prefix) {
                    driver.run(neo4rs::query(&format!("DROP {drop} `{name}`"))).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn graph_on_neo4j() {
    let Some(a) = Own::new().await else { return };
    let (b, c, d) = (Own::new().await.unwrap(), Own::new().await.unwrap(), Own::new().await.unwrap());
    testing::graph::graph(&a.graph).await;
    testing::graph::graph_digests(&b.graph, &c.graph).await;
    testing::graph::graph_reopened(async || Neo4jGraph::new(&d.config).unwrap()).await;
    for own in [a, b, c, d] {
        own.remove().await;
    }
}

/// Ids that end a quotation, sort differently by UTF-16, or are as long as an id may be.
fn id(n: u32) -> String {
    match n % 7 {
        0 => format!("\u{fffd}{n}"),
        1 => format!("🦊{n}"),
        2 => format!("{n:x>256}"),
        3 => format!("'; MATCH (n) DETACH DELETE n // {n}"),
        4 => format!("\"`\\ $prefix {{key}} é{n}"),
        _ => format!("i{n}"),
    }
}

fn user(n: u32) -> UserId {
    UserId::parse(&id(n)).unwrap()
}

fn item(n: u32) -> ItemId {
    ItemId::parse(&id(n)).unwrap()
}

fn edge(rng: &mut fastrand::Rng, users: std::ops::Range<u32>, items: u32) -> Edge {
    // Few times, so that there are ties; weights with all their bits, zero of both signs among them.
    let last = Timestamp::from_millis(i64::from(rng.u32(0..5)) * 1000 - 2000);
    let weight = [rng.f32() * 2.0, f32::MIN_POSITIVE, 0.1, -0.0][rng.usize(0..4)];
    let (user, item) = (user(rng.u32(users)), item(rng.u32(0..items)));
    Edge { user, item, weight, positive: rng.bool(), first: last.plus_millis(-i64::from(rng.u32(0..9))), last }
}

fn lists(rng: &mut fastrand::Rng, number: usize, items: u32) -> Vec<NeighbourList> {
    (0..number)
        .map(|_| {
            let mut near: Vec<Neighbour> = Vec::new();
            for _ in 0..rng.u32(0..9) {
                let other = item(rng.u32(0..items));
                if near.iter().all(|n| n.item != other) {
                    near.push(Neighbour { item: other, weight: [rng.f32() + 0.001, 0.5][rng.usize(0..2)] });
                }
            }
            (item(rng.u32(0..items)), near)
        })
        .collect()
}

/// What a worker and a job may ask for.
enum Step {
    Edges(Vec<Edge>),
    Lists(Vec<NeighbourList>),
    Replace(Vec<NeighbourList>),
    Erase(UserId),
}

impl Step {
    fn random(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(0..10) {
            0 => {
                let number = rng.usize(0..40);
                Self::Lists(lists(rng, number, 60))
            }
            1 => {
                let number = rng.usize(0..60);
                Self::Replace(lists(rng, number, 60))
            }
            2 => Self::Erase(user(rng.u32(0..40))),
            _ => {
                let number = rng.usize(1..400);
                Self::Edges((0..number).map(|_| edge(rng, 0..40, 60)).collect())
            }
        }
    }

    async fn run(&self, graph: &dyn GraphWrite, t: &Tenant) -> nearcast_domain::StoreResult<()> {
        match self {
            Self::Edges(edges) => graph.set_edges(t, edges).await,
            Self::Lists(lists) => graph.set_neighbours(t, lists, 0).await,
            Self::Replace(lists) => graph.replace_neighbours(t, lists, 0).await,
            Self::Erase(user) => graph.erase(t, user).await.map(|_| ()),
        }
    }
}

async fn sqlite() -> (tempfile::TempDir, SqliteGraph) {
    let dir = tempfile::tempdir().unwrap();
    let graph = SqliteGraph::open(&dir.path().join("graph.db")).await.unwrap();
    (dir, graph)
}

/// Everything that can be read is the same on both.
async fn same(a: &dyn GraphWrite, b: &dyn GraphWrite, t: &Tenant) {
    assert_eq!(a.digest().await.unwrap(), b.digest().await.unwrap());
    assert_eq!(a.count(t).await.unwrap(), b.count(t).await.unwrap());
    assert_eq!(a.scan(t).await.unwrap(), b.scan(t).await.unwrap());
    let (users, items): (Vec<_>, Vec<_>) = ((0..45).map(user).collect(), (0..65).map(item).collect());
    for limit in [3, 1000, usize::MAX] {
        assert_eq!(a.edges_of_users(t, &users, limit).await.unwrap(), b.edges_of_users(t, &users, limit).await.unwrap());
        assert_eq!(a.edges_of_items(t, &items, limit).await.unwrap(), b.edges_of_items(t, &items, limit).await.unwrap());
        assert_eq!(a.neighbours(t, &items, limit).await.unwrap(), b.neighbours(t, &items, limit).await.unwrap());
    }
    let sorted = async |g: &dyn GraphWrite| {
        let mut items = g.touched(t, usize::MAX).await.unwrap().items;
        items.sort();
        items
    };
    assert_eq!(sorted(a).await, sorted(b).await);
}

#[tokio::test]
async fn the_same_as_in_sqlite() {
    let Some(own) = Own::new().await else { return };
    let (_dir, embedded) = sqlite().await;
    let mut rng = fastrand::Rng::with_seed(5);
    let tenants = [tenant("t"), tenant("t'\"")];
    for n in 0..50 {
        let (t, step) = (&tenants[n % 2], Step::random(&mut rng));
        step.run(&embedded, t).await.unwrap();
        for _ in 0..=rng.u32(0..2) {
            step.run(&own.graph, t).await.unwrap();
        }
    }
    let all: Vec<Edge> = (0..2500).map(|_| edge(&mut rng, 0..40, 60)).collect();
    for graph in [&embedded as &dyn GraphWrite, &own.graph] {
        graph.set_edges(&tenants[0], &all).await.unwrap();
    }
    for t in &tenants {
        same(&own.graph, &embedded, t).await;
    }
    // All touches at once are taken back by all lists at once.
    let upto = own.graph.touched(&tenants[0], 0).await.unwrap().upto;
    own.graph.replace_neighbours(&tenants[0], &[], upto).await.unwrap();
    assert!(own.graph.touched(&tenants[0], 9).await.unwrap().items.is_empty());
    assert_eq!(own.graph.touched_tenants().await.unwrap(), [tenants[1].clone()]);
    own.remove().await;
}

#[tokio::test]
async fn given_up_anywhere_and_told_again() {
    let Some(mut own) = Own::new().await else { return };
    own.config.batch_rows = 30;
    own.graph = Neo4jGraph::new(&own.config).unwrap();
    let (_dir, embedded) = sqlite().await;
    let t = tenant("t");
    let mut rng = fastrand::Rng::with_seed(6);
    let mut cut = 0;
    for n in 0..40 {
        let step = Step::random(&mut rng);
        step.run(&embedded, &t).await.unwrap();
        for _ in 0..3 {
            let wait = Duration::from_micros(rng.u64(0..60_000));
            cut += u32::from(tokio::time::timeout(wait, step.run(&own.graph, &t)).await.is_err());
            if rng.bool() {
                // As after a crash: a process that knows nothing of before.
                own.graph = Neo4jGraph::new(&own.config).unwrap();
            }
        }
        step.run(&own.graph, &t).await.unwrap_or_else(|e| panic!("{n}: {e}"));
    }
    assert!(cut > 10, "only {cut} calls were given up halfway");
    assert_eq!(own.graph.digest().await.unwrap(), embedded.digest().await.unwrap());
    assert_eq!(own.graph.count(&t).await.unwrap(), own.graph.scan(&t).await.unwrap().len() as u64);
    assert_eq!(own.graph.scan(&t).await.unwrap(), embedded.scan(&t).await.unwrap());
    own.remove().await;
}

/// Several workers, each with users of its own and all with the same items, while a job takes touched items and notes what it
/// saw of them: in the end it must have seen the last of every item.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_and_a_job_at_once() {
    let Some(own) = Own::new().await else { return };
    let (_dir, embedded) = sqlite().await;
    let t = tenant("t");
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..3_u32 {
        let mut rng = fastrand::Rng::with_seed(u64::from(worker));
        let batches: Vec<Vec<Edge>> =
            (0..12).map(|_| (0..60).map(|_| edge(&mut rng, worker * 10..worker * 10 + 10, 25)).collect()).collect();
        for batch in &batches {
            embedded.set_edges(&t, batch).await.unwrap();
        }
        let (graph, t) = (Neo4jGraph::new(&own.config).unwrap(), t.clone());
        workers.spawn(async move {
            for batch in batches {
                graph.set_edges(&t, &batch).await.unwrap();
            }
            graph.close().await;
        });
    }
    let mut seen: BTreeMap<ItemId, Vec<Edge>> = BTreeMap::new();
    loop {
        let working = !workers.is_empty();
        while workers.try_join_next().map(Result::unwrap).is_some() {}
        let touched = own.graph.touched(&t, 7).await.unwrap();
        if touched.items.is_empty() && !working {
            break;
        }
        let edges = own.graph.on_core().edges_of_items(&t, &touched.items, usize::MAX).await.unwrap();
        let lists: Vec<NeighbourList> = touched.items.iter().map(|i| (i.clone(), Vec::new())).collect();
        own.graph.set_neighbours(&t, &lists, touched.upto).await.unwrap();
        seen.extend(touched.items.into_iter().zip(edges));
    }
    assert_eq!(own.graph.digest().await.unwrap(), embedded.digest().await.unwrap());
    assert_eq!(own.graph.count(&t).await.unwrap(), embedded.count(&t).await.unwrap());
    let items: Vec<ItemId> = (0..25).map(item).collect();
    for (item, edges) in items.iter().zip(embedded.edges_of_items(&t, &items, usize::MAX).await.unwrap()) {
        assert_eq!(seen.get(item).cloned().unwrap_or_default(), edges, "{item}: a touch was lost");
    }
    own.remove().await;
}

/// Readers while all lists are replaced again and again see of each one state or the next, never half of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_changes_in_one_step() {
    let Some(own) = Own::new().await else { return };
    let t = tenant("t");
    let items: Vec<ItemId> = (0..30).map(item).collect();
    let state = |weight: f32| -> Vec<NeighbourList> {
        let near: Vec<Neighbour> = items.iter().map(|i| Neighbour { item: i.clone(), weight }).collect();
        items.iter().map(|i| (i.clone(), near.clone())).collect()
    };
    own.graph.replace_neighbours(&t, &state(1.0), 0).await.unwrap();
    let (graph, t2, states) = (own.graph.clone(), t.clone(), [state(2.0), state(1.0)]);
    let writer = tokio::spawn(async move {
        for n in 0..6 {
            graph.replace_neighbours(&t2, &states[n % 2], 0).await.unwrap();
        }
    });
    while !writer.is_finished() {
        let lists = match own.graph.neighbours(&t, &items, 99).await {
            Ok(lists) => lists,
            Err(e) if e.kind == ErrorKind::Busy => continue,
            Err(e) => panic!("{e}"),
        };
        for list in lists {
            assert_eq!(list.len(), items.len());
            assert!(list.iter().all(|n| n.weight == list[0].weight));
        }
    }
    writer.await.unwrap();
    own.remove().await;
}

/// A call given up in the middle of an answer leaves nothing of it to the next caller.
#[tokio::test]
async fn no_answer_goes_to_another_question() {
    let Some(own) = Own::new().await else { return };
    let t = tenant("t");
    let edges: Vec<Edge> = (0..400)
        .map(|n| {
            let last = Timestamp::from_millis(i64::from(n));
            Edge { user: user(n % 20), item: item(n), weight: 1.0, positive: true, first: last, last }
        })
        .collect();
    own.graph.set_edges(&t, &edges).await.unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    // Given up somewhere within the time that such a call takes at its best.
    let mut usual = Duration::MAX;
    for _ in 0..30 {
        let since = std::time::Instant::now();
        own.graph.edges_of_users(&t, &[user(1)], 99).await.unwrap();
        usual = usual.min(since.elapsed());
    }
    let mut cut = 0;
    for _ in 0..150 {
        let who = user(rng.u32(0..20));
        let asked = [who.clone()];
        let call = own.graph.edges_of_users(&t, &asked, 99);
        match tokio::time::timeout(usual.mul_f64(rng.f64() * 1.2), call).await {
            Ok(found) => assert!(found.unwrap()[0].iter().all(|e| e.user == who)),
            Err(_) => cut += 1,
        }
    }
    let found = own.graph.edges_of_users(&t, &[user(3)], 99).await.unwrap();
    assert_eq!(found[0].len(), 20);
    assert!(cut > 10, "{cut} of 150 calls were given up");
    own.remove().await;
}

fn through(config: &Neo4jConfig, proxy: &Proxy) -> Neo4jConfig {
    let uri = Address::new(format!("bolt://{}", proxy.address));
    Neo4jConfig { uri, connect_timeout_ms: 1_000, call_timeout_ms: 4_000, ..config.clone() }
}

/// No call takes longer than this, whatever happens to the server.
async fn soon<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), call).await.expect("a call hangs")
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back() {
    let Some(own) = Own::new().await else { return };
    let place = own.config.uri.expose().split_once("://").unwrap().1.to_owned();
    let proxy = Proxy::to(&place).await;
    let graph = Arc::new(Neo4jGraph::new(&through(&own.config, &proxy)).unwrap());
    let t = tenant("t");
    let mut rng = fastrand::Rng::with_seed(8);
    for (line, kind) in [(Line::Gone, ErrorKind::Unavailable), (Line::Silent, ErrorKind::Timeout)] {
        let batch: Vec<Edge> = (0..20).map(|_| edge(&mut rng, 0..9, 9)).collect();
        // Some connections lie idle when the line is cut.
        let asked = [user(1)];
        let calls = (0..4).map(|_| graph.edges_of_users(&t, &asked, 9));
        for found in futures_util::future::join_all(calls).await {
            found.unwrap();
        }
        proxy.set(line);
        for _ in 0..2 {
            assert_eq!(soon(graph.count(&t)).await.unwrap_err().kind, kind, "{line:?}");
            assert_eq!(soon(graph.set_edges(&t, &batch)).await.unwrap_err().kind, kind, "{line:?}");
            assert_eq!(soon(graph.scan(&t)).await.unwrap_err().kind, kind, "{line:?}");
        }
        proxy.set(Line::Open);
        soon(graph.set_edges(&t, &batch)).await.unwrap();
        own.graph.set_edges(&t, &batch).await.unwrap();
        assert_eq!(soon(graph.digest()).await.unwrap(), own.graph.digest().await.unwrap());
    }
    graph.close().await;
    assert_eq!(graph.count(&t).await.unwrap_err().kind, ErrorKind::Unavailable, "closed");
    own.remove().await;
}

#[tokio::test]
async fn reads_go_to_replicas_and_to_the_core_without_them() {
    let Some(own) = Own::new().await else { return };
    let place = own.config.uri.expose().split_once("://").unwrap().1.to_owned();
    let (core, replica) = (Proxy::to(&place).await, Proxy::to(&place).await);
    let mut config = through(&own.config, &core);
    config.replicas = vec![Address::new(format!("bolt://{}", replica.address))];
    config.call_timeout_ms = 6_000;
    let graph = Neo4jGraph::new(&config).unwrap();
    let t = tenant("t");
    let batch: Vec<Edge> = (0..20).map(|n| edge(&mut fastrand::Rng::with_seed(n), 1..2, 9)).collect();
    graph.set_edges(&t, &batch).await.unwrap();
    let want = own.graph.edges_of_users(&t, &[user(1)], 9).await.unwrap();
    assert!(!want[0].is_empty());
    core.set(Line::Gone);
    assert_eq!(graph.edges_of_users(&t, &[user(1)], 9).await.unwrap(), want, "requests read from the replica");
    assert_eq!(graph.on_core().edges_of_users(&t, &[user(1)], 9).await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(graph.set_edges(&t, &batch).await.unwrap_err().kind, ErrorKind::Unavailable, "writes go to the core alone");
    assert_eq!(graph.touched(&t, 9).await.unwrap_err().kind, ErrorKind::Unavailable, "marks are read where they are written");
    core.set(Line::Open);
    for line in [Line::Gone, Line::Silent] {
        replica.set(line);
        assert_eq!(soon(graph.edges_of_users(&t, &[user(1)], 9)).await.unwrap(), want, "{line:?}");
    }
    own.remove().await;
}

#[tokio::test]
async fn setup_may_be_repeated_and_refusals_say_what_to_do() {
    let Some(own) = Own::new().await else { return };
    let lines = own.graph.setup().await.unwrap();
    assert!(lines[0].starts_with("neo4j 5") || lines[0].starts_with("neo4j 2"), "{lines:?}");
    assert_eq!(lines, own.graph.setup().await.unwrap());
    assert_eq!(lines.iter().filter(|l| l.contains(&own.config.prefix)).count(), 4);
    let refused = async |change: fn(&mut Neo4jConfig)| {
        let mut config = own.config.clone();
        change(&mut config);
        Neo4jGraph::new(&config).unwrap().count(&tenant("t")).await.unwrap_err()
    };
    let e = refused(|c| c.password = Secret::new("not the password")).await;
    assert_eq!(e.kind, ErrorKind::Invalid, "{e}");
    assert!(e.message.contains("neo4j.password") && !e.message.contains("not the"), "{e}");
    let e = refused(|c| c.database = "nothere".into()).await;
    assert_eq!(e.kind, ErrorKind::Invalid, "{e}");
    assert!(e.message.contains("neo4j.database"), "{e}");
    let e = refused(|c| c.uri = Address::new("bolt://127.0.0.1:1")).await;
    assert_eq!(e.kind, ErrorKind::Unavailable, "{e}");
    assert!(Neo4jGraph::new(&Neo4jConfig { prefix: "a b".into(), ..own.config.clone() }).is_err());
    own.remove().await;
}
