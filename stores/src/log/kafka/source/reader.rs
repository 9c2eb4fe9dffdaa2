//! The thread that polls: from messages of the library to records, and no further ahead than there is room for.

use std::{sync::Arc, time::Duration};

use nearcast_domain::{ErrorKind, StoreError, Tenant, decode::MAX_RECORD_BYTES, ports::Record};
use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
    types::RDKafkaErrorCode as Code,
};

use super::{
    super::{KafkaConfig, TENANT, error},
    group::Group,
    held::{Held, Shared},
};

/// How long a poll waits for a record.
const POLL: Duration = Duration::from_millis(50);
/// The same while nothing is read because there is no room.
const POLL_FULL: Duration = Duration::from_millis(5);

/// What the thread has.
pub(super) struct Reader {
    pub consumer: Arc<BaseConsumer<Group>>,
    pub shared: Arc<Shared>,
    pub config: KafkaConfig,
}

/// Tells the worker when the thread dies.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fail(StoreError::new(ErrorKind::Unavailable, error::LOG, "reading from Kafka has ended"));
    }
}

impl Reader {
    pub fn run(self) {
        let _alive = Alive(self.shared.clone());
        let mut default = self.config.tenant.clone();
        let tenant = Tenant::trusted(std::mem::take(&mut default));
        let mut paused = false;
        let mut last = tenant.clone();
        while !self.shared.closing() {
            match self.consumer.poll(if paused { POLL_FULL } else { POLL }) {
                Some(Ok(message)) => self.shared.arrive(held(&message, &tenant, &mut last)),
                Some(Err(e)) => self.trouble(&e),
                None => {}
            }
            let full = self.shared.full().unwrap_or(paused);
            let grown = self.shared.grown();
            if full != paused || (full && grown) {
                self.hold(full);
                paused = full;
            }
        }
        // Leaves the group where this is the last to have the consumer; a commit under way does it otherwise.
        drop(self.consumer);
    }

    /// Stops or goes on reading all partitions.
    fn hold(&self, full: bool) {
        let moved = self.consumer.assignment().and_then(|all| {
            metrics::counter!("nearcast_kafka_pauses_total").increment(u64::from(full));
            if full { self.consumer.pause(&all) } else { self.consumer.resume(&all) }
        });
        if let Err(e) = moved {
            tracing::warn!(error = %e, "reading from Kafka could not be paused or resumed");
        }
    }

    fn trouble(&self, e: &KafkaError) {
        let for_good = matches!(e, KafkaError::MessageConsumptionFatal(_))
            || matches!(e.rdkafka_error_code(), Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed));
        if for_good {
            self.shared.fail(error::error("reading", e));
        } else {
            // Brokers that are away, a topic that is not there yet: the library tries again by itself.
            metrics::counter!("nearcast_kafka_errors_total").increment(1);
            tracing::warn!(error = %error::error("reading", e), "reading from Kafka goes on when it can");
        }
    }
}

/// A record with its place, and with the reason where it cannot be an event.
fn held(message: &BorrowedMessage<'_>, default: &Tenant, last: &mut Tenant) -> Held {
    metrics::counter!("nearcast_kafka_records_total").increment(1);
    let (partition, offset) = (message.partition(), message.offset());
    let payload = message.payload().unwrap_or_default();
    let mut rejected = match (message.payload(), payload.first()) {
        (None, _) => Some("record has no value (a tombstone): users are erased by an event of type erasure".to_owned()),
        (_, None) => Some("record is empty".to_owned()),
        (_, Some(0)) => {
            Some("record begins with the byte 0, as Avro and Protobuf with a schema registry do; JSON is expected".into())
        }
        _ => None,
    };
    let mut tenant = default.clone();
    for header in message.headers().into_iter().flat_map(|h| h.iter()).filter(|h| h.key == TENANT) {
        let name = std::str::from_utf8(header.value.unwrap_or_default());
        match name.map_err(|_| "is not valid UTF-8".to_owned()) {
            Ok(name) if name == last.as_str() => tenant = last.clone(),
            Ok(name) => match Tenant::parse(name) {
                Ok(named) => {
                    *last = named.clone();
                    tenant = named;
                }
                Err(e) => rejected = Some(format!("header tenant {e}")),
            },
            Err(e) => rejected = Some(format!("header tenant {e}")),
        }
    }
    let record = Record {
        bytes: payload[..payload.len().min(MAX_RECORD_BYTES)].into(),
        tenant,
        origin: format!("kafka:{}/{partition}@{offset}", message.topic()),
        oversized: payload.len() > MAX_RECORD_BYTES,
        key: Some(message.key().unwrap_or_default().into()),
        rejected,
    };
    Held { partition, offset, time: message.timestamp().to_millis().unwrap_or(i64::MIN), record }
}
