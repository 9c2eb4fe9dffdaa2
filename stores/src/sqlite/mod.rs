//! One SQLite file behind one port: a single writer, a few readers, migrations, and errors with a kind.
//!
//! Every file is in WAL mode: readers never wait for the writer, nor it for them. `synchronous` is FULL everywhere, so that what
//! was acknowledged survives a power cut. The projections have it too: the position of the source is committed after them,
//! and a projection that lost what the position promises would stay wrong until a rebuild. On the development machine
//! FULL and NORMAL could not be told apart (80,000 ledger rows in ten transactions: 0.41 s and 0.39 s).
//!
//! This module must never know what is stored.

pub(crate) mod error;
pub(crate) mod group;
pub(crate) mod names;
pub(crate) mod packed;
pub(crate) mod rows;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool, Transaction,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};

/// What a file holds and how it came to be.
pub(crate) struct Schema {
    /// The store's name in errors.
    pub store: &'static str,
    /// Marks the file as ours (`PRAGMA application_id`).
    pub application_id: i32,
    /// One script a version, the oldest first. A script that was released is never changed.
    pub migrations: &'static [&'static str],
    /// The page cache of the writer and of each reader, in KiB.
    pub cache_kib: (u32, u32),
}

/// The most readers of one file. Each is a thread that sleeps when it has nothing to do.
const READERS: u32 = 4;
/// How long a statement waits for a lock that another process holds, and a caller for a reader.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open file.
pub(crate) struct Database {
    store: &'static str,
    path: PathBuf,
    writer: Mutex<SqliteConnection>,
    write_options: SqliteConnectOptions,
    readers: SqlitePool,
}

impl Database {
    /// Opens a file, making it and its directory where they are missing, and brings it to the newest version.
    pub async fn open(path: &Path, schema: &Schema) -> StoreResult<Self> {
        let store = schema.store;
        let owned = path.to_owned();
        tokio::task::spawn_blocking(move || writable(&owned))
            .await
            .map_err(|e| StoreError::new(ErrorKind::Unavailable, store, e))?
            .map_err(|e| error::of_io(store, path, &e))?;
        let fail = |e: sqlx::Error| error::of(store, Some(path), &e);
        let base = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(PATIENCE)
            .foreign_keys(false)
            .row_buffer_size(1024)
            .statement_cache_capacity(64)
            .disable_statement_logging();
        let write_options = base
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("cache_size", format!("-{}", schema.cache_kib.0))
            .pragma("wal_autocheckpoint", "4000")
            .pragma("journal_size_limit", "33554432")
            .pragma("secure_delete", "FAST")
            .pragma("temp_store", "MEMORY")
            .thread_name(move |_| format!("{store}-write"));
        let mut writer = write_options.connect().await.map_err(fail)?;
        migrate(&mut writer, path, schema).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .test_before_acquire(false)
            .acquire_timeout(PATIENCE)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(
                base.read_only(true)
                    .pragma("cache_size", format!("-{}", schema.cache_kib.1))
                    .pragma("temp_store", "MEMORY")
                    .thread_name(move |_| format!("{store}-read")),
            );
        Ok(Self { store, path: path.to_owned(), writer: Mutex::new(writer), write_options, readers })
    }

    /// The only connection that writes. Whoever holds it has it alone.
    pub async fn writer(&self) -> MutexGuard<'_, SqliteConnection> {
        let mut writer = self.writer.lock().await;
        if stuck(&mut writer).await {
            match self.write_options.connect().await {
                Ok(fresh) => *writer = fresh,
                // What is done next with the old one fails, and is told.
                Err(e) => tracing::warn!(store = self.store, error = %e, "the writer could not be opened anew"),
            }
        }
        writer
    }

    /// A connection that reads: each statement sees everything that was committed before it began.
    pub async fn reader(&self) -> sqlx::Result<PoolConnection<Sqlite>> {
        loop {
            let mut reader = self.readers.acquire().await?;
            if !stuck(&mut reader).await {
                return Ok(reader);
            }
            drop(reader.detach());
        }
    }

    /// The error of a port for an error of SQLite.
    pub fn error(&self, e: sqlx::Error) -> StoreError {
        error::of(self.store, Some(&self.path), &e)
    }

    /// Writes the file anew and empties its write-ahead log: nothing is left of what was deleted.
    pub async fn compact(&self) -> StoreResult<()> {
        let mut writer = self.writer().await;
        for sql in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
            sqlx::raw_sql(sql).execute(&mut *writer).await.map_err(|e| self.error(e))?;
        }
        Ok(())
    }

    /// Moves the write-ahead log into the file and closes it. Not needed for safety; the next start is a little faster.
    pub async fn close(&self) {
        self.readers.close().await;
        let mut writer = self.writer.lock().await;
        if let Err(e) = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *writer).await {
            tracing::debug!(store = self.store, error = %e, "checkpoint before closing");
        }
    }
}

