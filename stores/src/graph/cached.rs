//! Memory in front of any graph: what requests read again and again is handed out without asking the store.
//!
//! Only for a store that this process alone writes: it learns of changes by being the one through whom they are made. It never
//! hands out what was replaced by an acknowledged write.

use std::{
    collections::BTreeSet,
    hash::Hash,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use moka::sync::Cache;
use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId,
    digest::Digest,
    ports::{Edge, GraphRead, GraphWrite, Neighbour, NeighbourList, Touched},
};

/// How many of a user's newest edges are remembered: as many as requests ask for.
const NEWEST: usize = 64;
/// What an entry costs beside its elements, in bytes; and an edge, and a neighbour.
const ENTRY_BYTES: usize = 120;
const EDGE_BYTES: usize = 112;
const NEIGHBOUR_BYTES: usize = 56;

type Key<Id> = (Tenant, Id);

/// A graph behind memory.
pub struct CachedGraph<G> {
    inner: G,
    /// A user's newest edges.
    edges: Shelf<UserId, Arc<[Edge]>>,
    lists: Shelf<ItemId, Arc<[Neighbour]>>,
}

/// A bounded memory that never keeps what was read before a write and arrives after it.
struct Shelf<Id, V> {
    cache: Cache<Key<Id>, V>,
    writes: AtomicU64,
    door: Mutex<()>,
}

impl<Id: Hash + Eq + Send + Sync + Clone + 'static, V: Clone + Send + Sync + 'static> Shelf<Id, V> {
    fn new(bytes: u64, weigh: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        let weigher = move |_: &Key<Id>, v: &V| u32::try_from(weigh(v)).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(bytes).weigher(weigher).build();
        Self { cache, writes: AtomicU64::new(0), door: Mutex::new(()) }
    }

    /// Looked at before reading the store, handed to [`Self::keep`] after.
    fn mark(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// Keeps what was read, unless something was written since.
    fn keep(&self, mark: u64, key: Key<Id>, value: V) {
        let Ok(_door) = self.door.lock() else { return };
        if self.writes.load(Ordering::Acquire) == mark {
            self.cache.insert(key, value);
        }
    }

    /// Forgets keys after a write, and refuses whatever was read before it.
    fn forget(&self, keys: impl IntoIterator<Item = Key<Id>>) {
        let _door = self.door.lock();
        self.writes.fetch_add(1, Ordering::AcqRel);
        keys.into_iter().for_each(|k| self.cache.invalidate(&k));
    }

    fn forget_all(&self) {
        let _door = self.door.lock();
        self.writes.fetch_add(1, Ordering::AcqRel);
        self.cache.invalidate_all();
    }
}

impl<G> CachedGraph<G> {
    /// Memory of about so many bytes in front of a graph.
    pub fn new(inner: G, bytes: u64) -> Self {
        let edges = Shelf::new(bytes / 2, |edges: &Arc<[Edge]>| ENTRY_BYTES + EDGE_BYTES * edges.len());
        let lists = Shelf::new(bytes / 2, |list: &Arc<[Neighbour]>| ENTRY_BYTES + NEIGHBOUR_BYTES * list.len());
        Self { inner, edges, lists }
    }

    /// The graph itself.
    pub const fn inner(&self) -> &G {
        &self.inner
    }
}

#[async_trait]
impl<G: GraphRead> GraphRead for CachedGraph<G> {
    async fn edges_of_users(&self, tenant: &Tenant, users: &[UserId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        if limit > NEWEST {
            return self.inner.edges_of_users(tenant, users, limit).await;
        }
        let mark = self.edges.mark();
        let mut out = vec![Vec::new(); users.len()];
        let (mut places, mut missing) = (Vec::new(), Vec::new());
        for (place, user) in users.iter().enumerate() {
            match self.edges.cache.get(&(tenant.clone(), user.clone())) {
                Some(edges) => out[place] = edges[..edges.len().min(limit)].to_vec(),
                None => {
                    places.push(place);
                    missing.push(user.clone());
                }
            }
        }
        if !missing.is_empty() {
            let read = self.inner.edges_of_users(tenant, &missing, NEWEST).await?;
            for ((place, user), mut edges) in places.into_iter().zip(missing).zip(read) {
                self.edges.keep(mark, (tenant.clone(), user), edges.as_slice().into());
                edges.truncate(limit);
                out[place] = edges;
            }
        }
        Ok(out)
    }

    async fn edges_of_items(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        self.inner.edges_of_items(tenant, items, limit).await
    }

    async fn neighbours(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Neighbour>>> {
        let mark = self.lists.mark();
        let mut out = vec![Vec::new(); items.len()];
        let (mut places, mut missing) = (Vec::new(), Vec::new());
        for (place, item) in items.iter().enumerate() {
            match self.lists.cache.get(&(tenant.clone(), item.clone())) {
                Some(list) => out[place] = list[..list.len().min(limit)].to_vec(),
                None => {
                    places.push(place);
                    missing.push(item.clone());
                }
            }
        }
        if !missing.is_empty() {
            let read = self.inner.neighbours(tenant, &missing, usize::MAX).await?;
            for ((place, item), mut list) in places.into_iter().zip(missing).zip(read) {
                self.lists.keep(mark, (tenant.clone(), item), list.as_slice().into());
                list.truncate(limit);
                out[place] = list;
            }
        }
        Ok(out)
    }

    async fn count(&self, tenant: &Tenant) -> StoreResult<u64> {
        self.inner.count(tenant).await
    }

    async fn scan(&self, tenant: &Tenant) -> StoreResult<Vec<Edge>> {
        self.inner.scan(tenant).await
    }

    async fn touched_tenants(&self) -> StoreResult<Vec<Tenant>> {
        self.inner.touched_tenants().await
    }

    async fn touched(&self, tenant: &Tenant, limit: usize) -> StoreResult<Touched> {
        self.inner.touched(tenant, limit).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        self.inner.digest().await
    }
}

#[async_trait]
impl<G: GraphWrite> GraphWrite for CachedGraph<G> {
    async fn set_edges(&self, tenant: &Tenant, edges: &[Edge]) -> StoreResult<()> {
        let written = self.inner.set_edges(tenant, edges).await;
        // Also after a failure: a part may have been written.
        let users: BTreeSet<&UserId> = edges.iter().map(|e| &e.user).collect();
        self.edges.forget(users.into_iter().map(|u| (tenant.clone(), u.clone())));
        written
    }

    async fn set_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()> {
        let written = self.inner.set_neighbours(tenant, lists, upto).await;
        self.lists.forget(lists.iter().map(|(item, _)| (tenant.clone(), item.clone())));
        written
    }

    async fn replace_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()> {
        let written = self.inner.replace_neighbours(tenant, lists, upto).await;
        self.lists.forget_all();
        written
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        let erased = self.inner.erase(tenant, user).await;
        self.edges.forget([(tenant.clone(), user.clone())]);
        erased
    }
}
