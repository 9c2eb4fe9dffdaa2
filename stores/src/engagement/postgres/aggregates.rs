//! Aggregates by hour and day: compared with the totals, counted from the events, set and dropped.
//!
//! Their table stands apart from the others' version: it is made where it is missing and never changes.

use std::ops::Range;

use nearcast_domain::{
    ItemId, StoreResult, Tenant,
    ports::{AggregateRow, Span, WEIGHT_STEP},
};
use sqlx::{Row as _, postgres::PgRow};

use super::{
    Shared,
    server::{Mode, Tx, get, sql},
};

/// Makes the table where it is missing, within the transaction that makes the others.
pub(super) async fn ensure(shared: &Shared, tx: &mut Tx<'_>) -> StoreResult<()> {
    let there = sql(&"SELECT to_regclass($1) IS NOT NULL".into()).bind(shared.statements.table("aggregates"));
    if tx.rows(there).await?.first().map_or(Ok(false), |row| get(row, 0))? {
        return Ok(());
    }
    let table = shared.statements.table("aggregates");
    tx.simple(format!(
        "CREATE TABLE {table} (tenant text COLLATE \"C\" NOT NULL, span bigint NOT NULL, start bigint NOT NULL, \
         item text COLLATE \"C\" NOT NULL, events bigint NOT NULL, users bigint NOT NULL, weight bigint NOT NULL, \
         PRIMARY KEY (tenant, span, start, item))"
    ))
    .await
}

/// The beginning of the span of the column `hour`, whose length is the second parameter; hours before 1970 are negative.
const START: &str = "hour - ((hour % $2 + $2) % $2)";

pub(super) async fn stale(shared: &Shared, tenant: &Tenant, span: Span, hours: Range<i64>) -> StoreResult<Vec<i64>> {
    let (totals, aggregates) = (shared.statements.table("totals"), shared.statements.table("aggregates"));
    let text = format!(
        "WITH now AS (SELECT item, {START} AS start, sum(count)::bigint AS events, sum(weight)::bigint AS weight FROM {totals} \
         WHERE tenant = $1 AND hour >= $3 AND hour < $4 GROUP BY 1, 2), \
         kept AS (SELECT item, start, events, weight FROM {aggregates} \
         WHERE tenant = $1 AND span = $2 AND start >= $3 AND start < $4) \
         SELECT DISTINCT start FROM ((SELECT * FROM now EXCEPT SELECT * FROM kept) \
         UNION ALL (SELECT * FROM kept EXCEPT SELECT * FROM now)) d ORDER BY start"
    );
    let mut starts = Vec::new();
    let mut tx = shared.server.begin(Mode::LongRead).await?;
    let text = text.into();
    let query = sql(&text).bind(tenant.as_str()).bind(span.hours()).bind(hours.start).bind(hours.end);
    tx.stream(query, |r| {
        starts.push(r.try_get(0)?);
        Ok(())
    })
    .await?;
    tx.commit().await?;
    Ok(starts)
}

pub(super) async fn count(shared: &Shared, tenant: &Tenant, span: Span, starts: &[i64]) -> StoreResult<Vec<AggregateRow>> {
    let text = format!(
        "SELECT item, {START} AS start, count(*), count(DISTINCT user_id), sum(weight)::bigint FROM {} \
         WHERE tenant = $1 AND {START} = ANY ($3::bigint[]) GROUP BY 1, 2 ORDER BY 2, 1",
        shared.statements.table("counted")
    );
    let mut rows = Vec::new();
    let mut tx = shared.server.begin(Mode::LongRead).await?;
    let text = text.into();
    tx.stream(sql(&text).bind(tenant.as_str()).bind(span.hours()).bind(starts.to_vec()), |r| {
        rows.push(row(r)?);
        Ok(())
    })
    .await?;
    tx.commit().await?;
    Ok(rows)
}

pub(super) async fn page(
    shared: &Shared,
    tenant: &Tenant,
    span: Span,
    hours: Range<i64>,
    after: Option<&(i64, ItemId)>,
    limit: usize,
) -> StoreResult<Vec<AggregateRow>> {
    let text = format!(
        "SELECT item, start, events, users, weight FROM {} WHERE tenant = $1 AND span = $2 AND start >= $3 AND start < $4 \
         AND ($5::bigint IS NULL OR (start, item) > ($5, $6::text COLLATE \"C\")) ORDER BY start, item LIMIT $7",
        shared.statements.table("aggregates")
    )
    .into();
    let call = || async {
        let mut tx = shared.server.begin(Mode::Read).await?;
        let query = sql(&text).bind(tenant.as_str()).bind(span.hours()).bind(hours.start).bind(hours.end);
        let query = query.bind(after.map(|a| a.0)).bind(after.map(|a| a.1.as_str()));
        let found = tx.rows(query.bind(i64::try_from(limit).unwrap_or(i64::MAX))).await?;
        tx.commit().await?;
        Ok(found)
    };
    let found = shared.server.attempts(call).await?;
    found.iter().map(|r| row(r).map_err(|e| super::error::of("postgres", &e))).collect()
}

