//! Counts engagements and keeps categories, in transactions of bounded size that may each be repeated.

use std::collections::BTreeMap;

use nearcast_domain::{
    StoreResult, Tenant, UserId,
    ports::{ItemLabels, Tally, TrendFit},
};

use super::{
    Shared, schema,
    server::{Mode, get, sql},
};

pub(super) async fn record(shared: &Shared, tenant: &Tenant, tallies: &[Tally]) -> StoreResult<()> {
    // What stands in the batch twice counts once: the first stays. In the order of their keys, so that the parts of two
    // batches lock in one order too.
    let mut fresh: Vec<&Tally> = tallies.iter().collect();
    fresh.sort_by(|a, b| (&a.user, &a.id).cmp(&(&b.user, &b.id)));
    fresh.dedup_by(|a, b| a.user == b.user && a.id == b.id);
    for part in fresh.chunks(shared.server.config.batch_rows) {
        schema::ensure_months(shared, part).await?;
        shared.server.attempts(|| record_part(shared, tenant, part)).await?;
    }
    Ok(())
}

async fn record_part(shared: &Shared, tenant: &Tenant, part: &[&Tally]) -> StoreResult<()> {
    let mut tx = shared.server.begin(Mode::Write).await?;
    let statement = sql(&shared.statements.record)
        .bind(tenant.as_str())
        .bind(part.iter().map(|t| t.user.as_str()).collect::<Vec<_>>())
        .bind(part.iter().map(|t| t.id.as_str()).collect::<Vec<_>>())
        .bind(part.iter().map(|t| t.item.as_str()).collect::<Vec<_>>())
        .bind(part.iter().map(|t| t.hour()).collect::<Vec<_>>())
        .bind(part.iter().map(|t| t.steps()).collect::<Vec<_>>());
    tx.run(statement).await?;
    tx.commit().await
}

pub(super) async fn set_labels(shared: &Shared, tenant: &Tenant, labels: &[ItemLabels]) -> StoreResult<()> {
    // The last word on an item stands.
    let by_item: BTreeMap<&str, String> = labels.iter().map(|l| (l.item.as_str(), l.categories.join("\u{1f}"))).collect();
    let rows: Vec<(&str, String)> = by_item.into_iter().collect();
    for part in rows.chunks(shared.server.config.batch_rows) {
        let call = || async {
            let mut tx = shared.server.begin(Mode::Write).await?;
            let statement = sql(&shared.statements.set_labels)
                .bind(tenant.as_str())
                .bind(part.iter().map(|(item, _)| *item).collect::<Vec<_>>())
                .bind(part.iter().map(|(_, categories)| categories.as_str()).collect::<Vec<_>>());
            tx.run(statement).await?;
            tx.commit().await
        };
        shared.server.attempts(call).await?;
    }
    Ok(())
}

pub(super) async fn set_trend_fit(shared: &Shared, tenant: &Tenant, fit: TrendFit) -> StoreResult<()> {
    let call = || async {
        let mut tx = shared.server.begin(Mode::Write).await?;
        tx.run(sql(&shared.statements.set_fit).bind(tenant.as_str()).bind(fit.half_life_hours).bind(fit.share)).await?;
        tx.commit().await
    };
    shared.server.attempts(call).await
}

pub(super) async fn erase(shared: &Shared, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
    let call = || async {
        let mut tx = shared.server.begin(Mode::Write).await?;
        let rows = tx.rows(sql(&shared.statements.take_back).bind(tenant.as_str()).bind(user.as_str())).await?;
        let mut gone = 0;
        if let Some(row) = rows.first() {
            gone = get::<i64>(row, 0)?.max(0) as u64;
            let (items, hours): (Option<Vec<String>>, Option<Vec<i64>>) = (get(row, 1)?, get(row, 2)?);
            if let (Some(items), Some(hours)) = (items, hours) {
                tx.run(sql(&shared.statements.drop_empty).bind(tenant.as_str()).bind(items).bind(hours)).await?;
            }
        }
        tx.commit().await?;
        Ok(gone)
    };
    shared.server.attempts(call).await
}
