//! The vector index. Embedded: [`HnswIndex`], in process and in one directory. At scale: [`MilvusIndex`].
//!
//! Data of record is a journal ([`journal`]); in memory each tenant's rows of a collection are a [`shard`], searched by scan
//! while it is small and through a [`graph`] of `hnsw_rs` from 16,384 points on ([`search`]). Graphs are made in the background ([`grow`]); a
//! row is found from the moment its upsert is acknowledged, graph or not.
//!
//! A graph in use is never changed. The library could take points in while it is searched, but drops links on the way, so that a point
//! found before may not be found after; and it cannot delete. So points that came later are scanned, points whose rows are gone are
//! passed over, and when a quarter is new or dead, another graph is made of all points while the old one answers.
//!
//! Nor is a graph written down. It follows from the rows alone, whatever their history, and the first search after a start has it made
//! while scans answer. The library's dump would be two more files with vectors in them, whose reader borrows from itself.
//!
//! Answers depend on the rows and, through the graph, on when it was made: a search may miss what a scan finds until the same graph is
//! there again. Scores, order and filters never depend on it.
//!
//! Measured with `examples/vector_rates.rs` on 20,000 messages in 384 components, 1,000 questions, two cores busy with other work: a graph
//! is made in 22 s; with 128 candidates recall@10 is 0.995 in a search of 0.81 ms (160 are used, for a margin); every row is found by its own vector. A scan of all rows takes 0.70 to 0.84 ms, so it is only with more rows than these
//! that a graph gains.

mod codes;
mod dot;
mod graph;
mod grow;
mod head;
mod index;
mod journal;
mod milvus;
mod near;
mod record;
mod search;
mod shard;
mod state;

pub use index::HnswIndex;
pub use milvus::{MilvusConfig, MilvusConsistency, MilvusIndex, MilvusIndexKind};
