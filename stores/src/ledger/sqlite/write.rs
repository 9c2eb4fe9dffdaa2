//! Carries out a plan inside one transaction, set by set.

use std::sync::Arc;

use nearcast_domain::{Event, Vector, digest::vector_bytes, event::ContentHash, ports::Append, taste::MESSAGE_KIND};
use sqlx::{Row, SqliteConnection};

use super::load::{Keys, slot};
use crate::{
    ledger::plan::{Batch, Erased, Plan},
    sqlite::{
        begin,
        names::{self, Names},
        rows::{insert, json},
    },
};

struct EngagementRow {
    user: i64,
    timestamp: i64,
    id: Arc<str>,
    source: i64,
    item: i64,
    kind: Arc<str>,
    value: f64,
    hash: ContentHash,
}

struct MessageRow {
    key: i64,
    user: i64,
    id: Arc<str>,
    timestamp: i64,
    item: Option<i64>,
    text: Arc<str>,
    hash: ContentHash,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    users: i64,
    items: i64,
    events: i64,
}

/// Writes everything that a plan asks for.
pub(super) async fn apply(
    conn: &mut SqliteConnection,
    batch: &Batch<'_>,
    mut keys: Keys,
    plan: Plan<'_>,
    revision: &str,
) -> sqlx::Result<()> {
    let changes = plan.items.iter().any(|c| c.state.is_some() || c.vector.is_some());
    if plan.events.is_empty()
        && plan.late_vectors.is_empty()
        && !changes
        && plan.erased.iter().all(Option::is_none)
        && plan.refused.iter().all(Option::is_none)
    {
        return Ok(());
    }
    let mut counts = vec![Counts::default(); keys.tenants.len()];
    erase(conn, batch, &mut keys, &plan, &mut counts).await?;
    intern(conn, batch, &mut keys, &plan, &mut counts).await?;
    refuse(conn, &keys, &plan).await?;
    let revision = revision_key(conn, revision, &plan).await?;
    events(conn, batch, &keys, &plan, revision, &mut counts).await?;
    items(conn, &keys, &plan, revision, &mut counts).await?;
    let rows: Vec<_> = keys.tenant_keys.iter().zip(&counts).filter_map(|(k, c)| k.map(|k| (k, *c))).collect();
    let head = "INSERT INTO tenants (key, name, users, items, events)";
    let tail = "ON CONFLICT (key) DO UPDATE SET users = users + excluded.users, items = items + excluded.items, \
                events = events + excluded.events";
    insert(conn, head, 5, tail, &rows, |v, (key, c)| {
        v.int(*key).text("".into()).int(c.users).int(c.items).int(c.events);
    })
    .await?;
    Ok(())
}

