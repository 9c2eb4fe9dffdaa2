//! What jobs ask of the whole file: tenants, counts, marks, erasures, and the digest.

use futures_util::TryStreamExt as _;
use nearcast_domain::{
    Tenant, Timestamp, UserId,
    digest::Digest,
    ports::{ErasureRecord, LedgerCounts},
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::load::hash;
use crate::sqlite::{Database, rows::limit as rows_limit};

pub(super) async fn tenants(db: &Database) -> sqlx::Result<Vec<Tenant>> {
    let mut reader = db.reader().await?;
    let rows = sqlx::query("SELECT name FROM tenants ORDER BY name").fetch_all(&mut *reader).await?;
    rows.iter().map(|row| Ok(Tenant::trusted(row.try_get::<&str, _>(0)?))).collect()
}

pub(super) async fn counts(db: &Database, tenant: &Tenant) -> sqlx::Result<LedgerCounts> {
    let sql = "SELECT users, items, events FROM tenants WHERE name = ?";
    let mut reader = db.reader().await?;
    let Some(row) = sqlx::query(sql).bind(tenant.as_str()).fetch_optional(&mut *reader).await? else {
        return Ok(LedgerCounts::default());
    };
    let count = |at| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(at)?.max(0) as u64);
    Ok(LedgerCounts { users: count(0)?, items: count(1)?, events: count(2)? })
}

pub(super) async fn stale_users(db: &Database, limit: usize) -> sqlx::Result<Vec<(Tenant, UserId, u64)>> {
    let sql = "SELECT t.name, u.id, s.mark FROM stale s CROSS JOIN users u ON u.key = s.user CROSS JOIN tenants t \
               ON t.key = u.tenant ORDER BY s.mark, t.name, u.id LIMIT ?";
    let mut reader = db.reader().await?;
    let rows = sqlx::query(sql).bind(rows_limit(limit)).fetch_all(&mut *reader).await?;
    let user = |row: &SqliteRow| {
        let mark = row.try_get::<i64, _>(2)?.max(0) as u64;
        Ok((Tenant::trusted(row.try_get::<&str, _>(0)?), UserId::trusted(row.try_get::<&str, _>(1)?), mark))
    };
    rows.iter().map(user).collect()
}

pub(super) async fn erasures(db: &Database) -> sqlx::Result<Vec<ErasureRecord>> {
    let sql = "SELECT t.name, e.user, e.until FROM erasures e JOIN tenants t ON t.key = e.tenant ORDER BY t.name, e.user";
    let mut reader = db.reader().await?;
    let rows = sqlx::query(sql).fetch_all(&mut *reader).await?;
    let record = |row: &SqliteRow| {
        Ok(ErasureRecord {
            tenant: Tenant::trusted(row.try_get::<&str, _>(0)?),
            user: UserId::trusted(row.try_get::<&str, _>(1)?),
            until: Timestamp::from_millis(row.try_get(2)?),
        })
    };
    rows.iter().map(record).collect()
}

pub(super) async fn digest(db: &Database) -> sqlx::Result<Digest> {
    let mut reader = db.reader().await?;
    // One snapshot for all of it.
    let mut tx = sqlx::Connection::begin(&mut *reader).await?;
    let mut digest = Digest::default();
    let d = &mut digest;
    each(
        &mut tx,
        "SELECT t.name, u.id, e.id, e.hash FROM engagements e JOIN users u ON u.key = e.user JOIN tenants t ON t.key = u.tenant \
         WHERE e.source = 0",
        |r| {
            d.add_event("engagement", r.try_get(0)?, r.try_get(1)?, r.try_get(2)?, &hash(r, 3)?);
            Ok(())
        },
    )
    .await?;
    each(
        &mut tx,
        "SELECT t.name, u.id, m.id, m.hash FROM messages m JOIN users u ON u.key = m.user JOIN tenants t ON t.key = u.tenant",
        |r| {
            d.add_event("message", r.try_get(0)?, r.try_get(1)?, r.try_get(2)?, &hash(r, 3)?);
            Ok(())
        },
    )
    .await?;
    each(
        &mut tx,
        "SELECT r.name, t.name, u.id, m.id, v.vector FROM message_vectors v JOIN revisions r ON r.key = v.revision \
         JOIN messages m ON m.key = v.owner JOIN users u ON u.key = m.user JOIN tenants t ON t.key = u.tenant",
        |r| {
            d.add_message_vector(r.try_get(0)?, r.try_get(1)?, r.try_get(2)?, r.try_get(3)?, r.try_get(4)?);
            Ok(())
        },
    )
    .await?;
    each(
        &mut tx,
        "SELECT t.name, n.id, s.hash FROM states s JOIN items n ON n.key = s.item JOIN tenants t ON t.key = n.tenant",
        |r| {
            d.add_item(r.try_get(0)?, r.try_get(1)?, &hash(r, 2)?);
            Ok(())
        },
    )
    .await?;
    each(
        &mut tx,
        "SELECT r.name, t.name, n.id, v.vector FROM item_vectors v JOIN revisions r ON r.key = v.revision \
         JOIN items n ON n.key = v.owner JOIN tenants t ON t.key = n.tenant",
        |r| {
            d.add_item_vector(r.try_get(0)?, r.try_get(1)?, r.try_get(2)?, r.try_get(3)?);
            Ok(())
        },
    )
    .await?;
    each(&mut tx, "SELECT t.name, e.user, e.until FROM erasures e JOIN tenants t ON t.key = e.tenant", |r| {
        d.add_erasure(r.try_get(0)?, r.try_get(1)?, Timestamp::from_millis(r.try_get(2)?));
        Ok(())
    })
    .await?;
    Ok(digest)
}

/// Hands every row of a statement on, and lets others work in between.
async fn each(
    conn: &mut SqliteConnection,
    sql: &'static str,
    mut take: impl FnMut(&SqliteRow) -> sqlx::Result<()>,
) -> sqlx::Result<()> {
    let mut rows = sqlx::query(sql).fetch(conn);
    let mut since = 0;
    while let Some(row) = rows.try_next().await? {
        take(&row)?;
        since += 1;
        if since == 1024 {
            since = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
