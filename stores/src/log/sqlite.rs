//! The event log in one SQLite file: an append-only table, and how far the worker has come.
//!
//! Publishers that come at once share a transaction. Readers and those who wait for the worker are woken by the commit itself;
//! nobody polls. One process has the file at a time.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, UserId,
    ports::{EventSink, EventSource, Progress, Record, SourceBatch, Token},
};
use sqlx::{Row, SqliteConnection};
use tokio::sync::watch;

use crate::sqlite::{
    Database, Schema, begin,
    group::{GroupCommit, Together},
    rows::{insert, limit as rows_limit},
};

const SCHEMA: Schema = Schema {
    store: "log",
    application_id: 0x6e63_6c6f,
    migrations: &["
CREATE TABLE records (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, key TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE TABLE heads (published INTEGER NOT NULL, committed INTEGER NOT NULL) STRICT;
INSERT INTO heads VALUES (0, 0);
"],
    cache_kib: (4 * 1024, 1024),
};

/// `log.db`. Clones share the file.
#[derive(Clone)]
pub struct SqliteLog(Arc<Inner>);

struct Inner {
    db: Database,
    group: GroupCommit<Publishing>,
    publishing: Publishing,
    committed: watch::Sender<i64>,
}

/// What the group commit needs: the number of the last record that is durable.
struct Publishing {
    published: watch::Sender<i64>,
    path: std::path::PathBuf,
}

struct Request {
    tenant: Arc<str>,
    records: Vec<(Arc<str>, Arc<[u8]>)>,
}

impl Together for Publishing {
    type Request = Request;
    type Answer = i64;

    async fn run(&self, writer: &mut SqliteConnection, requests: &[Arc<Request>]) -> StoreResult<Vec<i64>> {
        let before = *self.published.borrow();
        let (mut rows, mut ends) = (Vec::new(), Vec::with_capacity(requests.len()));
        for request in requests {
            rows.extend(request.records.iter().map(|record| (&request.tenant, record)));
            ends.push(before + rows.len() as i64);
        }
        let last = before + rows.len() as i64;
        let write = async {
            let mut tx = begin(writer).await?;
            let mut seq = before;
            insert(&mut tx, "INSERT INTO records (seq, tenant, key, bytes)", 4, "", &rows, |v, (tenant, (key, bytes))| {
                seq += 1;
                v.int(seq).text(Arc::clone(tenant)).text(key.clone()).blob(bytes.to_vec());
            })
            .await?;
            sqlx::query("UPDATE heads SET published = ?").bind(last).execute(&mut *tx).await?;
            tx.commit().await
        };
        match write.await {
            Ok(()) => {
                self.published.send_replace(last);
                Ok(ends)
            }
            Err(e) => Err(crate::sqlite::error::of("log", Some(&self.path), &e)),
        }
    }
}

impl SqliteLog {
    /// Opens the file, making it where it is missing.
    pub async fn open(path: &Path) -> StoreResult<Self> {
        let db = Database::open(path, &SCHEMA).await?;
        let heads: (i64, i64) = {
            let mut writer = db.writer().await;
            sqlx::query_as("SELECT published, committed FROM heads").fetch_one(&mut *writer).await.map_err(|e| db.error(e))?
        };
        let publishing = Publishing { published: watch::Sender::new(heads.0), path: path.to_owned() };
        Ok(Self(Arc::new(Inner { db, group: GroupCommit::default(), publishing, committed: watch::Sender::new(heads.1) })))
    }

    /// A source that goes on behind what was committed. One worker reads a log at a time.
    pub fn source(&self) -> LogSource {
        LogSource { log: self.clone(), after: *self.0.committed.borrow(), ends: false }
    }

    /// A source that begins behind a position (or `0`) and ends with what is published now: to replay. What it commits never takes
    /// the worker's own position back.
    pub fn replay(&self, position: &str) -> StoreResult<LogSource> {
        Ok(LogSource { log: self.clone(), after: number(position)?, ends: true })
    }

    /// Removes what the worker has done, save the last `keep` records. Answers how many were removed.
    pub async fn trim(&self, keep: u64) -> StoreResult<u64> {
        let mut writer = self.0.db.writer().await;
        let upto = (*self.0.committed.borrow()).min(self.0.publishing.published.borrow().saturating_sub_unsigned(keep));
        let done = sqlx::query("DELETE FROM records WHERE seq <= ?").bind(upto).execute(&mut *writer).await;
        done.map(|d| d.rows_affected()).map_err(|e| self.0.db.error(e))
    }

    /// Tidies up before the end of the process. Not needed for safety.
    pub async fn close(&self) {
        self.0.db.close().await;
    }

    /// Writes the file anew, so that nothing is left in it of what was deleted.
    pub async fn compact(&self) -> StoreResult<()> {
        self.0.db.compact().await
    }

    async fn read(&self, after: i64, most: usize, most_bytes: usize) -> sqlx::Result<Vec<(i64, Record)>> {
        let mut reader = self.0.db.reader().await?;
        let sql = "SELECT seq, tenant, bytes FROM records WHERE seq > ? ORDER BY seq LIMIT ?";
        let mut rows = sqlx::query(sql).bind(after).bind(rows_limit(most.max(1))).fetch(&mut *reader);
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut tenant = Tenant::default();
        while let Some(row) = rows.try_next().await? {
            let (seq, name): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
            if name != tenant.as_str() {
                tenant = Tenant::trusted(name);
            }
            let content: &[u8] = row.try_get(2)?;
            bytes += content.len();
            let record =
                Record { bytes: content.into(), tenant: tenant.clone(), origin: format!("log:{seq}"), ..Record::default() };
            records.push((seq, record));
            if bytes >= most_bytes {
                break;
            }
        }
        Ok(records)
    }

    async fn set_committed(&self, position: i64) -> StoreResult<()> {
        let mut writer = self.0.db.writer().await;
        if position <= *self.0.committed.borrow() {
            return Ok(());
        }
        let done = sqlx::query("UPDATE heads SET committed = ?").bind(position).execute(&mut *writer).await;
        done.map_err(|e| self.0.db.error(e))?;
        self.0.committed.send_replace(position);
        Ok(())
    }
}

fn invalid(message: String) -> StoreError {
    StoreError::new(ErrorKind::Invalid, "log", message)
}

fn number(position: &str) -> StoreResult<i64> {
    let number = position.parse().ok().filter(|n| *n >= 0 && position.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| invalid(format!("{position:?} is not a position of this log")))
}

#[async_trait]
impl EventSink for SqliteLog {
    async fn publish(&self, tenant: &Tenant, records: &[(String, Arc<[u8]>)]) -> StoreResult<Token> {
        if records.is_empty() {
            return Ok(Token(format!("log:{}", *self.0.publishing.published.borrow())));
        }
        let records = records.iter().map(|(key, bytes)| (key.as_str().into(), bytes.clone())).collect();
        let request = Request { tenant: tenant.shared(), records };
        let last = self.0.group.submit(&self.0.db, &self.0.publishing, request).await?;
        Ok(Token(format!("log:{last}")))
    }

    async fn forget(&self, users: &[(Tenant, UserId)]) -> StoreResult<u64> {
        if users.is_empty() {
            return Ok(0);
        }
        let pairs: Vec<(&str, &str)> = users.iter().map(|(t, u)| (t.as_str(), u.as_str())).collect();
        let pairs = serde_json::to_string(&pairs).map_err(|e| invalid(e.to_string()))?;
        let mut writer = self.0.db.writer().await;
        let sql = "DELETE FROM records WHERE seq <= ? AND (tenant, key) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))";
        let committed = *self.0.committed.borrow();
        let done = sqlx::query(sql).bind(committed).bind(pairs).execute(&mut *writer).await;
        done.map(|d| d.rows_affected()).map_err(|e| self.0.db.error(e))
    }
}

#[async_trait]
impl Progress for SqliteLog {
    async fn reached(&self, token: &Token) -> StoreResult<()> {
        let last = token.0.strip_prefix("log:").ok_or(()).and_then(|n| number(n).map_err(drop));
        let last = last.ok().filter(|n| n <= &*self.0.publishing.published.borrow());
        let last = last.ok_or_else(|| invalid(format!("{:?} is not a token of this log", token.0)))?;
        // The sender lives as long as this log: waiting cannot fail.
        drop(self.0.committed.subscribe().wait_for(|committed| *committed >= last).await);
        Ok(())
    }

    async fn lag(&self) -> StoreResult<u64> {
        let committed = *self.0.committed.borrow();
        let published = *self.0.publishing.published.borrow();
        Ok(published.saturating_sub(committed).max(0) as u64)
    }
}

/// Reads the log in order.
pub struct LogSource {
    log: SqliteLog,
    after: i64,
    ends: bool,
}

#[async_trait]
impl EventSource for LogSource {
    async fn next(&mut self, max_records: usize, max_bytes: usize) -> StoreResult<Option<SourceBatch>> {
        let mut published = self.log.0.publishing.published.subscribe();
        loop {
            let head = *published.borrow_and_update();
            if head > self.after {
                let read = self.log.read(self.after, max_records, max_bytes).await.map_err(|e| self.log.0.db.error(e))?;
                // Where records were removed there is nothing more to come before the head.
                let last = read.last().map_or(head, |(seq, _)| *seq);
                self.after = last;
                if !read.is_empty() {
                    let records = read.into_iter().map(|(_, record)| record).collect();
                    return Ok(Some(SourceBatch { records, position: last.to_string(), ..SourceBatch::default() }));
                }
                continue;
            }
            if self.ends || published.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn commit(&mut self, position: &str) -> StoreResult<()> {
        let position = number(position)?;
        if position > self.after {
            return Err(invalid(format!("position {position} was not read yet")));
        }
        self.log.set_committed(position).await
    }
}
