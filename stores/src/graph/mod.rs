//! Backends of the graph.

mod cached;
mod sqlite;

pub use cached::CachedGraph;
pub use sqlite::SqliteGraph;