/// Begins a transaction that writes: it takes the lock at once, so that it can never fail for having begun as a reader.
pub(crate) async fn begin(writer: &mut SqliteConnection) -> sqlx::Result<Transaction<'_, Sqlite>> {
    writer.begin_with("BEGIN IMMEDIATE").await
}

/// Whether a connection still counts a transaction of an earlier call as open, once everything before has had its turn.
///
/// When the disk is full or fails, SQLite ends a transaction by itself; SQLx's own rollback then fails, and it goes on counting
/// the transaction as open for ever. Such a connection is of no more use.
async fn stuck(conn: &mut SqliteConnection) -> bool {
    // The rollback of a call that was given up may still wait for its turn: that is what the ping waits for.
    conn.is_in_transaction() && (conn.ping().await.is_err() || conn.is_in_transaction())
}

/// Whether the file can be written, and others beside it (WAL needs two).
fn writable(path: &Path) -> std::io::Result<()> {
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    let open = |path: &Path| std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    open(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".probe");
    let beside = PathBuf::from(beside);
    open(&beside)?;
    std::fs::remove_file(beside)
}

async fn migrate(conn: &mut SqliteConnection, path: &Path, schema: &Schema) -> StoreResult<()> {
    let fail = |e: sqlx::Error| error::of(schema.store, Some(path), &e);
    let refuse = |kind, message: String| Err(StoreError::new(kind, schema.store, message));
    let file = path.display();
    let (version, id, tables): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT user_version FROM pragma_user_version), (SELECT application_id FROM pragma_application_id), \
         (SELECT count(*) FROM sqlite_schema)",
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(fail)?;
    let known = schema.migrations.len() as i64;
    if tables > 0 && id != i64::from(schema.application_id) {
        return refuse(
            ErrorKind::Corrupt,
            format!("{file} is not a {} file of this program: name another data directory", schema.store),
        );
    }
    if version > known {
        return refuse(
            ErrorKind::TooNew,
            format!(
                "{file} was written by a newer version (its schema is {version}, this program knows {known}): install that \
                 version, or name another data directory"
            ),
        );
    }
    for (script, number) in schema.migrations.iter().zip(1_i64..).skip(usize::try_from(version).unwrap_or(0)) {
        let mut tx = begin(conn).await.map_err(fail)?;
        sqlx::raw_sql(*script).execute(&mut *tx).await.map_err(fail)?;
        let marks = format!("PRAGMA user_version = {number}; PRAGMA application_id = {};", schema.application_id);
        sqlx::raw_sql(AssertSqlSafe(marks)).execute(&mut *tx).await.map_err(fail)?;
        tx.commit().await.map_err(fail)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema =
        Schema { store: "test", application_id: 7, migrations: &["CREATE TABLE t (x BLOB)"], cache_kib: (64, 64) };

    async fn fill(db: &Database) -> sqlx::Result<u64> {
        let mut writer = db.writer().await;
        let mut tx = begin(&mut writer).await?;
        sqlx::query("INSERT INTO t VALUES (zeroblob(400000))").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(1)
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_survived() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("x.db"), &SCHEMA).await.unwrap();
        sqlx::raw_sql("PRAGMA max_page_count = 50").execute(&mut *db.writer().await).await.unwrap();
        let e = db.error(fill(&db).await.unwrap_err());
        assert!(e.message.contains("make room"), "{e}");
        // The writer is opened anew behind the scenes; the limit was the old one's own.
        fill(&db).await.unwrap();
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *db.reader().await.unwrap()).await.unwrap();
        assert_eq!(rows, 1, "nothing of the failed transaction is left");
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("x.db"), &SCHEMA).await.unwrap();
        let done = sqlx::query("DELETE FROM t").execute(&mut *db.reader().await.unwrap()).await;
        assert_eq!(db.error(done.unwrap_err()).kind, ErrorKind::ReadOnly);
    }

    #[tokio::test]
    async fn versions_are_added_to_an_older_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        fill(&Database::open(&path, &SCHEMA).await.unwrap()).await.unwrap();
        let newer =
            Schema { migrations: &["CREATE TABLE t (x BLOB)", "ALTER TABLE t ADD COLUMN y; UPDATE t SET y = 5"], ..SCHEMA };
        let db = Database::open(&path, &newer).await.unwrap();
        let y: i64 = sqlx::query_scalar("SELECT y FROM t").fetch_one(&mut *db.reader().await.unwrap()).await.unwrap();
        assert_eq!(y, 5);
        drop(db);
        let Err(e) = Database::open(&path, &SCHEMA).await else { panic!("an older program must refuse it") };
        assert_eq!(e.kind, ErrorKind::TooNew);
    }
}
