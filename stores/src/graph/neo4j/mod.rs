//! The graph in Neo4j: `(:User)-[:ENGAGED]->(:Item)-[:NEAR]->(:Item)`.
//!
//! Writes go to the core server, and so does what jobs read to compute lists from (`touched`, `scan`, `digest`): a replica may
//! be behind the marks. Requests' reads go to the replicas in turn, and to the core where none answers. Edges and lists
//! are set, never added to; a call with many rows is several transactions of bounded size, each of which may be repeated.
//!
//! Each list changes in one step. An item bears the number of its list, and so do the relationships of it: a list that is as it was is
//! not written again, and a reader sees where one was being replaced and looks once more.

mod config;
mod cypher;
mod error;
mod read;
mod rows;
mod server;
mod setup;
mod write;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId,
    digest::Digest,
    ports::{Edge, GraphRead, GraphWrite, Neighbour, NeighbourList, Touched},
};
use neo4rs::Query;

pub use config::Neo4jConfig;
use cypher::Cypher;
use server::{Replica, Server};

/// The name of the store in errors.
const STORE: &str = "graph";

/// A graph in Neo4j. Cheap to clone: clones share their connections.
#[derive(Clone)]
pub struct Neo4jGraph {
    shared: Arc<Shared>,
    core_only: bool,
}

struct Shared {
    config: Arc<Neo4jConfig>,
    cypher: Cypher,
    core: Server,
    replicas: Vec<Replica>,
    /// Whose turn it is.
    turn: AtomicUsize,
}

impl Neo4jGraph {
    /// Prepares to connect. Does no I/O: a server that is down shows with the first call.
    pub fn new(config: &Neo4jConfig) -> StoreResult<Self> {
        config.validate().map_err(|e| StoreError::new(ErrorKind::Invalid, STORE, e))?;
        let config = Arc::new(config.clone());
        let replicas = config.replicas.iter().map(|r| Replica::new(Server::new(&config, r))).collect();
        let (core, cypher) = (Server::new(&config, &config.uri), Cypher::new(&config));
        let shared = Shared { config, cypher, core, replicas, turn: AtomicUsize::new(0) };
        Ok(Self { shared: Arc::new(shared), core_only: false })
    }

    /// The same graph, read from the core server alone: for whoever must see what was just written.
    pub fn on_core(&self) -> Self {
        Self { shared: self.shared.clone(), core_only: true }
    }

    /// Makes constraints and indexes where they are missing, and sees that the server is new enough and takes writes. May be
    /// repeated. Answers what there is, a line each.
    pub async fn setup(&self) -> StoreResult<Vec<String>> {
        setup::setup(&self.shared).await
    }

    /// Closes the connections. Calls after it fail.
    pub async fn close(&self) {
        self.shared.core.close();
        self.shared.replicas.iter().for_each(|r| r.server.close());
    }

    /// A read for a request: a replica whose turn it is, then the core.
    async fn nearby(&self, make: impl Fn() -> Query) -> StoreResult<Vec<neo4rs::Row>> {
        let shared = &self.shared;
        let limit = shared.config.call_timeout();
        let number = shared.replicas.len();
        if !self.core_only && number > 0 {
            let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
            if let Some(replica) = (0..number).map(|n| &shared.replicas[(turn + n) % number]).find(|r| r.is_in()) {
                // Half of the time is left for the core.
                match replica.server.read(limit / 2, &make).await {
                    Err(e) if e.kind.is_transient() => {
                        replica.answered(false);
                        return shared.core.read(limit / 2, &make).await;
                    }
                    done => {
                        replica.answered(true);
                        return done;
                    }
                }
            }
        }
        shared.core.read(limit, &make).await
    }
}

impl Shared {
    /// A statement about a tenant.
    fn about(&self, text: &str, tenant: &Tenant) -> Query {
        neo4rs::query(text).param("tenant", tenant.as_str()).param("prefix", format!("{tenant}\u{1f}"))
    }
}

/// Refuses what no order can be made of.
fn finite(weights: impl IntoIterator<Item = f32>) -> StoreResult<()> {
    if weights.into_iter().all(f32::is_finite) {
        return Ok(());
    }
    Err(StoreError::new(ErrorKind::Invalid, STORE, "a weight is not a finite number"))
}

#[async_trait]
impl GraphRead for Neo4jGraph {
    async fn edges_of_users(&self, tenant: &Tenant, users: &[UserId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        read::edges_of_users(self, tenant, users, limit).await
    }

    async fn edges_of_items(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        read::edges_of_items(self, tenant, items, limit).await
    }

    async fn neighbours(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Neighbour>>> {
        read::neighbours(self, tenant, items, limit).await
    }

    async fn count(&self, tenant: &Tenant) -> StoreResult<u64> {
        read::tenant(&self.shared, tenant).await.map(|t| t.edges)
    }

    async fn scan(&self, tenant: &Tenant) -> StoreResult<Vec<Edge>> {
        read::scan(&self.shared, tenant).await
    }

    async fn touched_tenants(&self) -> StoreResult<Vec<Tenant>> {
        read::touched_tenants(&self.shared).await
    }

    async fn touched(&self, tenant: &Tenant, limit: usize) -> StoreResult<Touched> {
        read::touched(&self.shared, tenant, limit).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        read::digest(&self.shared).await
    }
}

#[async_trait]
impl GraphWrite for Neo4jGraph {
    async fn set_edges(&self, tenant: &Tenant, edges: &[Edge]) -> StoreResult<()> {
        finite(edges.iter().map(|e| e.weight))?;
        write::set_edges(&self.shared, tenant, edges).await
    }

    async fn set_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()> {
        finite(lists.iter().flat_map(|(_, list)| list.iter().map(|n| n.weight)))?;
        write::set_neighbours(&self.shared, tenant, lists, upto).await
    }

    async fn replace_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()> {
        finite(lists.iter().flat_map(|(_, list)| list.iter().map(|n| n.weight)))?;
        write::replace_neighbours(&self.shared, tenant, lists, upto).await
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        write::erase(&self.shared, tenant, user).await
    }
}
