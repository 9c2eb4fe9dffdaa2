//! Which tenants and users this process knows to be written already, so that it need not write them with every batch.
//!
//! Only saves work. A user counts as known since one erasure: whoever erases them elsewhere makes this knowledge void.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nearcast_domain::Tenant;

/// So many users are remembered; then memory begins anew.
const USERS: usize = 100_000;

#[derive(Default)]
pub(super) struct Seen {
    tenants: Mutex<HashSet<Tenant>>,
    /// By key: the time of the erasure that their life began with.
    users: Mutex<HashMap<String, Option<i64>>>,
}

impl Seen {
    pub fn has_tenant(&self, tenant: &Tenant) -> bool {
        lock(&self.tenants).contains(tenant)
    }

    pub fn tenant(&self, tenant: &Tenant) {
        lock(&self.tenants).insert(tenant.clone());
    }

    pub fn has_user(&self, tu: &str, since: Option<i64>) -> bool {
        lock(&self.users).get(tu) == Some(&since)
    }

    pub fn user(&self, tu: &str, since: Option<i64>) {
        let mut users = lock(&self.users);
        if users.len() >= USERS {
            users.clear();
        }
        users.insert(tu.to_owned(), since);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
