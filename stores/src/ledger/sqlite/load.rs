//! Loads what the ledger knows that bears on a batch: a handful of statements, whatever the batch's length.

use std::{collections::HashMap, sync::Arc};

use nearcast_domain::{Event, Timestamp, event::ContentHash};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    ledger::plan::{Batch, Erased, Known, KnownEvent, KnownItem, KnownUser, NONE},
    sqlite::{
        error::torn,
        names::{self, Names},
        packed,
        rows::{json, place},
    },
};

/// The file's own numbers for the users and items of a batch.
pub(super) struct Keys {
    /// The batch's tenants, and by user and by item the place of its tenant among them.
    pub tenants: Vec<Arc<str>>,
    pub tenant_keys: Vec<Option<i64>>,
    pub user_tenants: Vec<usize>,
    pub item_tenants: Vec<usize>,
    pub users: Vec<Option<i64>>,
    pub items: Vec<Option<i64>>,
}

impl Keys {
    pub async fn load(conn: &mut SqliteConnection, batch: &Batch<'_>) -> sqlx::Result<Self> {
        let mut tenants: Vec<Arc<str>> = Vec::new();
        let mut number = |t: &nearcast_domain::Tenant| {
            // Batches of many tenants are rare, and these few are at hand.
            tenants.iter().rposition(|n| **n == *t.as_str()).unwrap_or_else(|| {
                tenants.push(t.shared());
                tenants.len() - 1
            })
        };
        let user_tenants: Vec<usize> = batch.users.iter().map(|(t, _)| number(t)).collect();
        let item_tenants: Vec<usize> = batch.items.iter().map(|(t, _)| number(t)).collect();
        let mut keys = Self {
            tenant_keys: vec![None; tenants.len()],
            users: vec![None; batch.users.len()],
            items: vec![None; batch.items.len()],
            tenants,
            user_tenants,
            item_tenants,
        };
        for t in 0..keys.tenants.len() {
            keys.tenant_keys[t] = names::tenant(conn, &keys.tenants[t]).await?;
            let Some(tenant) = keys.tenant_keys[t] else { continue };
            let (places, ids) = keys.users_of(batch, t, |_| true);
            for (place, key) in places.iter().zip(names::find(conn, Names::Users, tenant, &ids).await?) {
                keys.users[*place] = key;
            }
            let (places, ids) = keys.items_of(batch, t, |_| true);
            for (place, key) in places.iter().zip(names::find(conn, Names::Items, tenant, &ids).await?) {
                keys.items[*place] = key;
            }
        }
        Ok(keys)
    }

    /// The users of a tenant: their places and their ids.
    pub fn users_of(&self, batch: &Batch<'_>, tenant: usize, pick: impl Fn(usize) -> bool) -> (Vec<usize>, Vec<Arc<str>>) {
        let all = self.user_tenants.iter().enumerate();
        all.filter(|(i, t)| **t == tenant && pick(*i)).map(|(i, _)| (i, batch.users[i].1.shared())).unzip()
    }

    /// The items of a tenant: their places and their ids.
    pub fn items_of(&self, batch: &Batch<'_>, tenant: usize, pick: impl Fn(usize) -> bool) -> (Vec<usize>, Vec<Arc<str>>) {
        let all = self.item_tenants.iter().enumerate();
        all.filter(|(i, t)| **t == tenant && pick(*i)).map(|(i, _)| (i, batch.items[i].1.shared())).unzip()
    }
}

/// Everything that is needed to plan a batch.
pub(super) async fn known<'a>(
    conn: &mut SqliteConnection,
    batch: &Batch<'a>,
    keys: &Keys,
    revision: Option<i64>,
) -> sqlx::Result<Known<'a>> {
    let mut users = vec![KnownUser::default(); batch.users.len()];
    for (t, tenant) in keys.tenant_keys.iter().enumerate() {
        let Some(tenant) = tenant else { continue };
        let (places, ids) = keys.users_of(batch, t, |_| true);
        if ids.is_empty() {
            continue;
        }
        let sql =
            "SELECT j.key, e.until, e.asked FROM json_each(?) j CROSS JOIN erasures e ON e.tenant = ? AND e.user = j.value";
        for row in sqlx::query(sql).bind(json(&ids)?).bind(tenant).fetch_all(&mut *conn).await? {
            if let Some(user) = places.get(place(row.try_get(0)?)).and_then(|p| users.get_mut(*p)) {
                let (until, asked) = (row.try_get(1)?, row.try_get(2)?);
                user.erased = Some(Erased { until: Timestamp::from_millis(until), asked: Timestamp::from_millis(asked) });
            }
        }
    }
    let erased: Vec<(usize, i64)> =
        keys.users.iter().enumerate().filter_map(|(i, k)| k.filter(|_| batch.erases[i]).map(|k| (i, k))).collect();
    if !erased.is_empty() {
        let sql = "SELECT j.key, (SELECT max(timestamp) FROM engagements WHERE user = j.value), \
                   (SELECT max(timestamp) FROM messages WHERE user = j.value), u.refused \
                   FROM json_each(?) j CROSS JOIN users u ON u.key = j.value";
        let list = json(&erased.iter().map(|e| e.1).collect::<Vec<_>>())?;
        for row in sqlx::query(sql).bind(list).fetch_all(&mut *conn).await? {
            if let Some((user, _)) = erased.get(place(row.try_get(0)?)) {
                let times: [Option<i64>; 3] = [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
                users[*user].newest = times.into_iter().flatten().max().map(Timestamp::from_millis);
            }
        }
    }
    let events = known_events(conn, batch, keys).await?;
    let items = known_items(conn, batch, keys, revision).await?;
    Ok(Known { users, items, events })
}

