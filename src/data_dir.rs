//! The data directory: one process at a time, of a version that this program can read, writable.
//!
//! Never removes anything.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The layout that this program writes.
const FORMAT: u32 = 1;
const ABOUT: &str = "nearcast.json";
const LOCK: &str = "LOCK";

/// Why a data directory cannot be used. Each text names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Somebody else has it.
    #[error(
        "data directory {path} is in use by another nearcast{by}; stop that one first, or name another directory with --data-dir"
    )]
    InUse {
        /// Which.
        path: PathBuf,
        /// Who, as far as it is known.
        by: String,
    },
    /// It was written by a newer program.
    #[error(
        "data directory {path} has format {found}, this nearcast knows up to {FORMAT}; update nearcast, or name another directory with --data-dir"
    )]
    TooNew {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It cannot be made or written.
    #[error(
        "data directory {path} cannot be written ({source}); make it writable, free some space, or name another with --data-dir"
    )]
    NotWritable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it says of itself cannot be read.
    #[error("{path} cannot be read ({message}); restore it from a backup, or name another directory with --data-dir")]
    Torn {
        /// Which file.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

/// What a data directory says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The layout.
    pub format: u32,
    /// The model whose vectors are current, once one was chosen.
    #[serde(default)]
    pub model: Option<String>,
    /// The seed of the sample data that is in it, whole.
    #[serde(default)]
    pub demo: Option<u64>,
}

/// A data directory that is ours until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    about: About,
    _lock: File,
}

impl DataDir {
    /// Takes a directory, making it where it is missing.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let not_writable = |source| DataDirError::NotWritable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(not_writable)?;
        let lock_path = path.join(LOCK);
        let mut lock =
            File::options().read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(not_writable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                let by = if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
                return Err(DataDirError::InUse { path: path.to_owned(), by });
            }
            Err(TryLockError::Error(e)) => return Err(not_writable(e)),
        }
        let about = read_about(path)?;
        // Proves at once that there is room and permission.
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .and_then(|()| lock.sync_all())
            .map_err(not_writable)?;
        let dir = Self { path: path.to_owned(), about, _lock: lock };
        dir.write_about().map_err(not_writable)?;
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Changes what it says of itself, in one step.
    pub fn update(&mut self, change: impl FnOnce(&mut About)) -> Result<(), DataDirError> {
        let before = self.about.clone();
        change(&mut self.about);
        if self.about == before {
            return Ok(());
        }
        self.write_about().map_err(|source| DataDirError::NotWritable { path: self.path.clone(), source })
    }

    fn write_about(&self) -> io::Result<()> {
        let temporary = self.path.join(format!("{ABOUT}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&self.about)?)?;
        file.sync_all()?;
        fs::rename(temporary, self.path.join(ABOUT))
    }
}

fn read_about(path: &Path) -> Result<About, DataDirError> {
    let file = path.join(ABOUT);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(About { format: FORMAT, model: None, demo: None }),
        Err(e) => return Err(DataDirError::Torn { path: file, message: e.to_string() }),
    };
    let about: About = serde_json::from_str(&text).map_err(|e| DataDirError::Torn { path: file, message: e.to_string() })?;
    if about.format > FORMAT {
        return Err(DataDirError::TooNew { path: path.to_owned(), found: about.format });
    }
    Ok(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let e = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(e.contains("in use") && e.contains(&std::process::id().to_string()) && e.contains("--data-dir"), "{e}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn newer_and_torn_are_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(ABOUT), r#"{"format":99}"#).unwrap();
        assert!(matches!(DataDir::open(dir.path()).unwrap_err(), DataDirError::TooNew { found: 99, .. }));
        std::fs::write(dir.path().join(ABOUT), "{").unwrap();
        assert!(matches!(DataDir::open(dir.path()).unwrap_err(), DataDirError::Torn { .. }));
    }

    #[test]
    fn remembers_its_model() {
        let dir = tempfile::tempdir().unwrap();
        DataDir::open(dir.path()).unwrap().update(|a| a.model = Some("m".into())).unwrap();
        assert_eq!(DataDir::open(dir.path()).unwrap().about().model.as_deref(), Some("m"));
    }
}
