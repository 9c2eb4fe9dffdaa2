//! The ledger in one SQLite file.
//!
//! `append` loads what bears on the batch, plans in memory ([`super::plan`]) and writes set by set, all in one transaction.

mod facts;
mod load;
mod read;
mod schema;
mod write;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId,
    digest::Digest,
    ports::{
        Append, Appended, ErasureRecord, History, HistoryLimit, ItemState, LedgerCounts, LedgerJobs, LedgerRead, LedgerWrite,
        PairEvents,
    },
};
use sqlx::SqliteConnection;

use super::plan::{Batch, plan};
use crate::sqlite::{Database, begin, rows::json};

/// `ledger.db`.
pub struct SqliteLedger {
    db: Database,
    /// No other process has the file.
    beside: AtomicU64,
}

impl SqliteLedger {
    /// Opens the file, making it where it is missing.
    pub async fn open(path: &Path) -> StoreResult<Self> {
        Ok(Self { db: Database::open(path, &schema::SCHEMA).await?, beside: AtomicU64::new(0) })
    }

    /// Tidies up before the end of the process. Not needed for safety.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Writes the file anew, so that nothing is left in it of what was deleted.
    pub async fn compact(&self) -> StoreResult<()> {
        self.db.compact().await
    }

    async fn drop_vectors_of(&self, name: &str) -> sqlx::Result<u64> {
        let mut writer = self.db.writer().await;
        let mut tx = begin(&mut writer).await?;
        let mut gone = 0;
        if let Some(key) = revision(&mut tx, name).await? {
            for sql in ["DELETE FROM message_vectors WHERE revision = ?", "DELETE FROM item_vectors WHERE revision = ?"] {
                gone += sqlx::query(sql).bind(key).execute(&mut *tx).await?.rows_affected();
            }
        }
        tx.commit().await?;
        Ok(gone)
    }

    async fn take_in(&self, appends: &[Append], revision: &str) -> sqlx::Result<Vec<Appended>> {
        let batch = Batch::new(appends);
        let mut writer = self.db.writer().await;
        let mut tx = begin(&mut writer).await?;
        let revision_key = self::revision(&mut tx, revision).await?;
        let keys = load::Keys::load(&mut tx, &batch).await?;
        let known = load::known(&mut tx, &batch, &keys, revision_key).await?;
        let mut plan = plan(&batch, known);
        let outcomes = std::mem::take(&mut plan.outcomes);
        write::apply(&mut tx, &batch, keys, plan, revision).await?;
        tx.commit().await?;
        Ok(outcomes)
    }

    async fn foresee(&self, appends: &[Append]) -> sqlx::Result<Vec<Appended>> {
        let batch = Batch::new(appends);
        let mut reader = self.db.reader().await?;
        // One snapshot: the file's own numbers may be given to others once they are free.
        let mut tx = sqlx::Connection::begin(&mut *reader).await?;
        let keys = load::Keys::load(&mut tx, &batch).await?;
        let known = load::known(&mut tx, &batch, &keys, None).await?;
        Ok(plan(&batch, known).outcomes)
    }

    async fn unmark(&self, marks: &[(Tenant, UserId, u64)]) -> sqlx::Result<()> {
        let list: Vec<_> = marks.iter().map(|(t, u, n)| (t.as_str(), u.as_str(), n)).collect();
        let sql = "DELETE FROM stale WHERE (user, mark) IN (SELECT u.key, j.value ->> 2 FROM json_each(?) j \
                   CROSS JOIN tenants t ON t.name = j.value ->> 0 CROSS JOIN users u ON u.tenant = t.key AND u.id = j.value ->> 1)";
        let mut writer = self.db.writer().await;
        sqlx::query(sql).bind(json(&list)?).execute(&mut *writer).await?;
        Ok(())
    }
}

/// The file's number for a revision, if anything was written under it.
async fn revision(conn: &mut SqliteConnection, name: &str) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT key FROM revisions WHERE name = ?").bind(name).fetch_optional(conn).await
}

