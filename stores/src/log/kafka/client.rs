//! How clients of the brokers are set up: producers, consumers, and what all of them share.

use std::time::Duration;

use nearcast_domain::StoreResult;
use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError,
};

use super::{KafkaConfig, error};

/// The largest record that a producer may send: a whole record of the longest kind, among dead letters with its headers.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Hands what the library says to the program's own log.
#[derive(Clone, Default)]
pub(crate) struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, e: KafkaError, reason: &str) {
        log_error(&e, reason);
    }
}

pub(crate) fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    if (level as i32) <= RDKafkaLogLevel::Error as i32 {
        tracing::warn!(target: "kafka", fac, "{message}");
    } else {
        tracing::debug!(target: "kafka", fac, "{message}");
    }
}

pub(crate) fn log_error(e: &KafkaError, reason: &str) {
    metrics::counter!("nearcast_kafka_errors_total").increment(1);
    tracing::warn!(target: "kafka", error = %e, "{reason}");
}

/// What every client needs. Secrets are read anew, so that a rotated one is seen by the next client.
pub(crate) fn base(config: &KafkaConfig) -> StoreResult<ClientConfig> {
    let mut c = ClientConfig::new();
    c.set("bootstrap.servers", &config.brokers);
    c.set("client.id", "nearcast");
    c.set("socket.keepalive.enable", "true");
    c.set("reconnect.backoff.ms", "50");
    c.set("reconnect.backoff.max.ms", "2000");
    c.set("socket.timeout.ms", config.request_timeout_ms.max(10_000).to_string());
    let tls = &config.tls;
    let sasl = &config.sasl;
    let protocol = match (tls.enabled, sasl.mechanism.is_empty()) {
        (false, true) => "plaintext",
        (true, true) => "ssl",
        (false, false) => "sasl_plaintext",
        (true, false) => "sasl_ssl",
    };
    c.set("security.protocol", protocol);
    for (key, file) in
        [("ssl.ca.location", &tls.ca_file), ("ssl.certificate.location", &tls.cert_file), ("ssl.key.location", &tls.key_file)]
    {
        if let Some(file) = file {
            c.set(key, file.display().to_string());
        }
    }
    if !sasl.mechanism.is_empty() {
        c.set("sasl.mechanism", &sasl.mechanism);
        c.set("sasl.username", &sasl.user);
        c.set("sasl.password", sasl.password.read(error::LOG)?);
    }
    Ok(c)
}

/// A producer that neither loses, doubles nor reorders what it was given, and gives up in time.
pub(crate) fn producer(config: &KafkaConfig) -> StoreResult<ClientConfig> {
    let mut c = base(config)?;
    c.set("enable.idempotence", "true");
    c.set("acks", "all");
    c.set("linger.ms", "2");
    c.set("compression.type", &config.compression);
    c.set("message.timeout.ms", config.delivery_timeout_ms.to_string());
    c.set("message.max.bytes", MAX_MESSAGE_BYTES.to_string());
    c.set("queue.buffering.max.kbytes", (64 << 10).to_string());
    Ok(c)
}

/// A consumer that commits nothing of itself.
pub(crate) fn consumer(config: &KafkaConfig, group: &str) -> StoreResult<ClientConfig> {
    let mut c = base(config)?;
    c.set("group.id", group);
    c.set("enable.auto.commit", "false");
    c.set("enable.auto.offset.store", "false");
    // Also for offsets that the topic does not hold any more: nothing that is there is passed over.
    c.set("auto.offset.reset", "earliest");
    c.set("allow.auto.create.topics", "false");
    Ok(c)
}

/// How long a call may take.
pub(crate) fn patience(config: &KafkaConfig) -> Duration {
    Duration::from_millis(u64::from(config.request_timeout_ms))
}

/// Makes a client. It connects by itself, later: that brokers are away is no error here.
pub(crate) fn make<C: ClientContext, T: FromClientConfigAndContext<C>>(
    store: &'static str,
    config: &ClientConfig,
    context: C,
) -> StoreResult<T> {
    config.create_with_context(context).map_err(|e| error::of(store, "the client cannot be made", &e))
}
