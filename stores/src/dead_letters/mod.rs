//! Backends of the dead letters.

mod kafka;
mod sqlite;

pub use kafka::KafkaDeadLetters;
pub use sqlite::SqliteDeadLetters;
