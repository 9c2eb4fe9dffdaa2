//! What jobs ask: their own runs, digests of ranges, and totals made anew.

use std::{collections::HashSet, ops::Range};

use async_trait::async_trait;
use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId,
    digest::bucket,
    ports::{AggregateRow, EngagementBuckets, EngagementJobs, PipelineRun, Span},
};
use sqlx::{Row as _, postgres::PgRow};

use super::{
    PostgresEngagement, aggregates, runs,
    server::{Mode, sql},
};

#[async_trait]
impl EngagementJobs for PostgresEngagement {
    async fn record_run(&self, run: &PipelineRun) -> StoreResult<()> {
        runs::record_run(&self.shared, run).await
    }

    async fn runs(&self, job: Option<&str>, limit: usize) -> StoreResult<Vec<PipelineRun>> {
        runs::runs(&self.shared, job, limit).await
    }

    async fn buckets(&self, tenant: &Tenant, n: usize) -> StoreResult<EngagementBuckets> {
        let (s, name) = (&self.shared.statements, tenant.as_str());
        let mut all = EngagementBuckets::new(n);
        let mut tx = self.shared.server.begin(Mode::LongRead).await?;
        let totals = |r: &PgRow| {
            let id: &str = r.try_get(0)?;
            let count = r.try_get::<i64, _>(2)?.max(0) as u64;
            all.totals[bucket(id, n)].add_total(name, id, r.try_get(1)?, count, r.try_get(3)?);
            Ok(())
        };
        tx.stream(sql(&s.tenant_totals).bind(name), totals).await?;
        let counted = |r: &PgRow| {
            let id: &str = r.try_get(0)?;
            let digest = &mut all.counted[bucket(id, n)];
            digest.add_counted(name, id, r.try_get(1)?, r.try_get(2)?, r.try_get(3)?, r.try_get(4)?);
            Ok(())
        };
        tx.stream(sql(&s.tenant_counted).bind(name), counted).await?;
        let labels = |r: &PgRow| {
            let id: &str = r.try_get(0)?;
            all.labels[bucket(id, n)].add_label(name, id, r.try_get(1)?);
            Ok(())
        };
        tx.stream(sql(&s.tenant_labels).bind(name), labels).await?;
        tx.commit().await?;
        Ok(all)
    }

    async fn counted_users(&self, tenant: &Tenant, n: usize, wanted: &[usize]) -> StoreResult<Vec<UserId>> {
        let ids = self.ids(&self.shared.statements.counted_users, tenant, n, wanted).await?;
        Ok(ids.into_iter().map(UserId::trusted).collect())
    }

    async fn labelled_items(&self, tenant: &Tenant, n: usize, wanted: &[usize]) -> StoreResult<Vec<ItemId>> {
        let ids = self.ids(&self.shared.statements.labelled_items, tenant, n, wanted).await?;
        Ok(ids.into_iter().map(ItemId::trusted).collect())
    }

    async fn recount(&self, tenant: &Tenant) -> StoreResult<()> {
        let s = &self.shared.statements;
        let mut tx = self.shared.server.begin(Mode::Write).await?;
        // Writers of totals wait for this transaction: what they add comes on top of the new totals, never under the old ones.
        tx.simple(format!("LOCK TABLE {} IN EXCLUSIVE MODE", s.table("counted"))).await?;
        tx.run(sql(&s.clear_totals).bind(tenant.as_str())).await?;
        tx.run(sql(&s.count_again).bind(tenant.as_str())).await?;
        tx.commit().await
    }

    async fn stale_spans(&self, tenant: &Tenant, span: Span, hours: Range<i64>) -> StoreResult<Vec<i64>> {
        aggregates::stale(&self.shared, tenant, span, hours).await
    }

    async fn count_spans(&self, tenant: &Tenant, span: Span, starts: &[i64]) -> StoreResult<Vec<AggregateRow>> {
        aggregates::count(&self.shared, tenant, span, starts).await
    }

    async fn aggregates(
        &self,
        tenant: &Tenant,
        span: Span,
        hours: Range<i64>,
        after: Option<&(i64, ItemId)>,
        limit: usize,
    ) -> StoreResult<Vec<AggregateRow>> {
        aggregates::page(&self.shared, tenant, span, hours, after, limit).await
    }

    async fn set_aggregates(
        &self,
        tenant: &Tenant,
        span: Span,
        rows: &[AggregateRow],
        gone: &[(i64, ItemId)],
    ) -> StoreResult<()> {
        aggregates::set(&self.shared, tenant, span, rows, gone).await
    }

    async fn drop_aggregates(&self, tenant: &Tenant, span: Span, before: i64) -> StoreResult<u64> {
        aggregates::drop_before(&self.shared, tenant, span, before).await
    }
}

impl PostgresEngagement {
    async fn ids(
        &self,
        statement: &std::sync::Arc<str>,
        tenant: &Tenant,
        n: usize,
        wanted: &[usize],
    ) -> StoreResult<Vec<String>> {
        let wanted: HashSet<usize> = wanted.iter().copied().collect();
        let mut ids = Vec::new();
        let mut tx = self.shared.server.begin(Mode::LongRead).await?;
        let take = |r: &PgRow| {
            let id: &str = r.try_get(0)?;
            if wanted.contains(&bucket(id, n)) {
                ids.push(id.to_owned());
            }
            Ok(())
        };
        tx.stream(sql(statement).bind(tenant.as_str()), take).await?;
        tx.commit().await?;
        Ok(ids)
    }
}
