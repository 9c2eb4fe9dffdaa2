//! Positions and leases in one small SQLite file: how far a file was imported, and who does what only one may do.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Timestamp,
    ports::{Leases, Positions},
};

use crate::sqlite::{Database, Schema};

const SCHEMA: Schema = Schema {
    store: "positions",
    application_id: 0x6e63_706f,
    migrations: &[
        "CREATE TABLE positions (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;",
        "CREATE TABLE leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
    ],
    cache_kib: (256, 256),
};

/// `positions.db`.
pub struct SqlitePositions {
    db: Database,
}

impl SqlitePositions {
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

    async fn read(&self, key: &str) -> sqlx::Result<Option<String>> {
        let mut reader = self.db.reader().await?;
        sqlx::query_scalar("SELECT value FROM positions WHERE key = ?").bind(key).fetch_optional(&mut *reader).await
    }

    async fn write(&self, key: &str, value: Option<&str>) -> sqlx::Result<()> {
        let mut writer = self.db.writer().await;
        let query = match value {
            Some(value) => sqlx::query("INSERT OR REPLACE INTO positions (key, value) VALUES (?, ?)").bind(key).bind(value),
            None => sqlx::query("DELETE FROM positions WHERE key = ?").bind(key),
        };
        query.execute(&mut *writer).await?;
        Ok(())
    }
}

#[async_trait]
impl Positions for SqlitePositions {
    async fn get(&self, key: &str) -> StoreResult<Option<String>> {
        self.read(key).await.map_err(|e| self.db.error(e))
    }

    async fn set(&self, key: &str, value: &str) -> StoreResult<()> {
        self.write(key, Some(value)).await.map_err(|e| self.db.error(e))
    }

    async fn remove(&self, key: &str) -> StoreResult<()> {
        self.write(key, None).await.map_err(|e| self.db.error(e))
    }
}

impl SqlitePositions {
    async fn take(&self, name: &str, holder: &str, ttl: Duration) -> sqlx::Result<bool> {
        let now = Timestamp::now().millis();
        let until = now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        let mut writer = self.db.writer().await;
        let sql = "INSERT INTO leases (name, holder, until) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE \
                   SET holder = excluded.holder, until = excluded.until WHERE holder = excluded.holder OR until <= ?4";
        let done = sqlx::query(sql).bind(name).bind(holder).bind(until).bind(now).execute(&mut *writer).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn give_back(&self, name: &str, holder: &str) -> sqlx::Result<()> {
        let mut writer = self.db.writer().await;
        let sql = "DELETE FROM leases WHERE name = ? AND holder = ?";
        sqlx::query(sql).bind(name).bind(holder).execute(&mut *writer).await?;
        Ok(())
    }
}

#[async_trait]
impl Leases for SqlitePositions {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> StoreResult<bool> {
        self.take(name, holder, ttl).await.map_err(|e| self.db.error(e))
    }

    async fn release(&self, name: &str, holder: &str) -> StoreResult<()> {
        self.give_back(name, holder).await.map_err(|e| self.db.error(e))
    }
}
