//! A model of another revision, made of the one that is built in: its first components alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How many components are kept.
const KEPT: usize = 96;

/// Writes the model into a directory; answers the directory.
pub fn narrower(dir: &Path) -> anyhow::Result<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../embed/models/static-minilm-152/model.ncstatic");
    let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
    let length = u32::from_le_bytes(bytes[8..12].try_into()?) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[12..12 + length])?;
    let number = |field: &str| header[field].as_u64().map(|n| n as usize).context("a header without its numbers");
    let (rows, width, vocabulary) = (number("rows")?, number("dimension")?, number("vocabulary_bytes")?);
    let behind = 12 + length;
    let table = behind + vocabulary + 4 * rows;
    header["dimension"] = KEPT.into();
    header["name"] = "narrower".into();
    let head = serde_json::to_vec(&header)?;
    let mut out = bytes[..8].to_vec();
    out.extend((head.len() as u32).to_le_bytes());
    out.extend(&head);
    out.extend(&bytes[behind..table]);
    for row in bytes[table..table + rows * width].chunks(width) {
        out.extend(&row[..KEPT]);
    }
    let hash = Sha256::digest(&out);
    out.extend(hash);
    let model = dir.join("narrower");
    fs::create_dir_all(&model)?;
    fs::write(model.join("model.ncstatic"), out)?;
    Ok(model)
}