/// Removes everything of those who were erased, and leaves the records.
async fn erase(
    conn: &mut SqliteConnection,
    batch: &Batch<'_>,
    keys: &mut Keys,
    plan: &Plan<'_>,
    counts: &mut [Counts],
) -> sqlx::Result<()> {
    let erased: Vec<(usize, Erased)> = plan.erased.iter().enumerate().filter_map(|(u, e)| e.map(|e| (u, e))).collect();
    if erased.is_empty() {
        return Ok(());
    }
    for t in erased.iter().map(|(u, _)| keys.user_tenants[*u]) {
        if keys.tenant_keys[t].is_none() {
            keys.tenant_keys[t] = Some(names::intern_tenant(conn, &keys.tenants[t]).await?);
        }
    }
    let gone: Vec<i64> = erased.iter().filter_map(|(u, _)| keys.users[*u]).collect();
    if !gone.is_empty() {
        let gone = json(&gone)?;
        let sql = "SELECT u.tenant, (SELECT count(*) FROM engagements WHERE user = u.key AND source = 0) \
                   + (SELECT count(*) FROM messages WHERE user = u.key) FROM users u WHERE u.key IN (SELECT value FROM json_each(?))";
        for row in sqlx::query(sql).bind(&gone).fetch_all(&mut *conn).await? {
            let tenant: i64 = row.try_get(0)?;
            if let Some(c) = keys.tenant_keys.iter().position(|k| *k == Some(tenant)).map(|t| &mut counts[t]) {
                c.users -= 1;
                c.events -= row.try_get::<i64, _>(1)?;
            }
        }
        for sql in [
            "DELETE FROM message_vectors WHERE owner IN (SELECT key FROM messages WHERE user IN (SELECT value FROM json_each(?)))",
            "DELETE FROM messages WHERE user IN (SELECT value FROM json_each(?))",
            "DELETE FROM engagements WHERE user IN (SELECT value FROM json_each(?))",
            "DELETE FROM stale WHERE user IN (SELECT value FROM json_each(?))",
            "DELETE FROM users WHERE key IN (SELECT value FROM json_each(?))",
        ] {
            sqlx::query(sql).bind(&gone).execute(&mut *conn).await?;
        }
        for (u, _) in &erased {
            keys.users[*u] = None;
        }
    }
    let records: Vec<_> = erased
        .iter()
        .filter_map(|(u, erased)| keys.tenant_keys[keys.user_tenants[*u]].map(|t| (t, batch.users[*u].1.shared(), *erased)))
        .collect();
    let tail = "ON CONFLICT (tenant, user) DO UPDATE SET until = excluded.until, asked = excluded.asked";
    insert(conn, "INSERT INTO erasures (tenant, user, until, asked)", 4, tail, &records, |v, (tenant, user, erased)| {
        v.int(*tenant).text(user.clone()).int(erased.until.millis()).int(erased.asked.millis());
    })
    .await?;
    Ok(())
}

/// Gives numbers to the tenants, users and items that are written now.
async fn intern(
    conn: &mut SqliteConnection,
    batch: &Batch<'_>,
    keys: &mut Keys,
    plan: &Plan<'_>,
    counts: &mut [Counts],
) -> sqlx::Result<()> {
    let mut user_needed = vec![false; batch.users.len()];
    let mut item_needed = vec![false; batch.items.len()];
    for (index, _) in &plan.events {
        let (user, item) = batch.slots[*index];
        user_needed[user] = true;
        if let Some(item) = slot(item) {
            item_needed[item] = true;
        }
    }
    for (needed, change) in item_needed.iter_mut().zip(&plan.items) {
        *needed |= change.state.is_some();
    }
    for (t, count) in counts.iter_mut().enumerate() {
        let (user_places, user_ids) = keys.users_of(batch, t, |i| user_needed[i] && keys.users[i].is_none());
        let (item_places, item_ids) = keys.items_of(batch, t, |i| item_needed[i] && keys.items[i].is_none());
        let (old_users, old_items) = (vec![None; user_ids.len()], vec![None; item_ids.len()]);
        // A tenant exists from its first fact on.
        if keys.tenant_keys[t].is_none() && (!user_ids.is_empty() || !item_ids.is_empty()) {
            keys.tenant_keys[t] = Some(names::intern_tenant(conn, &keys.tenants[t]).await?);
        }
        let Some(tenant) = keys.tenant_keys[t] else { continue };
        let (new, fresh) = names::add_missing(conn, Names::Users, tenant, &user_ids, &old_users).await?;
        count.users += i64::try_from(fresh).unwrap_or(0);
        user_places.iter().zip(new).for_each(|(place, key)| keys.users[*place] = Some(key));
        let (new, _) = names::add_missing(conn, Names::Items, tenant, &item_ids, &old_items).await?;
        item_places.iter().zip(new).for_each(|(place, key)| keys.items[*place] = Some(key));
    }
    Ok(())
}

