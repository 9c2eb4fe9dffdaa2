//! Whether an export is whole: every file of the manifest is there, with the bytes that were written.

use std::path::{Component, Path};

use super::{TransferError, codec::digest, manifest::Manifest};

/// Reads the manifest and every file. `progress` is told how many bytes of how many are done.
///
/// # Errors
/// Where something is missing, cut off, or other than it was written; and where `stop` says so.
pub fn check(dir: &Path, progress: &dyn Fn(u64, u64), stop: &dyn Fn() -> bool) -> Result<Manifest, TransferError> {
    let manifest = Manifest::read(dir)?;
    let (mut done, of) = (0, manifest.files.iter().map(|f| f.bytes).sum());
    for file in &manifest.files {
        if stop() {
            return Err(TransferError::Interrupted);
        }
        let below = Path::new(&file.path);
        if !below.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(TransferError::format(dir.join(super::MANIFEST), format!("names {:?}, which lies outside", file.path)));
        }
        let path = dir.join(below);
        let found = digest(&path).map_err(TransferError::io(&path))?;
        if found.bytes != file.bytes {
            let message = format!("has {} bytes, and was written with {}: the export is torn", found.bytes, file.bytes);
            return Err(TransferError::format(&path, message));
        }
        if found.sha256 != file.sha256 {
            return Err(TransferError::format(&path, "has another SHA-256 than the manifest says: the export was altered"));
        }
        done += file.bytes;
        progress(done, of);
    }
    Ok(manifest)
}
