//! Backends of the graph.

mod cached;
mod neo4j;
mod sqlite;

pub use cached::CachedGraph;
pub use neo4j::{Neo4jConfig, Neo4jGraph};
pub use sqlite::SqliteGraph;

use nearcast_domain::ports::Neighbour;

/// The order of a neighbour list: by weight from the top, ties by id.
fn strongest_first(a: &Neighbour, b: &Neighbour) -> std::cmp::Ordering {
    b.weight.total_cmp(&a.weight).then_with(|| a.item.cmp(&b.item))
}
