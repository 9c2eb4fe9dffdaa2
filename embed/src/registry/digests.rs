//! Hashes of a model's files, computed once and remembered beside them under their size and time of change.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use nearcast_domain::event::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::EmbedError;

const MEMORY: &str = "digests.json";

/// What is remembered of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    size: u64,
    changed: u128,
    pub sha256: String,
}

/// The hashes of the files in one directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Digests {
    files: BTreeMap<String, Seen>,
    #[serde(skip)]
    dir: PathBuf,
    #[serde(skip)]
    changed: bool,
}

impl Digests {
    /// What is remembered in `dir`; nothing where the memory is absent or unreadable.
    pub fn of(dir: &Path) -> Self {
        let mut found: Self =
            fs::read(dir.join(MEMORY)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        found.dir = dir.to_path_buf();
        found
    }

    /// The hash of a file, from memory where size and time of change are as they were. `fresh` reads it in any case.
    pub fn sha256(&mut self, file: &str, fresh: bool) -> Result<String, EmbedError> {
        let path = self.dir.join(file);
        let (size, changed) = stamp(&path)?;
        if let Some(seen) = self.files.get(file)
            && (seen.size, seen.changed) == (size, changed)
            && !fresh
        {
            return Ok(seen.sha256.clone());
        }
        let sha256 = hash_file(&path)?;
        self.files.insert(file.to_owned(), Seen { size, changed, sha256: sha256.clone() });
        self.changed = true;
        Ok(sha256)
    }

    /// What a file hashed to when it was last whole, whatever it is now.
    pub fn remembered(&self, file: &str) -> Option<&str> {
        self.files.get(file).map(|seen| seen.sha256.as_str())
    }

    /// Forgets files that were fetched anew.
    pub fn forget<'a>(&mut self, files: impl Iterator<Item = &'a str>) {
        for file in files {
            self.changed |= self.files.remove(file).is_some();
        }
    }

    /// Keeps what was learnt. A directory that cannot be written is no error: the hashes are computed again next time.
    pub fn keep(&mut self) {
        if !self.changed {
            return;
        }
        let Ok(bytes) = serde_json::to_vec_pretty(&self) else { return };
        let part = self.dir.join(format!("{MEMORY}.{}.part", std::process::id()));
        if fs::write(&part, bytes).is_ok() && fs::rename(&part, self.dir.join(MEMORY)).is_err() {
            let _ = fs::remove_file(&part);
        }
        self.changed = false;
    }
}

fn stamp(path: &Path) -> Result<(u64, u128), EmbedError> {
    let meta = fs::metadata(path).map_err(|e| EmbedError::io(path, e))?;
    let changed = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
    Ok((meta.len(), changed))
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn hash_file(path: &Path) -> Result<String, EmbedError> {
    let mut file = File::open(path).map_err(|e| EmbedError::io(path, e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 18];
    loop {
        let n = file.read(&mut buffer).map_err(|e| EmbedError::io(path, e))?;
        if n == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

/// The revision of a model: SHA-256 over the hashes of weights, tokenizer and configuration, each after its role, and over
/// the rule by which vectors are made (`mean/256/` for mean pooling of at most 256 tokens and no prefix).
pub fn revision_of(weights: &str, tokenizer: &str, config: &str, rule: &str) -> String {
    let mut h = Sha256::new();
    for (role, value) in [("weights", weights), ("tokenizer", tokenizer), ("config", config), ("rule", rule)] {
        h.update(role.as_bytes());
        h.update([0]);
        h.update(value.as_bytes());
        h.update([0]);
    }
    hex(&h.finalize())
}
