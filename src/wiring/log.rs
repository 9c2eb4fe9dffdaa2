//! The event log, whichever it is: where the API publishes and the worker reads.

use std::sync::Arc;

use nearcast_domain::{
    StoreResult,
    ports::{EventSink, EventSource, Progress},
};
use nearcast_stores::log::{KafkaLog, SqliteLog};

/// The log of this process.
#[derive(Clone)]
pub enum Log {
    /// A table in the data directory.
    Embedded(Arc<SqliteLog>),
    /// A topic that many processes read together.
    Kafka(Arc<KafkaLog>),
}

impl Log {
    /// Where the worker goes on reading.
    pub fn source(&self) -> StoreResult<Box<dyn EventSource>> {
        match self {
            Self::Embedded(log) => Ok(Box::new(log.source())),
            Self::Kafka(log) => Ok(Box::new(log.source()?)),
        }
    }

    /// Where events are published.
    pub fn sink(&self) -> Arc<dyn EventSink> {
        match self {
            Self::Embedded(log) => log.clone(),
            Self::Kafka(log) => log.clone(),
        }
    }

    /// How far the worker has come.
    pub fn progress(&self) -> Arc<dyn Progress> {
        match self {
            Self::Embedded(log) => log.clone(),
            Self::Kafka(log) => log.clone(),
        }
    }
}
