//! What serving and jobs read of the graph.

use std::{collections::HashMap, sync::Arc};

use futures_util::TryStreamExt as _;
use nearcast_domain::{
    ItemId, Tenant, Timestamp, UserId,
    digest::Digest,
    ports::{Edge, Neighbour, Touched},
};
use serde::Serialize;
use sqlx::{Row, SqliteConnection};

use super::packed::unpack;
use crate::sqlite::{
    Database, names,
    packed::{self, Text},
    rows::{json, limit as rows_limit, place},
};

/// The newest edges of one end: its column and table, then those of the other end. The bound is the time of the last that is
/// wanted: whatever shares its time is read too, and cut off later.
macro_rules! newest {
    ($own:literal, $owns:literal, $other:literal, $others:literal) => {
        concat!(
            "SELECT j.key, (SELECT json_group_array(json_array(b.id, e.weight, e.positive, e.first, e.last)) \
             FROM edges e INDEXED BY edges_by_",
            $own,
            " CROSS JOIN ",
            $others,
            " b ON b.key = e.",
            $other,
            " WHERE e.",
            $own,
            " = a.key AND e.last >= coalesce((SELECT last FROM edges INDEXED BY edges_by_",
            $own,
            " WHERE ",
            $own,
            " = a.key ORDER BY last DESC LIMIT 1 OFFSET ?), -9223372036854775808)) \
             FROM tenants t CROSS JOIN json_each(?) j CROSS JOIN ",
            $owns,
            " a ON a.tenant = t.key AND a.id = j.value WHERE t.name = ?"
        )
    };
}

pub(super) async fn edges_of_users(
    db: &Database,
    tenant: &Tenant,
    users: &[UserId],
    limit: usize,
) -> sqlx::Result<Vec<Vec<Edge>>> {
    let make = |at: usize, id: &str, packed| edge(users[at].clone(), ItemId::trusted(id), packed);
    newest(db, newest!("user", "users", "item", "items"), tenant, users, limit, make, |e| e.item.as_str()).await
}

pub(super) async fn edges_of_items(
    db: &Database,
    tenant: &Tenant,
    items: &[ItemId],
    limit: usize,
) -> sqlx::Result<Vec<Vec<Edge>>> {
    let make = |at: usize, id: &str, packed| edge(UserId::trusted(id), items[at].clone(), packed);
    newest(db, newest!("item", "items", "user", "users"), tenant, items, limit, make, |e| e.user.as_str()).await
}

