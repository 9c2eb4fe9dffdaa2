//! Which files belong together, and what they are.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use super::ReadError;
use crate::transfer::MANIFEST;

/// Whose format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory that `nearcast export` wrote.
    Export,
    /// `ratings.csv` or `ratings.dat`, with `movies.csv` or `movies.dat` beside it.
    MovieLens,
    /// `Posts.xml`, with `Comments.xml` beside it.
    StackExchange,
    /// `users`, `items`, `feedback` as `.csv`, `.jsonl` or `.json` in one directory.
    Gorse,
    /// One file of Gorse's `/api/dump`.
    GorseDump,
}

/// Files to be read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What they are.
    pub kind: Kind,
    /// The directory, or the one file.
    pub path: PathBuf,
    /// Each file, in the order in which they are read; empty for an export, whose manifest names them.
    pub files: Vec<PathBuf>,
}

/// The first of these names that is there.
fn first(dir: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|n| dir.join(n)).find(|p| p.is_file())
}

const FEEDBACK: [&str; 3] = ["feedback.csv", "feedback.jsonl", "feedback.json"];

impl Input {
    /// What a path is, where it is any of these; `None`: presumably a file of events. `from`: whose format it must be.
    ///
    /// # Errors
    /// Where it is not what it must be, or a directory of nothing that is known.
    pub fn of(path: &Path, from: Option<&str>) -> Result<Option<Self>, ReadError> {
        let failed = |e: io::Error| ReadError::at(path, 0, e);
        if path.as_os_str() == "-" {
            return Ok(None);
        }
        let meta = std::fs::metadata(path).map_err(failed)?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let dir = if meta.is_dir() { path.to_owned() } else { path.parent().map(Path::to_owned).unwrap_or_default() };
        let auto = |kinds: &[&str]| from.is_none_or(|f| kinds.contains(&f));
        let named = |names: &[&str]| meta.is_dir() || names.contains(&name.as_str()) || from.is_some();
        let found = if auto(&["export"]) && named(&[MANIFEST]) && dir.join(MANIFEST).is_file() {
            Some((Kind::Export, dir.clone(), Vec::new()))
        } else if auto(&["movielens"]) && named(&["ratings.csv", "ratings.dat"]) {
            movielens(&dir, &name).map(|files| (Kind::MovieLens, path.to_owned(), files))
        } else {
            None
        };
        let found = found.or_else(|| {
            (auto(&["stackexchange"]) && named(&["Posts.xml", "Comments.xml"]))
                .then(|| first(&dir, &["Posts.xml"]))
                .flatten()
                .map(|posts| (Kind::StackExchange, path.to_owned(), posts))
                .map(|(kind, path, posts)| {
                    (kind, path, [Some(posts), first(&dir, &["Comments.xml"])].into_iter().flatten().collect())
                })
        });
        let found = match found {
            None if auto(&["gorse"]) && meta.is_file() && is_dump(path).map_err(failed)? => {
                Some((Kind::GorseDump, path.to_owned(), vec![path.to_owned()]))
            }
            None if auto(&["gorse"]) && (meta.is_dir() || FEEDBACK.contains(&name.as_str())) => {
                first(&dir, &FEEDBACK).map(|feedback| (Kind::Gorse, path.to_owned(), gorse(&dir, feedback)))
            }
            other => other,
        };
        match found {
            Some((kind, path, files)) => Ok(Some(Self { kind, path, files })),
            None if from.is_some_and(|f| f != "events") => {
                Err(ReadError::at(path, 0, format!("is no data of {}", from.unwrap_or_default())))
            }
            None if meta.is_dir() && (dir.join("events").is_dir() || name.ends_with(".partial")) => {
                Err(ReadError::at(path, 0, format!("has no {MANIFEST}: the export was not finished")))
            }
            None if meta.is_dir() => Err(ReadError::at(
                path,
                0,
                "is a directory that holds no export, no ratings.csv or ratings.dat, no Posts.xml and no feedback of Gorse; name its files",
            )),
            None if name == "Comments.xml" => {
                Err(ReadError::at(path, 0, "needs Posts.xml beside it: comments say only which post they are about"))
            }
            None => Ok(None),
        }
    }

    /// Bytes to read, where that is known before.
    pub fn size(&self) -> u64 {
        self.files.iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.len()).sum()
    }

    /// What tells these very files from others of the same names.
    pub(crate) fn fingerprint(&self) -> io::Result<String> {
        let manifest = self.path.join(MANIFEST);
        let one = [manifest];
        let files = if self.kind == Kind::Export { &one[..] } else { &self.files };
        let mut all = String::new();
        for file in files {
            let meta = std::fs::metadata(file)?;
            let changed = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
            all.push_str(&format!("{}:{changed};", meta.len()));
        }
        Ok(all)
    }
}

fn movielens(dir: &Path, name: &str) -> Option<Vec<PathBuf>> {
    let ratings = if name.starts_with("ratings.") { dir.join(name) } else { first(dir, &["ratings.csv", "ratings.dat"])? };
    let movies = if ratings.extension().is_some_and(|e| e == "dat") { "movies.dat" } else { "movies.csv" };
    Some(first(dir, &[movies]).into_iter().chain([ratings]).collect())
}

fn gorse(dir: &Path, feedback: PathBuf) -> Vec<PathBuf> {
    let items = first(dir, &["items.csv", "items.jsonl", "items.json"]);
    items.into_iter().chain([feedback]).collect()
}

/// Gorse's dump begins with the mark of its users: -1 as eight bytes.
fn is_dump(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    File::open(path)?.take(8).read_to_end(&mut begin)?;
    Ok(begin == (-1_i64).to_le_bytes())
}
