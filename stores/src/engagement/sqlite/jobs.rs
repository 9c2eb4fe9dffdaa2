//! What jobs ask: their own runs, digests of ranges, and totals made anew.

use std::{collections::HashSet, ops::Range};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use nearcast_domain::{
    ItemId, StoreResult, Tenant, Timestamp, UserId,
    digest::bucket,
    ports::{AggregateRow, EngagementBuckets, EngagementJobs, PipelineRun, Span},
};
use sqlx::Row as _;

use super::{SqliteEngagement, aggregates};
use crate::sqlite::{begin, error::torn, rows::limit as rows_limit};

#[async_trait]
impl EngagementJobs for SqliteEngagement {
    async fn record_run(&self, run: &PipelineRun) -> StoreResult<()> {
        let sql =
            "INSERT OR REPLACE INTO runs (id, job, tenant, started, finished, outcome, report) VALUES (?, ?, ?, ?, ?, ?, ?)";
        let mut writer = self.db.writer().await;
        let row = sqlx::query(sql).bind(&run.id).bind(&run.job).bind(&run.tenant).bind(run.started.millis());
        let row = row.bind(run.finished.map(Timestamp::millis)).bind(&run.outcome).bind(run.report.to_string());
        row.execute(&mut *writer).await.map_err(|e| self.db.error(e))?;
        Ok(())
    }

    async fn runs(&self, job: Option<&str>, limit: usize) -> StoreResult<Vec<PipelineRun>> {
        self.runs_of(job, limit).await.map_err(|e| self.db.error(e))
    }

    async fn buckets(&self, tenant: &Tenant, n: usize) -> StoreResult<EngagementBuckets> {
        self.buckets_of(tenant, n).await.map_err(|e| self.db.error(e))
    }

    async fn counted_users(&self, tenant: &Tenant, n: usize, wanted: &[usize]) -> StoreResult<Vec<UserId>> {
        let sql = "SELECT id FROM users WHERE tenant = (SELECT key FROM tenants WHERE name = ?) \
                   AND EXISTS (SELECT 1 FROM counted WHERE user = users.key) ORDER BY id";
        let ids = self.ids(sql, tenant, n, wanted).await.map_err(|e| self.db.error(e))?;
        Ok(ids.into_iter().map(UserId::trusted).collect())
    }

    async fn labelled_items(&self, tenant: &Tenant, n: usize, wanted: &[usize]) -> StoreResult<Vec<ItemId>> {
        let sql = "SELECT id FROM items WHERE tenant = (SELECT key FROM tenants WHERE name = ?) \
                   AND EXISTS (SELECT 1 FROM labels WHERE item = items.key) ORDER BY id";
        let ids = self.ids(sql, tenant, n, wanted).await.map_err(|e| self.db.error(e))?;
        Ok(ids.into_iter().map(ItemId::trusted).collect())
    }

    async fn recount(&self, tenant: &Tenant) -> StoreResult<()> {
        self.recount_of(tenant).await.map_err(|e| self.db.error(e))
    }

    async fn stale_spans(&self, tenant: &Tenant, span: Span, hours: Range<i64>) -> StoreResult<Vec<i64>> {
        aggregates::stale(&self.db, tenant, span, hours).await.map_err(|e| self.db.error(e))
    }

    async fn count_spans(&self, tenant: &Tenant, span: Span, starts: &[i64]) -> StoreResult<Vec<AggregateRow>> {
        aggregates::count(&self.db, tenant, span, starts).await.map_err(|e| self.db.error(e))
    }

    async fn aggregates(
        &self,
        tenant: &Tenant,
        span: Span,
        hours: Range<i64>,
        after: Option<&(i64, ItemId)>,
        limit: usize,
    ) -> StoreResult<Vec<AggregateRow>> {
        aggregates::page(&self.db, tenant, span, hours, after, limit).await.map_err(|e| self.db.error(e))
    }

    async fn set_aggregates(
        &self,
        tenant: &Tenant,
        span: Span,
        rows: &[AggregateRow],
        gone: &[(i64, ItemId)],
    ) -> StoreResult<()> {
        aggregates::set(&self.db, tenant, span, rows, gone).await.map_err(|e| self.db.error(e))
    }

    async fn drop_aggregates(&self, tenant: &Tenant, span: Span, before: i64) -> StoreResult<u64> {
        aggregates::drop_before(&self.db, tenant, span, before).await.map_err(|e| self.db.error(e))
    }
}

