//! The vector index anew from the ledger: for a torn index.
//!
//! Reads pages by id, so that memory stays bounded and an interruption loses nothing but time.

use nearcast_domain::{
    StoreResult, Tenant,
    ports::{Collection, VectorRow},
};
use tokio_util::sync::CancellationToken;

use super::Projector;

/// Rows at a time.
const PAGE: usize = 1000;

impl Projector {
    /// Writes every vector of every tenant; answers how many users and items were gone through.
    pub async fn rebuild_vectors(&self, cancel: &CancellationToken) -> StoreResult<u64> {
        let mut rows = 0;
        for tenant in self.stores.ledger.tenants().await? {
            rows += self.rebuild_items(&tenant, cancel).await?;
            rows += self.rebuild_users(&tenant, cancel).await?;
        }
        Ok(rows)
    }

    /// Writes the vector of every item of a tenant.
    pub async fn rebuild_items(&self, tenant: &Tenant, cancel: &CancellationToken) -> StoreResult<u64> {
        let revision = &self.stores.embedder.model().revision;
        let (mut after, mut rows) = (None, 0);
        while !cancel.is_cancelled() {
            let page = self.stores.ledger.catalogue(tenant, after.as_ref(), PAGE, Some(revision)).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.item.item_id.clone());
            rows += page.len() as u64;
            let vectors: Vec<VectorRow> = page
                .into_iter()
                .filter_map(|state| {
                    let labels = state.item.categories.iter().map(ToString::to_string).collect();
                    Some(VectorRow { id: state.item.item_id.as_str().to_owned(), vector: state.vector?, labels })
                })
                .collect();
            self.stores.vectors.upsert(tenant, Collection::Items, revision, &vectors).await?;
        }
        Ok(rows)
    }

    /// Writes the profile of every user of a tenant.
    pub async fn rebuild_users(&self, tenant: &Tenant, cancel: &CancellationToken) -> StoreResult<u64> {
        let (mut after, mut rows) = (None, 0);
        while !cancel.is_cancelled() {
            let page = self.stores.ledger.users(tenant, "", after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            rows += page.len() as u64;
            self.write_profiles(tenant, &page).await?;
        }
        Ok(rows)
    }
}
