//! Artefacts in one SQLite file.

use std::path::Path;

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Tenant, Timestamp,
    ports::{ArtefactInfo, Artefacts, NewArtefact},
};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::sqlite::{Database, Schema, begin};

const SCHEMA: Schema = Schema {
    store: "artefacts",
    application_id: 0x6e63_6172,
    migrations: &["
CREATE TABLE tenants (name TEXT PRIMARY KEY, last INTEGER NOT NULL, in_service INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE artefacts (tenant TEXT NOT NULL, version INTEGER NOT NULL, created INTEGER NOT NULL, digest TEXT NOT NULL,
  figures TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (tenant, version)) STRICT;
"],
    cache_kib: (256, 256),
};

/// `artefacts.db`.
pub struct SqliteArtefacts {
    db: Database,
}

impl SqliteArtefacts {
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

    async fn insert(&self, tenant: &Tenant, a: &NewArtefact) -> sqlx::Result<i64> {
        let mut writer = self.db.writer().await;
        let mut tx = begin(&mut writer).await?;
        let next =
            "INSERT INTO tenants (name, last) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET last = last + 1 RETURNING last";
        let version: i64 = sqlx::query_scalar(next).bind(tenant.as_str()).fetch_one(&mut *tx).await?;
        sqlx::query("INSERT INTO artefacts (tenant, version, created, digest, figures, body) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(tenant.as_str())
            .bind(version)
            .bind(a.created.millis())
            .bind(a.digest.as_str())
            .bind(a.figures.to_string())
            .bind(a.body.as_slice())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(version)
    }

    async fn all(&self, tenant: &Tenant) -> sqlx::Result<Vec<ArtefactInfo>> {
        let sql = "SELECT a.version, a.created, a.digest, a.figures, coalesce(t.in_service = a.version, 0) FROM artefacts a \
                   JOIN tenants t ON t.name = a.tenant WHERE a.tenant = ? ORDER BY a.version DESC";
        let mut reader = self.db.reader().await?;
        let rows = sqlx::query(sql).bind(tenant.as_str()).fetch_all(&mut *reader).await?;
        let info = |row: &SqliteRow| {
            let figures: String = row.try_get(3)?;
            Ok(ArtefactInfo {
                version: row.try_get::<i64, _>(0)? as u64,
                created: Timestamp::from_millis(row.try_get(1)?),
                digest: row.try_get(2)?,
                figures: serde_json::from_str(&figures).map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
                in_service: row.try_get::<i64, _>(4)? != 0,
            })
        };
        rows.iter().map(info).collect()
    }

    async fn read(&self, tenant: &Tenant, version: u64) -> sqlx::Result<Option<Vec<u8>>> {
        let mut reader = self.db.reader().await?;
        let query = sqlx::query_scalar("SELECT body FROM artefacts WHERE tenant = ? AND version = ?");
        query.bind(tenant.as_str()).bind(version as i64).fetch_optional(&mut *reader).await
    }

    async fn set(&self, tenant: &Tenant, version: Option<u64>) -> sqlx::Result<bool> {
        let mut writer = self.db.writer().await;
        let sql = "UPDATE tenants SET in_service = ?2 WHERE name = ?1 \
                   AND (?2 IS NULL OR EXISTS (SELECT 1 FROM artefacts WHERE tenant = ?1 AND version = ?2))";
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(version.map(|v| v as i64));
        Ok(query.execute(&mut *writer).await?.rows_affected() > 0 || version.is_none())
    }

    async fn current(&self) -> sqlx::Result<Vec<(Tenant, u64)>> {
        let mut reader = self.db.reader().await?;
        let sql = "SELECT name, in_service FROM tenants WHERE in_service IS NOT NULL ORDER BY name";
        let rows = sqlx::query(sql).fetch_all(&mut *reader).await?;
        rows.iter().map(|r| Ok((Tenant::trusted(r.try_get::<&str, _>(0)?), r.try_get::<i64, _>(1)? as u64))).collect()
    }

    async fn delete(&self, tenant: &Tenant, version: u64) -> sqlx::Result<()> {
        let mut writer = self.db.writer().await;
        let sql = "DELETE FROM artefacts WHERE tenant = ?1 AND version = ?2 \
                   AND NOT EXISTS (SELECT 1 FROM tenants WHERE name = ?1 AND in_service = ?2)";
        sqlx::query(sql).bind(tenant.as_str()).bind(version as i64).execute(&mut *writer).await?;
        Ok(())
    }
}

#[async_trait]
impl Artefacts for SqliteArtefacts {
    async fn put(&self, tenant: &Tenant, artefact: &NewArtefact) -> StoreResult<u64> {
        self.insert(tenant, artefact).await.map(|v| v as u64).map_err(|e| self.db.error(e))
    }

    async fn list(&self, tenant: &Tenant) -> StoreResult<Vec<ArtefactInfo>> {
        self.all(tenant).await.map_err(|e| self.db.error(e))
    }

    async fn body(&self, tenant: &Tenant, version: u64) -> StoreResult<Option<Vec<u8>>> {
        self.read(tenant, version).await.map_err(|e| self.db.error(e))
    }

    async fn switch(&self, tenant: &Tenant, version: Option<u64>) -> StoreResult<bool> {
        self.set(tenant, version).await.map_err(|e| self.db.error(e))
    }

    async fn in_service(&self) -> StoreResult<Vec<(Tenant, u64)>> {
        self.current().await.map_err(|e| self.db.error(e))
    }

    async fn remove(&self, tenant: &Tenant, version: u64) -> StoreResult<()> {
        self.delete(tenant, version).await.map_err(|e| self.db.error(e))
    }
}
