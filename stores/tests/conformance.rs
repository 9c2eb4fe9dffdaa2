//! The embedded backends pass the suites that every backend of their ports must pass.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use nearcast_domain::testing;
use nearcast_stores::{
    artefacts::SqliteArtefacts,
    dead_letters::SqliteDeadLetters,
    engagement::SqliteEngagement,
    graph::SqliteGraph,
    ledger::SqliteLedger,
    log::{SqliteLog, SqlitePositions},
};

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

async fn ledger(dir: &Path) -> SqliteLedger {
    SqliteLedger::open(&dir.join("ledger.db")).await.unwrap()
}

async fn graph(dir: &Path) -> SqliteGraph {
    SqliteGraph::open(&dir.join("graph.db")).await.unwrap()
}

async fn engagement(dir: &Path) -> SqliteEngagement {
    SqliteEngagement::open(&dir.join("engagement.db")).await.unwrap()
}

async fn log(dir: &Path) -> SqliteLog {
    SqliteLog::open(&dir.join("log.db")).await.unwrap()
}

#[tokio::test]
async fn ledger_on_sqlite() {
    let (a, b, c, d) = (dir(), dir(), dir(), dir());
    testing::ledger::ledger(&ledger(a.path()).await).await;
    testing::ledger::ledger_digests(&ledger(b.path()).await, &ledger(c.path()).await).await;
    testing::ledger::ledger_reopened(async || ledger(d.path()).await).await;
}

#[tokio::test]
async fn graph_on_sqlite() {
    let (a, b, c, d) = (dir(), dir(), dir(), dir());
    testing::graph::graph(&graph(a.path()).await).await;
    testing::graph::graph_digests(&graph(b.path()).await, &graph(c.path()).await).await;
    testing::graph::graph_reopened(async || graph(d.path()).await).await;
}

#[tokio::test]
async fn artefacts_on_sqlite() {
    let (a, b) = (dir(), dir());
    let open = async |d: &Path| SqliteArtefacts::open(&d.join("artefacts.db")).await.unwrap();
    testing::artefacts::artefacts(&open(a.path()).await).await;
    testing::artefacts::artefacts_reopened(async || open(b.path()).await).await;
}

#[tokio::test]
async fn engagement_on_sqlite() {
    let (a, b, c, d) = (dir(), dir(), dir(), dir());
    testing::engagement::engagement(&engagement(a.path()).await).await;
    testing::engagement::engagement_digests(&engagement(b.path()).await, &engagement(c.path()).await).await;
    testing::engagement::engagement_reopened(async || engagement(d.path()).await).await;
}

#[tokio::test]
async fn log_on_sqlite() {
    let dir = dir();
    let store = log(dir.path()).await;
    let bad = ["log", "log:", "log:-1", "log:x", "log:999999", "log:1 ", "log:+1", "kafka:events/3@1"];
    testing::log::log(&store, async || store.source(), &bad).await;
    testing::log::log_concurrent(&store, &mut store.source()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn log_on_sqlite_with_many_threads() {
    let dir = dir();
    let store = log(dir.path()).await;
    testing::log::log_concurrent(&store, &mut store.source()).await;
}

#[tokio::test]
async fn dead_letters_on_sqlite() {
    let dir = dir();
    let store = SqliteDeadLetters::open(&dir.path().join("dead_letters.db")).await.unwrap();
    testing::dead_letters::dead_letters(&store).await;
}

#[tokio::test]
async fn positions_on_sqlite() {
    let dir = dir();
    let store = SqlitePositions::open(&dir.path().join("positions.db")).await.unwrap();
    testing::leases::leases(&store).await;
    testing::log::positions(&store).await;
}
