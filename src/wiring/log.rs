//! The event log, whichever it is: where the API publishes and the worker reads.

use std::sync::Arc;

use nearcast_domain::{
    ErrorKind, StoreError, StoreResult,
    ports::{EventSink, EventSource, Progress},
};
use nearcast_stores::log::{KafkaLog, SqliteLog, Start};

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

    /// Everything behind a position (`0`: from the beginning) up to now, where this log can be read so.
    pub fn replay(&self, position: &str) -> StoreResult<Option<Box<dyn EventSource>>> {
        match self {
            Self::Embedded(log) => Ok(Some(Box::new(log.replay(position)?))),
            Self::Kafka(_) => Ok(None),
        }
    }

    /// Moves the workers' group back, where there is one. Refused while a worker runs.
    pub async fn rewind(&self, from: &str) -> StoreResult<()> {
        if let Self::Kafka(log) = self {
            let start = Start::parse(from).map_err(|e| StoreError::new(ErrorKind::Invalid, "log", e))?;
            log.rewind(&start).await?;
        }
        Ok(())
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
