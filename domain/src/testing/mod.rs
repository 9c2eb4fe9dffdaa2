//! What every backend must do, as public functions that take any backend, and deterministic helpers for tests.
//!
//! Compiled with the feature `testing` only; nothing here is used in production.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

pub mod aggregates;
pub mod artefacts;
pub mod cache;
pub mod dead_letters;
pub mod embedder;
pub mod engagement;
pub mod events;
pub mod graph;
pub mod leases;
pub mod ledger;
pub mod log;
pub mod servers;
pub mod vectors;
