//! Told of what was written, by whoever writes: so that memory of it in the same process ends at once.
//!
//! Only for stores that this process alone writes. What other processes write must be bounded in age instead.

use crate::{ItemId, Tenant, UserId};

/// Someone who remembers what stores said. Each method is called after a write, also after one that failed: a part may have been
/// written. Cheap, and never blocks on I/O.
pub trait Changes: Send + Sync {
    /// Edges of these users were set.
    fn users(&self, tenant: &Tenant, users: &[UserId]);

    /// These users were erased, or an event of theirs was taken out.
    fn erased(&self, tenant: &Tenant, users: &[UserId]);

    /// The states of these items were set.
    fn items(&self, tenant: &Tenant, items: &[ItemId]);

    /// Neighbour lists were set: of these items, or of all.
    fn neighbours(&self, tenant: &Tenant, items: Option<&[ItemId]>);

    /// Vectors were set or removed; `None`: of all tenants.
    fn vectors(&self, tenant: Option<&Tenant>);
}
