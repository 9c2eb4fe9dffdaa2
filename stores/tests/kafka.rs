//! The event log on a real Kafka: the port's suite, and what only a log with partitions and several workers can show.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "kafka/groups.rs"]
mod groups;
#[path = "kafka/support.rs"]
mod support;

use nearcast_domain::testing;
use nearcast_stores::dead_letters::KafkaDeadLetters;

use self::support::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_of_the_log() {
    let Some(cluster) = Cluster::new(1).await else { return };
    let log = cluster.log();
    let bad = [
        "kafka",
        "kafka:0",
        "kafka:0@",
        "kafka:0@-1",
        "kafka:0@999999",
        "kafka:7@0",
        "kafka:0@0,",
        "kafka:0@+0",
        "log:1",
        "kafka:0@0,0@1",
    ];
    testing::log::log(&log, async || log.source().unwrap(), &bad).await;
    let mut source = log.source().unwrap();
    testing::log::log_concurrent(&log, &mut source).await;
    drop(source);
    cluster.remove(&log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_publishers_on_many_partitions() {
    let Some(cluster) = Cluster::new(5).await else { return };
    let log = cluster.log();
    let mut source = log.source().unwrap();
    testing::log::log_concurrent(&log, &mut source).await;
    drop(source);
    cluster.remove(&log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_of_the_dead_letters() {
    let Some(cluster) = Cluster::new(1).await else { return };
    let letters = KafkaDeadLetters::new(&cluster.config).unwrap();
    testing::dead_letters::dead_letters(&letters).await;
    letters.close().await;
    cluster.remove(&cluster.log()).await;
}
