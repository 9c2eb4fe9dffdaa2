//! Random histories, told with repetitions, in other batches and interleaved otherwise between users: the digests are equal.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Tenant,
    ports::{EventSource, Record, SourceBatch},
    testing::embedder::WordEmbedder,
};
use nearcast_ingest::{IngestConfig, Stores, Worker, config::Rules};
use nearcast_pipelines::{Upkeep, UpkeepConfig, verify::Digests};
use nearcast_stores::{
    cache::MokaCache, dead_letters::SqliteDeadLetters, engagement::SqliteEngagement, graph::SqliteGraph, ledger::SqliteLedger,
    log::SqliteLog, vectors::HnswIndex,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Batches as a source.
struct Batches(std::vec::IntoIter<Vec<Value>>);

#[async_trait]
impl EventSource for Batches {
    async fn next(&mut self, _: usize, _: usize) -> StoreResult<Option<SourceBatch>> {
        let record = |e: Value| Record {
            bytes: e.to_string().into_bytes().into(),
            tenant: Tenant::default(),
            origin: "test".into(),
            ..Record::default()
        };
        Ok(self.0.next().map(|b| SourceBatch {
            records: b.into_iter().map(record).collect(),
            position: "1".into(),
            ..SourceBatch::default()
        }))
    }

    async fn commit(&mut self, _: &str) -> StoreResult<()> {
        Ok(())
    }
}

async fn digests(dir: &Path, batches: Vec<Vec<Value>>) -> Digests {
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
    let worker = Worker::new(stores, IngestConfig::default(), Rules::default());
    worker.run(&mut Batches(batches.into_iter()), &CancellationToken::new()).await.unwrap();
    while worker.refresh_stale().await.unwrap() > 0 {}
    Upkeep::new(graph.clone(), engagement.clone(), UpkeepConfig::default()).pass().await.unwrap();
    nearcast_pipelines::verify::verify(&*ledger, &*vectors, &*graph, &*engagement).await.unwrap()
}

/// One event of a user, small enough for ids to collide now and then.
fn event(user: usize) -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec!["coffee", "shoe", "star", "bread", "game"]);
    (0..40_u32, 0..8_u32, 0..24_u32, words, 0..12_u8).prop_map(move |(id, item, hour, word, what)| {
        let (user, time) = (format!("u{user}"), format!("2026-01-01T{hour:02}:00:00Z"));
        match what {
            0 => json!({"type":"erasure","user_id":user,"timestamp":time}),
            1..=3 => json!({"message_id":format!("m{id}"),"user_id":user,"text":word,"timestamp":time}),
            4 => json!({"user_id":user,"text":word,"item_id":format!("i{item}"),"timestamp":time}),
            5 => json!({"user_id":user,"item_id":format!("i{item}"),"kind":"rating","value":f64::from(id) / 4.0,"timestamp":time}),
            _ => json!({"event_id":format!("e{id}"),"user_id":user,"item_id":format!("i{item}"),"kind":"view","timestamp":time}),
        }
    })
}

/// One version of an item. Versions carry their time, so that the order of arrival does not decide.
fn version() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec!["coffee", "shoe", "star", "bread", "game"]);
    (0..8_u32, 0..24_u32, words, any::<bool>()).prop_map(|(item, hour, word, hidden)| {
        json!({"item_id":format!("i{item}"),"text":word,"hidden":hidden,"timestamp":format!("2026-01-01T{hour:02}:00:00Z")})
    })
}

type Histories = Vec<Vec<Value>>;

fn histories() -> impl Strategy<Value = (Histories, Vec<Value>)> {
    let users: Vec<_> = (0..4).map(|u| prop::collection::vec(event(u), 0..25)).collect();
    (users, prop::collection::vec(version(), 0..15))
}

/// Tells the histories anew: each user's in order, with repetitions of what was told before.
fn retell(histories: &Histories, items: &[Value], seed: u64) -> Vec<Vec<Value>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut waiting: BTreeMap<usize, std::collections::VecDeque<Value>> =
        histories.iter().chain([&items.to_vec()]).cloned().map(Into::into).enumerate().collect();
    rng.shuffle(waiting.get_mut(&histories.len()).unwrap().make_contiguous());
    let (mut told, mut out): (Vec<Value>, Vec<Vec<Value>>) = (Vec::new(), vec![Vec::new()]);
    while waiting.values().any(|w| !w.is_empty()) {
        let who = rng.usize(..=histories.len());
        if let Some(e) = waiting.get_mut(&who).and_then(std::collections::VecDeque::pop_front) {
            told.push(e.clone());
            out.last_mut().unwrap().push(e);
        }
        if !told.is_empty() && rng.u8(..4) == 0 {
            let again = rng.choice(&told).unwrap().clone();
            out.last_mut().unwrap().push(again);
        }
        if rng.u8(..6) == 0 {
            out.push(Vec::new());
        }
    }
    out.retain(|b| !b.is_empty());
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn told_otherwise_the_digests_are_equal((histories, items) in histories(), seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let plain: Vec<Value> = items.iter().chain(histories.iter().flatten()).cloned().collect();
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = runtime.block_on(digests(a.path(), vec![plain]));
        let second = runtime.block_on(digests(b.path(), retell(&histories, &items, seed)));
        prop_assert_eq!(first, second);
    }
}
