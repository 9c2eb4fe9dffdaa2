//! Several sources in one group: what moves between them is handled by one at a time, and nothing is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nearcast_domain::ports::{EventSource, Progress as _, Record};
use nearcast_stores::log::{KafkaConfig, KafkaLog, KafkaSource};

use crate::support::{Cluster, read};

/// The partition and offset that a record says it is from.
fn place(record: &Record) -> (i32, i64) {
    let (partition, offset) = record.origin.rsplit_once('/').unwrap().1.split_once('@').unwrap();
    (partition.parse().unwrap(), offset.parse().unwrap())
}

/// Reads until there is nothing more for a while.
async fn read_idle(source: &mut KafkaSource) -> (Vec<Record>, Option<String>) {
    let (mut records, mut position) = (Vec::new(), None);
    while let Ok(batch) = tokio::time::timeout(Duration::from_secs(2), source.next(1000, 1 << 20)).await {
        let batch = batch.unwrap().unwrap();
        records.extend(batch.records);
        position = Some(batch.position);
    }
    (records, position)
}

/// Waits until a source has so many partitions.
async fn has(source: &KafkaSource, partitions: usize) {
    for _ in 0..600 {
        if source.usage().partitions.len() == partitions {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?} and not {partitions} partitions", source.usage());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_committed_before_its_partition_goes() {
    let Some(cluster) = Cluster::new(4).await else { return };
    let log = cluster.log();
    cluster.send_views(&log, 0, 2000, 40).await;
    let mut a = log.source().unwrap();
    let (records, position) = read(&mut a, 2000).await;
    let mut b = log.source().unwrap();
    // The group asks for partitions back while all of them are under way; they go when the worker has finished.
    let finish = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(a.usage().partitions.len(), 4, "nothing goes before its batch is done");
        a.commit(&position).await.unwrap();
    };
    finish.await;
    has(&a, 2).await;
    has(&b, 2).await;
    assert_eq!(a.usage().withdrawn, 0);
    cluster.send_views(&log, 2000, 400, 40).await;
    let (mut ours, mut theirs) = (read_idle(&mut a).await, read_idle(&mut b).await);
    for (source, position) in [(&mut a, ours.1.take()), (&mut b, theirs.1.take())] {
        source.commit(&position.unwrap()).await.unwrap();
    }
    assert_eq!(log.lag().await.unwrap(), 0);
    let all: Vec<(i32, i64)> = [records, ours.0, theirs.0].concat().iter().map(place).collect();
    assert_eq!(all.len(), 2400, "each once");
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 2400);
    drop((a, b));
    cluster.remove(&log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_finished_in_time_is_taken_back_and_never_applied() {
    let Some(mut cluster) = Cluster::new(4).await else { return };
    cluster.config.revoke_timeout_ms = 300;
    let log = cluster.log();
    cluster.send_views(&log, 0, 2000, 40).await;
    let mut a = log.source().unwrap();
    let mut batches = Vec::new();
    let mut number = 0;
    while number < 2000 {
        let batch = a.next(500, 1 << 20).await.unwrap().unwrap();
        number += batch.records.len();
        batches.push(batch);
    }
    let stale = batches.last().unwrap().position.clone();
    let mut b = log.source().unwrap();
    has(&b, 2).await;
    has(&a, 2).await;
    assert!(batches.iter().all(|b| !b.claim.holds() && b.claim.begin().is_none()), "nobody may write what was taken back");
    assert_eq!(a.usage().withdrawn, 1);
    // Each now gets what its partitions hold, from the first record that was not committed, in order.
    let (mut ours, mut theirs) = (read_idle(&mut a).await, read_idle(&mut b).await);
    let (mine, other): (BTreeSet<i32>, BTreeSet<i32>) =
        (ours.0.iter().map(|r| place(r).0).collect(), theirs.0.iter().map(|r| place(r).0).collect());
    assert!(mine.is_disjoint(&other), "{mine:?} {other:?}");
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, offset) in ours.0.iter().chain(&theirs.0).map(place) {
        let next = next.entry(partition).or_default();
        assert_eq!(offset, *next, "in partition {partition}");
        *next += 1;
    }
    assert_eq!(next.values().sum::<i64>(), 2000, "nothing is lost");
    // A position from before says nothing about partitions that are elsewhere.
    b.commit(&theirs.1.take().unwrap()).await.unwrap();
    a.commit(&ours.1.take().unwrap()).await.unwrap();
    a.commit(&stale).await.unwrap();
    assert_eq!(log.lag().await.unwrap(), 0);
    drop((a, b));
    cluster.remove(&log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_begins_where_it_is_told_to() {
    let Some(cluster) = Cluster::new(1).await else { return };
    let log = cluster.log();
    cluster.send_views(&log, 0, 10, 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let between = nearcast_domain::Timestamp::now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    cluster.send_views(&log, 10, 10, 1).await;
    for (group, start, first) in
        [("earliest", "earliest".to_owned(), 0), ("time", between.to_string(), 10), ("offset", "0@7".to_owned(), 7)]
    {
        let config = KafkaConfig {
            group: format!("{}-{group}", cluster.config.group),
            start: start.parse_start(),
            ..cluster.config.clone()
        };
        let log = KafkaLog::new(&config).unwrap();
        let mut source = log.source().unwrap();
        let batch = source.next(1, 1 << 20).await.unwrap().unwrap();
        assert_eq!(place(&batch.records[0]).1, first, "{group}");
        drop(source);
        log.close().await;
    }
    // Behind everything: only what comes later, also for another member after this one never committed.
    let config = KafkaConfig {
        group: format!("{}-latest", cluster.config.group),
        start: "latest".to_owned().parse_start(),
        ..cluster.config.clone()
    };
    let late = KafkaLog::new(&config).unwrap();
    let source = late.source().unwrap();
    has(&source, 1).await;
    drop(source);
    cluster.send_views(&log, 20, 1, 1).await;
    let mut source = late.source().unwrap();
    assert_eq!(place(&source.next(1, 1).await.unwrap().unwrap().records[0]).1, 20);
    // Back again: not while a worker runs.
    let refused = late.rewind(&"0@3".to_owned().parse_start()).await.unwrap_err();
    assert!(refused.message.contains("stop every"), "{refused}");
    drop(source);
    let before = late.lag().await.unwrap();
    late.rewind(&"0@3".to_owned().parse_start()).await.unwrap();
    assert!(late.lag().await.unwrap() > before, "what waits again is known at once");
    let mut source = late.source().unwrap();
    assert_eq!(place(&source.next(1, 1).await.unwrap().unwrap().records[0]).1, 3);
    drop(source);
    late.close().await;
    cluster.remove(&log).await;
}

trait ParseStart {
    fn parse_start(&self) -> nearcast_stores::log::Start;
}

impl ParseStart for String {
    fn parse_start(&self) -> nearcast_stores::log::Start {
        nearcast_stores::log::Start::parse(self).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_worker_holds_no_more_than_it_may() {
    let Some(mut cluster) = Cluster::new(4).await else { return };
    const LIMIT: usize = 8 << 20;
    const RECORDS: usize = 120_000;
    cluster.config.buffer_bytes = LIMIT;
    let log = cluster.log();
    let filler = "x".repeat(800);
    for first in (0..RECORDS).step_by(4000) {
        let records: Vec<_> = (first..first + 4000)
            .map(|n| {
                let (key, _) = crate::support::view(n, 100);
                let text = format!(r#"{{"user_id":"{key}","text":"{n} {filler}","timestamp":"2026-01-01T00:00:00Z"}}"#);
                (key, text.into_bytes().into())
            })
            .collect();
        nearcast_domain::ports::EventSink::publish(&log, &nearcast_domain::Tenant::default(), &records).await.unwrap();
    }
    let mut source = log.source().unwrap();
    let (mut seen, mut waited) = (BTreeSet::new(), 0);
    while seen.len() < RECORDS {
        let batch = source.next(2000, 1 << 20).await.unwrap().unwrap();
        seen.extend(batch.records.iter().map(place));
        // A store that is slow now and then: everything is ahead of it, and nothing more may be taken in.
        if seen.len() / 20_000 > waited {
            waited = seen.len() / 20_000;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        let usage = source.usage();
        assert!(usage.waiting_bytes + usage.under_way_bytes <= LIMIT + 4096, "{usage:?}");
        source.commit(&batch.position).await.unwrap();
    }
    let usage = source.usage();
    assert!(usage.peak_bytes > LIMIT / 2, "the limit was never near: {usage:?}");
    assert!(usage.peak_bytes <= LIMIT + 4096, "{usage:?}");
    assert_eq!((usage.redelivered, log.lag().await.unwrap()), (0, 0));
    drop(source);
    cluster.remove(&log).await;
}
