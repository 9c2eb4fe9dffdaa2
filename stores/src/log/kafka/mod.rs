//! The event log on Apache Kafka: publishing, how far the workers have come, and the source that they read.
//!
//! Records are keyed by user (items by item), so that one partition, and with it one worker at a time, has everything of a user. A
//! token holds the offsets of the records that were published; it is reached when the group has committed past all of them.
//! Nothing here connects before it is used, and brokers that are away make calls fail in time, never the program.

pub(crate) mod client;
mod config;
pub(crate) mod error;
mod offsets;
pub(crate) mod setup;
mod source;
mod tracker;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, UserId,
    ports::{EventSink, Progress, Token},
};
use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
    types::RDKafkaErrorCode as Code,
};

pub use config::{KafkaConfig, Sasl, Start};
pub use source::{KafkaSource, Usage};

use self::{client::Logging, error::LOG, offsets::Offsets, tracker::Tracker};

/// What tokens of this log begin with.
const PREFIX: &str = "kafka:";
/// The header that names the tenant of a record.
const TENANT: &str = "tenant";

/// The log. Clones share the clients.
#[derive(Clone)]
pub struct KafkaLog(Arc<Inner>);

struct Inner {
    config: KafkaConfig,
    producer: RwLock<Sending>,
    tracker: Tracker,
}

type Sending = FutureProducer<Logging>;

impl KafkaLog {
    /// A log as configured. Fails only where the configuration cannot be used (a file that is missing): brokers are not asked.
    pub fn new(config: &KafkaConfig) -> StoreResult<Self> {
        config.validate().map_err(|e| StoreError::new(ErrorKind::Invalid, LOG, e))?;
        let producer = RwLock::new(client::make(LOG, &client::producer(config)?, Logging)?);
        Ok(Self(Arc::new(Inner { config: config.clone(), producer, tracker: Tracker::start(config)? })))
    }

    /// A worker's source: one more member of the group. Its partitions come to it once it is polled by its own thread.
    pub fn source(&self) -> StoreResult<KafkaSource> {
        KafkaSource::open(self.clone())
    }

    /// Creates the topics that are missing; says what it did and what was there. May be repeated.
    pub async fn setup(&self) -> StoreResult<Vec<String>> {
        setup::topics(&self.0.config).await
    }

    /// Moves the group to another place, so that its workers read again from there (or no more what lies before). Refused while a
    /// worker runs: two at different places would undo each other's commits.
    pub async fn rewind(&self, start: &Start) -> StoreResult<()> {
        setup::rewind(&self.0.config, start).await?;
        self.0.tracker.rewound();
        Ok(())
    }

    /// Sends what is still under way and ends the threads. The log cannot be used afterwards.
    pub async fn close(&self) {
        let inner = self.0.clone();
        let closing = tokio::task::spawn_blocking(move || {
            inner.tracker.stop();
            let producer = inner.sending();
            if let Err(e) = producer.flush(Duration::from_millis(u64::from(inner.config.delivery_timeout_ms))) {
                tracing::warn!(error = %e, "not everything was acknowledged by Kafka; its publishers were told so");
            }
        });
        drop(closing.await);
    }
}

impl Inner {
    fn sending(&self) -> Sending {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A producer that hit an error for good refuses everything from then on: another takes its place.
    fn replace_broken(&self) {
        let mut producer = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, reason)) = producer.client().fatal_error() {
            tracing::warn!(%code, reason, "the Kafka producer is broken and is made anew");
            match client::producer(&self.config).and_then(|c| client::make(LOG, &c, Logging)) {
                Ok(fresh) => *producer = fresh,
                Err(e) => tracing::warn!(error = %e, "it cannot be made anew"),
            }
        }
    }

    async fn send(&self, tenant: &Tenant, records: &[(String, Arc<[u8]>)]) -> StoreResult<Offsets> {
        let producer = self.sending();
        let until = Instant::now() + Duration::from_millis(u64::from(self.config.delivery_timeout_ms));
        let headers = OwnedHeaders::new().insert(Header { key: TENANT, value: Some(tenant.as_str()) });
        let mut sent = Vec::with_capacity(records.len());
        for (key, bytes) in records {
            let mut record = FutureRecord::to(&self.config.topic).key(key.as_str()).payload(&**bytes).headers(headers.clone());
            let delivery = loop {
                match producer.send_result(record) {
                    Ok(delivery) => break delivery,
                    Err((KafkaError::MessageProduction(Code::QueueFull), back)) if Instant::now() < until => record = back,
                    Err((e, _)) => return Err(error::error("publishing", &e)),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            sent.push(async move {
                match delivery.await {
                    Ok(Ok(delivery)) => Ok(delivery),
                    Ok(Err((e, _))) => Err(error::error("publishing", &e)),
                    Err(_) => Err(StoreError::new(ErrorKind::Unavailable, LOG, "the producer was closed")),
                }
            });
        }
        let mut offsets = Offsets::default();
        for delivery in try_join_all(sent).await? {
            let last = offsets.0.entry(delivery.partition).or_insert(delivery.offset);
            *last = delivery.offset.max(*last);
        }
        Ok(offsets)
    }
}

#[async_trait]
impl EventSink for KafkaLog {
    /// Answers when every record is acknowledged by all replicas in step. When it fails, some may be in the log: publishing again
    /// doubles them, and doubles have no effect.
    async fn publish(&self, tenant: &Tenant, records: &[(String, Arc<[u8]>)]) -> StoreResult<Token> {
        match self.0.send(tenant, records).await {
            Ok(offsets) => {
                self.0.tracker.published(&offsets);
                metrics::counter!("nearcast_kafka_published_total").increment(records.len() as u64);
                Ok(Token(format!("{PREFIX}{offsets}")))
            }
            Err(e) => {
                self.0.replace_broken();
                Err(e)
            }
        }
    }

    /// Kafka removes records by age alone: the topic's retention bounds how long an erased user's are kept.
    async fn forget(&self, _: &[(Tenant, UserId)]) -> StoreResult<u64> {
        Ok(0)
    }
}

#[async_trait]
impl Progress for KafkaLog {
    async fn reached(&self, token: &Token) -> StoreResult<()> {
        let offsets = token.0.strip_prefix(PREFIX).and_then(Offsets::parse);
        let no_token = || StoreError::new(ErrorKind::Invalid, LOG, format!("{:?} is not a token of this log", token.0));
        self.0.tracker.reached(&offsets.ok_or_else(no_token)?).await
    }

    async fn lag(&self) -> StoreResult<u64> {
        self.0.tracker.lag().await
    }
}
