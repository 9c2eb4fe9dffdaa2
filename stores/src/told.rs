//! [`Told`]: a port whose writes are told to someone who remembers ([`Changes`]).
//!
//! For stores that this process alone writes. Tells after each write, also after one that failed; never changes what is
//! written or answered.

use std::{collections::BTreeSet, fmt, sync::Arc};

use async_trait::async_trait;
use nearcast_domain::{Event, ItemId, StoreResult, Tenant, UserId, Vector, digest::Digest, ports::*};

/// A port that is written through, and who is told. `P` is the writing port (`dyn LedgerWrite`), which this implements too.
pub struct Told<P: ?Sized> {
    inner: Arc<P>,
    changes: Arc<dyn Changes>,
}

impl<P: ?Sized> Told<P> {
    /// Tells of everything that is written through it from now on.
    pub fn new(inner: Arc<P>, changes: Arc<dyn Changes>) -> Self {
        Self { inner, changes }
    }
}

impl<P: ?Sized> fmt::Debug for Told<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

#[async_trait]
impl LedgerRead for Told<dyn LedgerWrite> {
    async fn histories(
        &self,
        tenant: &Tenant,
        users: &[UserId],
        limit: HistoryLimit,
        revision: Option<&str>,
    ) -> StoreResult<Vec<History>> {
        self.inner.histories(tenant, users, limit, revision).await
    }

    async fn items(&self, tenant: &Tenant, items: &[ItemId], revision: Option<&str>) -> StoreResult<Vec<Option<ItemState>>> {
        self.inner.items(tenant, items, revision).await
    }

    async fn item_vectors(&self, tenant: &Tenant, items: &[ItemId], revision: &str) -> StoreResult<Vec<Option<Vector>>> {
        self.inner.item_vectors(tenant, items, revision).await
    }

    async fn engaged(&self, tenant: &Tenant, user: &UserId, items: &[ItemId]) -> StoreResult<Vec<bool>> {
        self.inner.engaged(tenant, user, items).await
    }

    async fn pairs(&self, tenant: &Tenant, pairs: &[(UserId, ItemId)]) -> StoreResult<Vec<PairEvents>> {
        self.inner.pairs(tenant, pairs).await
    }

    async fn newest_items(&self, tenant: &Tenant, category: Option<&str>, limit: usize) -> StoreResult<Vec<ItemState>> {
        self.inner.newest_items(tenant, category, limit).await
    }

    async fn users(&self, tenant: &Tenant, prefix: &str, after: Option<&UserId>, limit: usize) -> StoreResult<Vec<UserId>> {
        self.inner.users(tenant, prefix, after, limit).await
    }

    async fn catalogue(
        &self,
        tenant: &Tenant,
        after: Option<&ItemId>,
        limit: usize,
        revision: Option<&str>,
    ) -> StoreResult<Vec<ItemState>> {
        self.inner.catalogue(tenant, after, limit, revision).await
    }

    async fn tenants(&self) -> StoreResult<Vec<Tenant>> {
        self.inner.tenants().await
    }

    async fn counts(&self, tenant: &Tenant) -> StoreResult<LedgerCounts> {
        self.inner.counts(tenant).await
    }

    async fn stale_users(&self, limit: usize) -> StoreResult<Vec<(Tenant, UserId, u64)>> {
        self.inner.stale_users(limit).await
    }

    async fn erasures(&self) -> StoreResult<Vec<ErasureRecord>> {
        self.inner.erasures().await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        self.inner.digest().await
    }
}

#[async_trait]
impl VectorRead for Told<dyn VectorWrite> {
    async fn revision(&self) -> StoreResult<Option<String>> {
        self.inner.revision().await
    }

