//! Dead letters in one SQLite file.

use std::path::Path;

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, Timestamp, UserId,
    ports::{DeadLetter, DeadLetterFilter, DeadLetters},
};
use sqlx::{Row, sqlite::SqliteRow};

use crate::sqlite::{
    Database, Schema, begin,
    rows::{insert, json, limit as rows_limit},
};

const SCHEMA: Schema = Schema {
    store: "dead_letters",
    application_id: 0x6e63_646c,
    migrations: &["
CREATE TABLE letters (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, tenant TEXT NOT NULL, user TEXT,
  reason TEXT NOT NULL, origin TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE INDEX letters_by_time ON letters (at, id);
CREATE INDEX letters_by_user ON letters (tenant, user) WHERE user IS NOT NULL;
"],
    cache_kib: (1024, 512),
};

/// `dead_letters.db`.
pub struct SqliteDeadLetters {
    db: Database,
}

impl SqliteDeadLetters {
    /// Opens the file, making it where it is missing.
    pub async fn open(path: &Path) -> StoreResult<Self> {
        Ok(Self { db: Database::open(path, &SCHEMA).await? })
    }

    /// Tidies up before the end of the process. Not needed for safety.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Writes the file anew, so that nothing is left in it of what was deleted.
    pub async fn compact(&self) -> StoreResult<()> {
        self.db.compact().await
    }

    async fn keep(&self, letters: &[DeadLetter]) -> sqlx::Result<()> {
        let mut writer = self.db.writer().await;
        let mut tx = begin(&mut writer).await?;
        let head = "INSERT OR IGNORE INTO letters (id, at, tenant, user, reason, origin, bytes)";
        // A letter may be large: a part is bound and written before the next is copied.
        for part in letters.chunks(64) {
            insert(&mut tx, head, 7, "", part, |v, l| {
                v.text(l.id.as_str().into()).int(l.at.millis()).text(l.tenant.shared());
                v.maybe_text(l.user.as_ref().map(UserId::shared)).text(l.reason.as_str().into());
                v.text(l.origin.as_str().into()).blob(l.bytes.to_vec());
            })
            .await?;
        }
        tx.commit().await
    }

    async fn select(&self, filter: &DeadLetterFilter, after: (i64, &str)) -> sqlx::Result<Vec<DeadLetter>> {
        let sql = "SELECT id, at, tenant, user, reason, origin, bytes FROM letters WHERE (at, id) > (?, ?) AND at >= ? \
                   AND (? IS NULL OR instr(reason, ?) > 0) ORDER BY at, id LIMIT ?";
        let mut reader = self.db.reader().await?;
        let rows = sqlx::query(sql)
            .bind(after.0)
            .bind(after.1)
            .bind(filter.since.map_or(i64::MIN, Timestamp::millis))
            .bind(filter.reason.as_deref())
            .bind(filter.reason.as_deref())
            .bind(rows_limit(filter.limit));
        rows.fetch_all(&mut *reader).await?.iter().map(letter).collect()
    }

    async fn find(&self, id: &str) -> sqlx::Result<Option<DeadLetter>> {
        let sql = "SELECT id, at, tenant, user, reason, origin, bytes FROM letters WHERE id = ?";
        let mut reader = self.db.reader().await?;
        sqlx::query(sql).bind(id).fetch_optional(&mut *reader).await?.as_ref().map(letter).transpose()
    }

    async fn delete(&self, ids: &[String]) -> sqlx::Result<()> {
        let mut writer = self.db.writer().await;
        let sql = "DELETE FROM letters WHERE id IN (SELECT value FROM json_each(?))";
        sqlx::query(sql).bind(json(ids)?).execute(&mut *writer).await?;
        Ok(())
    }

    async fn number(&self) -> sqlx::Result<u64> {
        let mut reader = self.db.reader().await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM letters").fetch_one(&mut *reader).await?;
        Ok(count.max(0) as u64)
    }

    async fn forget(&self, tenant: &Tenant, user: &UserId) -> sqlx::Result<u64> {
        let mut writer = self.db.writer().await;
        let query = sqlx::query("DELETE FROM letters WHERE tenant = ? AND user = ?").bind(tenant.as_str()).bind(user.as_str());
        Ok(query.execute(&mut *writer).await?.rows_affected())
    }
}

fn letter(row: &SqliteRow) -> sqlx::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.try_get(0)?,
        at: Timestamp::from_millis(row.try_get(1)?),
        tenant: Tenant::trusted(row.try_get::<&str, _>(2)?),
        user: row.try_get::<Option<&str>, _>(3)?.map(UserId::trusted),
        reason: row.try_get(4)?,
        origin: row.try_get(5)?,
        bytes: row.try_get::<&[u8], _>(6)?.into(),
        key: None,
    })
}

#[async_trait]
impl DeadLetters for SqliteDeadLetters {
    async fn put(&self, letters: &[DeadLetter]) -> StoreResult<()> {
        if letters.is_empty() {
            return Ok(());
        }
        self.keep(letters).await.map_err(|e| self.db.error(e))
    }

    async fn list(&self, filter: &DeadLetterFilter) -> StoreResult<Vec<DeadLetter>> {
        let after = match &filter.after {
            None => (i64::MIN, String::new()),
            Some(id) => match self.get(id).await? {
                Some(letter) => (letter.at.millis(), letter.id),
                None => {
                    let message = format!("there is no dead letter {id:?} to go on behind");
                    return Err(StoreError::new(ErrorKind::Invalid, "dead_letters", message));
                }
            },
        };
        self.select(filter, (after.0, &after.1)).await.map_err(|e| self.db.error(e))
    }

    async fn get(&self, id: &str) -> StoreResult<Option<DeadLetter>> {
        self.find(id).await.map_err(|e| self.db.error(e))
    }

    async fn remove(&self, ids: &[String]) -> StoreResult<()> {
        self.delete(ids).await.map_err(|e| self.db.error(e))
    }

    async fn count(&self) -> StoreResult<u64> {
        self.number().await.map_err(|e| self.db.error(e))
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        self.forget(tenant, user).await.map_err(|e| self.db.error(e))
    }
}
