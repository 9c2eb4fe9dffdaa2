//! What each user chose next: lines of `{"user_id": …, "items": […]}`.

use std::{io::BufRead, path::Path};

use nearcast_domain::{ItemId, UserId};
use serde::Deserialize;

/// One user's next choices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Holdout {
    /// Who.
    pub user_id: UserId,
    /// What they chose next, in any order.
    pub items: Vec<ItemId>,
}

/// Why a holdout cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HoldoutError {
    /// The file cannot be opened or read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A line is not a holdout line.
    #[error("line {line}: {message}; a line reads {{\"user_id\": \"u\", \"items\": [\"i\"]}}")]
    Line {
        /// From 1.
        line: usize,
        /// Why.
        message: String,
    },
}

/// Reads a holdout file; people without a choice are left out.
pub fn read_holdout(path: &Path) -> Result<Vec<Holdout>, HoldoutError> {
    let mut out = Vec::new();
    for (n, line) in std::io::BufReader::new(std::fs::File::open(path)?).lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let h: Holdout = serde_json::from_str(&line).map_err(|e| HoldoutError::Line { line: n + 1, message: e.to_string() })?;
        if !h.items.is_empty() {
            out.push(h);
        }
    }
    Ok(out)
}