/// Notes the newest conflict of each user.
async fn refuse(conn: &mut SqliteConnection, keys: &Keys, plan: &Plan<'_>) -> sqlx::Result<()> {
    let refused: Vec<(i64, i64)> =
        plan.refused.iter().zip(&keys.users).filter_map(|(time, key)| Some(((*key)?, (*time)?.millis()))).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE users SET refused = j.time FROM (SELECT value ->> 0 AS key, value ->> 1 AS time FROM json_each(?)) j \
               WHERE users.key = j.key AND (users.refused IS NULL OR users.refused < j.time)";
    sqlx::query(sql).bind(json(&refused)?).execute(conn).await?;
    Ok(())
}

/// The number of a revision; it gets one where a vector is to be written under it.
async fn revision_key(conn: &mut SqliteConnection, name: &str, plan: &Plan<'_>) -> sqlx::Result<i64> {
    let vectors = plan.events.iter().any(|(_, v)| v.is_some())
        || !plan.late_vectors.is_empty()
        || plan.items.iter().any(|c| c.vector.is_some());
    match vectors {
        true => intern_revision(conn, name).await,
        false => Ok(super::revision(conn, name).await?.unwrap_or(0)),
    }
}

async fn intern_revision(conn: &mut SqliteConnection, name: &str) -> sqlx::Result<i64> {
    if let Some(known) = super::revision(conn, name).await? {
        return Ok(known);
    }
    let done = sqlx::query("INSERT INTO revisions (name) VALUES (?)").bind(name).execute(conn).await?;
    Ok(done.last_insert_rowid())
}

/// Adds vectors to what is there with just this content.
pub(super) async fn add_vectors(
    conn: &mut SqliteConnection,
    made: &[Append],
    revision: &str,
    stale: bool,
) -> sqlx::Result<u64> {
    const MESSAGE: &str = "INSERT OR IGNORE INTO message_vectors (owner, revision, vector) SELECT m.key, ?, ? FROM tenants t \
                           CROSS JOIN users u ON u.tenant = t.key CROSS JOIN messages m ON m.user = u.key \
                           WHERE t.name = ? AND u.id = ? AND m.id = ? AND m.hash = ?";
    const ITEM: &str = "INSERT OR IGNORE INTO item_vectors (owner, revision, vector) SELECT s.item, ?, ? FROM tenants t \
                        CROSS JOIN items n ON n.tenant = t.key CROSS JOIN states s ON s.item = n.key \
                        WHERE t.name = ? AND n.id = ? AND s.hash = ? RETURNING owner";
    let mut tx = begin(conn).await?;
    let key = intern_revision(&mut tx, revision).await?;
    let (mut added, mut items) = (0, Vec::new());
    for append in made {
        let Some(vector) = append.vector.as_ref().map(|v| vector_bytes(v)) else { continue };
        let hash = append.hash.to_vec();
        match &append.event {
            Event::Message(m) => {
                let row = sqlx::query(MESSAGE).bind(key).bind(vector).bind(m.tenant.as_str()).bind(m.user_id.as_str());
                added += row.bind(m.message_id.as_str()).bind(hash).execute(&mut *tx).await?.rows_affected();
            }
            Event::Item(i) => {
                let row = sqlx::query_scalar(ITEM).bind(key).bind(vector).bind(i.tenant.as_str()).bind(i.item_id.as_str());
                let owner: Option<i64> = row.bind(hash).fetch_optional(&mut *tx).await?;
                added += u64::from(owner.is_some());
                items.extend(owner);
            }
            Event::Engagement(_) | Event::Erasure(_) => {}
        }
    }
    if stale {
        mark_stale(&mut tx, &items).await?;
    }
    tx.commit().await?;
    Ok(added)
}

