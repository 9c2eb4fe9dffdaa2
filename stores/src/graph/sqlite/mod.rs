//! The graph in one SQLite file.
//!
//! An item is touched when an edge of its own changes. (The other items of that user then have another co-engagement with it as
//! well: marking them all would touch most of the catalogue with every batch, so their lists are put right when they are
//! touched themselves or all lists are made anew.)

mod packed;
mod read;
mod schema;
mod write;

use std::path::Path;

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId,
    digest::Digest,
    ports::{Edge, GraphRead, GraphWrite, Neighbour, NeighbourList, Touched},
};

use crate::sqlite::Database;

/// `graph.db`.
pub struct SqliteGraph {
    db: Database,
}

impl SqliteGraph {
    /// Opens the file, making it where it is missing.
    pub async fn open(path: &Path) -> StoreResult<Self> {
        Ok(Self { db: Database::open(path, &schema::SCHEMA).await? })
    }

    /// Tidies up before the end of the process. Not needed for safety.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Writes the file anew, so that nothing is left in it of what was deleted.
    pub async fn compact(&self) -> StoreResult<()> {
        self.db.compact().await
    }
}

/// Refuses what no order can be made of.
fn finite(weights: impl IntoIterator<Item = f32>) -> StoreResult<()> {
    if weights.into_iter().all(f32::is_finite) {
        return Ok(());
    }
    Err(StoreError::new(ErrorKind::Invalid, "graph", "a weight is not a finite number"))
}

#[async_trait]
impl GraphRead for SqliteGraph {
    async fn edges_of_users(&self, tenant: &Tenant, users: &[UserId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        read::edges_of_users(&self.db, tenant, users, limit).await.map_err(|e| self.db.error(e))
    }

    async fn edges_of_items(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        read::edges_of_items(&self.db, tenant, items, limit).await.map_err(|e| self.db.error(e))
    }

    async fn neighbours(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Neighbour>>> {
        read::neighbours(&self.db, tenant, items, limit).await.map_err(|e| self.db.error(e))
    }

    async fn count(&self, tenant: &Tenant) -> StoreResult<u64> {
        read::count(&self.db, tenant).await.map_err(|e| self.db.error(e))
    }

    async fn scan(&self, tenant: &Tenant) -> StoreResult<Vec<Edge>> {
        read::scan(&self.db, tenant).await.map_err(|e| self.db.error(e))
    }

    async fn touched_tenants(&self) -> StoreResult<Vec<Tenant>> {
        read::touched_tenants(&self.db).await.map_err(|e| self.db.error(e))
    }

    async fn touched(&self, tenant: &Tenant, limit: usize) -> StoreResult<Touched> {
        read::touched(&self.db, tenant, limit).await.map_err(|e| self.db.error(e))
    }

    async fn digest(&self) -> StoreResult<Digest> {
        read::digest(&self.db).await.map_err(|e| self.db.error(e))
    }
}

#[async_trait]
impl GraphWrite for SqliteGraph {
    async fn set_edges(&self, tenant: &Tenant, edges: &[Edge]) -> StoreResult<()> {
        finite(edges.iter().map(|e| e.weight))?;
        write::set_edges(&self.db, tenant, edges).await.map_err(|e| self.db.error(e))
    }

    async fn set_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()> {
        finite(lists.iter().flat_map(|(_, list)| list.iter().map(|n| n.weight)))?;
        write::set_neighbours(&self.db, tenant, lists, upto, false).await.map_err(|e| self.db.error(e))
    }

    async fn replace_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()> {
        finite(lists.iter().flat_map(|(_, list)| list.iter().map(|n| n.weight)))?;
        write::set_neighbours(&self.db, tenant, lists, upto, true).await.map_err(|e| self.db.error(e))
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        write::erase(&self.db, tenant, user).await.map_err(|e| self.db.error(e))
    }
}
