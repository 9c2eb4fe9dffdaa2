//! The vector index. Embedded: [`HnswIndex`], in process and in one directory.
//!
//! Data of record is a journal ([`journal`]); in memory each tenant's rows of a collection are a [`shard`], searched by scan
//! while it is small and through a [`graph`] from then on ([`search`]). Graphs are made in the background ([`grow`]) and written down to make
//! the next start quick ([`dump`]); a row is found from the moment its upsert is acknowledged, graph or not.
//!
//! The graph is the paper's (Malkov and Yashunin 2018), but not a library's. `examples/vector_rates.rs --peer` measures it beside
//! `hnsw_rs` 0.3.5; on 20,000 messages in 384 components, with equal links and equal width of construction, on two busy cores: made in 8.9 s
//! (there 13.3 s), recall@10 0.997 in 251 µs a search (0.980 in 496 µs, or 0.994 in 924 µs), and rows that a search for their own vector
//! does not find: none, as they are known and scanned (46). That library cannot delete, keeps every vector a second time, gives up far
//! links without a substitute, grows differently on each run when it uses threads, and prints.

mod codes;
mod dot;
mod graph;
mod grow;
mod head;
mod index;
mod journal;
mod near;
mod record;
mod search;
mod shard;
mod state;

pub use index::HnswIndex;
