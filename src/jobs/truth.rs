//! What the ledger says of projections, as the worker's own projector computes it.

use std::sync::Arc;

use async_trait::async_trait;
use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId, Vector,
    ports::{Edge, ItemLabels, ItemState, Tally, VectorRow},
};
use nearcast_ingest::Projector;
use nearcast_pipelines::reconcile::Truth;

/// See the module.
pub struct Projected(pub Arc<Projector>);

#[async_trait]
impl Truth for Projected {
    fn revision(&self) -> String {
        self.0.revision().to_owned()
    }

    async fn profiles(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Option<Vector>>> {
        self.0.profiles_of_users(tenant, users).await
    }

    async fn edges(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Vec<Edge>>> {
        self.0.edges_of_users(tenant, users).await
    }

    async fn tallies(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Vec<Tally>>> {
        self.0.tallies_of_users(tenant, users).await
    }

    fn item(&self, state: ItemState) -> (Option<VectorRow>, ItemLabels) {
        Projector::row_of(state)
    }

    async fn mend_profiles(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        self.0.mend_profiles(tenant, users).await
    }

    async fn mend_items(&self, tenant: &Tenant, items: &[ItemId]) -> StoreResult<()> {
        self.0.mend_items(tenant, items).await
    }

    async fn mend_labels(&self, tenant: &Tenant, items: &[ItemId]) -> StoreResult<()> {
        self.0.mend_labels(tenant, items).await
    }

    async fn mend_edges(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        self.0.mend_edges(tenant, users).await
    }

    async fn mend_tallies(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        self.0.mend_tallies(tenant, users).await
    }
}
