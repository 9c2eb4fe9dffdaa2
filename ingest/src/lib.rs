//! From a producer's bytes to durable effects: sources, decoding, dead letters, and the worker that carries a batch through
//! its stages.
//!
//! Knows ports only, never a store. It never commits a position before every effect of the batch was acknowledged.

mod ahead;
mod apply;
pub mod config;
pub mod decode;
mod feed;
pub mod letters;
mod pace;
pub mod project;
pub mod source;
mod stage;
mod tenants;
pub mod totals;
mod waiting;
pub mod worker;

pub use config::IngestConfig;
pub use project::Projector;
pub use totals::Totals;
pub use worker::{IngestError, Lane, Lanes, Stores, Worker};
