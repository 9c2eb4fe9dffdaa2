//! Edges and neighbour lists against the ledger.

use std::{collections::BTreeMap, sync::Mutex};

use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId,
    digest::{Digest, bucket},
    ports::Edge,
};

use super::{PAGE, Part, PartReport, Reconcile};
use crate::neighbours::{Matrix, all_lists};

pub(super) async fn edges(r: &Reconcile, tenant: &Tenant) -> StoreResult<PartReport> {
    let mut report = PartReport::new(Part::Graph, tenant);
    let n = Reconcile::ranges(r.graph.count(tenant).await?);
    let name = tenant.as_str();
    let expected = &Mutex::new((vec![Digest::default(); n], 0_u64));
    r.each_users("edges", tenant, |page| async move {
        let edges = r.truth.edges(tenant, &page).await?;
        let mut expected = expected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for edge in edges.iter().flatten() {
            expected.0[bucket(edge.user.as_str(), n)].add_edge(name, edge);
            expected.1 += 1;
        }
        Ok(())
    })
    .await?;
    let mut there = vec![Digest::default(); n];
    let all = r.graph.scan(tenant).await?;
    all.iter().for_each(|edge| there[bucket(edge.user.as_str(), n)].add_edge(name, edge));
    let (digests, rows) = std::mem::take(&mut *expected.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let different = r.different(&digests, &there);
    (report.rows, report.ranges, report.ranges_different) = (rows, n, different.len());
    if different.is_empty() {
        return Ok(report);
    }
    // Whoever has edges in a range that differs, and whoever should have.
    let mut by_user: BTreeMap<UserId, Vec<Edge>> = BTreeMap::new();
    for edge in all.into_iter().filter(|e| different.binary_search(&bucket(e.user.as_str(), n)).is_ok()) {
        report.rows_read += 1;
        by_user.entry(edge.user.clone()).or_default().push(edge);
    }
    let (mut after, mut wrong): (Option<UserId>, Vec<UserId>) = (None, Vec::new());
    loop {
        r.go_on()?;
        let page = r.ledger.users(tenant, "", after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        let some: Vec<UserId> = page.into_iter().filter(|u| different.binary_search(&bucket(u.as_str(), n)).is_ok()).collect();
        for (user, edges) in some.iter().zip(r.truth.edges(tenant, &some).await?) {
            let mut there = by_user.remove(user).unwrap_or_default();
            there.sort_by(|a, b| a.item.cmp(&b.item));
            if there != edges {
                wrong.push(user.clone());
            }
        }
    }
    // The ledger knows nothing of these.
    wrong.extend(by_user.into_keys());
    report.wrong = wrong.len() as u64;
    if r.options.repair {
        for part in wrong.chunks(PAGE) {
            r.go_on()?;
            r.truth.mend_edges(tenant, part).await?;
            report.repaired += part.len() as u64;
        }
    }
    Ok(report)
}

/// Lists depend on all edges: they are made anew and compared; where one differs, all are replaced in one step.
pub(super) async fn neighbours(r: &Reconcile, tenant: &Tenant) -> StoreResult<PartReport> {
    let mut report = PartReport::new(Part::Neighbours, tenant);
    // Marks first: what changes in between stays marked.
    let touched = r.graph.touched(tenant, usize::MAX).await?;
    let edges = r.graph.scan(tenant).await?;
    let mut items: Vec<ItemId> = edges.iter().map(|e| e.item.clone()).collect();
    items.sort_unstable();
    items.dedup();
    let rule = r.neighbours.clone();
    let work = move || all_lists(&Matrix::new(&edges, rule.history), &rule);
    let lists = tokio::task::spawn_blocking(work).await.map_err(|e| StoreError::new(ErrorKind::Unavailable, "graph", e))?;
    (report.rows, report.ranges) = (lists.len() as u64, 1);
    let expected: BTreeMap<&ItemId, _> = lists.iter().map(|(item, list)| (item, list)).collect();
    for part in items.chunks(PAGE) {
        r.go_on()?;
        for (item, there) in part.iter().zip(r.graph.neighbours(tenant, part, usize::MAX).await?) {
            report.rows_read += 1;
            let expected = expected.get(item).map(|l| l.as_slice()).unwrap_or_default();
            report.wrong += u64::from(there != expected);
        }
        (r.progress)("neighbours", report.rows_read);
    }
    report.ranges_different = usize::from(report.wrong > 0);
    if r.options.repair && (report.wrong > 0 || r.options.everything) {
        r.graph.replace_neighbours(tenant, &lists, touched.upto).await?;
        report.repaired = report.wrong;
    }
    Ok(report)
}
