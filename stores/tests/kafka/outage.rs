//! The broker goes and comes back: calls fail in time and say that trying again helps, and nothing is lost.

use std::{collections::BTreeSet, time::Duration};

use nearcast_domain::{
    ErrorKind, Tenant,
    ports::{DeadLetters as _, EventSink as _, EventSource as _, Progress as _},
};
use nearcast_stores::{
    dead_letters::KafkaDeadLetters,
    log::{KafkaConfig, KafkaLog, Sasl},
    remote::Secret,
};

use crate::{
    own::OwnKafka,
    support::{Cluster, read, view},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_never_there_fails_calls_and_not_the_program() {
    let config = KafkaConfig {
        brokers: "127.0.0.1:9".into(),
        delivery_timeout_ms: 300,
        request_timeout_ms: 300,
        ..KafkaConfig::default()
    };
    let log = KafkaLog::new(&config).unwrap();
    let letters = KafkaDeadLetters::new(&config).unwrap();
    let mut source = log.source().unwrap();
    let refused = log.publish(&Tenant::default(), &[view(1, 1)]).await.unwrap_err();
    assert!(refused.kind.is_transient(), "{refused}");
    assert!(log.lag().await.unwrap_err().kind.is_transient());
    assert!(letters.count().await.unwrap_err().kind.is_transient());
    let refused = log.setup().await.unwrap_err();
    assert!(refused.kind.is_transient(), "{refused}");
    assert_eq!(log.reached(&nearcast_domain::ports::Token("kafka:x".into())).await.unwrap_err().kind, ErrorKind::Invalid);
    tokio::time::timeout(Duration::from_millis(500), source.next(9, 9)).await.unwrap_err();
    drop(source);
    letters.close().await;
    log.close().await;
}

#[tokio::test]
async fn encrypted_and_authenticated_clients_can_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "hunter2\n").unwrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut config = KafkaConfig { brokers: "127.0.0.1:9".into(), delivery_timeout_ms: 200, ..KafkaConfig::default() };
        config.tls.enabled = true;
        config.sasl = Sasl {
            mechanism: mechanism.into(),
            user: "u".into(),
            password: Secret::new(format!("file:{}", password.display())),
        };
        let log = KafkaLog::new(&config).unwrap();
        log.close().await;
        config.tls.ca_file = Some(dir.path().join("missing.pem"));
        let refused = KafkaLog::new(&config).err().unwrap();
        assert_eq!(refused.kind, ErrorKind::Invalid, "{refused}");
        assert!(refused.message.contains("ssl") && !refused.message.contains("hunter2"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_back_goes_on_where_it_was() {
    let Some(mut kafka) = OwnKafka::start() else { return };
    let mut cluster = Cluster::at(kafka.brokers(), 3).await;
    (cluster.config.delivery_timeout_ms, cluster.config.request_timeout_ms) = (2000, 1500);
    let log = cluster.log();
    cluster.send_views(&log, 0, 300, 20).await;
    let mut source = log.source().unwrap();
    let (mut records, position) = read(&mut source, 300).await;
    kafka.kill();
    let refused = log.publish(&Tenant::default(), &[view(300, 20)]).await.unwrap_err();
    assert!(refused.kind.is_transient(), "{refused}");
    let refused = source.commit(&position).await.unwrap_err();
    assert!(refused.kind.is_transient(), "{refused}");
    tokio::time::timeout(Duration::from_millis(300), source.next(9, 9)).await.unwrap_err();
    kafka.again();
    // What a publisher is told to do: try again.
    let token = loop {
        match log.publish(&Tenant::default(), &[view(300, 20)]).await {
            Ok(token) => break token,
            Err(e) => assert!(e.kind.is_transient(), "{e}"),
        }
    };
    cluster.send_views(&log, 301, 99, 20).await;
    let ids = |records: &[nearcast_domain::ports::Record]| -> BTreeSet<Vec<u8>> {
        records.iter().map(|r| r.bytes.to_vec()).collect()
    };
    let mut position = position;
    while ids(&records).len() < 400 {
        let batch = source.next(1000, 1 << 20).await.unwrap().unwrap();
        records.extend(batch.records);
        position = batch.position;
    }
    loop {
        match source.commit(&position).await {
            Ok(()) => break,
            Err(e) => assert!(e.kind.is_transient(), "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A commit of a worker that the group had given up is passed over; its records come again then.
    while log.lag().await.unwrap() > 0 {
        if let Ok(batch) = tokio::time::timeout(Duration::from_millis(200), source.next(1000, 1 << 20)).await {
            source.commit(&batch.unwrap().unwrap().position).await.ok();
        }
    }
    log.reached(&token).await.unwrap();
    drop(source);
    log.close().await;
}
