//! Sets edges and lists, in transactions of bounded size that may each be repeated.

use std::collections::BTreeMap;

use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId,
    ports::{Edge, Neighbour, NeighbourList},
};
use neo4rs::Query;

use super::{
    Shared, read,
    rows::{first, list, list_row, number, texts, user_row, whole},
};

pub(super) async fn set_edges(shared: &Shared, tenant: &Tenant, edges: &[Edge]) -> StoreResult<()> {
    // The last word on a pair stands.
    let mut rows: Vec<&Edge> = edges.iter().rev().collect();
    rows.sort_by(|a, b| (&a.user, &a.item).cmp(&(&b.user, &b.item)));
    rows.dedup_by(|a, b| a.user == b.user && a.item == b.item);
    for part in rows.chunks(shared.config.batch_rows) {
        let make = || {
            let rows = list(part.chunk_by(|a, b| a.user == b.user).map(user_row).collect());
            vec![shared.about(&shared.cypher.set_edges, tenant).param("rows", rows)]
        };
        shared.core.write(make).await?;
    }
    Ok(())
}

/// The last list of each item, by item.
fn chosen(lists: &[NeighbourList]) -> Vec<(&ItemId, &[Neighbour])> {
    let by_item: BTreeMap<&ItemId, &[Neighbour]> = lists.iter().map(|(item, list)| (item, list.as_slice())).collect();
    by_item.into_iter().collect()
}

/// Lists are written in so many times smaller parts: workers wait for the lock of their tenant meanwhile.
const SMALLER: usize = 5;

/// Parts of at most so many rows, lists whole.
fn parts<'l>(lists: &'l [(&'l ItemId, &'l [Neighbour])], most: usize) -> Vec<&'l [(&'l ItemId, &'l [Neighbour])]> {
    let mut rows = 0;
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, (_, list)) in lists.iter().enumerate() {
        rows += list.len() + 1;
        if rows >= most {
            parts.push(&lists[from..=at]);
            (from, rows) = (at + 1, 0);
        }
    }
    parts.push(&lists[from..]);
    parts.retain(|part| !part.is_empty());
    parts
}

pub(super) async fn set_neighbours(shared: &Shared, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()> {
    let chosen = chosen(lists);
    for part in parts(&chosen, shared.config.batch_rows.div_ceil(SMALLER)) {
        let make = || {
            let ids = texts(part.iter().map(|(item, _)| item.as_str()));
            let settle = shared.about(&shared.cypher.settle_lists, tenant).param("ids", ids).param("upto", mark(upto));
            vec![write_lists(shared, tenant, part), settle]
        };
        shared.core.write(make).await?;
    }
    Ok(())
}

fn write_lists(shared: &Shared, tenant: &Tenant, part: &[(&ItemId, &[Neighbour])]) -> Query {
    let lists = list(part.iter().map(|(item, near)| list_row(item, near)).collect());
    shared.about(&shared.cypher.set_lists, tenant).param("lists", lists)
}

fn mark(upto: u64) -> i64 {
    i64::try_from(upto).unwrap_or(i64::MAX)
}

pub(super) async fn replace_neighbours(
    shared: &Shared,
    tenant: &Tenant,
    lists: &[NeighbourList],
    upto: u64,
) -> StoreResult<()> {
    let mut there = read::lists(shared, tenant).await?;
    let chosen = chosen(lists);
    // Most lists are as they were: these are not written.
    let mut changed: Vec<(&ItemId, &[Neighbour])> = Vec::new();
    for (item, near) in chosen {
        let before = there.remove(item);
        if before != (!near.is_empty()).then(|| number(near)) {
            changed.push((item, near));
        }
    }
    let mut gone: Vec<ItemId> = there.into_keys().collect();
    gone.sort_unstable();
    changed.extend(gone.iter().map(|item| (item, &[] as &[Neighbour])));
    for part in parts(&changed, shared.config.batch_rows.div_ceil(SMALLER)) {
        shared.core.write(|| vec![write_lists(shared, tenant, part)]).await?;
    }
    // Marks are taken back after, not before: a crash in between costs work, no touch.
    let rows = whole(shared.config.batch_rows);
    loop {
        let settle = || shared.about(&shared.cypher.settle_all, tenant).param("upto", mark(upto)).param("rows", rows);
        let found = shared.core.write(|| vec![settle()]).await?;
        if first::<i64>(&found, "gone")?.unwrap_or(0) < rows {
            return Ok(());
        }
    }
}

pub(super) async fn erase(shared: &Shared, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
    let about = |text: &str| shared.about(text, tenant).param("user", user.as_str());
    let rows = whole(shared.config.batch_rows);
    let mut gone = 0;
    loop {
        let done = shared.core.write(|| vec![about(&shared.cypher.erase).param("rows", rows)]).await?;
        let part = first::<i64>(&done, "touched")?.unwrap_or(0);
        gone += part.max(0) as u64;
        if part < rows {
            break;
        }
    }
    shared.core.write(|| vec![about(&shared.cypher.erase_user)]).await?;
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_never_cut() {
        let near = |n: usize| vec![Neighbour { item: ItemId::trusted("x"), weight: 1.0 }; n];
        let lists: Vec<NeighbourList> =
            [3, 0, 9, 1, 1].iter().enumerate().map(|(i, n)| (ItemId::trusted(i.to_string()), near(*n))).collect();
        let chosen = chosen(&lists);
        let parts = parts(&chosen, 5);
        assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [2, 1, 2]);
        assert_eq!(parts.concat(), chosen);
    }
}
