//! The last resort on disk: what rose and what was new when that could last be read, so that an instance that starts while every
//! store is away has something to give.
//!
//! Small and whole: written beside and moved into place. A file that cannot be read is as good as none. Holds items and nobody's
//! name.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use nearcast_domain::{ItemId, Tenant};
use serde::{Deserialize, Serialize};

use crate::memory::Card;

/// Marks the file and the version of its shape.
const VERSION: u32 = 1;

/// What is kept of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// What rose, the strongest first.
    pub rising: Vec<(ItemId, f32)>,
    /// How much trending weighs.
    pub share: f32,
    /// What was new, newest first.
    pub newest: Vec<ItemId>,
    /// What filters and answers need of these items.
    pub cards: BTreeMap<ItemId, Card>,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    tenants: BTreeMap<Tenant, Remembered>,
}

/// Writes all tenants. Blocks.
pub fn write(path: &Path, tenants: BTreeMap<Tenant, Remembered>) -> io::Result<()> {
    let text = serde_json::to_vec(&File { version: VERSION, tenants })?;
    let beside = PathBuf::from(format!("{}.new", path.display()));
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, path)
}

/// Reads what was written. Blocks.
pub fn read(path: &Path) -> io::Result<BTreeMap<Tenant, Remembered>> {
    let file: File = serde_json::from_slice(&std::fs::read(path)?)?;
    if file.version != VERSION {
        return Err(io::Error::other("the file is of another version"));
    }
    Ok(file.tenants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.json");
        assert!(read(&path).is_err());
        let item = ItemId::trusted("i");
        let card = Card { hidden: true, ..Card::default() };
        let one = Remembered {
            rising: vec![(item.clone(), 0.5)],
            share: 0.1,
            newest: vec![item.clone()],
            cards: [(item, card)].into(),
        };
        let all: BTreeMap<_, _> = [(Tenant::default(), one)].into();
        write(&path, all.clone()).unwrap();
        assert_eq!(read(&path).unwrap(), all);
        std::fs::write(&path, b"{\"version\":1,\"tena").unwrap();
        assert!(read(&path).is_err());
    }
}
