//! The data of record of the vector index: an append-only file of checked records, and a head that says how much of it was
//! acknowledged.
//!
//! A record lies in the file, and the head counts it, before a caller is told: so a process that is killed at any moment loses
//! nothing that it acknowledged. What lies beyond the head's count may be half a record and is cut off; what lies within and
//! does not read back is damage, and is reported, never guessed at. Power loss is weaker: the files are synced by
//! [`Journal::sync`] only, and what the disk lost since then shows as damage (the head is ahead of the file) or as missing rows.
//!
//! Why not a database: rows are written whole, read back all at once, and never looked up; every byte needs a checksum, which
//! SQLite does not keep; and a file of this shape is read at the speed of the disk.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};

use super::{
    head::{Head, HeadFound, VERSION, read_head},
    record::{Reader, Record, Writer, checksum},
};

/// Length and checksum before each record.
const FRAME: usize = 4 + 8;
/// No record is longer.
const RECORD_MAX: usize = 1 << 30;

/// The open files. One process at a time has them.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    head_file: File,
    file: File,
    head: Head,
    broken: bool,
}

impl Journal {
    /// Opens the journal of a directory, which is made where it is not there, and hands every record that was kept to `apply`.
    /// `apply` is given `None` where all before did not read back after all: the journal is empty then, and the damaged files lie
    /// beside it with `torn` in their names. The flag says that this happened, now or before, and that nobody has
    /// said since ([`Self::whole`]) that all was written again.
    pub(super) fn open(dir: &Path, mut apply: impl FnMut(Option<Record>)) -> StoreResult<(Self, bool)> {
        fs::create_dir_all(dir).map_err(|e| failure(dir, &e))?;
        let head_path = dir.join("vectors.head");
        let head_file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&head_path)
            .map_err(|e| failure(&head_path, &e))?;
        match head_file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is in use by another process; stop it first", head_path.display());
                return Err(StoreError::new(ErrorKind::Busy, "vectors", message));
            }
            Err(TryLockError::Error(e)) => return Err(failure(&head_path, &e)),
        }
        let damage = match read_head(&head_file).map_err(|e| failure(&head_path, &e))? {
            HeadFound::TooNew(version) => {
                let message = format!(
                    "{} was written by a newer version of the program (format {version}, this one knows {VERSION}); use that one",
                    dir.display()
                );
                return Err(StoreError::new(ErrorKind::TooNew, "vectors", message));
            }
            HeadFound::Whole(head) => match Self::read(dir, head, &mut apply)? {
                Ok((file, head)) => {
                    let journal = Self { dir: dir.to_owned(), head_file, file, head, broken: false };
                    journal.remove_other_generations();
                    return Ok((journal, rebuild_marker(dir).exists()));
                }
                Err(damage) => Some(damage),
            },
            HeadFound::Torn => Some("its head does not read back".to_owned()),
            // The first start ended before it wrote a head.
            HeadFound::None if generations(dir).iter().all(|g| is_empty(&journal_path(dir, *g))) => None,
            HeadFound::None => Some("its head is missing".to_owned()),
        };
        if let Some(damage) = &damage {
            let marker = rebuild_marker(dir);
            create(&marker).map_err(|e| failure(&marker, &e))?;
            let aside = set_aside(dir).map_err(|e| failure(dir, &e))?;
            tracing::warn!(store = "vectors", directory = %dir.display(), ?aside, "the vector index is damaged ({damage}); it begins empty and is to be rebuilt");
        }
        apply(None);
        let journal = Self::begin(dir.to_owned(), head_file)?;
        Ok((journal, rebuild_marker(dir).exists()))
    }

    /// How long the file is, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.head.length
    }

    /// Adds records; when this returns, they survive the process.
    pub(super) fn append(&mut self, records: &[Vec<u8>]) -> StoreResult<()> {
        if self.broken {
            let message = format!("{} could not be put right after a failed write; restart", self.dir.display());
            return Err(StoreError::new(ErrorKind::Unavailable, "vectors", message));
        }
        let mut at = self.head.length;
        let written = records.iter().try_for_each(|r| {
            let framed = frame(r)?;
            write_at(&self.file, &framed, at)?;
            at += framed.len() as u64;
            Ok(())
        });
        let head = Head { length: at, sequence: self.head.sequence + 1, ..self.head };
        match written.and_then(|()| self.write_head(head)) {
            Ok(()) => Ok(()),
            Err(e) => {
                self.broken = self.file.set_len(self.head.length).is_err()
                    || self.write_head(Head { sequence: head.sequence + 1, ..self.head }).is_err();
                Err(failure(&self.dir, &e))
            }
        }
    }

    /// Puts a file with only these records in the place of the present one, in one step.
    pub(super) fn replace(&mut self, records: impl Iterator<Item = Vec<u8>>) -> StoreResult<()> {
        let head = Head { generation: self.head.generation + 1, length: 0, sequence: self.head.sequence + 1 };
        let path = journal_path(&self.dir, head.generation);
        let write = || -> io::Result<(File, u64)> {
            let mut out = io::BufWriter::with_capacity(1 << 20, create(&path)?);
            let mut length = 0;
            for r in records {
                let framed = frame(&r)?;
                out.write_all(&framed)?;
                length += framed.len() as u64;
            }
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_data()?;
            Ok((file, length))
        };
        let replaced = write().and_then(|(file, length)| {
            self.write_head(Head { length, ..head })?;
            Ok(file)
        });
        match replaced {
            Ok(file) => {
                self.file = file;
                self.remove_other_generations();
                Ok(())
            }
            Err(e) => {
                let _ = fs::remove_file(&path);
                Err(failure(&path, &e))
            }
        }
    }

    /// Says that everything was written again after damage.
    pub(super) fn whole(&self) -> StoreResult<()> {
        let marker = rebuild_marker(&self.dir);
        match fs::remove_file(&marker) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failure(&marker, &e)),
            _ => Ok(()),
        }
    }

    /// Waits until the disk has everything.
    pub(super) fn sync(&self) -> StoreResult<()> {
        self.file.sync_data().and_then(|()| self.head_file.sync_data()).map_err(|e| failure(&self.dir, &e))
    }

    fn begin(dir: PathBuf, head_file: File) -> StoreResult<Self> {
        let head = Head { generation: 1, length: 0, sequence: 1 };
        let path = journal_path(&dir, head.generation);
        let file = create(&path).map_err(|e| failure(&path, &e))?;
        head_file.set_len(0).map_err(|e| failure(&dir, &e))?;
        let mut journal = Self { dir, head_file, file, head, broken: false };
        journal.write_head(head).map_err(|e| failure(&journal.dir, &e))?;
        Ok(journal)
    }

    fn write_head(&mut self, head: Head) -> io::Result<()> {
        write_at(&self.head_file, &head.to_bytes(), head.place())?;
        self.head = head;
        Ok(())
    }

    /// Reads the file that the head names. The inner error says in what way it is damaged.
    fn read(dir: &Path, head: Head, apply: &mut impl FnMut(Option<Record>)) -> StoreResult<Result<(File, Head), String>> {
        let path = journal_path(dir, head.generation);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Err(format!("{} is missing", path.display()))),
            Err(e) => return Err(failure(&path, &e)),
        };
        let length = file.metadata().map_err(|e| failure(&path, &e))?.len();
        if length < head.length {
            return Ok(Err(format!("{} ends at byte {length} of {}", path.display(), head.length)));
        }
        let mut input = BufReader::with_capacity(1 << 20, &file);
        let mut at = 0;
        loop {
            match next(&mut input, length - at).map_err(|e| failure(&path, &e))? {
                Some((record, bytes)) => {
                    at += bytes;
                    apply(Some(record));
                }
                None if at < head.length => return Ok(Err(format!("{} does not read back at byte {at}", path.display()))),
                None => break,
            }
        }
        drop(input);
        if at < length {
            file.set_len(at).map_err(|e| failure(&path, &e))?;
        }
        Ok(Ok((file, Head { length: at, ..head })))
    }

    fn remove_other_generations(&self) {
        for g in generations(&self.dir).into_iter().filter(|g| *g != self.head.generation) {
            if let Err(error) = fs::remove_file(journal_path(&self.dir, g)) {
                tracing::warn!(store = "vectors", %error, "an old file could not be removed");
            }
        }
    }
}

