//! Backends of the event log, and of the positions of other sources.

mod positions;
mod sqlite;

pub use positions::SqlitePositions;
pub use sqlite::{LogSource, SqliteLog};
