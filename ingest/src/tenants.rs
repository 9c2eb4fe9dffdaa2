//! Users by tenant: the shape in which stores are asked.

use std::collections::{BTreeMap, BTreeSet};

use nearcast_domain::{Tenant, UserId};

/// Each user once, by tenant, in order.
pub(crate) fn by_tenant<'a>(users: impl IntoIterator<Item = (&'a Tenant, &'a UserId)>) -> BTreeMap<Tenant, Vec<UserId>> {
    let mut tenants: BTreeMap<&Tenant, BTreeSet<&UserId>> = BTreeMap::new();
    for (tenant, user) in users {
        tenants.entry(tenant).or_default().insert(user);
    }
    tenants.into_iter().map(|(tenant, users)| (tenant.clone(), users.into_iter().cloned().collect())).collect()
}
