//! Artefacts of training: in one SQLite file, or in PostgreSQL beside the totals
//! ([`crate::engagement::PostgresEngagement`] keeps them too).

mod sqlite;

pub use sqlite::SqliteArtefacts;
