//! Backends of the ports: one module a port, one file a backend.
//!
//! A backend knows its store and nothing of ingestion, serving or jobs. Which one is used is decided where the program is
//! wired, never here.

pub mod artefacts;
pub mod cache;
pub mod dead_letters;
pub mod engagement;
pub mod graph;
pub mod guard;
pub mod ledger;
pub mod log;
pub mod mongo;
pub mod remote;
mod sqlite;
pub mod told;
pub mod vectors;
