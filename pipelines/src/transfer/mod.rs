//! Everything that a ledger holds as files for a warehouse, and back again.
//!
//! An export is a directory: Parquet or NDJSON cut by date and shard of users, and a manifest with counts and checksums that is written
//! last, so that a directory with a manifest is whole. Facts stand in it as the events that they came from, erasures too, so that an
//! import into an empty instance gives the same digests. Nothing of an erased user is in it.
//!
//! Memory is bounded: rows wait in buffers of a budget, and the largest become files when it is used up.

mod check;
mod codec;
mod export;
mod import;
mod json;
mod manifest;
mod parquet;
mod parts;
mod rows;
mod stage;

use std::{io, path::PathBuf};

pub use check::check;
pub use export::{Export, Options};
pub use import::feed;
pub use json::to_json;
pub use manifest::{Counts, FileEntry, MANIFEST, Manifest, Model};
pub use rows::{Cut, Dataset, Embedded, Encoding, Row, UserRow, What};

use nearcast_domain::StoreError;

/// Why an export cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}: {message}", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was asked to stop.
    #[error("interrupted; the same command begins again and leaves nothing half done")]
    Interrupted,
}

impl TransferError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::Format { path: path.into(), message: message.to_string() }
    }
}
