//! What serving and jobs read of the graph.

use std::collections::HashMap;

use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId,
    digest::Digest,
    ports::{Edge, Neighbour, Touched},
};

use super::{
    Neo4jGraph, STORE, Shared,
    rows::{Packed, edge, get, neighbour, texts, whole},
};
use crate::graph::strongest_first;

/// Asked for more than this, everything is read: a bound that high saves the server nothing.
const NO_LIMIT: usize = 100_000;
/// How often a read that met a change of all lists is tried again.
const CHANGES_MET: usize = 8;

fn bounded(texts: &[String; 2], limit: usize) -> &str {
    if limit < NO_LIMIT { &texts[0] } else { &texts[1] }
}

pub(super) async fn edges_of_users(
    graph: &Neo4jGraph,
    tenant: &Tenant,
    users: &[UserId],
    limit: usize,
) -> StoreResult<Vec<Vec<Edge>>> {
    let ids: Vec<&str> = users.iter().map(UserId::as_str).collect();
    let make = |at: usize, e: &Packed| edge(users[at].clone(), ItemId::trusted(&*e.0), e);
    newest(graph, bounded(&graph.shared.cypher.of_users, limit), tenant, &ids, limit, make).await
}

pub(super) async fn edges_of_items(
    graph: &Neo4jGraph,
    tenant: &Tenant,
    items: &[ItemId],
    limit: usize,
) -> StoreResult<Vec<Vec<Edge>>> {
    let ids: Vec<&str> = items.iter().map(ItemId::as_str).collect();
    let make = |at: usize, e: &Packed| edge(UserId::trusted(&*e.0), items[at].clone(), e);
    newest(graph, bounded(&graph.shared.cypher.of_items, limit), tenant, &ids, limit, make).await
}

async fn newest(
    graph: &Neo4jGraph,
    text: &str,
    tenant: &Tenant,
    ids: &[&str],
    limit: usize,
    make: impl Fn(usize, &Packed) -> Edge,
) -> StoreResult<Vec<Vec<Edge>>> {
    let mut edges = vec![Vec::new(); ids.len()];
    if ids.is_empty() || limit == 0 {
        return Ok(edges);
    }
    let query = || graph.shared.about(text, tenant).param("ids", texts(ids.iter().copied())).param("limit", whole(limit));
    for row in graph.nearby(query).await? {
        let at = place(get(&row, "n")?);
        let list: Vec<Packed> = get(&row, "list")?;
        if let Some(place) = edges.get_mut(at) {
            *place = list.iter().map(|e| make(at, e)).collect();
        }
    }
    Ok(edges)
}

fn place(n: i64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

pub(super) async fn neighbours(
    graph: &Neo4jGraph,
    tenant: &Tenant,
    items: &[ItemId],
    limit: usize,
) -> StoreResult<Vec<Vec<Neighbour>>> {
    if items.is_empty() || limit == 0 {
        return Ok(vec![Vec::new(); items.len()]);
    }
    let text = bounded(&graph.shared.cypher.neighbours, limit);
    let ids = || texts(items.iter().map(ItemId::as_str));
    let query = || graph.shared.about(text, tenant).param("ids", ids()).param("limit", whole(limit));
    'again: for _ in 0..CHANGES_MET {
        let mut lists = vec![Vec::new(); items.len()];
        for row in graph.nearby(query).await? {
            let (n, size): (i64, i64) = (get(&row, "n")?, get(&row, "size")?);
            let list: Vec<(String, f64)> = get(&row, "list")?;
            if list.len() < limit.min(place(size)) {
                continue 'again;
            }
            if let Some(place) = lists.get_mut(place(n)) {
                *place = list.into_iter().map(|(id, weight)| neighbour(id, weight)).collect();
            }
        }
        return Ok(lists);
    }
    Err(replaced())
}

fn replaced() -> StoreError {
    StoreError::new(ErrorKind::Busy, STORE, "lists were replaced again and again while they were read")
}

/// The numbers of a tenant's lists.
pub(super) async fn lists(shared: &Shared, tenant: &Tenant) -> StoreResult<HashMap<ItemId, i64>> {
    let mut lists = HashMap::new();
    let row = |row: neo4rs::Row| {
        lists.insert(ItemId::trusted(get::<String>(&row, "id")?), get(&row, "near")?);
        Ok(())
    };
    shared.core.stream(shared.about(&shared.cypher.lists, tenant), row).await?;
    Ok(lists)
}

