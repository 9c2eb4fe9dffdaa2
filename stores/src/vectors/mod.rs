//! The vector index. Embedded: [`HnswIndex`], in process and in one directory.
//!
//! Data of record is a journal ([`journal`]); in memory each tenant's rows of a collection are a [`shard`], searched by scan
//! while it is small and through a [`graph`] from then on ([`search`]). Graphs are made in the background ([`grow`]) and written down to make
//! the next start quick ([`dump`]); a row is found from the moment its upsert is acknowledged, graph or not.
//!
//! The graph is the paper's (Malkov and Yashunin 2018), but not a library's. Measured beside `hnsw_rs` 0.3.5 on 20,000 messages of
//! 384 components, same links and width of construction, on two busy cores: built in 5 s (15 s), recall@10 at 80 candidates 0.994
//! (0.965), 180 µs a search (430 µs), and the points that a search for themselves does not find are known and scanned (342 of them
//! there, unknown). That library cannot delete, keeps every vector a second time, drops far links without a substitute, grows
//! differently on each run when it uses threads, and prints. `examples/vector_rates.rs` measures this one again.

mod codes;
mod dot;
mod dump;
mod graph;
mod grow;
mod index;
mod journal;
mod record;
mod search;
mod shard;
mod state;

pub use index::HnswIndex;
