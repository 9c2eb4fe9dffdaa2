//! Counts engagements and keeps categories, each call in one transaction.

use std::collections::{HashMap, HashSet};

use nearcast_domain::{
    Tenant, UserId,
    ports::{ItemLabels, Tally, TrendFit},
};
use sqlx::SqliteConnection;

use crate::sqlite::{
    Database, begin,
    names::{self, Names, distinct},
    packed,
    rows::{insert, json},
};

pub(super) async fn record(db: &Database, tenant: &Tenant, tallies: &[Tally]) -> sqlx::Result<()> {
    if tallies.is_empty() {
        return Ok(());
    }
    let (users, user_of) = distinct(tallies.iter().map(|t| t.user.shared()));
    let mut writer = db.writer().await;
    let mut tx = begin(&mut writer).await?;
    let tenant_key = names::tenant(&mut tx, tenant.as_str()).await?;
    let known_users = match tenant_key {
        Some(tenant) => names::find(&mut tx, Names::Users, tenant, &users).await?,
        None => vec![None; users.len()],
    };
    let counted = counted(&mut tx, tallies, &user_of, &known_users).await?;
    // What was counted before, or stands in the batch twice, changes nothing: the first stays.
    let mut seen: HashSet<(usize, &str)> = HashSet::with_capacity(tallies.len());
    let mut fresh: Vec<(usize, &Tally)> = Vec::with_capacity(tallies.len());
    for (i, t) in tallies.iter().enumerate() {
        if !counted[i] && seen.insert((user_of[i], t.id.as_str())) {
            fresh.push((user_of[i], t));
        }
    }
    if fresh.is_empty() {
        return Ok(());
    }
    let tenant = match tenant_key {
        Some(key) => key,
        None => names::intern_tenant(&mut tx, tenant.as_str()).await?,
    };
    let (users, _) = names::add_missing(&mut tx, Names::Users, tenant, &users, &known_users).await?;
    let (items, item_of) = distinct(fresh.iter().map(|(_, t)| t.item.shared()));
    let items = names::intern(&mut tx, Names::Items, tenant, &items).await?;
    let mut totals: HashMap<(i64, i64), (i64, i64)> = HashMap::with_capacity(fresh.len());
    let mut rows: Vec<_> = fresh.iter().zip(item_of).map(|((u, t), i)| (users[*u], *t, items[i])).collect();
    for (_, tally, item) in &rows {
        let (count, weight) = totals.entry((*item, tally.hour())).or_default();
        *count += 1;
        *weight = weight.saturating_add(tally.steps());
    }
    rows.sort_unstable_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
    insert(&mut tx, "INSERT INTO counted (user, id, item, hour, weight)", 5, "", &rows, |v, (user, tally, item)| {
        v.int(*user).text(tally.id.shared()).int(*item).int(tally.hour()).int(tally.steps());
    })
    .await?;
    let mut totals: Vec<_> = totals.into_iter().collect();
    totals.sort_unstable();
    let tail = "ON CONFLICT (item, hour) DO UPDATE SET count = count + excluded.count, weight = weight + excluded.weight";
    insert(
        &mut tx,
        "INSERT INTO totals (item, hour, count, weight)",
        4,
        tail,
        &totals,
        |v, ((item, hour), (count, weight))| {
            v.int(*item).int(*hour).int(*count).int(*weight);
        },
    )
    .await?;
    tx.commit().await
}

/// For each tally, whether it is counted already.
async fn counted(
    conn: &mut SqliteConnection,
    tallies: &[Tally],
    user_of: &[usize],
    known_users: &[Option<i64>],
) -> sqlx::Result<Vec<bool>> {
    let mut counted = vec![false; tallies.len()];
    let asked: Vec<_> =
        tallies.iter().enumerate().filter_map(|(i, t)| known_users[user_of[i]].map(|u| (i, u, t.id.as_str()))).collect();
    if asked.is_empty() {
        return Ok(counted);
    }
    let sql = "SELECT json_group_array(j.key) FROM json_each(?) j CROSS JOIN counted c ON c.user = j.value ->> 0 AND c.id = j.value ->> 1";
    let list = json(&asked.iter().map(|(_, user, id)| (user, id)).collect::<Vec<_>>())?;
    let packed: String = sqlx::query_scalar(sql).bind(list).fetch_one(conn).await?;
    for at in packed::rows::<usize>(Some(&packed))? {
        if let Some((i, ..)) = asked.get(at) {
            counted[*i] = true;
        }
    }
    Ok(counted)
}

pub(super) async fn set_labels(db: &Database, tenant: &Tenant, labels: &[ItemLabels]) -> sqlx::Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let (items, item_of) = distinct(labels.iter().map(|l| l.item.shared()));
    // The last word on an item stands.
    let mut chosen = vec![0; items.len()];
    item_of.iter().enumerate().for_each(|(list, item)| chosen[*item] = list);
    let mut writer = db.writer().await;
    let mut tx = begin(&mut writer).await?;
    let tenant = names::intern_tenant(&mut tx, tenant.as_str()).await?;
    let keys = names::intern(&mut tx, Names::Items, tenant, &items).await?;
    sqlx::query("DELETE FROM labels WHERE item IN (SELECT value FROM json_each(?))")
        .bind(json(&keys)?)
        .execute(&mut *tx)
        .await?;
    let rows: Vec<(i64, &String)> = keys
        .iter()
        .zip(&chosen)
        .flat_map(|(key, list)| labels[*list].categories.iter().map(move |category| (*key, category)))
        .collect();
    insert(&mut tx, "INSERT OR IGNORE INTO labels (item, category)", 2, "", &rows, |v, (item, category)| {
        v.int(*item).text(category.as_str().into());
    })
    .await?;
    tx.commit().await
}

pub(super) async fn set_trend_fit(db: &Database, tenant: &Tenant, fit: TrendFit) -> sqlx::Result<()> {
    let mut writer = db.writer().await;
    let sql = "INSERT INTO tenants (name, half_life, share) VALUES (?, ?, ?) \
               ON CONFLICT (name) DO UPDATE SET half_life = excluded.half_life, share = excluded.share";
    sqlx::query(sql).bind(tenant.as_str()).bind(fit.half_life_hours).bind(fit.share).execute(&mut *writer).await?;
    Ok(())
}

pub(super) async fn erase(db: &Database, tenant: &Tenant, user: &UserId) -> sqlx::Result<u64> {
    let mut writer = db.writer().await;
    let mut tx = begin(&mut writer).await?;
    let sql = "SELECT u.key FROM tenants t JOIN users u ON u.tenant = t.key WHERE t.name = ? AND u.id = ?";
    let found: Option<i64> = sqlx::query_scalar(sql).bind(tenant.as_str()).bind(user.as_str()).fetch_optional(&mut *tx).await?;
    let Some(user) = found else { return Ok(0) };
    for sql in [
        "UPDATE totals SET count = totals.count - c.count, weight = totals.weight - c.weight FROM \
         (SELECT item, hour, count(*) AS count, sum(weight) AS weight FROM counted WHERE user = ? GROUP BY item, hour) c \
         WHERE totals.item = c.item AND totals.hour = c.hour",
        "DELETE FROM totals WHERE count <= 0 AND (item, hour) IN (SELECT item, hour FROM counted WHERE user = ?)",
    ] {
        sqlx::query(sql).bind(user).execute(&mut *tx).await?;
    }
    let gone = sqlx::query("DELETE FROM counted WHERE user = ?").bind(user).execute(&mut *tx).await?.rows_affected();
    sqlx::query("DELETE FROM users WHERE key = ?").bind(user).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(gone)
}
