//! Short whole numbers for the names of tenants, users and items, so that every index of a file stays small.
//!
//! The numbers belong to one file and mean nothing elsewhere: they never enter a digest or an answer.

use std::{collections::HashMap, sync::Arc};

use sqlx::SqliteConnection;

use super::{
    error::torn,
    packed,
    rows::{insert, json},
};

/// Which names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Users,
    Items,
}

/// The number of a tenant, if it has one.
pub(crate) async fn tenant(conn: &mut SqliteConnection, name: &str) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT key FROM tenants WHERE name = ?").bind(name).fetch_optional(conn).await
}

/// The number of a tenant; it gets one where it has none.
pub(crate) async fn intern_tenant(conn: &mut SqliteConnection, name: &str) -> sqlx::Result<i64> {
    if let Some(key) = tenant(conn, name).await? {
        return Ok(key);
    }
    let done = sqlx::query("INSERT INTO tenants (name) VALUES (?)").bind(name).execute(conn).await?;
    Ok(done.last_insert_rowid())
}

/// The numbers of names, in the order asked.
pub(crate) async fn find(
    conn: &mut SqliteConnection,
    which: Names,
    tenant: i64,
    ids: &[Arc<str>],
) -> sqlx::Result<Vec<Option<i64>>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = match which {
        Names::Users => {
            "SELECT json_group_array(n.key) FROM json_each(?) j LEFT JOIN users n ON n.tenant = ? AND n.id = j.value"
        }
        Names::Items => {
            "SELECT json_group_array(n.key) FROM json_each(?) j LEFT JOIN items n ON n.tenant = ? AND n.id = j.value"
        }
    };
    let packed: String = sqlx::query_scalar(sql).bind(json(ids)?).bind(tenant).fetch_one(conn).await?;
    let keys: Vec<Option<i64>> = packed::rows(Some(&packed))?;
    if keys.len() == ids.len() { Ok(keys) } else { Err(torn("the index of names")) }
}

/// The numbers of names that have none yet (`keys` as [`find`] gave them): they get the next ones, in their order. Answers how
/// many were new.
pub(crate) async fn add_missing(
    conn: &mut SqliteConnection,
    which: Names,
    tenant: i64,
    ids: &[Arc<str>],
    keys: &[Option<i64>],
) -> sqlx::Result<(Vec<i64>, usize)> {
    let missing = keys.iter().filter(|k| k.is_none()).count();
    let mut next = 0;
    if missing > 0 {
        let last: Option<i64> = match which {
            Names::Users => sqlx::query_scalar("SELECT max(key) FROM users").fetch_one(&mut *conn).await?,
            Names::Items => sqlx::query_scalar("SELECT max(key) FROM items").fetch_one(&mut *conn).await?,
        };
        next = last.unwrap_or(0);
    }
    let mut all = Vec::with_capacity(ids.len());
    let mut fresh = Vec::with_capacity(missing);
    for (id, key) in ids.iter().zip(keys) {
        all.push(key.unwrap_or_else(|| {
            next += 1;
            fresh.push((next, id.clone()));
            next
        }));
    }
    let head = match which {
        Names::Users => "INSERT INTO users (key, tenant, id)",
        Names::Items => "INSERT INTO items (key, tenant, id)",
    };
    insert(conn, head, 3, "", &fresh, |v, (key, id)| {
        v.int(*key).int(tenant).text(id.clone());
    })
    .await?;
    Ok((all, missing))
}

/// The numbers of names; those without one get one. The names must differ from each other.
pub(crate) async fn intern(conn: &mut SqliteConnection, which: Names, tenant: i64, ids: &[Arc<str>]) -> sqlx::Result<Vec<i64>> {
    let keys = find(conn, which, tenant, ids).await?;
    Ok(add_missing(conn, which, tenant, ids, &keys).await?.0)
}

/// The different texts in the order of their first appearance, and for each text its place among them.
pub(crate) fn distinct(all: impl Iterator<Item = Arc<str>>) -> (Vec<Arc<str>>, Vec<usize>) {
    let mut known: HashMap<Arc<str>, usize> = HashMap::new();
    let mut list = Vec::new();
    let places = all
        .map(|text| {
            *known.entry(text).or_insert_with_key(|text| {
                list.push(text.clone());
                list.len() - 1
            })
        })
        .collect();
    (list, places)
}
