//! What rises, the totals by hour, and the digest.

use futures_util::TryStreamExt as _;
use nearcast_domain::{
    ItemId, Tenant,
    digest::Digest,
    ports::{HourTotal, TrendFit, TrendingQuery, WEIGHT_STEP},
};
use sqlx::{Row, sqlite::SqliteRow};

use crate::sqlite::{Database, error::torn, rows::limit as rows_limit};

/// An item and its hours, as read.
struct ItemHours {
    item: ItemId,
    hours: Vec<(i64, i64)>,
}

/// Reads one row an item, its hours and weights as one text: on 80,000 totals that takes a quarter of the time that a row each
/// would. The decay is computed here, since SQLite as it is built in knows no powers.
pub(super) async fn trending(db: &Database, tenant: &Tenant, query: TrendingQuery) -> sqlx::Result<Vec<(ItemId, f64)>> {
    if query.limit == 0 {
        return Ok(Vec::new());
    }
    let mut scores = match query.half_life_hours {
        None => lifelong(db, tenant, query.category.as_deref()).await?,
        Some(half_life) => decayed(db, tenant, query.category.as_deref(), half_life).await?,
    };
    let order = |a: &(ItemId, f64), b: &(ItemId, f64)| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    if scores.len() > query.limit {
        scores.select_nth_unstable_by(query.limit - 1, order);
        scores.truncate(query.limit);
    }
    scores.sort_by(order);
    Ok(scores)
}

/// The items that are asked about: all of a tenant, or those of a category.
macro_rules! of_items {
    ($columns:literal, all) => {
        concat!("SELECT i.id, ", $columns, " FROM items i WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?)")
    };
    ($columns:literal, category) => {
        concat!(
            "SELECT i.id, ",
            $columns,
            " FROM labels l CROSS JOIN items i ON i.key = l.item \
             WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?) AND l.category = ?"
        )
    };
}

async fn lifelong(db: &Database, tenant: &Tenant, category: Option<&str>) -> sqlx::Result<Vec<(ItemId, f64)>> {
    const ALL: &str = of_items!("(SELECT sum(weight) FROM totals WHERE item = i.key)", all);
    const CATEGORY: &str = of_items!("(SELECT sum(weight) FROM totals WHERE item = i.key)", category);
    let mut reader = db.reader().await?;
    let rows = match category {
        None => sqlx::query(ALL).bind(tenant.as_str()),
        Some(category) => sqlx::query(CATEGORY).bind(tenant.as_str()).bind(category),
    };
    let score = |row: &SqliteRow| {
        let steps: Option<i64> = row.try_get(1)?;
        Ok(steps.map(|steps| Ok((ItemId::trusted(row.try_get::<&str, _>(0)?), steps as f64 * WEIGHT_STEP))))
    };
    let rows = rows.fetch_all(&mut *reader).await?;
    rows.iter().filter_map(|row| score(row).transpose()).map(|r| r.and_then(|r| r)).collect()
}

async fn decayed(db: &Database, tenant: &Tenant, category: Option<&str>, half_life: f64) -> sqlx::Result<Vec<(ItemId, f64)>> {
    const ALL: &str = of_items!("(SELECT group_concat(hour || ' ' || weight, ' ') FROM totals WHERE item = i.key)", all);
    const CATEGORY: &str =
        of_items!("(SELECT group_concat(hour || ' ' || weight, ' ') FROM totals WHERE item = i.key)", category);
    const NEWEST: &str = "SELECT max((SELECT max(hour) FROM totals WHERE item = i.key)) FROM items i \
                          WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?)";
    let mut reader = db.reader().await?;
    let mut tx = sqlx::Connection::begin(&mut *reader).await?;
    let newest: Option<i64> = match category {
        None => None,
        Some(_) => sqlx::query_scalar(NEWEST).bind(tenant.as_str()).fetch_one(&mut *tx).await?,
    };
    let rows = match category {
        None => sqlx::query(ALL).bind(tenant.as_str()),
        Some(category) => sqlx::query(CATEGORY).bind(tenant.as_str()).bind(category),
    };
    let mut items = Vec::new();
    let mut rows = rows.fetch(&mut *tx);
    while let Some(row) = rows.try_next().await? {
        let Some(text) = row.try_get::<Option<&str>, _>(1)? else { continue };
        items.push(ItemHours { item: ItemId::trusted(row.try_get::<&str, _>(0)?), hours: hours_of(text)? });
    }
    drop(rows);
    let newest = newest.or_else(|| items.iter().filter_map(|i| i.hours.last()).map(|h| h.0).max()).unwrap_or(0);
    let score = move |i: ItemHours| {
        // The oldest hour first, as the rows lie: one order of adding, one result.
        let sum: f64 = i.hours.iter().map(|(hour, steps)| *steps as f64 * (-((newest - hour) as f64) / half_life).exp2()).sum();
        (i.item, sum * WEIGHT_STEP)
    };
    let scores = tokio::task::spawn_blocking(move || items.into_iter().map(score).collect()).await;
    scores.map_err(|_| sqlx::Error::WorkerCrashed)
}

