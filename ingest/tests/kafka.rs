//! Workers on a real Kafka: coming, going and dying, and records that are no events.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

#[path = "../../stores/tests/kafka/support.rs"]
mod cluster;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Tenant, Vector,
    decode::MAX_RECORD_BYTES,
    ports::{
        DeadLetterFilter, DeadLetters as _, Embedder, EventSink as _, LedgerRead as _, ModelInfo, Priority, Progress as _,
    },
    testing::embedder::WordEmbedder,
};
use nearcast_ingest::{IngestConfig, Stores, Totals, Worker, config::Rules};
use nearcast_stores::{
    dead_letters::KafkaDeadLetters,
    log::{KafkaLog, Start},
};
use serde_json::{Value, json};
use support::{Batches, World, key, town};
use tokio_util::sync::CancellationToken;

use self::cluster::Cluster;

/// What the reason says, the key, and the value.
type Bad = (&'static str, Option<&'static [u8]>, Option<Vec<u8>>);

/// Takes its time.
struct Slow {
    inner: WordEmbedder,
    calls: AtomicUsize,
}

#[async_trait]
impl Embedder for Slow {
    async fn embed(&self, texts: &[Arc<str>], priority: Priority) -> StoreResult<Vec<Vector>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(30)).await;
        self.inner.embed(texts, priority).await
    }

    fn model(&self) -> &ModelInfo {
        self.inner.model()
    }
}

/// A worker as a process has it, until it is told to stop.
fn start(worker: &Arc<Worker>, log: &KafkaLog, stop: &CancellationToken) -> tokio::task::JoinHandle<Totals> {
    let (worker, log, stop) = (worker.clone(), log.clone(), stop.clone());
    tokio::spawn(async move {
        let mut source = log.source().unwrap();
        worker.run(&mut source, &stop).await.unwrap()
    })
}

async fn publish(log: &KafkaLog, events: &[Value]) {
    for part in events.chunks(200) {
        let records: Vec<_> = part.iter().map(|e| (key(e), e.to_string().into_bytes().into())).collect();
        log.publish(&Tenant::default(), &records).await.unwrap();
    }
}

