//! Counted events, totals and categories against the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId,
    digest::bucket,
    ports::{EngagementBuckets, Tally},
};

use super::{PAGE, Part, PartReport, Reconcile};

/// What is expected. Totals are added up whole: they are as many as items have hours.
struct Expected {
    digests: EngagementBuckets,
    totals: BTreeMap<(ItemId, i64), (u64, i64)>,
    rows: u64,
}

fn lock(expected: &Mutex<Expected>) -> MutexGuard<'_, Expected> {
    expected.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(expected: &mut Expected, tenant: &Tenant, n: usize, t: &Tally) {
    let (name, user) = (tenant.as_str(), t.user.as_str());
    expected.digests.counted[bucket(user, n)].add_counted(name, user, t.id.as_str(), t.item.as_str(), t.hour(), t.steps());
    let total = expected.totals.entry((t.item.clone(), t.hour())).or_default();
    *total = (total.0 + 1, total.1.saturating_add(t.steps()));
    expected.rows += 1;
}

pub(super) async fn engagement(r: &Reconcile, tenant: &Tenant) -> StoreResult<PartReport> {
    let n = Reconcile::ranges(r.ledger.counts(tenant).await?.events);
    let mut report = PartReport::new(Part::Engagement, tenant);
    let expected = &Mutex::new(Expected { digests: EngagementBuckets::new(n), totals: BTreeMap::new(), rows: 0 });
    r.each_users("engagements", tenant, |page| async move {
        let tallies = r.truth.tallies(tenant, &page).await?;
        let mut expected = lock(expected);
        tallies.iter().flatten().for_each(|t| count(&mut expected, tenant, n, t));
        Ok(())
    })
    .await?;
    r.each_items("categories", tenant, |state| {
        let mut expected = lock(expected);
        let item = state.item.item_id.as_str();
        let mut categories: Vec<&str> = state.item.categories.iter().map(AsRef::as_ref).collect();
        categories.sort_unstable();
        categories.dedup();
        categories.iter().for_each(|c| expected.digests.labels[bucket(item, n)].add_label(tenant.as_str(), item, c));
        expected.rows += categories.len() as u64;
    })
    .await?;
    let there = r.engagement.buckets(tenant, n).await?;
    let (counted, labels, totals) = {
        let mut expected = lock(expected);
        for ((item, hour), (count, steps)) in std::mem::take(&mut expected.totals) {
            let digest = &mut expected.digests.totals[bucket(item.as_str(), n)];
            digest.add_total(tenant.as_str(), item.as_str(), hour, count, steps);
            expected.rows += 1;
        }
        report.rows = expected.rows;
        let e = &expected.digests;
        let totals = r.different(&e.totals, &there.totals);
        (r.different(&e.counted, &there.counted), r.different(&e.labels, &there.labels), totals)
    };
    report.ranges = 3 * n;
    report.ranges_different = counted.len() + labels.len() + totals.len();
    let read = |different: &[usize], there: &[nearcast_domain::digest::Digest]| {
        different.iter().map(|i| there[*i].rows()).sum::<u64>()
    };
    report.rows_read = read(&counted, &there.counted) + read(&labels, &there.labels) + read(&totals, &there.totals);
    // What one user or item holds is written whole, so ranges are looked at no closer than this.
    report.wrong = report.ranges_different as u64;
    if !r.options.repair || report.wrong == 0 {
        return Ok(report);
    }
    mend_users(r, tenant, n, &counted).await?;
    mend_items(r, tenant, n, &labels).await?;
    if !counted.is_empty() || !totals.is_empty() {
        r.engagement.recount(tenant).await?;
    }
    report.repaired = report.wrong;
    Ok(report)
}

/// Counts anew everyone in these ranges, whether the ledger knows of them or not.
async fn mend_users(r: &Reconcile, tenant: &Tenant, n: usize, wanted: &[usize]) -> StoreResult<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut users: BTreeSet<UserId> = r.engagement.counted_users(tenant, n, wanted).await?.into_iter().collect();
    let mut after: Option<UserId> = None;
    loop {
        let page = r.ledger.users(tenant, "", after.as_ref(), 4 * PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        users.extend(page.into_iter().filter(|u| wanted.binary_search(&bucket(u.as_str(), n)).is_ok()));
    }
    let users: Vec<UserId> = users.into_iter().collect();
    for part in users.chunks(PAGE) {
        r.go_on()?;
        r.truth.mend_tallies(tenant, part).await?;
    }
    Ok(())
}

async fn mend_items(r: &Reconcile, tenant: &Tenant, n: usize, wanted: &[usize]) -> StoreResult<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut items: BTreeSet<ItemId> = r.engagement.labelled_items(tenant, n, wanted).await?.into_iter().collect();
    let mut after: Option<ItemId> = None;
    loop {
        let page = r.ledger.catalogue(tenant, after.as_ref(), 4 * PAGE, None).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.item.item_id.clone());
        let ids = page.into_iter().map(|s| s.item.item_id);
        items.extend(ids.filter(|i| wanted.binary_search(&bucket(i.as_str(), n)).is_ok()));
    }
    let items: Vec<ItemId> = items.into_iter().collect();
    for part in items.chunks(PAGE) {
        r.go_on()?;
        r.truth.mend_labels(tenant, part).await?;
    }
    Ok(())
}
