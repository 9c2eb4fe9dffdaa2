//! The event log on a real Kafka: the port's suite, and what only a log with partitions and several workers can show.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "kafka/groups.rs"]
mod groups;
#[path = "kafka/outage.rs"]
mod outage;
#[path = "kafka/own.rs"]
mod own;
#[path = "kafka/secure.rs"]
mod secure;
#[path = "kafka/support.rs"]
mod support;

use std::time::Duration;

use nearcast_domain::{
    Tenant, Timestamp, UserId,
    ports::{DeadLetter, DeadLetterFilter, DeadLetters as _},
    testing,
};
use nearcast_stores::dead_letters::KafkaDeadLetters;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

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

/// Several processes put, remove and erase at once: what one removes, another does not bring back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_several_processes() {
    let Some(cluster) = Cluster::new(1).await else { return };
    let stores: Vec<_> = (0..3).map(|_| KafkaDeadLetters::new(&cluster.config).unwrap()).collect();
    let tenant = Tenant::default();
    let letter = |n: usize| DeadLetter {
        id: format!("l{n:03}"),
        tenant: tenant.clone(),
        user: Some(UserId::parse(&format!("u{}", n % 6)).unwrap()),
        reason: "is not JSON".into(),
        origin: format!("kafka:events/1@{n}"),
        bytes: vec![0xff; 100].into(),
        key: Some(b"some key".as_slice().into()),
        at: Timestamp::from_millis(n as i64),
    };
    let letters: Vec<DeadLetter> = (0..60).map(letter).collect();
    stores[0].put(&letters[..40]).await.unwrap();
    let erase = async |store: &KafkaDeadLetters, user: &str| {
        let user = UserId::parse(user).unwrap();
        loop {
            // What a worker does while another is faster.
            match store.erase(&tenant, &user).await {
                Ok(_) => break,
                Err(e) => assert!(e.kind.is_transient(), "{e}"),
            }
        }
    };
    let put = async { stores[2].put(&letters[40..]).await.unwrap() };
    tokio::join!(erase(&stores[0], "u0"), erase(&stores[1], "u1"), put);
    tokio::join!(erase(&stores[2], "u0"), erase(&stores[0], "u1"));
    for store in stores.iter().chain([&KafkaDeadLetters::new(&cluster.config).unwrap()]) {
        let left = store.list(&DeadLetterFilter { limit: 99, ..DeadLetterFilter::default() }).await.unwrap();
        let expected: Vec<DeadLetter> =
            letters.iter().filter(|l| !matches!(l.user.as_ref().unwrap().as_str(), "u0" | "u1")).cloned().collect();
        assert_eq!(left, expected);
        assert_eq!(store.count().await.unwrap(), 40);
    }
    // Nor are their bytes in the topic any more.
    let reader: BaseConsumer = cluster.client().create().unwrap();
    let (low, high) = reader.fetch_watermarks(&cluster.config.dead_letter_topic, 0, Duration::from_secs(5)).unwrap();
    assert!(low >= 40 && high > low, "{low} {high}");
    for store in stores {
        store.close().await;
    }
    cluster.remove(&cluster.log()).await;
}
