//! Backends of the dead letters.

mod sqlite;

pub use sqlite::SqliteDeadLetters;