/// What a tenant's node says.
#[derive(Default)]
pub(super) struct TenantNode {
    pub(super) edges: u64,
    pub(super) mark: u64,
}

pub(super) async fn tenant(shared: &Shared, tenant: &Tenant) -> StoreResult<TenantNode> {
    let query = || shared.about(&shared.cypher.tenant, tenant);
    let rows = shared.core.read(shared.config.call_timeout(), query).await?;
    let Some(row) = rows.first() else { return Ok(TenantNode::default()) };
    let whole = |column| get::<i64>(row, column).map(|n| n.max(0) as u64);
    Ok(TenantNode { edges: whole("edges")?, mark: whole("mark")? })
}

pub(super) async fn scan(shared: &Shared, tenant: &Tenant) -> StoreResult<Vec<Edge>> {
    let mut edges = Vec::new();
    let query = shared.about(&shared.cypher.scan, tenant);
    shared
        .core
        .stream(query, |row| {
            let user = UserId::trusted(get::<String>(&row, "id")?);
            let list: Vec<Packed> = get(&row, "list")?;
            edges.extend(list.iter().map(|e| edge(user.clone(), ItemId::trusted(&*e.0), e)));
            Ok(())
        })
        .await?;
    edges.sort_unstable_by(|a, b| (&a.user, &a.item).cmp(&(&b.user, &b.item)));
    Ok(edges)
}

pub(super) async fn touched_tenants(shared: &Shared) -> StoreResult<Vec<Tenant>> {
    let query = || neo4rs::query(&shared.cypher.touched_tenants);
    let rows = shared.core.read(shared.config.call_timeout(), query).await?;
    let mut names: Vec<Tenant> =
        rows.iter().map(|r| get::<String>(r, "name").map(Tenant::trusted)).collect::<StoreResult<_>>()?;
    names.sort();
    Ok(names)
}

pub(super) async fn touched(shared: &Shared, tenant: &Tenant, limit: usize) -> StoreResult<Touched> {
    // The number first: an item that is touched in between is only looked at once more than needed.
    let upto = self::tenant(shared, tenant).await?.mark;
    if limit == 0 {
        return Ok(Touched { items: Vec::new(), upto });
    }
    let text = bounded(&shared.cypher.touched, limit);
    let query = || shared.about(text, tenant).param("limit", whole(limit));
    let rows = shared.core.read(shared.config.call_timeout(), query).await?;
    let items = rows.first().map(|row| get::<Vec<String>>(row, "items")).transpose()?.unwrap_or_default();
    Ok(Touched { items: items.into_iter().map(ItemId::trusted).collect(), upto })
}

pub(super) async fn digest(shared: &Shared) -> StoreResult<Digest> {
    for _ in 0..CHANGES_MET {
        if let Some(digest) = digest_once(shared).await? {
            return Ok(digest);
        }
    }
    Err(replaced())
}

/// `None` where a list was being replaced.
async fn digest_once(shared: &Shared) -> StoreResult<Option<Digest>> {
    let mut digest = Digest::default();
    let edges = |row: neo4rs::Row| {
        let (tenant, user): (String, String) = (get(&row, "tenant")?, get(&row, "id")?);
        let user = UserId::trusted(user);
        for e in get::<Vec<Packed>>(&row, "list")? {
            digest.add_edge(&tenant, &edge(user.clone(), ItemId::trusted(&*e.0), &e));
        }
        Ok(())
    };
    shared.core.stream(neo4rs::query(&shared.cypher.digest_edges), edges).await?;
    let mut whole = true;
    let lists = |row: neo4rs::Row| {
        let (tenant, item): (String, String) = (get(&row, "tenant")?, get(&row, "id")?);
        let all: Vec<(String, f64)> = get(&row, "list")?;
        whole &= all.len() == place(get(&row, "size")?);
        let mut list: Vec<Neighbour> = all.into_iter().map(|(id, weight)| neighbour(id, weight)).collect();
        list.sort_by(strongest_first);
        if !list.is_empty() {
            digest.add_neighbours(&tenant, &item, &list);
        }
        Ok(())
    };
    shared.core.stream(neo4rs::query(&shared.cypher.digest_lists), lists).await?;
    Ok(whole.then_some(digest))
}
