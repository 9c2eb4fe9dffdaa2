//! Backends of the graph.

mod sqlite;

pub use sqlite::SqliteGraph;