async fn newest<Id: Serialize>(
    db: &Database,
    sql: &'static str,
    tenant: &Tenant,
    asked: &[Id],
    limit: usize,
    make: impl Fn(usize, &str, Packed) -> Edge,
    other: impl Fn(&Edge) -> &str,
) -> sqlx::Result<Vec<Vec<Edge>>> {
    let mut edges = vec![Vec::new(); asked.len()];
    if asked.is_empty() || limit == 0 {
        return Ok(edges);
    }
    let mut reader = db.reader().await?;
    let query = sqlx::query(sql).bind(rows_limit(limit - 1)).bind(json(asked)?).bind(tenant.as_str());
    for row in query.fetch_all(&mut *reader).await? {
        let at = place(row.try_get(0)?);
        if let Some(list) = edges.get_mut(at) {
            let rows = packed::rows::<(Text<'_>, f64, u8, i64, i64)>(row.try_get(1)?)?.into_iter();
            *list = rows.map(|(id, weight, positive, first, last)| make(at, &id.0, (weight, positive, first, last))).collect();
            list.sort_by(|a: &Edge, b| b.last.cmp(&a.last).then_with(|| other(a).cmp(other(b))));
            list.truncate(limit);
        }
    }
    Ok(edges)
}

/// Weight, positive, first, last.
type Packed = (f64, u8, i64, i64);

fn edge(user: UserId, item: ItemId, (weight, positive, first, last): Packed) -> Edge {
    let (first, last) = (Timestamp::from_millis(first), Timestamp::from_millis(last));
    Edge { user, item, weight: weight as f32, positive: positive != 0, first, last }
}

pub(super) async fn neighbours(
    db: &Database,
    tenant: &Tenant,
    items: &[ItemId],
    limit: usize,
) -> sqlx::Result<Vec<Vec<Neighbour>>> {
    let mut lists = vec![Vec::new(); items.len()];
    if items.is_empty() {
        return Ok(lists);
    }
    let sql = "SELECT j.key, n.list FROM tenants t CROSS JOIN json_each(?) j CROSS JOIN items i ON i.tenant = t.key \
               AND i.id = j.value CROSS JOIN neighbours n ON n.item = i.key WHERE t.name = ?";
    let mut reader = db.reader().await?;
    for row in sqlx::query(sql).bind(json(items)?).bind(tenant.as_str()).fetch_all(&mut *reader).await? {
        if let Some(list) = lists.get_mut(place(row.try_get(0)?)) {
            *list = unpack(row.try_get(1)?, limit)?;
        }
    }
    Ok(lists)
}

pub(super) async fn count(db: &Database, tenant: &Tenant) -> sqlx::Result<u64> {
    let mut reader = db.reader().await?;
    let found: Option<i64> = sqlx::query_scalar("SELECT edges FROM tenants WHERE name = ?")
        .bind(tenant.as_str())
        .fetch_optional(&mut *reader)
        .await?;
    Ok(found.unwrap_or(0).max(0) as u64)
}

pub(super) async fn scan(db: &Database, tenant: &Tenant) -> sqlx::Result<Vec<Edge>> {
    let mut reader = db.reader().await?;
    // One snapshot: the file's own numbers may be given to others once they are free.
    let mut tx = sqlx::Connection::begin(&mut *reader).await?;
    let Some(tenant) = names::tenant(&mut tx, tenant.as_str()).await? else { return Ok(Vec::new()) };
    let items = all_names(&mut tx, tenant).await?;
    let sql = "SELECT u.id, (SELECT json_group_array(json_array(item, weight, positive, first, last)) FROM edges \
               WHERE user = u.key) FROM users u WHERE u.tenant = ? ORDER BY u.id";
    let mut edges: Vec<Edge> = Vec::new();
    let mut rows = sqlx::query(sql).bind(tenant).fetch(&mut *tx);
    while let Some(row) = rows.try_next().await? {
        let user = UserId::trusted(row.try_get::<&str, _>(0)?);
        let from = edges.len();
        for (item, weight, positive, first, last) in packed::rows::<(i64, f64, u8, i64, i64)>(row.try_get(1)?)? {
            if let Some(item) = items.get(&item) {
                edges.push(edge(user.clone(), ItemId::trusted(item.clone()), (weight, positive, first, last)));
            }
        }
        edges[from..].sort_by(|a, b| a.item.cmp(&b.item));
        tokio::task::yield_now().await;
    }
    Ok(edges)
}

async fn all_names(conn: &mut SqliteConnection, tenant: i64) -> sqlx::Result<HashMap<i64, Arc<str>>> {
    let sql = "SELECT json_group_array(json_array(key, id)) FROM items WHERE tenant = ?";
    let packed: String = sqlx::query_scalar(sql).bind(tenant).fetch_one(conn).await?;
    Ok(packed::rows::<(i64, Text<'_>)>(Some(&packed))?.into_iter().map(|(key, id)| (key, Arc::from(&*id.0))).collect())
}

pub(super) async fn touched_tenants(db: &Database) -> sqlx::Result<Vec<Tenant>> {
    let sql = "SELECT name FROM tenants t WHERE EXISTS (SELECT 1 FROM touched WHERE tenant = t.key) ORDER BY name";
    let mut reader = db.reader().await?;
    let rows = sqlx::query(sql).fetch_all(&mut *reader).await?;
    rows.iter().map(|row| Ok(Tenant::trusted(row.try_get::<&str, _>(0)?))).collect()
}

pub(super) async fn touched(db: &Database, tenant: &Tenant, limit: usize) -> sqlx::Result<Touched> {
    let mut reader = db.reader().await?;
    let mut tx = sqlx::Connection::begin(&mut *reader).await?;
    let upto: i64 = sqlx::query_scalar("SELECT last FROM marks").fetch_one(&mut *tx).await?;
    let sql = "SELECT i.id FROM touched x CROSS JOIN items i ON i.key = x.item \
               WHERE x.tenant = (SELECT key FROM tenants WHERE name = ?) ORDER BY x.mark, i.id LIMIT ?";
    let rows = sqlx::query(sql).bind(tenant.as_str()).bind(rows_limit(limit)).fetch_all(&mut *tx).await?;
    let items = rows.iter().map(|row| Ok(ItemId::trusted(row.try_get::<&str, _>(0)?))).collect::<sqlx::Result<_>>()?;
    Ok(Touched { items, upto: upto.max(0) as u64 })
}

pub(super) async fn digest(db: &Database) -> sqlx::Result<Digest> {
    let mut reader = db.reader().await?;
    let mut tx = sqlx::Connection::begin(&mut *reader).await?;
    let mut digest = Digest::default();
    let sql = "SELECT t.name, u.id, i.id, e.weight, e.positive, e.first, e.last FROM edges e JOIN users u ON u.key = e.user \
               JOIN items i ON i.key = e.item JOIN tenants t ON t.key = u.tenant";
    let mut rows = sqlx::query(sql).fetch(&mut *tx);
    let mut since = 0;
    while let Some(row) = rows.try_next().await? {
        let user = UserId::trusted(row.try_get::<&str, _>(1)?);
        let item = ItemId::trusted(row.try_get::<&str, _>(2)?);
        let packed = (row.try_get(3)?, row.try_get::<i64, _>(4)? as u8, row.try_get(5)?, row.try_get(6)?);
        digest.add_edge(row.try_get(0)?, &edge(user, item, packed));
        since += 1;
        if since % 1024 == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(rows);
    let sql = "SELECT t.name, i.id, n.list FROM neighbours n JOIN items i ON i.key = n.item JOIN tenants t ON t.key = i.tenant";
    let mut rows = sqlx::query(sql).fetch(&mut *tx);
    while let Some(row) = rows.try_next().await? {
        digest.add_neighbours(row.try_get(0)?, row.try_get(1)?, &unpack(row.try_get(2)?, usize::MAX)?);
        since += 1;
        if since % 256 == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(rows);
    Ok(digest)
}