/// Reads `hour weight hour weight …` and puts it in the order of the hours.
fn hours_of(text: &str) -> sqlx::Result<Vec<(i64, i64)>> {
    let mut numbers = text.split(' ').map(|n| n.parse::<i64>().map_err(|_| torn("a total")));
    let mut hours = Vec::new();
    while let Some(hour) = numbers.next() {
        hours.push((hour?, numbers.next().ok_or_else(|| torn("a total"))??));
    }
    if !hours.is_sorted() {
        hours.sort_unstable();
    }
    Ok(hours)
}

pub(super) async fn hours(db: &Database, tenant: &Tenant, limit: usize) -> sqlx::Result<Vec<HourTotal>> {
    let sql = "SELECT t.hour, i.id, t.count, t.weight FROM items i CROSS JOIN totals t ON t.item = i.key \
               WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?) ORDER BY t.hour DESC, i.id DESC LIMIT ?";
    let mut reader = db.reader().await?;
    let mut rows = sqlx::query(sql).bind(tenant.as_str()).bind(rows_limit(limit)).fetch(&mut *reader);
    let mut totals = Vec::new();
    while let Some(row) = rows.try_next().await? {
        totals.push(HourTotal {
            hour: row.try_get(0)?,
            item: ItemId::trusted(row.try_get::<&str, _>(1)?),
            count: row.try_get::<i64, _>(2)?.max(0) as u64,
            weight: row.try_get::<i64, _>(3)? as f64 * WEIGHT_STEP,
        });
    }
    totals.reverse();
    Ok(totals)
}

pub(super) async fn trend_fit(db: &Database, tenant: &Tenant) -> sqlx::Result<Option<TrendFit>> {
    let mut reader = db.reader().await?;
    let sql = "SELECT half_life, share FROM tenants WHERE name = ? AND share IS NOT NULL";
    let row = sqlx::query(sql).bind(tenant.as_str()).fetch_optional(&mut *reader).await?;
    row.map(|row| Ok(TrendFit { half_life_hours: row.try_get(0)?, share: row.try_get(1)? })).transpose()
}

pub(super) async fn digest(db: &Database) -> sqlx::Result<Digest> {
    let mut reader = db.reader().await?;
    let mut tx = sqlx::Connection::begin(&mut *reader).await?;
    let mut digest = Digest::default();
    let totals = "SELECT n.name, i.id, t.hour, t.count, t.weight FROM totals t JOIN items i ON i.key = t.item \
                  JOIN tenants n ON n.key = i.tenant";
    let counted = "SELECT n.name, u.id, c.id, i.id, c.hour, c.weight FROM counted c JOIN users u ON u.key = c.user \
                   JOIN items i ON i.key = c.item JOIN tenants n ON n.key = u.tenant";
    let labels =
        "SELECT n.name, i.id, l.category FROM labels l JOIN items i ON i.key = l.item JOIN tenants n ON n.key = i.tenant";
    let mut since = 0;
    for (sql, which) in [(totals, 0), (counted, 1), (labels, 2)] {
        let mut rows = sqlx::query(sql).fetch(&mut *tx);
        while let Some(r) = rows.try_next().await? {
            match which {
                0 => {
                    let count = r.try_get::<i64, _>(3)?.max(0) as u64;
                    digest.add_total(r.try_get(0)?, r.try_get(1)?, r.try_get(2)?, count, r.try_get(4)?);
                }
                1 => {
                    digest.add_counted(r.try_get(0)?, r.try_get(1)?, r.try_get(2)?, r.try_get(3)?, r.try_get(4)?, r.try_get(5)?)
                }
                _ => digest.add_label(r.try_get(0)?, r.try_get(1)?, r.try_get(2)?),
            }
            since += 1;
            if since % 1024 == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(digest)
}
