//! Real embedded stores, sources made of lists, and the sample events that the tests of the worker share.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; a test says where it broke")]

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use nearcast_domain::ports::{EngagementRead as _, VectorRead as _};
use nearcast_domain::{
    StoreResult, Tenant,
    digest::Digest,
    ports::{Claim, DeadLetters, Embedder, EventSink, EventSource, GraphRead as _, LedgerRead as _, Record, SourceBatch},
    testing::embedder::WordEmbedder,
};
use nearcast_ingest::{IngestConfig, Stores, Worker, config::Rules};
use nearcast_stores::{
    cache::MokaCache, dead_letters::SqliteDeadLetters, engagement::SqliteEngagement, graph::SqliteGraph, ledger::SqliteLedger,
    log::SqliteLog, vectors::HnswIndex,
};
use serde_json::{Value, json};

/// Embedded stores in a directory.
pub struct World {
    pub ledger: Arc<SqliteLedger>,
    pub vectors: Arc<HnswIndex>,
    pub graph: Arc<SqliteGraph>,
    pub engagement: Arc<SqliteEngagement>,
    pub stores: Stores,
}

impl World {
    pub async fn open(dir: &Path) -> Self {
        let ledger = Arc::new(SqliteLedger::open(&dir.join("ledger.db")).await.unwrap());
        let vectors = Arc::new(HnswIndex::open(&dir.join("vectors")).await.unwrap());
        let graph = Arc::new(SqliteGraph::open(&dir.join("graph.db")).await.unwrap());
        let engagement = Arc::new(SqliteEngagement::open(&dir.join("engagement.db")).await.unwrap());
        let stores = Stores {
            ledger: ledger.clone(),
            vectors: vectors.clone(),
            graph: graph.clone(),
            engagement: engagement.clone(),
            cache: Arc::new(MokaCache::default()),
            embedder: Arc::new(WordEmbedder::new(16)),
            dead_letters: Arc::new(SqliteDeadLetters::open(&dir.join("dead_letters.db")).await.unwrap()),
            log: Arc::new(SqliteLog::open(&dir.join("log.db")).await.unwrap()),
        };
        Self { ledger, vectors, graph, engagement, stores }
    }

    /// The same with a log and dead letters from elsewhere.
    pub fn with(mut self, log: Arc<dyn EventSink>, dead_letters: Arc<dyn DeadLetters>) -> Self {
        (self.stores.log, self.stores.dead_letters) = (log, dead_letters);
        self
    }

    pub fn with_embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.stores.embedder = embedder;
        self
    }

    pub fn worker(&self, config: IngestConfig) -> Worker {
        Worker::new(self.stores.clone(), config, Rules::default())
    }

    /// The digests of all stores, once nothing is stale any more.
    pub async fn digests(&self) -> [Digest; 4] {
        let worker = self.worker(IngestConfig::default());
        while worker.refresh_stale().await.unwrap() > 0 {}
        [
            self.ledger.digest().await.unwrap(),
            self.vectors.digest().await.unwrap(),
            self.graph.digest().await.unwrap(),
            self.engagement.digest().await.unwrap(),
        ]
    }
}

/// Batches as a source, each with its claim.
pub struct Batches(pub std::vec::IntoIter<(Vec<Value>, Claim)>);

impl Batches {
    pub fn new(batches: Vec<Vec<Value>>) -> Self {
        Self(batches.into_iter().map(|b| (b, Claim::default())).collect::<Vec<_>>().into_iter())
    }
}

#[async_trait]
impl EventSource for Batches {
    async fn next(&mut self, _: usize, _: usize) -> StoreResult<Option<SourceBatch>> {
        Ok(self.0.next().map(|(events, claim)| SourceBatch {
            records: events.iter().map(record).collect(),
            position: "1".into(),
            claim,
        }))
    }

    async fn commit(&mut self, _: &str) -> StoreResult<()> {
        Ok(())
    }
}

pub fn record(event: &Value) -> Record {
    Record {
        bytes: event.to_string().into_bytes().into(),
        tenant: Tenant::default(),
        origin: "test".into(),
        ..Record::default()
    }
}

/// The key that an event has in a log.
pub fn key(event: &Value) -> String {
    let own = if event["type"] == "item" { "item_id" } else { "user_id" };
    event[own].as_str().unwrap().to_owned()
}

/// What a small town does: items, messages, engagements, erasures and repetitions, each user's in the order of time.
pub fn town(seed: u64, people: usize, events: usize) -> Vec<Value> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let words = ["coffee", "grinder", "trail", "shoe", "star", "map", "bread", "game"];
    let time = |n: usize| format!("2026-01-{:02}T{:02}:{:02}:{:02}Z", 1 + n / 86_400 % 28, n / 3600 % 24, n / 60 % 60, n % 60);
    let item = |i: usize, n: usize, rng: &mut fastrand::Rng| {
        let text = format!("{} {}", rng.choice(words).unwrap(), rng.choice(words).unwrap());
        json!({"type":"item","item_id":format!("i{i}"),"text":text,"categories":[words[i % 3]],"timestamp":time(n)})
    };
    let mut out: Vec<Value> = (0..40).map(|i| item(i, 0, &mut rng)).collect();
    for n in 1..=events {
        let (user, i) = (format!("u{}", rng.usize(..people)), rng.usize(..40));
        let event = match rng.u8(..40) {
            0 => json!({"type":"erasure","user_id":user,"timestamp":time(n)}),
            1 => item(i, n, &mut rng),
            2..=9 => {
                json!({"type":"message","message_id":format!("m{n}"),"user_id":user,"text":rng.choice(words).unwrap(),"timestamp":time(n)})
            }
            10..=12 => {
                json!({"type":"message","message_id":format!("m{n}"),"user_id":user,"item_id":format!("i{i}"),"text":rng.choice(words).unwrap(),"timestamp":time(n)})
            }
            13..=15 if n > 100 => out[rng.usize(n - 50..n)].clone(),
            16..=20 => {
                json!({"type":"engagement","event_id":format!("e{n}"),"user_id":user,"item_id":format!("i{i}"),"kind":"rating","value":f64::from(rng.u8(1..=10)) / 2.0,"timestamp":time(n)})
            }
            _ => {
                json!({"type":"engagement","event_id":format!("e{n}"),"user_id":user,"item_id":format!("i{i}"),"kind":"view","timestamp":time(n)})
            }
        };
        out.push(event);
    }
    out
}