/// The next record and how many bytes it took, or `None` where no whole one follows.
fn next(input: &mut impl Read, left: u64) -> io::Result<Option<(Record, u64)>> {
    let mut frame = [0; FRAME];
    if left < FRAME as u64 {
        return Ok(None);
    }
    input.read_exact(&mut frame)?;
    let mut r = Reader(&frame);
    let (Some(n), Some(sum)) = (r.u32(), r.u64()) else { return Ok(None) };
    let n = n as usize;
    if n > RECORD_MAX || n as u64 > left - FRAME as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; n];
    input.read_exact(&mut bytes)?;
    if checksum(&bytes) != sum {
        return Ok(None);
    }
    Ok(Reader(&bytes).record().map(|r| (r, (FRAME + n) as u64)))
}

fn frame(record: &[u8]) -> io::Result<Vec<u8>> {
    if record.len() > RECORD_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record is too long"));
    }
    let mut w = Writer(Vec::with_capacity(FRAME + record.len()));
    w.u32(record.len() as u32);
    w.u64(checksum(record));
    w.0.extend_from_slice(record);
    Ok(w.0)
}

fn write_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

fn is_empty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.len() == 0)
}

fn journal_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("vectors-{generation}.journal"))
}

/// Exists from the moment damage is found until everything was written again.
fn rebuild_marker(dir: &Path) -> PathBuf {
    dir.join("vectors.rebuild")
}

/// The generations of which there is a file, ascending.
fn generations(dir: &Path) -> Vec<u64> {
    let mut found: Vec<u64> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.file_name().to_str()?.strip_prefix("vectors-")?.strip_suffix(".journal")?.parse().ok())
        .collect();
    found.sort_unstable();
    found
}

/// Renames the files, so that someone may look at them. One damaged set is kept.
fn set_aside(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut aside = Vec::new();
    for g in generations(dir) {
        let to = dir.join(format!("vectors-{g}.torn"));
        fs::rename(journal_path(dir, g), &to)?;
        aside.push(to);
    }
    let to = dir.join("vectors-head.torn");
    fs::copy(dir.join("vectors.head"), &to)?;
    aside.push(to);
    Ok(aside)
}

/// An error of the file system as one of the store.
pub(super) fn failure(path: &Path, error: &io::Error) -> StoreError {
    use io::ErrorKind as Io;
    let (kind, remedy) = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => (ErrorKind::Full, "; make room"),
        Io::ReadOnlyFilesystem | Io::PermissionDenied => (ErrorKind::ReadOnly, "; make it writable"),
        Io::InvalidInput => (ErrorKind::Invalid, ""),
        _ => (ErrorKind::Unavailable, ""),
    };
    StoreError::new(kind, "vectors", format!("{}: {error}{remedy}", path.display()))
}
