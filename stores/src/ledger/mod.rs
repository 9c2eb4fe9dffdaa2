//! Backends of the ledger, and the rules of appending that they share.
//!
//! What becomes of an event is decided in [`plan`], from what a backend has loaded; a backend only loads and writes.

pub(crate) mod plan;
mod sqlite;

pub use sqlite::SqliteLedger;