fn row(r: &PgRow) -> sqlx::Result<AggregateRow> {
    Ok(AggregateRow {
        item: ItemId::trusted(r.try_get::<&str, _>(0)?),
        start: r.try_get(1)?,
        events: r.try_get::<i64, _>(2)?.max(0) as u64,
        users: r.try_get::<i64, _>(3)?.max(0) as u64,
        weight: r.try_get::<i64, _>(4)? as f64 * WEIGHT_STEP,
    })
}

pub(super) async fn set(
    shared: &Shared,
    tenant: &Tenant,
    span: Span,
    rows: &[AggregateRow],
    gone: &[(i64, ItemId)],
) -> StoreResult<()> {
    let table = shared.statements.table("aggregates");
    let delete = format!(
        "DELETE FROM {table} a USING unnest($3::bigint[], $4::text[]) AS g (start, item) \
         WHERE a.tenant = $1 AND a.span = $2 AND a.start = g.start AND a.item = g.item"
    )
    .into();
    let upsert = format!(
        "INSERT INTO {table} AS a (tenant, span, start, item, events, users, weight) \
         SELECT $1, $2, g.start, g.item, g.events, g.users, g.weight \
         FROM unnest($3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[]) AS g (start, item, events, users, weight) \
         ORDER BY g.start, g.item COLLATE \"C\" ON CONFLICT (tenant, span, start, item) \
         DO UPDATE SET events = excluded.events, users = excluded.users, weight = excluded.weight"
    )
    .into();
    for part in gone.chunks(shared.server.config.batch_rows) {
        let call = || async {
            let mut tx = shared.server.begin(Mode::Write).await?;
            let query = sql(&delete).bind(tenant.as_str()).bind(span.hours());
            let query = query.bind(part.iter().map(|g| g.0).collect::<Vec<_>>());
            tx.run(query.bind(part.iter().map(|g| g.1.as_str()).collect::<Vec<_>>())).await?;
            tx.commit().await
        };
        shared.server.attempts(call).await?;
    }
    for part in rows.chunks(shared.server.config.batch_rows) {
        let call = || async {
            let mut tx = shared.server.begin(Mode::Write).await?;
            let query = sql(&upsert)
                .bind(tenant.as_str())
                .bind(span.hours())
                .bind(part.iter().map(|r| r.start).collect::<Vec<_>>())
                .bind(part.iter().map(|r| r.item.as_str()).collect::<Vec<_>>())
                .bind(part.iter().map(|r| r.events as i64).collect::<Vec<_>>())
                .bind(part.iter().map(|r| r.users as i64).collect::<Vec<_>>())
                .bind(part.iter().map(|r| (r.weight / WEIGHT_STEP).round() as i64).collect::<Vec<_>>());
            tx.run(query).await?;
            tx.commit().await
        };
        shared.server.attempts(call).await?;
    }
    Ok(())
}

pub(super) async fn drop_before(shared: &Shared, tenant: &Tenant, span: Span, before: i64) -> StoreResult<u64> {
    let table = shared.statements.table("aggregates");
    let text = format!(
        "DELETE FROM {table} a USING (SELECT start, item FROM {table} WHERE tenant = $1 AND span = $2 AND start < $3 \
         ORDER BY start, item LIMIT $4) g WHERE a.tenant = $1 AND a.span = $2 AND a.start = g.start AND a.item = g.item"
    )
    .into();
    let mut all = 0;
    loop {
        let call = || async {
            let mut tx = shared.server.begin(Mode::Write).await?;
            let query = sql(&text).bind(tenant.as_str()).bind(span.hours()).bind(before);
            let gone = tx.run(query.bind(shared.server.config.batch_rows as i64)).await?;
            tx.commit().await?;
            Ok(gone)
        };
        let gone = shared.server.attempts(call).await?;
        all += gone;
        if gone == 0 {
            return Ok(all);
        }
    }
}
