//! The HTTP API and the candidate pipeline: sources, filters, scorers, selector.
//!
//! Knows ports only, never a concrete store. A request reads; the only things it writes are cached answers, events into
//! the log and dead letters. No request waits for a sick store longer than its budget.

pub mod config;
mod figures;
pub mod http;
mod memory;
pub mod page;
pub mod recommend;
mod stores;

pub use config::{ConfigError, ServeConfig};
pub use http::{Doors, Entrance, Finished, Gate, Tls, Turn, doors, doors_that_turn, serve, serve_by};
pub use memory::{Freshness, Memory};
pub use recommend::{ExploreConfig, Query, Recommender, Session};
pub use stores::Stores;
