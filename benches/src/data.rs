//! The data sets, and their parts.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use flate2::read::GzDecoder;
use serde_json::Value;

/// The directory of the data sets.
pub fn find(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given.or_else(|| std::env::var_os("NEARCAST_TEST_DATA").map(Into::into)) {
        Some(dir) if dir.is_dir() => Ok(dir),
        Some(dir) => bail!("{} is no directory", dir.display()),
        None => bail!(
            "set NEARCAST_TEST_DATA to a directory with movielens.events.jsonl.gz: MovieLens latest-small (2016) from \
             grouplens.org in the event format of the README"
        ),
    }
}

/// The MovieLens events, items and engagements apart.
pub struct Parts {
    /// A file of items.
    pub items: PathBuf,
    /// A file of engagements.
    pub engagements: PathBuf,
    /// How many engagements.
    pub count: usize,
    /// Everyone with an engagement.
    pub users: Vec<String>,
}

/// Splits the MovieLens events into files of their own.
pub fn movielens(data: &Path, into: &Path) -> anyhow::Result<Parts> {
    let source = data.join("movielens.events.jsonl.gz");
    let lines = BufReader::new(GzDecoder::new(File::open(&source).with_context(|| source.display().to_string())?)).lines();
    let (items, engagements) = (into.join("items.jsonl"), into.join("engagements.jsonl"));
    let (mut a, mut b) = (BufWriter::new(File::create(&items)?), BufWriter::new(File::create(&engagements)?));
    let mut users = std::collections::BTreeSet::new();
    let mut count = 0;
    for line in lines {
        let line = line?;
        let event: Value = serde_json::from_str(&line)?;
        if event["type"] == "item" {
            writeln!(a, "{line}")?;
        } else {
            writeln!(b, "{line}")?;
            count += 1;
            users.insert(event["user_id"].as_str().unwrap_or_default().to_owned());
        }
    }
    a.flush()?;
    b.flush()?;
    Ok(Parts { items, engagements, count, users: users.into_iter().collect() })
}
