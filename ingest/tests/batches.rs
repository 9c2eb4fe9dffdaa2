//! What becomes of a batch does not depend on how it is read, cut, gathered or tried again; and a batch that was taken back leaves
//! nothing behind.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Vector,
    ports::{Claim, Embedder, LedgerRead as _, ModelInfo, Priority},
    testing::embedder::WordEmbedder,
};
use nearcast_ingest::IngestConfig;
use serde_json::json;
use support::{Batches, World, town};
use tokio_util::sync::CancellationToken;

async fn digests(config: IngestConfig, size: usize) -> ([nearcast_domain::digest::Digest; 4], nearcast_ingest::Totals) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    let batches = town(7, 25, 1500).chunks(size).map(<[_]>::to_vec).collect();
    let totals = world.worker(config).run(&mut Batches::new(batches), &CancellationToken::new()).await.unwrap();
    (world.digests().await, totals)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_it_is_read_and_gathered() {
    let one_by_one = IngestConfig { batch_records: 1, ..IngestConfig::default() };
    let (plain, totals) = digests(one_by_one, 50).await;
    assert_eq!(totals.records, 1540);
    assert!(totals.new > 1000 && totals.duplicates > 50 && totals.erased > 0, "{totals:?}");
    // Histories that are all of a user's, that are for some, and that never are (each user has about 60 engagements).
    for whole_history in [0, 1000, 50, 1] {
        let config = IngestConfig { whole_history, ..IngestConfig::default() };
        let (digests, gathered) = digests(config, 50).await;
        assert_eq!(digests, plain, "whole_history {whole_history}");
        assert_eq!(totals, gathered, "what is counted does not depend on it either");
    }
    let lingering = IngestConfig { linger_ms: 20, batch_records: 300, ..IngestConfig::default() };
    assert_eq!(digests(lingering, 7).await.0, plain);
}

/// Histories that are remembered are what the ledger holds: while the log changes hands, and while somebody writes the same users who
/// owns no part of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remembered_histories_change_nothing() {
    let plain = digests(IngestConfig::default(), 50).await.0;
    for whole_history in [1000, 50] {
        let config = IngestConfig { whole_history, histories_mib: 1, ..IngestConfig::default() };
        let dir = tempfile::tempdir().unwrap();
        let world = World::open(dir.path()).await;
        let (own, other) = (world.worker(config.clone()), world.worker(config));
        let mut claim = Claim::revocable();
        for (n, batch) in town(7, 25, 1500).chunks(50).map(<[_]>::to_vec).enumerate() {
            let (worker, held) = if n % 5 == 4 { (&other, Claim::default()) } else { (&own, claim.clone()) };
            let mut source = Batches(vec![(batch, held)].into_iter());
            worker.run(&mut source, &CancellationToken::new()).await.unwrap();
            if n % 7 == 6 {
                claim = claim.next_turn();
            }
        }
        assert_eq!(world.digests().await, plain, "whole_history {whole_history}");
    }
}

/// Nor does it matter what the ledger takes in while a history is read, or how much waits for projections and goes on as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_read_while_batches_come_change_nothing() {
    let plain = digests(IngestConfig::default(), 50).await.0;
    for (size, batch_records, whole_history) in [(50, 50, 1000), (20, 20, 50), (7, 300, 1000), (1, 20, 1000)] {
        let config = IngestConfig { whole_history, batch_records, ..IngestConfig::default() };
        let dir = tempfile::tempdir().unwrap();
        let world = World::open(dir.path()).await;
        let claim = Claim::revocable();
        let batches: Vec<_> = town(7, 25, 1500).chunks(size).map(|b| (b.to_vec(), claim.clone())).collect();
        let totals = world.worker(config).run(&mut Batches(batches.into_iter()), &CancellationToken::new()).await.unwrap();
        assert_eq!((world.digests().await, totals.records), (plain, 1540), "batches of {size}, whole_history {whole_history}");
    }
}

/// Fails at its n-th call, or runs something there.
struct Trouble<F> {
    inner: WordEmbedder,
    calls: AtomicUsize,
    at: usize,
    then: F,
}

#[async_trait]
impl<F: Fn() -> StoreResult<()> + Send + Sync> Embedder for Trouble<F> {
    async fn embed(&self, texts: &[Arc<str>], priority: Priority) -> StoreResult<Vec<Vector>> {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.at {
            (self.then)()?;
        }
        self.inner.embed(texts, priority).await
    }

    fn model(&self) -> &ModelInfo {
        self.inner.model()
    }
}

fn trouble<F: Fn() -> StoreResult<()> + Send + Sync>(at: usize, then: F) -> Arc<Trouble<F>> {
    Arc::new(Trouble { inner: WordEmbedder::new(16), calls: AtomicUsize::new(0), at, then })
}

#[tokio::test]
async fn a_batch_that_was_taken_back_is_written_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let claim = Claim::revocable();
    let taken = claim.clone();
    let embedder = trouble(0, move || {
        assert!(taken.withdraw(std::time::Duration::ZERO), "nothing is being written while texts are embedded");
        Ok(())
    });
    let world = World::open(dir.path()).await.with_embedder(embedder);
    let message = |id: &str| json!({"message_id":id,"user_id":"u","text":"coffee","timestamp":"2026-01-01T00:00:00Z"});
    let batches =
        vec![(vec![message("m1")], claim.clone()), (vec![message("m2")], claim), (vec![message("m3")], Claim::revocable())];
    let totals =
        world.worker(IngestConfig::default()).run(&mut Batches(batches.into_iter()), &CancellationToken::new()).await.unwrap();
    assert_eq!((totals.records, totals.new), (1, 1), "only the batch that nobody took back");
    assert_eq!(world.ledger.counts(&nearcast_domain::Tenant::default()).await.unwrap().events, 1);
}

#[tokio::test]
async fn a_retry_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let fails = || Err(StoreError::new(ErrorKind::Busy, "embedder", "just now"));
    let world = World::open(dir.path()).await.with_embedder(trouble(2, fails));
    let messages: Vec<_> = (0..300)
        .map(|n| json!({"message_id":format!("m{n}"),"user_id":"u","text":"coffee","timestamp":"2026-01-01T00:00:00Z"}))
        .collect();
    let worker = world.worker(IngestConfig::default());
    let totals = worker.run(&mut Batches::new(vec![messages]), &CancellationToken::new()).await.unwrap();
    assert_eq!((totals.records, totals.new, totals.duplicates, totals.embedded), (300, 300, 0, 300));
}
