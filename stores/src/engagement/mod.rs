//! Backends of the engagement totals.

mod sqlite;

pub use sqlite::SqliteEngagement;