impl SqliteEngagement {
    async fn runs_of(&self, job: Option<&str>, limit: usize) -> sqlx::Result<Vec<PipelineRun>> {
        let sql = "SELECT id, job, tenant, started, finished, outcome, report FROM runs WHERE ?1 IS NULL OR job = ?1 \
                   ORDER BY started DESC, id LIMIT ?2";
        let mut reader = self.db.reader().await?;
        let rows = sqlx::query(sql).bind(job).bind(rows_limit(limit)).fetch_all(&mut *reader).await?;
        rows.iter()
            .map(|row| {
                Ok(PipelineRun {
                    id: row.try_get(0)?,
                    job: row.try_get(1)?,
                    tenant: row.try_get(2)?,
                    started: Timestamp::from_millis(row.try_get(3)?),
                    finished: row.try_get::<Option<i64>, _>(4)?.map(Timestamp::from_millis),
                    outcome: row.try_get(5)?,
                    report: serde_json::from_str(row.try_get(6)?).map_err(|_| torn("the report of a run"))?,
                })
            })
            .collect()
    }

    async fn buckets_of(&self, tenant: &Tenant, n: usize) -> sqlx::Result<EngagementBuckets> {
        const TOTALS: &str = "SELECT i.id, t.hour, t.count, t.weight FROM items i JOIN totals t ON t.item = i.key \
                              WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?)";
        const COUNTED: &str = "SELECT u.id, c.id, i.id, c.hour, c.weight FROM users u JOIN counted c ON c.user = u.key \
                               JOIN items i ON i.key = c.item WHERE u.tenant = (SELECT key FROM tenants WHERE name = ?)";
        const LABELS: &str = "SELECT i.id, l.category FROM items i JOIN labels l ON l.item = i.key \
                              WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?)";
        let (mut all, name) = (EngagementBuckets::new(n), tenant.as_str());
        let mut reader = self.db.reader().await?;
        let mut tx = sqlx::Connection::begin(&mut *reader).await?;
        let mut since = 0_u32;
        for (sql, which) in [(TOTALS, 0), (COUNTED, 1), (LABELS, 2)] {
            let mut rows = sqlx::query(sql).bind(name).fetch(&mut *tx);
            while let Some(r) = rows.try_next().await? {
                let id: &str = r.try_get(0)?;
                let at = bucket(id, n);
                match which {
                    0 => {
                        let count = r.try_get::<i64, _>(2)?.max(0) as u64;
                        all.totals[at].add_total(name, id, r.try_get(1)?, count, r.try_get(3)?);
                    }
                    1 => all.counted[at].add_counted(name, id, r.try_get(1)?, r.try_get(2)?, r.try_get(3)?, r.try_get(4)?),
                    _ => all.labels[at].add_label(name, id, r.try_get(1)?),
                }
                since += 1;
                if since.is_multiple_of(1024) {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(all)
    }

    async fn ids(&self, sql: &'static str, tenant: &Tenant, n: usize, wanted: &[usize]) -> sqlx::Result<Vec<String>> {
        let wanted: HashSet<usize> = wanted.iter().copied().collect();
        let mut reader = self.db.reader().await?;
        let rows = sqlx::query(sql).bind(tenant.as_str()).fetch_all(&mut *reader).await?;
        let ids = rows.iter().map(|r| r.try_get::<String, _>(0)).collect::<sqlx::Result<Vec<_>>>()?;
        Ok(ids.into_iter().filter(|id| wanted.contains(&bucket(id, n))).collect())
    }

    async fn recount_of(&self, tenant: &Tenant) -> sqlx::Result<()> {
        let mut writer = self.db.writer().await;
        let mut tx = begin(&mut writer).await?;
        for sql in [
            "DELETE FROM totals WHERE item IN (SELECT key FROM items WHERE tenant = (SELECT key FROM tenants WHERE name = ?))",
            "INSERT INTO totals (item, hour, count, weight) SELECT c.item, c.hour, count(*), sum(c.weight) FROM items i \
             CROSS JOIN counted c ON c.item = i.key WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?) \
             GROUP BY c.item, c.hour",
        ] {
            sqlx::query(sql).bind(tenant.as_str()).execute(&mut *tx).await?;
        }
        tx.commit().await
    }
}
