//! Brokers that are reached by TLS and ask who is there: with the right password all works, and with a mistake nothing does.

use nearcast_domain::{
    ports::EventSource as _,
    testing::{self, servers},
};
use nearcast_stores::{
    dead_letters::KafkaDeadLetters,
    log::{KafkaConfig, KafkaLog, Sasl},
    remote::{Secret, Tls},
};

use super::support::{Cluster, read};

/// The listener that `infra/local` opens for this; `None` where there is none.
fn config(mechanism: &str) -> Option<KafkaConfig> {
    let brokers = servers::address("NEARCAST_STACK_KAFKA_SECURE")?;
    let (ca, password) = (servers::address("NEARCAST_STACK_KAFKA_CA")?, servers::address("NEARCAST_STACK_KAFKA_PASSWORD")?);
    let name = servers::unique("nearcast-test");
    Some(KafkaConfig {
        brokers,
        topic: format!("{name}.events"),
        dead_letter_topic: format!("{name}.letters"),
        group: name,
        partitions: 2,
        session_timeout_ms: 6000,
        delivery_timeout_ms: 4000,
        tls: Tls { enabled: true, ca_file: Some(ca.into()), ..Tls::default() },
        sasl: Sasl { mechanism: mechanism.into(), user: "nearcast".into(), password: Secret::new(password) },
        ..KafkaConfig::default()
    })
}

async fn there_and_back(config: KafkaConfig) {
    let mut cluster = Cluster::of(config).await;
    let log = cluster.log();
    let mut source = log.source().unwrap();
    cluster.send_views(&log, 0, 300, 20).await;
    let (records, position) = read(&mut source, 300).await;
    assert_eq!(records.len(), 300);
    source.commit(&position).await.unwrap();
    let letters = KafkaDeadLetters::new(&cluster.config).unwrap();
    testing::dead_letters::dead_letters(&letters).await;
    letters.close().await;
    drop(source);
    // Taken away by the listener that asks for nothing.
    cluster.config.brokers = servers::address("NEARCAST__KAFKA__BROKERS").unwrap();
    cluster.remove(&log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_password_within_tls() {
    let Some(config) = config("PLAIN") else { return };
    there_and_back(config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_password_that_never_travels() {
    let Some(config) = config("SCRAM-SHA-512") else { return };
    there_and_back(config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_is_refused_and_tells_no_password() {
    let Some(good) = config("PLAIN") else { return };
    let spoiled: [fn(&mut KafkaConfig); 3] =
        [|c| c.sasl.password = Secret::new("guessed"), |c| c.tls.ca_file = None, |c| c.tls = Tls::default()];
    for spoil in spoiled {
        let mut config = good.clone();
        spoil(&mut config);
        let log = KafkaLog::new(&config).unwrap();
        let e = log.setup().await.unwrap_err();
        assert!(e.kind.is_transient() && !e.to_string().contains("guessed"), "{e}");
        log.close().await;
    }
}
