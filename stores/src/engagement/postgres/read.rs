//! What rises, the totals by hour, and the digest.

use nearcast_domain::{
    ItemId, StoreResult, Tenant,
    digest::Digest,
    ports::{HourTotal, TrendFit, TrendingQuery, WEIGHT_STEP},
};
use sqlx::{Row as _, postgres::PgRow};

use super::{
    Shared,
    server::{Mode, get, sql},
};
use crate::engagement::decay;

fn whole(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) async fn trending(shared: &Shared, tenant: &Tenant, query: &TrendingQuery) -> StoreResult<Vec<(ItemId, f64)>> {
    if query.limit == 0 {
        return Ok(Vec::new());
    }
    match query.half_life_hours {
        None => shared.server.attempts(|| lifelong(shared, tenant, query)).await,
        Some(half_life) => shared.server.attempts(|| decayed(shared, tenant, query, half_life)).await,
    }
}

async fn lifelong(shared: &Shared, tenant: &Tenant, query: &TrendingQuery) -> StoreResult<Vec<(ItemId, f64)>> {
    let text = &shared.statements.lifelong[usize::from(query.category.is_some())];
    let mut tx = shared.server.begin(Mode::Read).await?;
    let asked = sql(text).bind(tenant.as_str()).bind(query.category.as_deref()).bind(whole(query.limit));
    let rows = tx.rows(asked).await?;
    tx.commit().await?;
    rows.iter().map(|row| Ok((ItemId::trusted(get::<&str>(row, 0)?), get::<i64>(row, 1)? as f64 * WEIGHT_STEP))).collect()
}

async fn decayed(shared: &Shared, tenant: &Tenant, query: &TrendingQuery, half_life: f64) -> StoreResult<Vec<(ItemId, f64)>> {
    let text = &shared.statements.decayed[usize::from(query.category.is_some())];
    let mut tx = shared.server.begin(Mode::Read).await?;
    let newest = tx.rows(sql(&shared.statements.newest).bind(tenant.as_str())).await?;
    let rows = match newest.is_empty() {
        true => Vec::new(),
        false => tx.rows(sql(text).bind(tenant.as_str()).bind(query.category.as_deref())).await?,
    };
    tx.commit().await?;
    let Some(newest) = newest.first().map(|row| get::<i64>(row, 0)).transpose()? else { return Ok(Vec::new()) };
    // Computed here, as the other backend does: the server's powers may have another last bit.
    let score = |row: &PgRow| {
        let (hours, weights): (Vec<i64>, Vec<i64>) = (get(row, 1)?, get(row, 2)?);
        Ok((ItemId::trusted(get::<&str>(row, 0)?), decay::score(hours.into_iter().zip(weights), newest, half_life)))
    };
    let mut scores = Vec::with_capacity(rows.len());
    for part in rows.chunks(1024) {
        for row in part {
            scores.push(score(row)?);
        }
        tokio::task::yield_now().await;
    }
    Ok(decay::strongest(scores, query.limit))
}

pub(super) async fn hours(shared: &Shared, tenant: &Tenant, limit: usize) -> StoreResult<Vec<HourTotal>> {
    let mut totals = Vec::new();
    let mut tx = shared.server.begin(Mode::LongRead).await?;
    let asked = sql(&shared.statements.hours).bind(tenant.as_str()).bind(whole(limit));
    tx.stream(asked, |row| {
        let (hour, item): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
        let (count, steps): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
        let weight = steps as f64 * WEIGHT_STEP;
        totals.push(HourTotal { hour, item: ItemId::trusted(item), count: count.max(0) as u64, weight });
        Ok(())
    })
    .await?;
    tx.commit().await?;
    totals.reverse();
    Ok(totals)
}

pub(super) async fn trend_fit(shared: &Shared, tenant: &Tenant) -> StoreResult<Option<TrendFit>> {
    let call = || async {
        let mut tx = shared.server.begin(Mode::Read).await?;
        let rows = tx.rows(sql(&shared.statements.fit).bind(tenant.as_str())).await?;
        tx.commit().await?;
        rows.first().map(|row| Ok(TrendFit { half_life_hours: get(row, 0)?, share: get(row, 1)? })).transpose()
    };
    shared.server.attempts(call).await
}

pub(super) async fn digest(shared: &Shared) -> StoreResult<Digest> {
    let s = &shared.statements;
    let mut digest = Digest::default();
    let mut tx = shared.server.begin(Mode::LongRead).await?;
    let totals = |r: &PgRow| {
        let count = r.try_get::<i64, _>(3)?.max(0) as u64;
        digest.add_total(r.try_get(0)?, r.try_get(1)?, r.try_get(2)?, count, r.try_get(4)?);
        Ok(())
    };
    tx.stream(sql(&s.all_totals), totals).await?;
    let counted = |r: &PgRow| {
        digest.add_counted(r.try_get(0)?, r.try_get(1)?, r.try_get(2)?, r.try_get(3)?, r.try_get(4)?, r.try_get(5)?);
        Ok(())
    };
    tx.stream(sql(&s.all_counted), counted).await?;
    let labels = |r: &PgRow| {
        digest.add_label(r.try_get(0)?, r.try_get(1)?, r.try_get(2)?);
        Ok(())
    };
    tx.stream(sql(&s.all_labels), labels).await?;
    tx.commit().await?;
    Ok(digest)
}
