//! Aggregates by hour and day: compared with the totals, counted from the events, set and dropped.
//!
//! Reading long never holds the writer: what changes meanwhile is found by the next comparison.

use std::ops::Range;

use nearcast_domain::{
    ItemId, Tenant,
    ports::{AggregateRow, Span, WEIGHT_STEP},
};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::sqlite::{
    Database, begin,
    names::{self, Names, distinct},
    rows::{insert, json, limit as rows_limit},
};

/// Rows of one transaction.
const AT_ONCE: usize = 2_000;

pub(super) async fn stale(db: &Database, tenant: &Tenant, span: Span, hours: Range<i64>) -> sqlx::Result<Vec<i64>> {
    const SQL: &str = "WITH mine AS (SELECT key FROM items WHERE tenant = (SELECT key FROM tenants WHERE name = ?1)), \
         now AS (SELECT t.item AS item, t.hour - ((t.hour % ?2 + ?2) % ?2) AS start, sum(t.count) AS events, sum(t.weight) AS weight \
           FROM mine CROSS JOIN totals t ON t.item = mine.key WHERE t.hour >= ?3 AND t.hour < ?4 GROUP BY 1, 2), \
         kept AS (SELECT a.item AS item, a.start AS start, a.events AS events, a.weight AS weight \
           FROM mine CROSS JOIN aggregates a ON a.item = mine.key WHERE a.span = ?2 AND a.start >= ?3 AND a.start < ?4) \
         SELECT DISTINCT start FROM (SELECT * FROM (SELECT * FROM now EXCEPT SELECT * FROM kept) \
           UNION ALL SELECT * FROM (SELECT * FROM kept EXCEPT SELECT * FROM now)) ORDER BY start";
    let mut reader = db.reader().await?;
    let query = sqlx::query_scalar(SQL).bind(tenant.as_str()).bind(span.hours()).bind(hours.start).bind(hours.end);
    query.fetch_all(&mut *reader).await
}

pub(super) async fn count(db: &Database, tenant: &Tenant, span: Span, starts: &[i64]) -> sqlx::Result<Vec<AggregateRow>> {
    const SQL: &str = "SELECT i.id, c.start, count(*), count(DISTINCT c.user), sum(c.weight) \
         FROM (SELECT user, item, weight, hour - ((hour % ?2 + ?2) % ?2) AS start FROM counted) c CROSS JOIN items i ON i.key = c.item \
         WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?1) AND c.start IN (SELECT value FROM json_each(?3)) \
         GROUP BY i.id, c.start ORDER BY c.start, i.id";
    let mut reader = db.reader().await?;
    let query = sqlx::query(SQL).bind(tenant.as_str()).bind(span.hours()).bind(json(&starts)?);
    query.fetch_all(&mut *reader).await?.iter().map(row).collect()
}

pub(super) async fn page(
    db: &Database,
    tenant: &Tenant,
    span: Span,
    hours: Range<i64>,
    after: Option<&(i64, ItemId)>,
    limit: usize,
) -> sqlx::Result<Vec<AggregateRow>> {
    const SQL: &str = "SELECT i.id, a.start, a.events, a.users, a.weight FROM aggregates a JOIN items i ON i.key = a.item \
         WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?1) AND a.span = ?2 AND a.start >= ?3 AND a.start < ?4 \
         AND (?5 IS NULL OR (a.start, i.id) > (?5, ?6)) ORDER BY a.start, i.id LIMIT ?7";
    let mut reader = db.reader().await?;
    let query = sqlx::query(SQL).bind(tenant.as_str()).bind(span.hours()).bind(hours.start).bind(hours.end);
    let query = query.bind(after.map(|a| a.0)).bind(after.map(|a| a.1.as_str())).bind(rows_limit(limit));
    query.fetch_all(&mut *reader).await?.iter().map(row).collect()
}

fn row(r: &SqliteRow) -> sqlx::Result<AggregateRow> {
    Ok(AggregateRow {
        item: ItemId::trusted(r.try_get::<&str, _>(0)?),
        start: r.try_get(1)?,
        events: r.try_get::<i64, _>(2)?.max(0) as u64,
        users: r.try_get::<i64, _>(3)?.max(0) as u64,
        weight: r.try_get::<i64, _>(4)? as f64 * WEIGHT_STEP,
    })
}

pub(super) async fn set(
    db: &Database,
    tenant: &Tenant,
    span: Span,
    rows: &[AggregateRow],
    gone: &[(i64, ItemId)],
) -> sqlx::Result<()> {
    const DELETE: &str = "DELETE FROM aggregates WHERE span = ? AND (item, start) IN \
         (SELECT value ->> 0, value ->> 1 FROM json_each(?))";
    for part in gone.chunks(AT_ONCE) {
        let mut writer = db.writer().await;
        let mut tx = begin(&mut writer).await?;
        let Some(tenant) = names::tenant(&mut tx, tenant.as_str()).await? else { return Ok(()) };
        let (items, item_of) = distinct(part.iter().map(|(_, item)| item.shared()));
        let keys = names::find(&mut tx, Names::Items, tenant, &items).await?;
        let pairs: Vec<(i64, i64)> = part.iter().zip(item_of).filter_map(|((start, _), i)| Some((keys[i]?, *start))).collect();
        sqlx::query(DELETE).bind(span.hours()).bind(json(&pairs)?).execute(&mut *tx).await?;
        tx.commit().await?;
    }
    for part in rows.chunks(AT_ONCE) {
        let mut writer = db.writer().await;
        let mut tx = begin(&mut writer).await?;
        let tenant = names::intern_tenant(&mut tx, tenant.as_str()).await?;
        let (items, item_of) = distinct(part.iter().map(|r| r.item.shared()));
        let keys = names::intern(&mut tx, Names::Items, tenant, &items).await?;
        let part: Vec<(i64, &AggregateRow)> = part.iter().zip(item_of).map(|(r, i)| (keys[i], r)).collect();
        let tail = "ON CONFLICT (item, span, start) DO UPDATE SET events = excluded.events, users = excluded.users, \
                    weight = excluded.weight";
        let head = "INSERT INTO aggregates (item, span, start, events, users, weight)";
        insert(&mut tx, head, 6, tail, &part, |v, (key, r)| {
            let steps = (r.weight / WEIGHT_STEP).round() as i64;
            v.int(*key).int(span.hours()).int(r.start).int(r.events as i64).int(r.users as i64).int(steps);
        })
        .await?;
        tx.commit().await?;
    }
    Ok(())
}

pub(super) async fn drop_before(db: &Database, tenant: &Tenant, span: Span, before: i64) -> sqlx::Result<u64> {
    const SQL: &str = "DELETE FROM aggregates WHERE (item, span, start) IN (SELECT a.item, a.span, a.start FROM aggregates a \
         JOIN items i ON i.key = a.item WHERE a.span = ? AND a.start < ? \
         AND i.tenant = (SELECT key FROM tenants WHERE name = ?) LIMIT ?)";
    let mut all = 0;
    loop {
        let mut writer = db.writer().await;
        let query = sqlx::query(SQL).bind(span.hours()).bind(before).bind(tenant.as_str()).bind(AT_ONCE as i64);
        let gone = query.execute(&mut *writer).await?.rows_affected();
        all += gone;
        if gone == 0 {
            return Ok(all);
        }
    }
}
