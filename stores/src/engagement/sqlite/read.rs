//! What rises, the totals by hour, and the digest.

use futures_util::TryStreamExt as _;
use nearcast_domain::{
    ItemId, Tenant,
    digest::Digest,
    ports::{HourTotal, TrendFit, TrendingQuery, WEIGHT_STEP},
};
use sqlx::{Row, sqlite::SqliteRow};

use crate::engagement::decay;
use crate::sqlite::{
    Database,
    packed::{self, Text},
    rows::limit as rows_limit,
};

/// An item and its hours with their weights, the oldest first.
struct ItemHours {
    item: ItemId,
    hours: Vec<(i64, i64)>,
}

/// So many items are packed into one text.
const ITEMS_AT_ONCE: i64 = 2048;

pub(super) async fn trending(db: &Database, tenant: &Tenant, query: TrendingQuery) -> sqlx::Result<Vec<(ItemId, f64)>> {
    match query.half_life_hours {
        _ if query.limit == 0 => Ok(Vec::new()),
        None => lifelong(db, tenant, query.category.as_deref(), query.limit).await,
        Some(half_life) => decayed(db, tenant, query.category.as_deref(), half_life, query.limit).await,
    }
}

async fn lifelong(db: &Database, tenant: &Tenant, category: Option<&str>, limit: usize) -> sqlx::Result<Vec<(ItemId, f64)>> {
    const ALL: &str = "SELECT id, steps FROM (SELECT i.id AS id, (SELECT sum(weight) FROM totals WHERE item = i.key) AS steps \
                       FROM items i WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?)) \
                       WHERE steps IS NOT NULL ORDER BY steps DESC, id LIMIT ?";
    const CATEGORY: &str = "SELECT id, steps FROM (SELECT i.id AS id, (SELECT sum(weight) FROM totals WHERE item = i.key) AS steps \
                            FROM labels l CROSS JOIN items i ON i.key = l.item \
                            WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?) AND l.category = ?) \
                            WHERE steps IS NOT NULL ORDER BY steps DESC, id LIMIT ?";
    let mut reader = db.reader().await?;
    let rows = match category {
        None => sqlx::query(ALL).bind(tenant.as_str()),
        Some(category) => sqlx::query(CATEGORY).bind(tenant.as_str()).bind(category),
    };
    let rows = rows.bind(rows_limit(limit)).fetch_all(&mut *reader).await?;
    let score =
        |row: &SqliteRow| Ok((ItemId::trusted(row.try_get::<&str, _>(0)?), row.try_get::<i64, _>(1)? as f64 * WEIGHT_STEP));
    rows.iter().map(score).collect()
}

/// Reads the hours packed. The decay is computed here, since SQLite as it is built in knows no powers.
async fn decayed(
    db: &Database,
    tenant: &Tenant,
    category: Option<&str>,
    half_life: f64,
    limit: usize,
) -> sqlx::Result<Vec<(ItemId, f64)>> {
    const ALL: &str = "SELECT max(id), json_group_array(json_array(id, (SELECT json_group_array(json_array(hour, weight)) \
                       FROM totals WHERE item = i.key))) FROM (SELECT key, id FROM items \
                       WHERE tenant = (SELECT key FROM tenants WHERE name = ?) AND id > ? ORDER BY id LIMIT ?) i";
    const CATEGORY: &str = "SELECT max(i.id), json_group_array(json_array(i.id, (SELECT json_group_array(json_array(hour, weight)) \
                            FROM totals WHERE item = i.key))) FROM labels l CROSS JOIN items i ON i.key = l.item \
                            WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?) AND l.category = ?";
    const NEWEST: &str = "SELECT max((SELECT max(hour) FROM totals WHERE item = i.key)) FROM items i \
                          WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?)";
    let mut reader = db.reader().await?;
    let mut tx = sqlx::Connection::begin(&mut *reader).await?;
    let newest: Option<i64> = sqlx::query_scalar(NEWEST).bind(tenant.as_str()).fetch_one(&mut *tx).await?;
    let Some(newest) = newest else { return Ok(Vec::new()) };
    let mut packed: Vec<String> = Vec::new();
    match category {
        Some(category) => {
            let row = sqlx::query(CATEGORY).bind(tenant.as_str()).bind(category).fetch_one(&mut *tx).await?;
            packed.push(row.try_get(1)?);
        }
        None => {
            let mut after = Some(String::new());
            while let Some(id) = after {
                let row = sqlx::query(ALL).bind(tenant.as_str()).bind(id).bind(ITEMS_AT_ONCE).fetch_one(&mut *tx).await?;
                after = row.try_get(0)?;
                packed.push(row.try_get(1)?);
            }
        }
    }
    drop(tx);
    let compute = move || {
        let mut scores = Vec::new();
        for text in packed {
            for ItemHours { item, hours } in items_of(&text)? {
                scores.push((item, decay::score(hours, newest, half_life)));
            }
        }
        Ok(decay::strongest(scores, limit))
    };
    tokio::task::spawn_blocking(compute).await.map_err(|_| sqlx::Error::WorkerCrashed)?
}

/// The items of a packed text that have hours.
fn items_of(text: &str) -> sqlx::Result<Vec<ItemHours>> {
    let mut items = Vec::new();
    for (id, hours) in packed::rows::<(Text<'_>, Vec<(i64, i64)>)>(Some(text))? {
        if !hours.is_empty() {
            let mut hours = hours;
            hours.sort_unstable();
            items.push(ItemHours { item: ItemId::trusted(&*id.0), hours });
        }
    }
    Ok(items)
}

pub(super) async fn hours(db: &Database, tenant: &Tenant, limit: usize) -> sqlx::Result<Vec<HourTotal>> {
    let sql = "SELECT i.id, (SELECT json_group_array(json_array(hour, count, weight)) FROM totals WHERE item = i.key) FROM items i \
               WHERE i.tenant = (SELECT key FROM tenants WHERE name = ?)";
    let mut reader = db.reader().await?;
    let mut rows = sqlx::query(sql).bind(tenant.as_str()).fetch(&mut *reader);
    let mut totals = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let item = ItemId::trusted(row.try_get::<&str, _>(0)?);
        for (hour, count, steps) in packed::rows::<(i64, u64, i64)>(row.try_get(1)?)? {
            totals.push(HourTotal { hour, item: item.clone(), count, weight: steps as f64 * WEIGHT_STEP });
        }
    }
    totals.sort_by(|a, b| (a.hour, &a.item).cmp(&(b.hour, &b.item)));
    totals.drain(..totals.len().saturating_sub(limit));
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
