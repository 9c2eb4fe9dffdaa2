//! Sets edges and neighbour lists, each call in one transaction.

use std::collections::HashMap;

use nearcast_domain::{
    Tenant, UserId,
    ports::{Edge, NeighbourList},
};
use sqlx::SqliteConnection;

use super::packed::pack;
use crate::sqlite::{
    Database, begin,
    names::{self, Names, distinct},
    packed,
    rows::{insert, json},
};

struct EdgeRow {
    user: i64,
    item: i64,
    /// Neither the user nor the item is new to the file.
    may_exist: bool,
    weight: f32,
    positive: bool,
    first: i64,
    last: i64,
}

pub(super) async fn set_edges(db: &Database, tenant: &Tenant, edges: &[Edge]) -> sqlx::Result<()> {
    if edges.is_empty() {
        return Ok(());
    }
    let (users, user_of) = distinct(edges.iter().map(|e| e.user.shared()));
    let (items, item_of) = distinct(edges.iter().map(|e| e.item.shared()));
    let mut writer = db.writer().await;
    let mut tx = begin(&mut writer).await?;
    let tenant = names::intern_tenant(&mut tx, tenant.as_str()).await?;
    let old_users = names::find(&mut tx, Names::Users, tenant, &users).await?;
    let old_items = names::find(&mut tx, Names::Items, tenant, &items).await?;
    let (users, _) = names::add_missing(&mut tx, Names::Users, tenant, &users, &old_users).await?;
    let (items, _) = names::add_missing(&mut tx, Names::Items, tenant, &items, &old_items).await?;
    let mut rows: Vec<EdgeRow> = edges
        .iter()
        .zip(user_of.iter().zip(&item_of))
        .map(|(e, (u, i))| EdgeRow {
            user: users[*u],
            item: items[*i],
            may_exist: old_users[*u].is_some() && old_items[*i].is_some(),
            // There is one zero only.
            weight: e.weight + 0.0,
            positive: e.positive,
            first: e.first.millis(),
            last: e.last.millis(),
        })
        .collect();
    // The last word on a pair stands. The order is that of the tree.
    rows.reverse();
    rows.sort_by_key(|r| (r.user, r.item));
    rows.dedup_by_key(|r| (r.user, r.item));
    let known = stored(&mut tx, &rows).await?;
    let fresh = rows.len() - known.len();
    rows.retain(|r| known.get(&(r.user, r.item)).is_none_or(|k| *k != (r.weight.to_bits(), r.positive, r.first, r.last)));
    let head = "INSERT INTO edges (user, item, weight, positive, first, last)";
    let tail = "ON CONFLICT (user, item) DO UPDATE SET weight = excluded.weight, positive = excluded.positive, \
                first = excluded.first, last = excluded.last";
    insert(&mut tx, head, 6, tail, &rows, |v, r| {
        v.int(r.user).int(r.item).real(f64::from(r.weight)).int(i64::from(r.positive)).int(r.first).int(r.last);
    })
    .await?;
    if fresh > 0 {
        let sql = "UPDATE tenants SET edges = edges + ? WHERE key = ?";
        sqlx::query(sql).bind(fresh as i64).bind(tenant).execute(&mut *tx).await?;
    }
    let mut changed: Vec<i64> = rows.iter().map(|r| r.item).collect();
    changed.sort_unstable();
    changed.dedup();
    touch(&mut tx, tenant, &changed).await?;
    tx.commit().await
}

type Content = (u32, bool, i64, i64);

async fn stored(conn: &mut SqliteConnection, rows: &[EdgeRow]) -> sqlx::Result<HashMap<(i64, i64), Content>> {
    // By user, each with the items: the numbers are read once by SQLite, and a user's edges lie together.
    let mut asked: Vec<(i64, Vec<i64>)> = Vec::new();
    for row in rows.iter().filter(|r| r.may_exist) {
        match asked.last_mut() {
            Some((user, items)) if *user == row.user => items.push(row.item),
            _ => asked.push((row.user, vec![row.item])),
        }
    }
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = "SELECT json_group_array(json_array(e.user, e.item, e.weight, e.positive, e.first, e.last)) FROM json_each(?) a \
               CROSS JOIN json_each(a.value, '$[1]') b CROSS JOIN edges e ON e.user = a.value ->> 0 AND e.item = b.value";
    let packed: String = sqlx::query_scalar(sql).bind(json(&asked)?).fetch_one(conn).await?;
    let known = packed::rows::<(i64, i64, f64, u8, i64, i64)>(Some(&packed))?.into_iter();
    // A weight is an `f32`: what the text lost of its last bits as an `f64` comes back.
    Ok(known
        .map(|(user, item, weight, positive, first, last)| {
            ((user, item), ((weight as f32).to_bits(), positive != 0, first, last))
        })
        .collect())
}

