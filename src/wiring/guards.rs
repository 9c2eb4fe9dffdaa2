//! Which stores a request asks through a guard: those in other processes, and all of them where that is configured.
//!
//! Writes of the worker are never guarded: it waits and tries again.

use std::sync::{Arc, OnceLock};

use nearcast_domain::ports::{EngagementRead, GraphRead, LedgerRead, ResponseCache, StoreStates, VectorRead};
use nearcast_stores::guard::{
    Guard, GuardConfig, GuardStates, GuardedCache, GuardedEngagement, GuardedGraph, GuardedLedger, GuardedVectors,
};

use crate::config::{CacheBackend, Config, EngagementBackend, GraphBackend, LedgerBackend, StoresConfig, VectorsBackend};

/// Makes guards, and knows their states.
pub struct Guards {
    config: GuardConfig,
    stores: StoresConfig,
    states: GuardStates,
    /// Of the vector index: one for all of its revisions.
    vectors: OnceLock<Option<Arc<Guard>>>,
}

impl Guards {
    /// As configured.
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.guard.clone(),
            stores: config.stores.clone(),
            states: GuardStates::new(),
            vectors: OnceLock::new(),
        }
    }

    fn guard(&self, embedded: bool, store: &'static str) -> Option<Arc<Guard>> {
        (!embedded || self.config.embedded).then(|| Guard::new(store, "", &self.config, &self.states))
    }

    pub fn ledger(&self, port: Arc<dyn LedgerRead>) -> Arc<dyn LedgerRead> {
        match self.guard(self.stores.ledger == LedgerBackend::Embedded, "ledger") {
            Some(guard) => Arc::new(GuardedLedger::new(port, guard)),
            None => port,
        }
    }

    pub fn vectors(&self, port: Arc<dyn VectorRead>) -> Arc<dyn VectorRead> {
        let guard = self.vectors.get_or_init(|| self.guard(self.stores.vectors == VectorsBackend::Embedded, "vectors"));
        match guard.clone() {
            Some(guard) => Arc::new(GuardedVectors::new(port, guard)),
            None => port,
        }
    }

    pub fn graph(&self, port: Arc<dyn GraphRead>) -> Arc<dyn GraphRead> {
        match self.guard(self.stores.graph == GraphBackend::Embedded, "graph") {
            Some(guard) => Arc::new(GuardedGraph::new(port, guard)),
            None => port,
        }
    }

    pub fn engagement(&self, port: Arc<dyn EngagementRead>) -> Arc<dyn EngagementRead> {
        match self.guard(self.stores.engagement == EngagementBackend::Embedded, "engagement") {
            Some(guard) => Arc::new(GuardedEngagement::new(port, guard)),
            None => port,
        }
    }

    pub fn cache(&self, port: Arc<dyn ResponseCache>) -> Arc<dyn ResponseCache> {
        match self.guard(self.stores.cache == CacheBackend::Embedded, "cache") {
            Some(guard) => Arc::new(GuardedCache::new(port, guard)),
            None => port,
        }
    }

    /// Every guard's state, for health and metrics.
    pub fn states(&self) -> Arc<dyn StoreStates> {
        Arc::new(self.states.clone())
    }
}
