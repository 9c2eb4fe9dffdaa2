//! Backends of the event log, and of the positions of other sources.

pub(crate) mod kafka;
mod mongo_positions;
mod positions;
mod sqlite;

pub use kafka::{KafkaConfig, KafkaLog, KafkaSource, Sasl, Start, Usage};
pub use mongo_positions::MongoPositions;
pub use positions::SqlitePositions;
pub use sqlite::{LogSource, SqliteLog};
