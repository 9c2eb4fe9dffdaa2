//! The vector index against the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId,
    digest::{Digest, bucket},
    ports::{Collection, VectorRow},
};

use super::{PAGE, Part, PartReport, Reconcile};

/// What is expected: digests of all ranges first; then, on a second way through, the rows of those that differ.
struct Expected {
    n: usize,
    wanted: Option<BTreeSet<usize>>,
    digests: Vec<Digest>,
    rows: BTreeMap<String, VectorRow>,
    count: u64,
}

impl Expected {
    fn new(n: usize) -> Self {
        Self { n, wanted: None, digests: vec![Digest::default(); n], rows: BTreeMap::new(), count: 0 }
    }

    fn wants(&self, id: &str) -> bool {
        self.wanted.as_ref().is_none_or(|w| w.contains(&bucket(id, self.n)))
    }

    fn add(&mut self, row: VectorRow, tenant: &Tenant, collection: Collection) {
        if self.wanted.is_some() {
            self.rows.insert(row.id.clone(), row);
        } else {
            self.count += 1;
            row.add_to(&mut self.digests[bucket(&row.id, self.n)], tenant, collection);
        }
    }
}

async fn expect_users(r: &Reconcile, tenant: &Tenant, expected: &Mutex<Expected>) -> StoreResult<()> {
    r.each_users("profiles", tenant, |page| async move {
        let users: Vec<UserId> = page.into_iter().filter(|u| lock(expected).wants(u.as_str())).collect();
        let profiles = r.truth.profiles(tenant, &users).await?;
        let mut expected = lock(expected);
        for (user, vector) in users.iter().zip(profiles) {
            if let Some(vector) = vector {
                let row = VectorRow { id: user.as_str().to_owned(), vector, labels: Vec::new() };
                expected.add(row, tenant, Collection::Users);
            }
        }
        Ok(())
    })
    .await
}

async fn expect_items(r: &Reconcile, tenant: &Tenant, expected: &Mutex<Expected>) -> StoreResult<()> {
    r.each_items("items", tenant, |state| {
        let mut expected = lock(expected);
        if expected.wants(state.item.item_id.as_str())
            && let (Some(row), _) = r.truth.item(state)
        {
            expected.add(row, tenant, Collection::Items);
        }
    })
    .await
}

pub(super) async fn users(r: &Reconcile, tenant: &Tenant) -> StoreResult<PartReport> {
    let n = Reconcile::ranges(r.ledger.counts(tenant).await?.users);
    let (mut report, wrong) = compare(r, tenant, Part::Users, n).await?;
    if r.options.repair {
        let wrong: Vec<UserId> = wrong.into_iter().map(UserId::trusted).collect();
        for part in wrong.chunks(PAGE) {
            r.go_on()?;
            r.truth.mend_profiles(tenant, part).await?;
            report.repaired += part.len() as u64;
        }
    }
    Ok(report)
}

pub(super) async fn items(r: &Reconcile, tenant: &Tenant) -> StoreResult<PartReport> {
    let n = Reconcile::ranges(r.ledger.counts(tenant).await?.items);
    let (mut report, wrong) = compare(r, tenant, Part::Items, n).await?;
    if r.options.repair {
        let wrong: Vec<ItemId> = wrong.into_iter().map(ItemId::trusted).collect();
        for part in wrong.chunks(PAGE) {
            r.go_on()?;
            r.truth.mend_items(tenant, part).await?;
            report.repaired += part.len() as u64;
        }
    }
    Ok(report)
}

/// The report so far, and the ids of rows that are wrong, missing or too many.
async fn compare(r: &Reconcile, tenant: &Tenant, part: Part, n: usize) -> StoreResult<(PartReport, Vec<String>)> {
    let collection = if part == Part::Users { Collection::Users } else { Collection::Items };
    let (revision, mut report) = (r.truth.revision(), PartReport::new(part, tenant));
    let expected = Mutex::new(Expected::new(n));
    let expect = async || match part {
        Part::Users => expect_users(r, tenant, &expected).await,
        _ => expect_items(r, tenant, &expected).await,
    };
    expect().await?;
    let there = r.vectors.buckets(tenant, collection, &revision, n).await?;
    let different = r.different(&lock(&expected).digests, &there);
    (report.rows, report.ranges, report.ranges_different) = (lock(&expected).count, n, different.len());
    if different.is_empty() {
        return Ok((report, Vec::new()));
    }
    lock(&expected).wanted = Some(different.iter().copied().collect());
    expect().await?;
    let mut expected = std::mem::take(&mut lock(&expected).rows);
    let there = r.vectors.rows(tenant, collection, &revision, n, &different).await?;
    report.rows_read = there.len() as u64;
    let mut wrong: Vec<String> = Vec::new();
    for row in there {
        if expected.remove(&row.id).as_ref() != Some(&row) {
            wrong.push(row.id);
        }
    }
    wrong.extend(expected.into_keys());
    wrong.sort_unstable();
    report.wrong = wrong.len() as u64;
    Ok((report, wrong))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