async fn worked_off(log: &KafkaLog) {
    for _ in 0..1200 {
        if log.lag().await.unwrap() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} records still wait", log.lag().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_come_go_and_die_and_the_digests_are_those_of_one() {
    let Some(mut cluster) = Cluster::new(6).await else { return };
    cluster.config.revoke_timeout_ms = 2000;
    let events = town(11, 60, 6000);
    let alone = tempfile::tempdir().unwrap();
    let expected = World::open(alone.path()).await;
    let batches = events.chunks(500).map(<[_]>::to_vec).collect();
    expected.worker(IngestConfig::default()).run(&mut Batches::new(batches), &CancellationToken::new()).await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let log = cluster.log();
    let letters = KafkaDeadLetters::new(&cluster.config).unwrap();
    let world = World::open(dir.path()).await.with(Arc::new(log.clone()), Arc::new(letters.clone()));
    // Small batches, so that much is under way when something happens.
    let config = IngestConfig { batch_records: 100, whole_history: 64, ..IngestConfig::default() };
    let worker = Arc::new(world.worker(config.clone()));
    let (stop, last) = (CancellationToken::new(), CancellationToken::new());
    let mut rng = fastrand::Rng::with_seed(3);
    let first = start(&worker, &log, &stop);
    let told = AtomicBool::new(false);
    let telling = async {
        for part in events.chunks(30) {
            publish(&log, part).await;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        told.store(true, Ordering::SeqCst);
    };
    let faults = async {
        let mut kills = 0;
        while kills < 6 && !told.load(Ordering::SeqCst) {
            // Each is killed while a batch of its own is under way, at any stage of it.
            let slow = Arc::new(Slow { inner: WordEmbedder::new(16), calls: AtomicUsize::new(0) });
            let stores = Stores { embedder: slow.clone(), ..world.stores.clone() };
            let victim = start(&Arc::new(Worker::new(stores, config.clone(), Rules::default())), &log, &last);
            while slow.calls.load(Ordering::SeqCst) < 2 && !told.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            kills += usize::from(slow.calls.load(Ordering::SeqCst) >= 2);
            tokio::time::sleep(Duration::from_millis(rng.u64(0..60))).await;
            victim.abort();
            assert!(victim.await.unwrap_err().is_cancelled());
        }
        kills
    };
    let ((), kills) = tokio::join!(telling, faults);
    eprintln!("{kills} workers were killed with a batch under way");
    assert!(kills >= 2, "{kills}");
    // One leaves in good order, another takes over.
    let second = start(&worker, &log, &last);
    stop.cancel();
    first.await.unwrap();
    worked_off(&log).await;
    last.cancel();
    second.await.unwrap();
    assert_eq!(world.digests().await, expected.digests().await);
    assert_eq!(letters.count().await.unwrap(), 0, "nothing in the dead letters that does not belong there");
    // Told again from the beginning, nothing changes, and every repetition is counted.
    log.rewind(&Start::Earliest).await.unwrap();
    let again = Arc::new(world.worker(IngestConfig::default()));
    let stop = CancellationToken::new();
    let running = start(&again, &log, &stop);
    worked_off(&log).await;
    stop.cancel();
    let totals = running.await.unwrap();
    assert_eq!((totals.new, totals.records), (0, events.len() as u64), "{totals:?}");
    assert_eq!(totals.duplicates + totals.erased + totals.conflicts, totals.records);
    assert_eq!(world.digests().await, expected.digests().await);
    letters.close().await;
    cluster.remove(&log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_event_becomes_a_dead_letter_and_the_partition_goes_on() {
    let Some(cluster) = Cluster::new(1).await else { return };
    cluster.allow_large().await;
    let time = r#""timestamp":"2026-01-01T00:00:00Z"}"#;
    let good = |user: &str| format!(r#"{{"user_id":"{user}","text":"hello",{time}"#).into_bytes();
    let large = vec![b'x'; 5 << 20];
    let bad: Vec<Bad> = vec![
        ("tombstone", Some(b"u1"), None),
        ("record is empty", Some(b"u1"), Some(Vec::new())),
        ("byte 0", Some(b"u1"), Some(b"\0\0\0\0\x01avro".to_vec())),
        ("longer than 1048576 bytes", Some(b"u1"), Some(large.clone())),
        (r#"has the key "u2"; its key must be its user_id, "u1""#, Some(b"u2"), Some(good("u1"))),
        (r#"has no key; its key must be its user_id, "u1""#, None, Some(good("u1"))),
        (r#"its key must be its item_id, "i1""#, Some(b"u1"), Some(br#"{"type":"item","item_id":"i1","text":"x"}"#.to_vec())),
        ("not valid UTF-8", Some(b"u1"), Some(b"{\"user_id\":\"\xff\"}".to_vec())),
        ("is unknown", Some(b"u1"), Some(format!(r#"{{"type":"wave","user_id":"u1",{time}"#).into_bytes())),
        ("not JSON", Some(b"u1"), Some(b"{oops".to_vec())),
    ];
    let log = cluster.log();
    for (_, key, value) in &bad {
        cluster.send_raw(Some(0), *key, value.as_deref()).await;
        cluster.send_raw(Some(0), Some(b"u9"), Some(&good("u9"))).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let letters = KafkaDeadLetters::new(&cluster.config).unwrap();
    let world = World::open(dir.path()).await.with(Arc::new(log.clone()), Arc::new(letters.clone()));
    let worker = Arc::new(world.worker(IngestConfig::default()));
    for round in 0..2_u64 {
        let stop = CancellationToken::new();
        let running = start(&worker, &log, &stop);
        worked_off(&log).await;
        stop.cancel();
        let totals = running.await.unwrap();
        assert_eq!(totals.rejected, (round + 1) * bad.len() as u64);
        assert_eq!((totals.new, totals.duplicates), (1, bad.len() as u64 * (round + 1) - 1));
        // Read again, the same letters: none is there twice.
        assert_eq!(letters.count().await.unwrap(), bad.len() as u64);
        log.rewind(&Start::Earliest).await.unwrap();
    }
    assert_eq!(world.ledger.counts(&Tenant::default()).await.unwrap().events, 1);
    let all = letters.list(&DeadLetterFilter { limit: 99, ..DeadLetterFilter::default() }).await.unwrap();
    for (at, (reason, key, value)) in bad.iter().enumerate() {
        let origin = format!("kafka:{}/0@{}", cluster.config.topic, at * 2);
        let letter = all.iter().find(|l| l.origin == origin).unwrap();
        assert!(letter.reason.contains(reason), "{reason}: {}", letter.reason);
        assert_eq!(letter.key.as_deref(), *key, "{reason}");
        let value = value.as_deref().unwrap_or_default();
        assert_eq!(&*letter.bytes, &value[..value.len().min(MAX_RECORD_BYTES)], "{reason}");
    }
    // Who is erased is gone from the letters too.
    let own = all.iter().filter(|l| l.user.as_ref().is_some_and(|u| u.as_str() == "u1")).count();
    assert_eq!(own, 3);
    publish(&log, &[json!({"type":"erasure","user_id":"u1","timestamp":"2026-01-02T00:00:00Z"})]).await;
    let stop = CancellationToken::new();
    let running = start(&worker, &log, &stop);
    let with_own = async {
        for _ in 0..600 {
            let left = letters.list(&DeadLetterFilter { limit: 99, ..DeadLetterFilter::default() }).await.unwrap();
            if log.lag().await.unwrap() == 0 {
                return left.iter().filter(|l| l.user.is_some()).count();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the erasure was not worked off");
    };
    assert_eq!(with_own.await, 0);
    stop.cancel();
    running.await.unwrap();
    letters.close().await;
    cluster.remove(&log).await;
}
