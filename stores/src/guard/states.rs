//! All guards of a process, for health checks and metrics.

use std::sync::{Arc, Mutex, PoisonError};

use nearcast_domain::ports::{StoreState, StoreStates};

use super::core::Guard;

/// Hands out the states of the guards that were made with it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct GuardStates(Arc<Mutex<Vec<Arc<Guard>>>>);

impl GuardStates {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn add(&self, guard: Arc<Guard>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(guard);
    }
}

impl StoreStates for GuardStates {
    fn states(&self) -> Vec<StoreState> {
        let mut all: Vec<StoreState> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|g| g.state()).collect();
        all.sort_by(|a, b| (a.store, &a.replica).cmp(&(b.store, &b.replica)));
        all
    }
}