/// Marks items as touched, with a number higher than any before.
async fn touch(conn: &mut SqliteConnection, tenant: i64, items: &[i64]) -> sqlx::Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    let mark: i64 = sqlx::query_scalar("UPDATE marks SET last = last + 1 RETURNING last").fetch_one(&mut *conn).await?;
    let sql = "INSERT INTO touched (item, tenant, mark) SELECT value, ?, ? FROM json_each(?) WHERE true \
               ON CONFLICT (item) DO UPDATE SET mark = excluded.mark";
    sqlx::query(sql).bind(tenant).bind(mark).bind(json(items)?).execute(conn).await?;
    Ok(())
}

pub(super) async fn set_neighbours(
    db: &Database,
    tenant: &Tenant,
    lists: &[NeighbourList],
    upto: u64,
    replace: bool,
) -> sqlx::Result<()> {
    if lists.is_empty() && !replace {
        return Ok(());
    }
    let upto = i64::try_from(upto).unwrap_or(i64::MAX);
    let (items, place) = distinct(lists.iter().map(|(item, _)| item.shared()));
    // The last word on an item stands.
    let mut chosen = vec![0; items.len()];
    place.iter().enumerate().for_each(|(list, item)| chosen[*item] = list);
    let mut writer = db.writer().await;
    let mut tx = begin(&mut writer).await?;
    let tenant = names::intern_tenant(&mut tx, tenant.as_str()).await?;
    let keys = names::intern(&mut tx, Names::Items, tenant, &items).await?;
    if replace {
        let sql = "DELETE FROM neighbours WHERE item IN (SELECT key FROM items WHERE tenant = ?)";
        sqlx::query(sql).bind(tenant).execute(&mut *tx).await?;
        let sql = "DELETE FROM touched WHERE tenant = ? AND mark <= ?";
        sqlx::query(sql).bind(tenant).bind(upto).execute(&mut *tx).await?;
    } else {
        let asked = json(&keys)?;
        let sql = "DELETE FROM neighbours WHERE item IN (SELECT value FROM json_each(?))";
        sqlx::query(sql).bind(&asked).execute(&mut *tx).await?;
        let sql = "DELETE FROM touched WHERE item IN (SELECT value FROM json_each(?)) AND mark <= ?";
        sqlx::query(sql).bind(&asked).bind(upto).execute(&mut *tx).await?;
    }
    let mut rows: Vec<(i64, usize)> = keys.into_iter().zip(chosen).filter(|(_, list)| !lists[*list].1.is_empty()).collect();
    rows.sort_unstable();
    insert(&mut tx, "INSERT INTO neighbours (item, list)", 2, "", &rows, |v, (item, list)| {
        v.int(*item).blob(pack(&lists[*list].1));
    })
    .await?;
    tx.commit().await
}

pub(super) async fn erase(db: &Database, tenant: &Tenant, user: &UserId) -> sqlx::Result<u64> {
    let mut writer = db.writer().await;
    let mut tx = begin(&mut writer).await?;
    let sql = "SELECT u.key, t.key FROM tenants t JOIN users u ON u.tenant = t.key WHERE t.name = ? AND u.id = ?";
    let found: Option<(i64, i64)> =
        sqlx::query_as(sql).bind(tenant.as_str()).bind(user.as_str()).fetch_optional(&mut *tx).await?;
    let Some((user, tenant)) = found else { return Ok(0) };
    let items: Vec<i64> = sqlx::query_scalar("SELECT item FROM edges WHERE user = ?").bind(user).fetch_all(&mut *tx).await?;
    sqlx::query("DELETE FROM edges WHERE user = ?").bind(user).execute(&mut *tx).await?;
    sqlx::query("DELETE FROM users WHERE key = ?").bind(user).execute(&mut *tx).await?;
    let sql = "UPDATE tenants SET edges = edges - ? WHERE key = ?";
    sqlx::query(sql).bind(items.len() as i64).bind(tenant).execute(&mut *tx).await?;
    touch(&mut tx, tenant, &items).await?;
    tx.commit().await?;
    Ok(items.len() as u64)
}
