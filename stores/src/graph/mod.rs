//! Backends of the graph.

mod cached;
mod neo4j;
mod sqlite;

pub use cached::CachedGraph;
pub use neo4j::{Neo4jConfig, Neo4jGraph};
pub use sqlite::SqliteGraph;