async fn known_events<'a>(
    conn: &mut SqliteConnection,
    batch: &Batch<'a>,
    keys: &Keys,
) -> sqlx::Result<HashMap<(usize, bool, &'a str), KnownEvent>> {
    let (mut engagements, mut messages) = (Vec::new(), Vec::new());
    for (append, (user, _)) in batch.appends.iter().zip(&batch.slots) {
        let Some(key) = keys.users.get(*user).copied().flatten() else { continue };
        match &append.event {
            Event::Engagement(e) => engagements.push((*user, key, e.event_id.as_str())),
            Event::Message(e) => messages.push((*user, key, e.message_id.as_str())),
            _ => {}
        }
    }
    let mut events = HashMap::new();
    let of_engagements = "SELECT json_group_array(json_array(j.key, hex(e.hash), 0)) FROM json_each(?) j CROSS JOIN engagements e \
                          ON e.user = j.value ->> 0 AND e.id = j.value ->> 1 AND e.source = 0";
    let of_messages = "SELECT json_group_array(json_array(j.key, hex(m.hash), m.key)) FROM json_each(?) j CROSS JOIN messages m \
                       ON m.user = j.value ->> 0 AND m.id = j.value ->> 1";
    for (sql, list, is_message) in [(of_engagements, engagements, false), (of_messages, messages, true)] {
        if list.is_empty() {
            continue;
        }
        let asked = json(&list.iter().map(|(_, key, id)| (key, id)).collect::<Vec<_>>())?;
        let found: String = sqlx::query_scalar(sql).bind(asked).fetch_one(&mut *conn).await?;
        for (at, hex, message) in packed::rows::<(usize, &str, i64)>(Some(&found))? {
            if let Some((user, _, id)) = list.get(at) {
                events.insert((*user, is_message, *id), KnownEvent { hash: unhex(hex)?, message });
            }
        }
    }
    Ok(events)
}

async fn known_items(
    conn: &mut SqliteConnection,
    batch: &Batch<'_>,
    keys: &Keys,
    revision: Option<i64>,
) -> sqlx::Result<Vec<Option<KnownItem>>> {
    let mut items = vec![None; batch.items.len()];
    let stated: Vec<(usize, i64)> =
        keys.items.iter().enumerate().filter_map(|(i, k)| k.filter(|_| batch.states[i]).map(|k| (i, k))).collect();
    if stated.is_empty() {
        return Ok(items);
    }
    let sql = "SELECT j.key, s.hash, s.timestamp, s.text, s.categories, \
               EXISTS (SELECT 1 FROM item_vectors v WHERE v.owner = s.item AND v.revision = ?), \
               EXISTS (SELECT 1 FROM item_vectors v WHERE v.owner = s.item) \
               FROM json_each(?) j CROSS JOIN states s ON s.item = j.value";
    let list = json(&stated.iter().map(|s| s.1).collect::<Vec<_>>())?;
    for row in sqlx::query(sql).bind(revision).bind(list).fetch_all(&mut *conn).await? {
        let Some((item, _)) = stated.get(place(row.try_get(0)?)) else { continue };
        let (tenant, id) = batch.items[*item];
        let text: Option<&str> = row.try_get(3)?;
        let stored = nearcast_domain::Item {
            tenant: tenant.clone(),
            item_id: id.clone(),
            text: text.map(Arc::from),
            categories: serde_json::from_str(row.try_get(4)?).map_err(|_| torn("a list of categories"))?,
            expires_at: None,
            hidden: false,
            attributes: serde_json::Map::new(),
            timestamp: None,
        };
        items[*item] = Some(KnownItem {
            hash: hash(&row, 1)?,
            timestamp: row.try_get::<Option<i64>, _>(2)?.map(Timestamp::from_millis),
            text: stored.embedding_text(),
            has_vector: row.try_get(5)?,
            has_any: row.try_get(6)?,
        });
    }
    Ok(items)
}

/// A content hash as `hex` writes it.
fn unhex(text: &str) -> sqlx::Result<ContentHash> {
    let mut hash = ContentHash::default();
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or_else(|| torn("a content hash"));
    if text.len() != 2 * hash.len() {
        return Err(torn("a content hash"));
    }
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(hash)
}

/// A content hash of a row.
pub(super) fn hash(row: &SqliteRow, column: usize) -> sqlx::Result<ContentHash> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| torn("a content hash"))
}

/// The place of an append's item among the batch's, if it has one.
pub(super) fn slot(n: usize) -> Option<usize> {
    (n != NONE).then_some(n)
}
