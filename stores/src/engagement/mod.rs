//! Backends of the engagement totals.

mod decay;
mod postgres;
mod sqlite;

pub use postgres::{PipelineRun, PostgresConfig, PostgresEngagement};
pub use sqlite::SqliteEngagement;
