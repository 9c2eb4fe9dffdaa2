//! Noticing that another artefact is in service, and reading it: by every instance for itself, now and then.
//!
//! Requests go on with the one before until the new one is whole in memory; answers under another version are not given.

use std::sync::Arc;

use nearcast_domain::{StoreResult, Tenant, learned::Learned};

use super::Recommender;
use crate::memory::LearnedTable;

/// For how many tenants artefacts are held in memory.
const TENANTS: usize = 256;

impl Recommender {
    /// Reads what is in service and not in memory yet. One that cannot be read leaves the one before in its place.
    pub async fn notice_trained(&self) -> StoreResult<()> {
        let current = self.stores.artefacts.in_service().await?;
        for (tenant, version) in current.iter().take(TENANTS) {
            let mem = self.stores.memory.tenant(tenant);
            if mem.learned().is_some_and(|l| l.version == *version) {
                continue;
            }
            let Some(body) = self.stores.artefacts.body(tenant, *version).await? else { continue };
            let (version, places) = (*version, self.config.sources.own_items);
            let of = mem.clone();
            let read = tokio::task::spawn_blocking(move || {
                Learned::from_bytes(&body).map(|learned| Arc::new(LearnedTable::new(version, &learned, &of, places)))
            });
            match read.await {
                Ok(Ok(table)) => {
                    mem.set_learned(Some(table));
                    tracing::info!(%tenant, version, "answers are made with what was learned");
                }
                Ok(Err(e)) => tracing::warn!(%tenant, version, error = %e, "an artefact is left aside"),
                Err(e) => tracing::warn!(%tenant, version, error = %e, "an artefact was not read"),
            }
        }
        self.stores.memory.keep_learned_of(|tenant: &Tenant| current.iter().any(|(t, _)| t == tenant));
        Ok(())
    }
}