async fn events(
    conn: &mut SqliteConnection,
    batch: &Batch<'_>,
    keys: &Keys,
    plan: &Plan<'_>,
    revision: i64,
    counts: &mut [Counts],
) -> sqlx::Result<()> {
    let mut next: i64 = 0;
    if plan.events.iter().any(|(i, _)| matches!(batch.appends[*i].event, Event::Message(_))) {
        next = sqlx::query_scalar("SELECT coalesce(max(key), 0) FROM messages").fetch_one(&mut *conn).await?;
    }
    let mut engagements = Vec::with_capacity(plan.events.len());
    let mut messages = Vec::new();
    let mut vectors: Vec<(i64, &Vector)> = plan.late_vectors.iter().map(|(key, v)| (*key, v)).collect();
    for (index, vector) in &plan.events {
        let append = &batch.appends[*index];
        let (user_slot, item_slot) = batch.slots[*index];
        let Some(user) = keys.users[user_slot] else { continue };
        let item = slot(item_slot).and_then(|i| keys.items[i]);
        counts[keys.user_tenants[user_slot]].events += 1;
        let engaged = match &append.event {
            Event::Engagement(e) => Some((e.event_id.shared(), 0, e.kind.clone(), e.value, e.timestamp)),
            Event::Message(e) => {
                next += 1;
                vectors.extend(vector.as_ref().map(|v| (next, v)));
                messages.push(MessageRow {
                    key: next,
                    user,
                    id: e.message_id.shared(),
                    timestamp: e.timestamp.millis(),
                    item,
                    text: e.text.clone(),
                    hash: append.hash,
                });
                Some((e.message_id.shared(), 1, MESSAGE_KIND.into(), 1.0, e.timestamp))
            }
            _ => None,
        };
        if let (Some((id, source, kind, value, timestamp)), Some(item)) = (engaged, item) {
            engagements.push(EngagementRow {
                user,
                timestamp: timestamp.millis(),
                id,
                source,
                item,
                kind,
                value,
                hash: append.hash,
            });
        }
    }
    // In the order of the tree, so that neighbours in it are written together.
    engagements.sort_unstable_by(|a, b| (a.user, a.timestamp, &a.id, a.source).cmp(&(b.user, b.timestamp, &b.id, b.source)));
    let head = "INSERT INTO engagements (user, timestamp, id, source, item, kind, value, hash)";
    insert(conn, head, 8, "", &engagements, |v, e| {
        v.int(e.user).int(e.timestamp).text(e.id.clone()).int(e.source).int(e.item).text(e.kind.clone());
        v.int(e.value.to_bits().cast_signed()).blob(e.hash.to_vec());
    })
    .await?;
    let head = "INSERT INTO messages (key, user, id, timestamp, item, text, hash)";
    insert(conn, head, 7, "", &messages, |v, m| {
        v.int(m.key)
            .int(m.user)
            .text(m.id.clone())
            .int(m.timestamp)
            .maybe_int(m.item)
            .text(m.text.clone())
            .blob(m.hash.to_vec());
    })
    .await?;
    insert(conn, "INSERT OR IGNORE INTO message_vectors (owner, revision, vector)", 3, "", &vectors, |v, (owner, vector)| {
        v.int(*owner).int(revision).blob(vector_bytes(vector));
    })
    .await?;
    Ok(())
}

struct StateRow<'a> {
    item: i64,
    tenant: i64,
    arrival: i64,
    hash: ContentHash,
    state: &'a nearcast_domain::Item,
    categories: Arc<str>,
    attributes: Arc<str>,
}

