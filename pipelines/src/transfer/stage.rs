//! Where an export grows: a directory beside the one it becomes, which gets its name when it is whole.
//!
//! What a killed export left there is removed by the next one of the same name; two at once are refused by a lock.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{MANIFEST, TransferError};

/// See the module.
pub(super) struct Stage {
    out: PathBuf,
    pub dir: PathBuf,
    lock: (PathBuf, Option<File>),
    replace: bool,
}

fn beside(out: &Path, ending: &str) -> Result<PathBuf, TransferError> {
    let name = out.file_name().ok_or_else(|| TransferError::format(out, "is no name for a new directory"))?;
    let mut name = name.to_owned();
    name.push(ending);
    Ok(out.with_file_name(name))
}

impl Stage {
    /// Begins anew. An export that is there already is refused, unless it is to be replaced.
    pub fn begin(out: &Path, replace: bool) -> Result<Self, TransferError> {
        let dir = beside(out, ".partial")?;
        let lock = beside(out, ".lock")?;
        if let Ok(mut entries) = fs::read_dir(out) {
            let there = entries.next().is_some();
            if there && !out.join(MANIFEST).exists() {
                return Err(TransferError::format(out, "holds something else: name a directory that is new"));
            }
            if there && !replace {
                return Err(TransferError::format(out, "holds an export already: name another directory, or give --replace"));
            }
        } else if out.exists() {
            return Err(TransferError::format(out, "is a file: name a directory that is new"));
        }
        if let Some(parent) = out.parent() {
            fs::create_dir_all(parent).map_err(TransferError::io(parent))?;
        }
        let file = File::create(&lock).map_err(TransferError::io(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TransferError::format(out, "is being written by another export")),
            Err(TryLockError::Error(e)) => return Err(TransferError::io(&lock)(e)),
        }
        remove(&dir)?;
        fs::create_dir_all(&dir).map_err(TransferError::io(&dir))?;
        Ok(Self { out: out.to_owned(), dir, lock: (lock, Some(file)), replace })
    }

    /// Gives the directory its name.
    pub fn done(self) -> Result<(), TransferError> {
        let old = beside(&self.out, ".old")?;
        remove(&old)?;
        if self.replace && self.out.exists() {
            fs::rename(&self.out, &old).map_err(TransferError::io(&self.out))?;
        }
        fs::rename(&self.dir, &self.out).map_err(TransferError::io(&self.out))?;
        if let Some(parent) = self.out.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent).and_then(|d| d.sync_all()).map_err(TransferError::io(parent))?;
        }
        remove(&old)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Gone with its name already, where all went well.
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_file(&self.lock.0);
        self.lock.1.take();
    }
}

fn remove(dir: &Path) -> Result<(), TransferError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(TransferError::io(dir)(e)),
        _ => Ok(()),
    }
}
