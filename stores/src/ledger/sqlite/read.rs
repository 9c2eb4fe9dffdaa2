//! What serving and the worker read: each call is one or two statements over ranges of an index.

use std::{collections::HashMap, sync::Arc};

use nearcast_domain::{
    EventId, Item, ItemId, Tenant, Timestamp, UserId, Vector,
    ports::{EngagedEvent, History, HistoryLimit, ItemState, MessageEvent, PairEvents},
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    ledger::prefix::behind,
    sqlite::{
        Database,
        error::torn,
        packed::{self, Text},
        rows::{json, limit as rows_limit, place},
    },
};

/// The number of the tenant whose name is bound here.
macro_rules! tenant {
    () => {
        "(SELECT key FROM tenants WHERE name = ?)"
    };
}

pub(super) async fn histories(
    db: &Database,
    tenant: &Tenant,
    users: &[UserId],
    limit: HistoryLimit,
    revision: Option<&str>,
) -> sqlx::Result<Vec<History>> {
    let mut histories = vec![History::default(); users.len()];
    if users.is_empty() {
        return Ok(histories);
    }
    let list = json(users)?;
    let mut reader = db.reader().await?;
    if limit.engagements > 0 {
        // The bound is the time of the last that is wanted: whatever shares its time is read too, and cut off below.
        let sql = concat!(
            "SELECT j.key, (SELECT json_group_array(json_array(e.id, e.source, i.id, e.kind, e.value, \
             e.timestamp)) FROM engagements e CROSS JOIN items i ON i.key = e.item WHERE e.user = u.key \
             AND e.timestamp >= coalesce((SELECT timestamp FROM engagements WHERE user = u.key ORDER BY timestamp DESC \
             LIMIT 1 OFFSET ?), -9223372036854775808)) FROM json_each(?) j CROSS JOIN users u ON u.tenant = ",
            tenant!(),
            " AND u.id = j.value"
        );
        let rows = sqlx::query(sql).bind(rows_limit(limit.engagements - 1)).bind(&list).bind(tenant.as_str());
        let mut kinds = Kinds::default();
        for row in rows.fetch_all(&mut *reader).await? {
            let Some(history) = histories.get_mut(place(row.try_get(0)?)) else { continue };
            let packed = packed::rows::<(Text<'_>, u8, Text<'_>, Text<'_>, i64, i64)>(row.try_get(1)?)?;
            history.engagements.reserve(packed.len());
            for (id, source, item, kind, value, timestamp) in packed {
                history.engagements.push(EngagedEvent {
                    id: EventId::trusted(&*id.0),
                    is_message: source == 1,
                    item: ItemId::trusted(&*item.0),
                    kind: kinds.shared(&kind.0),
                    value: f64::from_bits(value.cast_unsigned()),
                    timestamp: Timestamp::from_millis(timestamp),
                });
            }
        }
    }
    if limit.messages > 0 {
        let sql = concat!(
            "SELECT j.key, m.id, m.text, i.id, m.timestamp, v.vector FROM json_each(?) j CROSS JOIN users u ON u.tenant = ",
            tenant!(),
            " AND u.id = j.value CROSS JOIN messages m ON m.user = u.key AND m.timestamp >= coalesce((SELECT timestamp \
             FROM messages WHERE user = u.key ORDER BY timestamp DESC LIMIT 1 OFFSET ?), -9223372036854775808) \
             LEFT JOIN items i ON i.key = m.item LEFT JOIN message_vectors v ON v.owner = m.key \
             AND v.revision = (SELECT key FROM revisions WHERE name = ?)"
        );
        let rows = sqlx::query(sql).bind(&list).bind(tenant.as_str()).bind(rows_limit(limit.messages - 1)).bind(revision);
        for row in rows.fetch_all(&mut *reader).await? {
            if let Some(history) = histories.get_mut(place(row.try_get(0)?)) {
                history.messages.push(MessageEvent {
                    id: EventId::trusted(row.try_get::<&str, _>(1)?),
                    text: row.try_get::<&str, _>(2)?.into(),
                    item: row.try_get::<Option<&str>, _>(3)?.map(ItemId::trusted),
                    timestamp: Timestamp::from_millis(row.try_get(4)?),
                    vector: vector(&row, 5)?,
                });
            }
        }
    }
    for history in &mut histories {
        history.engagements.sort_by(EngagedEvent::newest_first);
        history.engagements.truncate(limit.engagements);
        history.messages.sort_by(MessageEvent::newest_first);
        history.messages.truncate(limit.messages);
    }
    Ok(histories)
}

pub(super) async fn items(
    db: &Database,
    tenant: &Tenant,
    items: &[ItemId],
    revision: Option<&str>,
) -> sqlx::Result<Vec<Option<ItemState>>> {
    let mut states = vec![None; items.len()];
    if items.is_empty() {
        return Ok(states);
    }
    let sql = concat!(
        "SELECT n.id, s.text, s.categories, s.expires_at, s.hidden, s.attributes, s.timestamp, v.vector, j.key \
         FROM json_each(?) j CROSS JOIN items n ON n.tenant = ",
        tenant!(),
        " AND n.id = j.value CROSS JOIN states s ON s.item = n.key LEFT JOIN item_vectors v ON v.owner = n.key \
         AND v.revision = (SELECT key FROM revisions WHERE name = ?)"
    );
    let mut reader = db.reader().await?;
    for row in sqlx::query(sql).bind(json(items)?).bind(tenant.as_str()).bind(revision).fetch_all(&mut *reader).await? {
        if let Some(slot) = states.get_mut(place(row.try_get(8)?)) {
            *slot = Some(state(&row, tenant)?);
        }
    }
    Ok(states)
}

pub(super) async fn engaged(db: &Database, tenant: &Tenant, user: &UserId, items: &[ItemId]) -> sqlx::Result<Vec<bool>> {
    let mut known = vec![false; items.len()];
    if items.is_empty() {
        return Ok(known);
    }
    let sql = "SELECT j.key FROM tenants t CROSS JOIN users u ON u.tenant = t.key AND u.id = ? CROSS JOIN json_each(?) j \
         CROSS JOIN items n ON n.tenant = t.key AND n.id = j.value WHERE t.name = ? \
         AND EXISTS (SELECT 1 FROM engagements e INDEXED BY engagements_by_item WHERE e.item = n.key AND e.user = u.key)";
    let mut reader = db.reader().await?;
    let rows = sqlx::query(sql).bind(user.as_str()).bind(json(items)?).bind(tenant.as_str());
    for row in rows.fetch_all(&mut *reader).await? {
        if let Some(slot) = known.get_mut(place(row.try_get(0)?)) {
            *slot = true;
        }
    }
    Ok(known)
}

pub(super) async fn pairs(db: &Database, tenant: &Tenant, pairs: &[(UserId, ItemId)]) -> sqlx::Result<Vec<PairEvents>> {
    let mut found: Vec<_> =
        pairs.iter().map(|(user, item)| PairEvents { user: user.clone(), item: item.clone(), events: Vec::new() }).collect();
    if pairs.is_empty() {
        return Ok(found);
    }
    let mut reader = db.reader().await?;
    for part in found.chunks_mut(PAIRS_AT_ONCE) {
        pairs_of(&mut reader, tenant, part).await?;
    }
    for pair in found.iter_mut().filter(|p| p.events.len() > 1) {
        pair.events.sort_by(|a, b| EngagedEvent::newest_first(b, a));
    }
    Ok(found)
}

/// So many pairs are packed into one text.
const PAIRS_AT_ONCE: usize = 8192;

async fn pairs_of(reader: &mut SqliteConnection, tenant: &Tenant, found: &mut [PairEvents]) -> sqlx::Result<()> {
    // By user, so that each user is looked up once: [[user, [item, …]], …].
    let mut by_user: HashMap<&str, usize> = HashMap::new();
    let mut asked: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut places: Vec<Vec<usize>> = Vec::new();
    for (place, pair) in found.iter().enumerate() {
        let at = *by_user.entry(pair.user.as_str()).or_insert_with(|| {
            asked.push((pair.user.as_str(), Vec::new()));
            places.push(Vec::new());
            asked.len() - 1
        });
        asked[at].1.push(pair.item.as_str());
        places[at].push(place);
    }
    let sql = concat!(
        "SELECT json_group_array(json_array(a.key, b.key, e.id, e.source, e.kind, e.value, e.timestamp)) \
         FROM json_each(?) a CROSS JOIN users u ON u.tenant = ",
        tenant!(),
        " AND u.id = a.value ->> 0 CROSS JOIN json_each(a.value, '$[1]') b CROSS JOIN items n ON n.tenant = u.tenant \
         AND n.id = b.value CROSS JOIN engagements e INDEXED BY engagements_by_item ON e.item = n.key AND e.user = u.key"
    );
    let packed: String = sqlx::query_scalar(sql).bind(json(&asked)?).bind(tenant.as_str()).fetch_one(reader).await?;
    let mut kinds = Kinds::default();
    for (a, b, id, source, kind, value, timestamp) in
        packed::rows::<(usize, usize, Text<'_>, u8, Text<'_>, i64, i64)>(Some(&packed))?
    {
        if let Some(pair) = places.get(a).and_then(|p| p.get(b)).and_then(|at| found.get_mut(*at)) {
            pair.events.push(EngagedEvent {
                id: EventId::trusted(&*id.0),
                is_message: source == 1,
                item: pair.item.clone(),
                kind: kinds.shared(&kind.0),
                value: f64::from_bits(value.cast_unsigned()),
                timestamp: Timestamp::from_millis(timestamp),
            });
        }
    }
    Ok(())
}

pub(super) async fn newest_items(
    db: &Database,
    tenant: &Tenant,
    category: Option<&str>,
    limit: usize,
) -> sqlx::Result<Vec<ItemState>> {
    const OF_ANY: &str = concat!(
        "SELECT n.id, s.text, s.categories, s.expires_at, s.hidden, s.attributes, s.timestamp, NULL FROM states s \
         CROSS JOIN items n ON n.key = s.item WHERE s.tenant = ",
        tenant!(),
        " AND s.hidden = 0 ORDER BY s.arrival DESC LIMIT ?"
    );
    const OF_CATEGORY: &str = concat!(
        "SELECT n.id, s.text, s.categories, s.expires_at, s.hidden, s.attributes, s.timestamp, NULL FROM categories c \
         CROSS JOIN states s ON s.item = c.item CROSS JOIN items n ON n.key = s.item WHERE c.tenant = ",
        tenant!(),
        " AND c.category = ? AND s.hidden = 0 ORDER BY c.arrival DESC LIMIT ?"
    );
    let mut reader = db.reader().await?;
    let rows = match category {
        None => sqlx::query(OF_ANY).bind(tenant.as_str()),
        Some(category) => sqlx::query(OF_CATEGORY).bind(tenant.as_str()).bind(category),
    };
    rows.bind(rows_limit(limit)).fetch_all(&mut *reader).await?.iter().map(|row| state(row, tenant)).collect()
}

pub(super) async fn users(
    db: &Database,
    tenant: &Tenant,
    prefix: &str,
    after: Option<&UserId>,
    limit: usize,
) -> sqlx::Result<Vec<UserId>> {
    let sql =
        concat!("SELECT id FROM users WHERE tenant = ", tenant!(), " AND id >= ? AND id > ? AND id < ? ORDER BY id LIMIT ?");
    let rows = sqlx::query(sql).bind(tenant.as_str()).bind(prefix).bind(after.map_or("", UserId::as_str));
    let rows = match behind(prefix) {
        Some(end) => rows.bind(end),
        // To SQLite, bytes stand behind every text.
        None => rows.bind(Vec::<u8>::new()),
    };
    let rows = rows.bind(rows_limit(limit));
    let mut reader = db.reader().await?;
    rows.fetch_all(&mut *reader).await?.iter().map(|row| Ok(UserId::trusted(row.try_get::<&str, _>(0)?))).collect()
}

/// Of each of these users, whether there is nothing of theirs: a user without an event has no row.
pub(super) async fn unknown(db: &Database, tenant: &Tenant, users: &[UserId]) -> sqlx::Result<Vec<bool>> {
    let sql = concat!("SELECT j.key FROM json_each(?) j CROSS JOIN users u ON u.tenant = ", tenant!(), " AND u.id = j.value");
    let mut reader = db.reader().await?;
    let mut unknown = vec![true; users.len()];
    for row in sqlx::query(sql).bind(json(users)?).bind(tenant.as_str()).fetch_all(&mut *reader).await? {
        if let Some(slot) = unknown.get_mut(place(row.try_get(0)?)) {
            *slot = false;
        }
    }
    Ok(unknown)
}

pub(super) async fn catalogue(
    db: &Database,
    tenant: &Tenant,
    after: Option<&ItemId>,
    limit: usize,
    revision: Option<&str>,
) -> sqlx::Result<Vec<ItemState>> {
    let sql = concat!(
        "SELECT n.id, s.text, s.categories, s.expires_at, s.hidden, s.attributes, s.timestamp, v.vector FROM items n \
         CROSS JOIN states s ON s.item = n.key LEFT JOIN item_vectors v ON v.owner = n.key \
         AND v.revision = (SELECT key FROM revisions WHERE name = ?) WHERE n.tenant = ",
        tenant!(),
        " AND n.id > ? ORDER BY n.id LIMIT ?"
    );
    let rows =
        sqlx::query(sql).bind(revision).bind(tenant.as_str()).bind(after.map_or("", ItemId::as_str)).bind(rows_limit(limit));
    let mut reader = db.reader().await?;
    rows.fetch_all(&mut *reader).await?.iter().map(|row| state(row, tenant)).collect()
}

/// The columns id, text, categories, expires_at, hidden, attributes, timestamp, vector.
fn state(row: &SqliteRow, tenant: &Tenant) -> sqlx::Result<ItemState> {
    let item = Item {
        tenant: tenant.clone(),
        item_id: ItemId::trusted(row.try_get::<&str, _>(0)?),
        text: row.try_get::<Option<&str>, _>(1)?.map(Arc::from),
        categories: serde_json::from_str(row.try_get(2)?).map_err(|_| torn("a list of categories"))?,
        expires_at: row.try_get::<Option<i64>, _>(3)?.map(Timestamp::from_millis),
        hidden: row.try_get::<i64, _>(4)? != 0,
        attributes: serde_json::from_str(row.try_get(5)?).map_err(|_| torn("a list of attributes"))?,
        timestamp: row.try_get::<Option<i64>, _>(6)?.map(Timestamp::from_millis),
    };
    Ok(ItemState { item, vector: vector(row, 7)? })
}

/// A vector as [`nearcast_domain::digest::vector_bytes`] wrote it.
fn vector(row: &SqliteRow, column: usize) -> sqlx::Result<Option<Vector>> {
    let Some(bytes) = row.try_get::<Option<&[u8]>, _>(column)? else { return Ok(None) };
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(torn("a vector"));
    }
    Ok(Some(floats.iter().map(|f| f32::from_le_bytes(*f)).collect()))
}

/// Kinds are few: each is shared by all of its events.
#[derive(Default)]
struct Kinds(Vec<Arc<str>>);

impl Kinds {
    fn shared(&mut self, kind: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().take(16).find(|k| ***k == *kind) {
            return known.clone();
        }
        let new: Arc<str> = kind.into();
        self.0.push(new.clone());
        new
    }
}
