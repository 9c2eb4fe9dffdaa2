//! Errors of SQLite and of the file system as kinds that callers act on, in one place.

use std::{io, path::Path};

use nearcast_domain::{ErrorKind, StoreError};

/// The kind and the remedy for an error of a file.
pub(crate) fn of_io(store: &'static str, path: &Path, e: &io::Error) -> StoreError {
    let (kind, remedy) = io_kind(e);
    StoreError::new(kind, store, format!("{}: {e}{remedy}", path.display()))
}

/// The kind and the remedy for an error of SQLite.
pub(crate) fn of(store: &'static str, path: Option<&Path>, e: &sqlx::Error) -> StoreError {
    let (kind, remedy) = match e {
        sqlx::Error::Database(d) => {
            let code = d.code().and_then(|c| c.parse::<i64>().ok()).unwrap_or(1);
            database_kind(code)
        }
        sqlx::Error::Io(e) => io_kind(e),
        sqlx::Error::PoolTimedOut => (ErrorKind::Busy, ": too many reads at once"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound => (ErrorKind::Corrupt, REBUILD),
        sqlx::Error::Encode(_) | sqlx::Error::Configuration(_) => (ErrorKind::Invalid, ""),
        _ => (ErrorKind::Unavailable, ""),
    };
    let file = path.map(|p| format!("{}: ", p.display())).unwrap_or_default();
    StoreError::new(kind, store, format!("{file}{e}{remedy}"))
}

const REBUILD: &str = ": put the file aside and restore it from a backup, or have it made again by `rebuild` or `replay`";
const SPACE: &str = ": make room on the disk; nothing that was acknowledged is lost";
const RIGHTS: &str = ": the data directory must be writable by the user who runs the program, or name another with --data-dir";

fn io_kind(e: &io::Error) -> (ErrorKind, &'static str) {
    use io::ErrorKind as K;
    match e.kind() {
        K::PermissionDenied | K::ReadOnlyFilesystem => (ErrorKind::ReadOnly, RIGHTS),
        K::StorageFull | K::QuotaExceeded => (ErrorKind::Full, SPACE),
        K::NotADirectory | K::IsADirectory | K::AlreadyExists | K::InvalidInput | K::InvalidFilename => {
            (ErrorKind::Invalid, "")
        }
        K::TimedOut => (ErrorKind::Timeout, ""),
        _ => (ErrorKind::Unavailable, ""),
    }
}

/// Result codes of <https://www.sqlite.org/rescode.html>; the low byte is the primary one.
fn database_kind(code: i64) -> (ErrorKind, &'static str) {
    // SQLITE_IOERR_SHMSIZE: the index of the write-ahead log cannot grow, which only a full disk refuses.
    if code == 10 | (19 << 8) {
        return (ErrorKind::Full, SPACE);
    }
    match code & 0xff {
        5 | 6 => (ErrorKind::Busy, ": another process holds the file"),
        8 => (ErrorKind::ReadOnly, RIGHTS),
        9 => (ErrorKind::Timeout, ""),
        11 | 26 => (ErrorKind::Corrupt, REBUILD),
        13 => (ErrorKind::Full, SPACE),
        18 | 20 | 25 => (ErrorKind::Invalid, ""),
        // Errors of logic and broken constraints: what is stored is not what this program writes.
        1 | 19 => (ErrorKind::Corrupt, ""),
        _ => (ErrorKind::Unavailable, ""),
    }
}

/// A stored value that cannot be what was written.
pub(crate) fn torn(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} is torn").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_extended_codes() {
        assert_eq!(database_kind(5).0, ErrorKind::Busy);
        assert_eq!(database_kind(517).0, ErrorKind::Busy); // SQLITE_BUSY_SNAPSHOT
        assert_eq!(database_kind(13).0, ErrorKind::Full);
        assert_eq!(database_kind(1544).0, ErrorKind::ReadOnly); // SQLITE_READONLY_DIRECTORY
        assert_eq!(database_kind(26).0, ErrorKind::Corrupt);
        assert_eq!(database_kind(267).0, ErrorKind::Corrupt); // SQLITE_CORRUPT_VTAB
        assert_eq!(database_kind(10).0, ErrorKind::Unavailable);
        assert_eq!(database_kind(4874).0, ErrorKind::Full); // SQLITE_IOERR_SHMSIZE
    }
}
