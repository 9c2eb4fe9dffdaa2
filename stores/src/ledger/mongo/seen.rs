//! What this process need not write or read again: tenants and users that are written already, items that it has just read or written.
//!
//! Only saves work. A user counts as known since one erasure: whoever erases them elsewhere makes this knowledge void. An item that
//! was read a moment ago may have been replaced since: whoever replaces it names the version that they saw, and looks again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nearcast_domain::Tenant;

use super::documents::ItemDoc;

/// So many users are remembered; then memory begins anew.
const USERS: usize = 100_000;
/// So long what was read or written of an item may stand for a look at it: from a stage of a batch to the next.
const LOOKED: Duration = Duration::from_secs(20);

/// Items as they were when somebody looked, by key; `None`: not there.
#[derive(Default)]
pub(super) struct Looked {
    pub items: HashMap<String, Option<ItemDoc>>,
    /// What stands for those that nobody looked at.
    pub rest: Rest,
}

/// What is to be done about items that nobody has looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Rest {
    /// Where each is a call of its own, a few of them may stand for all.
    #[default]
    Sampled,
    /// They are taken to be new, as those were that were looked at. Whoever inserts them learns better.
    New,
    /// Each is looked at.
    Whole,
}

impl Looked {
    /// Nothing was looked at yet, and all of it has to be.
    pub fn whole() -> Self {
        Self { rest: Rest::Whole, ..Self::default() }
    }
}

#[derive(Default)]
pub(super) struct Seen {
    tenants: Mutex<HashSet<Tenant>>,
    /// By key: the time of the erasure that their life began with.
    users: Mutex<HashMap<String, Option<i64>>>,
    /// What the newest preview read.
    looked: Mutex<Option<(Instant, Looked)>>,
    /// What the newest append wrote, until somebody reads it.
    fresh: Mutex<HashMap<String, (Instant, ItemDoc)>>,
    /// Since when this process sees the notes that writers left.
    notes: Mutex<HashMap<String, Instant>>,
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

    /// Keeps what a preview read for the append that follows.
    pub fn look(&self, looked: Looked) {
        *lock(&self.looked) = Some((Instant::now(), looked));
    }

    /// What the newest preview read, once.
    pub fn looked(&self) -> Looked {
        lock(&self.looked).take().filter(|(at, _)| at.elapsed() < LOOKED).map(|(_, looked)| looked).unwrap_or_default()
    }

    /// Keeps the items that an append made, in the place of those of earlier ones.
    pub fn wrote(&self, items: Vec<ItemDoc>) {
        let now = Instant::now();
        *lock(&self.fresh) = items.into_iter().map(|d| (d.ti.clone(), (now, d))).collect();
    }

    /// An item as this process has just written it, once: as if it had been read behind the write.
    pub fn written(&self, ti: &str) -> Option<ItemDoc> {
        lock(&self.fresh).remove(ti).filter(|(at, _)| at.elapsed() < LOOKED).map(|(_, document)| document)
    }

    /// Which of these notes this process has seen for so long. Others are forgotten.
    pub fn left<'a>(&self, notes: impl Iterator<Item = &'a str>, age: Duration) -> Vec<String> {
        let mut known = lock(&self.notes);
        let now = Instant::now();
        *known = notes.map(|n| (n.to_owned(), known.get(n).copied().unwrap_or(now))).collect();
        known.iter().filter(|(_, since)| now.duration_since(**since) >= age).map(|(n, _)| n.clone()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
