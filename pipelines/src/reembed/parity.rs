//! How far two revisions of an index agree: numbers of rows, lengths of vectors, and how many of the ten nearest are the same.

use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId, Vector,
    ports::{Collection, LedgerRead, VectorQuery, VectorRead},
};
use serde::Serialize;

/// How many neighbours are compared.
const NEAREST: usize = 10;
/// A vector further from unit length than this is an anomaly.
const NORM_TOLERANCE: f64 = 1e-3;

/// What was found, over all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Parity {
    /// Profiles in the old revision and in the new one.
    pub users: (u64, u64),
    /// Items likewise.
    pub items: (u64, u64),
    /// Rows whose neighbours were compared.
    pub sampled: u64,
    /// The share of the ten nearest in the old revision that are among the ten nearest in the new one, users and items, 0 to 1.
    pub overlap: f64,
    /// Vectors of the sample that are not of unit length in the new revision.
    pub norms_wrong: u64,
    /// Rows of the sample that the new revision lacks.
    pub missing: u64,
}

/// Compares up to `sample` users and as many items of each tenant, evenly spread over their ids.
pub async fn parity(ledger: &dyn LedgerRead, old: &dyn VectorRead, new: &dyn VectorRead, sample: usize) -> StoreResult<Parity> {
    let (mut p, mut shared, mut compared) = (Parity::default(), 0_u64, 0_u64);
    for tenant in ledger.tenants().await? {
        for collection in Collection::ALL {
            let counts = (old.count(&tenant, collection).await?, new.count(&tenant, collection).await?);
            let of = if collection == Collection::Users { &mut p.users } else { &mut p.items };
            *of = (of.0 + counts.0, of.1 + counts.1);
            let ids = ids(ledger, &tenant, collection, sample).await?;
            let (before, after) = (old.get(&tenant, collection, &ids).await?, new.get(&tenant, collection, &ids).await?);
            for ((id, before), after) in ids.iter().zip(before).zip(after) {
                let (Some(before), Some(after)) = (&before, &after) else {
                    p.missing += u64::from(before.is_some() && after.is_none());
                    continue;
                };
                p.sampled += 1;
                let norm = after.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
                p.norms_wrong += u64::from((norm - 1.0).abs() > NORM_TOLERANCE);
                let (a, b) =
                    (near(old, &tenant, collection, id, before).await?, near(new, &tenant, collection, id, after).await?);
                shared += a.iter().filter(|id| b.contains(id)).count() as u64;
                compared += a.len() as u64;
            }
        }
    }
    p.overlap = if compared == 0 { 1.0 } else { shared as f64 / compared as f64 };
    Ok(p)
}

async fn near(
    index: &dyn VectorRead,
    tenant: &Tenant,
    collection: Collection,
    id: &str,
    vector: &Vector,
) -> StoreResult<Vec<String>> {
    let query = VectorQuery { vector: vector.clone(), limit: NEAREST, label: None, exclude: vec![id.to_owned()] };
    Ok(index.search(tenant, collection, query).await?.into_iter().map(|h| h.id).collect())
}

/// Ids spread evenly over a tenant's.
async fn ids(ledger: &dyn LedgerRead, tenant: &Tenant, collection: Collection, sample: usize) -> StoreResult<Vec<String>> {
    const PAGE: usize = 1_000;
    let counts = ledger.counts(tenant).await?;
    let all = if collection == Collection::Users { counts.users } else { counts.items };
    let step = (all as usize / sample.max(1)).max(1);
    let (mut ids, mut seen, mut after): (Vec<String>, usize, Option<String>) = (Vec::new(), 0, None);
    loop {
        let page: Vec<String> = match collection {
            Collection::Users => {
                let after = after.clone().map(UserId::trusted);
                let page = ledger.users(tenant, "", after.as_ref(), PAGE).await?;
                page.into_iter().map(|u| u.as_str().to_owned()).collect()
            }
            Collection::Items => {
                let after = after.clone().map(ItemId::trusted);
                let page = ledger.catalogue(tenant, after.as_ref(), PAGE, None).await?;
                page.into_iter().map(|s| s.item.item_id.as_str().to_owned()).collect()
            }
        };
        let Some(last) = page.last() else { return Ok(ids) };
        after = Some(last.clone());
        for id in page {
            if seen.is_multiple_of(step) && ids.len() < sample {
                ids.push(id);
            }
            seen += 1;
        }
    }
}