async fn items(
    conn: &mut SqliteConnection,
    keys: &Keys,
    plan: &Plan<'_>,
    revision: i64,
    counts: &mut [Counts],
) -> sqlx::Result<()> {
    let changed: Vec<(i64, usize)> = plan
        .items
        .iter()
        .enumerate()
        .filter(|(_, c)| c.state.is_some() || c.vector.is_some())
        .filter_map(|(i, _)| keys.items[i].map(|k| (k, i)))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    // An item keeps the place of its first arrival.
    let sql = "SELECT s.item, s.arrival FROM json_each(?) j CROSS JOIN states s ON s.item = j.value";
    let list = json(&changed.iter().map(|c| c.0).collect::<Vec<_>>())?;
    let mut arrivals = std::collections::HashMap::new();
    for row in sqlx::query(sql).bind(&list).fetch_all(&mut *conn).await? {
        arrivals.insert(row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?);
    }
    let sql = "SELECT coalesce(max((SELECT max(arrival) FROM states WHERE tenant = t.key)), 0) FROM tenants t";
    let mut next: i64 = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
    let (mut states, mut categories, mut vectors, mut dropped, mut stale) = (vec![], vec![], vec![], vec![], vec![]);
    // In the order of the batch, which is the order of arrival.
    for (key, index) in changed {
        let change = &plan.items[index];
        let place = keys.item_tenants[index];
        let Some(tenant) = keys.tenant_keys[place] else { continue };
        if let Some((append, Event::Item(state))) = change.state.map(|a| (a, &a.event)) {
            let arrival = *arrivals.entry(key).or_insert_with(|| {
                counts[place].items += 1;
                next += 1;
                next
            });
            categories.extend(state.categories.iter().map(|c| (tenant, c.clone(), arrival, key)));
            let texts = json(&state.categories)?.into();
            let attributes = json(&state.attributes)?.into();
            states.push(StateRow { item: key, tenant, arrival, hash: append.hash, state, categories: texts, attributes });
        }
        vectors.extend(change.vector.as_ref().map(|v| (key, v)));
        dropped.extend(change.drop_vectors.then_some(key));
        stale.extend(change.stale.then_some(key));
    }
    let replaced = json(&states.iter().map(|s| s.item).collect::<Vec<_>>())?;
    let sql = "DELETE FROM categories WHERE item IN (SELECT value FROM json_each(?))";
    sqlx::query(sql).bind(replaced).execute(&mut *conn).await?;
    if !dropped.is_empty() {
        let sql = "DELETE FROM item_vectors WHERE owner IN (SELECT value FROM json_each(?))";
        sqlx::query(sql).bind(json(&dropped)?).execute(&mut *conn).await?;
    }
    let head = "INSERT OR REPLACE INTO states (item, tenant, arrival, hash, timestamp, hidden, expires_at, text, categories, attributes)";
    insert(conn, head, 10, "", &states, |v, s| {
        v.int(s.item).int(s.tenant).int(s.arrival).blob(s.hash.to_vec()).maybe_int(s.state.timestamp.map(|t| t.millis()));
        v.int(i64::from(s.state.hidden)).maybe_int(s.state.expires_at.map(|t| t.millis())).maybe_text(s.state.text.clone());
        v.text(s.categories.clone()).text(s.attributes.clone());
    })
    .await?;
    insert(conn, "INSERT OR IGNORE INTO categories (tenant, category, arrival, item)", 4, "", &categories, |v, c| {
        v.int(c.0).text(c.1.clone()).int(c.2).int(c.3);
    })
    .await?;
    insert(conn, "INSERT OR IGNORE INTO item_vectors (owner, revision, vector)", 3, "", &vectors, |v, (owner, vector)| {
        v.int(*owner).int(revision).blob(vector_bytes(vector));
    })
    .await?;
    mark_stale(conn, &stale).await
}

/// Marks everyone who engaged with these items. A mark that is there already gets the newer number.
async fn mark_stale(conn: &mut SqliteConnection, items: &[i64]) -> sqlx::Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    let mark: i64 = sqlx::query_scalar("UPDATE marks SET last = last + 1 RETURNING last").fetch_one(&mut *conn).await?;
    let sql = "INSERT INTO stale (user, mark) SELECT DISTINCT user, ? FROM engagements \
               WHERE item IN (SELECT value FROM json_each(?)) ON CONFLICT (user) DO UPDATE SET mark = excluded.mark";
    sqlx::query(sql).bind(mark).bind(json(items)?).execute(conn).await?;
    Ok(())
}
