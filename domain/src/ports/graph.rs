//! The graph: who engaged with what, and which items stand next to each other.
//!
//! Edges and neighbour lists are set, never added to. It never walks from a popular item over all its users on behalf of a
//! request: lists are made in the background.

use async_trait::async_trait;

use crate::{ItemId, StoreResult, Tenant, Timestamp, UserId, digest::Digest};

/// One user's whole relation to one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// Who.
    pub user: UserId,
    /// With what.
    pub item: ItemId,
    /// How strongly, all engagements together ([`crate::taste::Taste::combined`]).
    pub weight: f32,
    /// Whether any of them was a liking.
    pub positive: bool,
    /// When they first engaged.
    pub first: Timestamp,
    /// When they last did.
    pub last: Timestamp,
}

/// An item next to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// Which.
    pub item: ItemId,
    /// How near: above 0, comparable between lists.
    pub weight: f32,
}

/// The strongest neighbours of an item: by weight from the top, ties by id.
pub type NeighbourList = (ItemId, Vec<Neighbour>);

/// Items whose edges changed since their lists were made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Touched {
    /// Which, oldest first.
    pub items: Vec<ItemId>,
    /// Handed back when their lists are written: marks set later stay.
    pub upto: u64,
}

/// What serving reads.
#[async_trait]
pub trait GraphRead: Send + Sync {
    /// The newest edges of each user (by `last` from the newest, ties by item id), in the order asked.
    async fn edges_of_users(&self, tenant: &Tenant, users: &[UserId], limit: usize) -> StoreResult<Vec<Vec<Edge>>>;

    /// The newest edges to each item (by `last` from the newest, ties by user id), in the order asked.
    async fn edges_of_items(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Edge>>>;

    /// The neighbour lists of these items, in the order asked, at most `limit` of each; empty where there is none.
    async fn neighbours(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Neighbour>>>;

    /// How many edges a tenant has.
    async fn count(&self, tenant: &Tenant) -> StoreResult<u64>;

    /// All edges of a tenant, by user and item.
    async fn scan(&self, tenant: &Tenant) -> StoreResult<Vec<Edge>>;

    /// Tenants with touched items, by name.
    async fn touched_tenants(&self) -> StoreResult<Vec<Tenant>>;

    /// Touched items of a tenant, at most `limit`.
    async fn touched(&self, tenant: &Tenant, limit: usize) -> StoreResult<Touched>;

    /// The digest of edges and neighbour lists.
    async fn digest(&self) -> StoreResult<Digest>;
}

/// What the worker and jobs write.
#[async_trait]
pub trait GraphWrite: GraphRead {
    /// Sets edges, durably, and marks their items touched where the edge changed. An edge of weight 0 that is not positive
    /// is kept: it says that the user knows the item.
    async fn set_edges(&self, tenant: &Tenant, edges: &[Edge]) -> StoreResult<()>;

    /// Sets neighbour lists (an empty one removes the list) and takes back the marks up to `upto` of these items.
    async fn set_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()>;

    /// Makes these all lists of a tenant, each in one step, and takes back all marks up to `upto`.
    async fn replace_neighbours(&self, tenant: &Tenant, lists: &[NeighbourList], upto: u64) -> StoreResult<()>;

    /// Removes a user and their edges, marking the items touched. Answers how many edges there were.
    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64>;
}
