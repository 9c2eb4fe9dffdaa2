//! Backends of the ledger, and the rules of appending that they share.
//!
//! What becomes of an event is decided in [`plan`], from what a backend has loaded; a backend only loads and writes.

mod mongo;
pub(crate) mod plan;
mod prefix;
mod sqlite;

pub use mongo::{MongoLedger, MongoPage};
pub use sqlite::SqliteLedger;
