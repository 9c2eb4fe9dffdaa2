//! What this process remembers of stores, so that a request asks them only for what it does not know.
//!
//! Items have numbers here, one table a tenant, so that sources, filters and scores work on whole numbers; cards, neighbour
//! lists, users' edges and near users lie beside them. What was read is given again only while it is fresh: until a write is
//! told where this process alone writes ([`Freshness::Exclusive`]), for a bounded time where others do. What is older only
//! protects: hidden stays hidden, engaged stays engaged while a store is away. Never holds a lock over I/O; bounded.

mod catalogue;
mod kept;
mod late;
mod learned;
mod load;
mod near;
mod tenant;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use foldhash::fast::RandomState;
use nearcast_domain::{ItemId, Tenant, UserId, ports::Changes};

pub(crate) use self::{
    catalogue::{Card, Catalogue, Next, shortened},
    late::Late,
    learned::LearnedTable,
    load::{Epochs, Loads, remember_states},
    near::{Followed, NearKey, NearKnown, Stamp},
    tenant::{Edges, Own, Seen, TenantMemory},
};
use crate::config::ItemMemoryConfig;

/// Tenants that are remembered at once; beyond these, all are begun anew: a caller may name any.
const TENANTS: usize = 4_096;

/// How long what was read may be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// This process alone writes the stores, and what it writes is told ([`Changes`]): until then.
    Exclusive,
    /// Other processes write too.
    Shared {
        /// For so long.
        max_age: Duration,
    },
}

/// The memory of one process, shared by all requests, and told of writes where it is exclusive.
pub struct Memory {
    pub(crate) freshness: Freshness,
    limits: ItemMemoryConfig,
    tenants: RwLock<HashMap<Tenant, Arc<TenantMemory>, RandomState>>,
}

impl Memory {
    /// Empty.
    pub fn new(freshness: Freshness, limits: &ItemMemoryConfig) -> Self {
        Self { freshness, limits: *limits, tenants: RwLock::default() }
    }

    /// What is remembered of a tenant.
    pub(crate) fn tenant(&self, tenant: &Tenant) -> Arc<TenantMemory> {
        if let Some(known) = self.known(tenant).filter(|t| !t.is_full()) {
            return known;
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= TENANTS {
            tenants.clear();
        }
        let slot = tenants.entry(tenant.clone()).or_insert_with(|| self.begin());
        if slot.is_full() {
            // Begun anew: requests under way keep the old one.
            *slot = self.begin();
        }
        slot.clone()
    }

    /// Forgets what was learned of tenants that have nothing in service any more.
    pub(crate) fn keep_learned_of(&self, keep: impl Fn(&Tenant) -> bool) {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        for (_, mem) in tenants.iter().filter(|(t, mem)| mem.learned().is_some() && !keep(t)) {
            mem.set_learned(None);
        }
    }

    fn begin(&self) -> Arc<TenantMemory> {
        Arc::new(TenantMemory::new(self.freshness, &self.limits))
    }

    fn known(&self, tenant: &Tenant) -> Option<Arc<TenantMemory>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }
}

impl Changes for Memory {
    fn users(&self, tenant: &Tenant, users: &[UserId]) {
        if let Some(known) = self.known(tenant) {
            known.forget_users(users);
        }
    }

    fn erased(&self, tenant: &Tenant, users: &[UserId]) {
        if let Some(known) = self.known(tenant) {
            known.forget_erased(users);
            known.forget_searches();
        }
    }

    fn items(&self, tenant: &Tenant, items: &[ItemId]) {
        if let Some(known) = self.known(tenant) {
            known.forget_cards(items);
        }
    }

    fn neighbours(&self, tenant: &Tenant, items: Option<&[ItemId]>) {
        if let Some(known) = self.known(tenant) {
            known.forget_lists(items);
        }
    }

    fn vectors(&self, tenant: Option<&Tenant>) {
        match tenant {
            Some(tenant) => self.known(tenant).iter().for_each(|t| t.forget_searches()),
            None => self.tenants.read().unwrap_or_else(PoisonError::into_inner).values().for_each(|t| t.forget_searches()),
        }
    }
}
