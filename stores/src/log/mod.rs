//! Backends of the event log, and of the positions of other sources.

mod mongo_positions;
mod positions;
mod sqlite;

pub use mongo_positions::MongoPositions;
pub use positions::SqlitePositions;
pub use sqlite::{LogSource, SqliteLog};
