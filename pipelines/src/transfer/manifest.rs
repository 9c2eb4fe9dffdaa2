//! The manifest of an export: what stands in it, and by which it is known to be whole.

use std::{fs::File, io::Write, path::Path};

use nearcast_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    TransferError,
    rows::{Cut, Dataset, Encoding, What},
};

/// The name of its file, beside the data sets.
pub const MANIFEST: &str = "manifest.json";
/// What it says that it is.
const FORMAT: &str = "nearcast-export";
/// The newest version that this program reads and writes.
const VERSION: u32 = 1;

/// The model whose vectors are exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// As users call it.
    pub name: String,
    /// What vectors are known by.
    pub revision: String,
    /// How long they are.
    pub dimension: usize,
}

/// How many rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Messages.
    pub messages: u64,
    /// Engagements.
    pub engagements: u64,
    /// Erasures.
    pub erasures: u64,
    /// Items.
    pub items: u64,
    /// Users with at least one event.
    pub users: u64,
    /// Profiles.
    pub profiles: u64,
    /// Vectors of messages.
    pub message_embeddings: u64,
    /// Vectors of items.
    pub item_embeddings: u64,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Below the export's directory, with `/`.
    pub path: String,
    /// What stands in it.
    pub dataset: Dataset,
    /// How many rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Its digest, in hexadecimal digits.
    pub sha256: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `nearcast-export`.
    pub format: String,
    /// Of this description.
    pub version: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// When it was begun: what came later may be missing.
    pub begun: Timestamp,
    /// When it was whole.
    pub finished: Timestamp,
    /// How files are written.
    pub encoding: Encoding,
    /// How long the time of one `date=` is.
    pub date: Cut,
    /// Into how many shards users are cut, by the hash of their id.
    pub shards: usize,
    /// What was asked for.
    pub what: Vec<What>,
    /// Whose vectors stand in it.
    pub model: Model,
    /// How many rows there are.
    pub counts: Counts,
    /// Every file, by path.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// One of nothing yet.
    pub(super) fn new(begun: Timestamp, encoding: Encoding, date: Cut, shards: usize, what: Vec<What>, model: Model) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
            begun,
            finished: begun,
            encoding,
            date,
            shards,
            what,
            model,
            counts: Counts::default(),
            files: Vec::new(),
        }
    }

    /// Reads the one of a directory.
    pub fn read(dir: &Path) -> Result<Self, TransferError> {
        let path = dir.join(MANIFEST);
        let text = std::fs::read(&path).map_err(TransferError::io(&path))?;
        let torn = |e| TransferError::format(&path, format!("is no whole manifest of an export: {e}"));
        let head: serde_json::Value = serde_json::from_slice(&text).map_err(torn)?;
        if head["format"] != FORMAT {
            return Err(TransferError::format(&path, "is no manifest of an export of this program"));
        }
        if head["version"].as_u64().is_none_or(|v| v > u64::from(VERSION)) {
            let message = format!("is of version {}; this program reads up to {VERSION}: use a newer one", head["version"]);
            return Err(TransferError::format(&path, message));
        }
        serde_json::from_value(head).map_err(torn)
    }

    /// Writes it into a directory, durably.
    pub(super) fn write(&self, dir: &Path) -> Result<(), TransferError> {
        let path = dir.join(MANIFEST);
        let write = || {
            let mut file = File::create(&path)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()
        };
        write().map_err(TransferError::io(&path))
    }

    /// The files of a data set whose names begin so, by path.
    pub(super) fn files_of<'a>(&'a self, dataset: Dataset, stem: &'a str) -> impl Iterator<Item = &'a FileEntry> {
        let named = move |f: &&FileEntry| f.path.rsplit('/').next().is_some_and(|name| name.starts_with(stem));
        self.files.iter().filter(move |f| f.dataset == dataset).filter(named)
    }
}