#[async_trait]
impl LedgerRead for SqliteLedger {
    async fn histories(
        &self,
        tenant: &Tenant,
        users: &[UserId],
        limit: HistoryLimit,
        revision: Option<&str>,
    ) -> StoreResult<Vec<History>> {
        read::histories(&self.db, tenant, users, limit, revision).await.map_err(|e| self.db.error(e))
    }

    async fn items(&self, tenant: &Tenant, items: &[ItemId], revision: Option<&str>) -> StoreResult<Vec<Option<ItemState>>> {
        read::items(&self.db, tenant, items, revision).await.map_err(|e| self.db.error(e))
    }

    async fn engaged(&self, tenant: &Tenant, user: &UserId, items: &[ItemId]) -> StoreResult<Vec<bool>> {
        read::engaged(&self.db, tenant, user, items).await.map_err(|e| self.db.error(e))
    }

    async fn pairs(&self, tenant: &Tenant, pairs: &[(UserId, ItemId)]) -> StoreResult<Vec<PairEvents>> {
        read::pairs(&self.db, tenant, pairs).await.map_err(|e| self.db.error(e))
    }

    async fn newest_items(&self, tenant: &Tenant, category: Option<&str>, limit: usize) -> StoreResult<Vec<ItemState>> {
        read::newest_items(&self.db, tenant, category, limit).await.map_err(|e| self.db.error(e))
    }

    async fn users(&self, tenant: &Tenant, prefix: &str, after: Option<&UserId>, limit: usize) -> StoreResult<Vec<UserId>> {
        read::users(&self.db, tenant, prefix, after, limit).await.map_err(|e| self.db.error(e))
    }

    async fn catalogue(
        &self,
        tenant: &Tenant,
        after: Option<&ItemId>,
        limit: usize,
        revision: Option<&str>,
    ) -> StoreResult<Vec<ItemState>> {
        read::catalogue(&self.db, tenant, after, limit, revision).await.map_err(|e| self.db.error(e))
    }

    async fn tenants(&self) -> StoreResult<Vec<Tenant>> {
        facts::tenants(&self.db).await.map_err(|e| self.db.error(e))
    }

    async fn counts(&self, tenant: &Tenant) -> StoreResult<LedgerCounts> {
        facts::counts(&self.db, tenant).await.map_err(|e| self.db.error(e))
    }

    async fn stale_users(&self, limit: usize) -> StoreResult<Vec<(Tenant, UserId, u64)>> {
        facts::stale_users(&self.db, limit).await.map_err(|e| self.db.error(e))
    }

    async fn erasures(&self) -> StoreResult<Vec<ErasureRecord>> {
        facts::erasures(&self.db).await.map_err(|e| self.db.error(e))
    }

    async fn digest(&self) -> StoreResult<Digest> {
        facts::digest(&self.db).await.map_err(|e| self.db.error(e))
    }
}

#[async_trait]
impl LedgerWrite for SqliteLedger {
    async fn preview(&self, batch: &[Append]) -> StoreResult<Vec<Appended>> {
        self.foresee(batch).await.map_err(|e| self.db.error(e))
    }

    async fn append(&self, batch: &[Append], revision: &str) -> StoreResult<Vec<Appended>> {
        self.take_in(batch, revision).await.map_err(|e| self.db.error(e))
    }

    async fn introduce(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<bool>> {
        read::unknown(&self.db, tenant, users).await.map_err(|e| self.db.error(e))
    }

    async fn add_vectors(&self, made: &[Append], revision: &str, stale: bool) -> StoreResult<u64> {
        let mut writer = self.db.writer().await;
        write::add_vectors(&mut writer, made, revision, stale).await.map_err(|e| self.db.error(e))
    }

    async fn wrote_beside(&self) -> StoreResult<()> {
        self.beside.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn written_beside(&self) -> StoreResult<u64> {
        Ok(self.beside.load(Ordering::SeqCst))
    }

    async fn clear_stale(&self, marks: &[(Tenant, UserId, u64)]) -> StoreResult<()> {
        self.unmark(marks).await.map_err(|e| self.db.error(e))
    }
}

#[async_trait]
impl LedgerJobs for SqliteLedger {
    async fn drop_vectors(&self, revision: &str) -> StoreResult<u64> {
        self.drop_vectors_of(revision).await.map_err(|e| self.db.error(e))
    }
}