    async fn get(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<Vec<Option<Vector>>> {
        self.inner.get(tenant, collection, ids).await
    }

    async fn search(&self, tenant: &Tenant, collection: Collection, query: VectorQuery) -> StoreResult<Vec<Hit>> {
        self.inner.search(tenant, collection, query).await
    }

    async fn count(&self, tenant: &Tenant, collection: Collection) -> StoreResult<u64> {
        self.inner.count(tenant, collection).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        self.inner.digest().await
    }
}

#[async_trait]
impl GraphRead for Told<dyn GraphWrite> {
    async fn edges_of_users(&self, tenant: &Tenant, users: &[UserId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        self.inner.edges_of_users(tenant, users, limit).await
    }

    async fn edges_of_items(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        self.inner.edges_of_items(tenant, items, limit).await
    }

    async fn neighbours(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Neighbour>>> {
        self.inner.neighbours(tenant, items, limit).await
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
impl LedgerWrite for Told<dyn LedgerWrite> {
    async fn preview(&self, batch: &[Append]) -> StoreResult<Vec<Appended>> {
        self.inner.preview(batch).await
    }

    async fn introduce(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<bool>> {
        self.inner.introduce(tenant, users).await
    }

    async fn append(&self, batch: &[Append], revision: &str) -> StoreResult<Vec<Appended>> {
        let written = self.inner.append(batch, revision).await;
        let mut tenants: BTreeSet<&Tenant> = BTreeSet::new();
        tenants.extend(batch.iter().map(|a| a.event.tenant()));
        for tenant in tenants {
            let (mut items, mut erased) = (Vec::new(), Vec::new());
            for event in batch.iter().map(|a| &a.event).filter(|e| e.tenant() == tenant) {
                match event {
                    Event::Item(i) => items.push(i.item_id.clone()),
                    Event::Erasure(e) => erased.push(e.user_id.clone()),
                    // Seen by requests once the graph has the edges.
                    Event::Message(_) | Event::Engagement(_) => {}
                }
            }
            if !items.is_empty() {
                self.changes.items(tenant, &items);
            }
            if !erased.is_empty() {
                self.changes.erased(tenant, &erased);
            }
        }
        written
    }

    async fn add_vectors(&self, made: &[Append], revision: &str, stale: bool) -> StoreResult<u64> {
        self.inner.add_vectors(made, revision, stale).await
    }

    async fn wrote_beside(&self) -> StoreResult<()> {
        self.inner.wrote_beside().await
    }

    async fn written_beside(&self) -> StoreResult<u64> {
        self.inner.written_beside().await
    }

    async fn clear_stale(&self, marks: &[(Tenant, UserId, u64)]) -> StoreResult<()> {
        self.inner.clear_stale(marks).await
    }
}

#[async_trait]
impl VectorWrite for Told<dyn VectorWrite> {
    async fn upsert(&self, tenant: &Tenant, collection: Collection, revision: &str, rows: &[VectorRow]) -> StoreResult<()> {
        let written = self.inner.upsert(tenant, collection, revision, rows).await;
        self.changes.vectors(Some(tenant));
        written
    }

    async fn delete(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<()> {
        let written = self.inner.delete(tenant, collection, ids).await;
        self.changes.vectors(Some(tenant));
        written
    }

    async fn switch(&self, revision: &str) -> StoreResult<()> {
        let written = self.inner.switch(revision).await;
        self.changes.vectors(None);
        written
    }

    async fn drop_revision(&self, revision: &str) -> StoreResult<()> {
        self.inner.drop_revision(revision).await
    }

    async fn needs_rebuild(&self) -> StoreResult<bool> {
        self.inner.needs_rebuild().await
    }

    async fn checkpoint(&self) -> StoreResult<()> {
        self.inner.checkpoint().await
    }
}

#[async_trait]
impl GraphWrite for Told<dyn GraphWrite> {
    async fn set_edges(&self, tenant: &Tenant, edges: &[Edge]) -> StoreResult<()> {
        let written = self.inner.set_edges(tenant, edges).await;
        let users: BTreeSet<&UserId> = edges.iter().map(|e| &e.user).collect();
        let users: Vec<UserId> = users.into_iter().cloned().collect();
        self.changes.users(tenant, &users);
        written
    }

    async fn set_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()> {
        let written = self.inner.set_neighbours(tenant, lists, upto).await;
        let items: Vec<ItemId> = lists.iter().map(|(i, _)| i.clone()).collect();
        self.changes.neighbours(tenant, Some(&items));
        written
    }

    async fn replace_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()> {
        let written = self.inner.replace_neighbours(tenant, lists, upto).await;
        self.changes.neighbours(tenant, None);
        written
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        let erased = self.inner.erase(tenant, user).await;
        self.changes.users(tenant, std::slice::from_ref(user));
        self.changes.erased(tenant, std::slice::from_ref(user));
        erased
    }
}
