//! Topics and groups of a test's own on the Kafka that `NEARCAST__KAFKA__BROKERS` names.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "each test uses a part; a test says where it broke")]

use std::sync::Arc;

use nearcast_domain::{
    Tenant,
    ports::{EventSink as _, EventSource, Record},
    testing::servers,
};
use nearcast_stores::log::{KafkaConfig, KafkaLog};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
    producer::{FutureProducer, FutureRecord},
};

/// Topics of a test's own.
pub struct Cluster {
    pub config: KafkaConfig,
}

impl Cluster {
    /// Topics with so many partitions; `None` where there is no Kafka.
    pub async fn new(partitions: i32) -> Option<Self> {
        let brokers = servers::address("NEARCAST__KAFKA__BROKERS")?;
        Some(Self::at(brokers, partitions).await)
    }

    /// The same, on these brokers.
    pub async fn at(brokers: String, partitions: i32) -> Self {
        let name = servers::unique("nearcast-test");
        let config = KafkaConfig {
            brokers,
            topic: format!("{name}.events"),
            dead_letter_topic: format!("{name}.letters"),
            group: name,
            partitions,
            session_timeout_ms: 6000,
            ..KafkaConfig::default()
        };
        Self::of(config).await
    }

    /// The topics of this configuration.
    pub async fn of(config: KafkaConfig) -> Self {
        let log = KafkaLog::new(&config).unwrap();
        let lines = log.setup().await.unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
        log.close().await;
        Self { config }
    }

    pub fn log(&self) -> KafkaLog {
        KafkaLog::new(&self.config).unwrap()
    }

    /// Closes the log and takes the topics away.
    pub async fn remove(&self, log: &KafkaLog) {
        log.close().await;
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let topics = [&*self.config.topic, &*self.config.dead_letter_topic];
        admin.delete_topics(&topics, &AdminOptions::new()).await.unwrap();
        drop(admin.delete_groups(&[&self.config.group], &AdminOptions::new()).await);
    }

    /// Lets the topic take records that are far too long.
    pub async fn allow_large(&self) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.config.topic)).set("max.message.bytes", "12000000");
        let done = admin.alter_configs([&change], &AdminOptions::new()).await.unwrap();
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    pub fn client(&self) -> ClientConfig {
        let mut c = ClientConfig::new();
        c.set("bootstrap.servers", &self.config.brokers);
        c
    }

    /// Sends a record as any producer may: whatever key and value.
    pub async fn send_raw(&self, partition: Option<i32>, key: Option<&[u8]>, value: Option<&[u8]>) {
        let producer: FutureProducer = self.client().set("message.max.bytes", "12000000").create().unwrap();
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.config.topic);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        producer.send(record, std::time::Duration::from_secs(10)).await.map_err(|(e, _)| e).unwrap();
    }

    /// Sends so many views of so many users.
    pub async fn send_views(&self, log: &KafkaLog, from: usize, number: usize, users: usize) {
        for first in (from..from + number).step_by(1000) {
            let records: Vec<(String, Arc<[u8]>)> =
                (first..(first + 1000).min(from + number)).map(|n| view(n, users)).collect();
            log.publish(&Tenant::default(), &records).await.unwrap();
        }
    }
}

/// The n-th view: (key, bytes).
pub fn view(n: usize, users: usize) -> (String, Arc<[u8]>) {
    let user = format!("u{}", n % users);
    let text = format!(
        r#"{{"event_id":"e{n}","user_id":"{user}","item_id":"i{}","kind":"view","timestamp":"2026-01-01T00:00:{:02}Z"}}"#,
        n % 17,
        n / users % 60
    );
    (user, text.into_bytes().into())
}

/// Reads so many records.
pub async fn read(source: &mut dyn EventSource, number: usize) -> (Vec<Record>, String) {
    let (mut records, mut position) = (Vec::new(), String::new());
    while records.len() < number {
        let batch = source.next(1000, 1 << 20).await.unwrap().unwrap();
        records.extend(batch.records);
        position = batch.position;
    }
    (records, position)
}
