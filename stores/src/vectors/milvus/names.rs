//! What things are called on the server. A revision may be called anything, a collection may not: it is named by a hash.

use nearcast_domain::{Tenant, event::hex, ports::Collection};
use sha2::{Digest, Sha256};

/// The names under one prefix.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The collection with the rows of a revision.
    pub(super) fn rows(&self, collection: Collection, revision: &str) -> String {
        format!("{}{}_{}", self.prefix, collection.name(), short(revision))
    }

    /// The empty collection that stands for a revision: what the alias [`Self::current`] names.
    pub(super) fn marker(&self, revision: &str) -> String {
        format!("{}revision_{}", self.prefix, short(revision))
    }

    /// The empty collection that says that both collections of a revision were made.
    pub(super) fn made(&self, revision: &str) -> String {
        format!("{}made_{}", self.prefix, short(revision))
    }

    /// The alias that says which revision is current.
    pub(super) fn current(&self) -> String {
        format!("{}current", self.prefix)
    }

    /// The alias that people and other tools read.
    pub(super) fn alias(&self, collection: Collection) -> String {
        format!("{}{}", self.prefix, collection.name())
    }

    /// The alias by which a revision's collections are found when all are asked for.
    pub(super) fn listed(&self, revision: &str) -> String {
        format!("{}listed_{}", self.prefix, short(revision))
    }

    /// The collection with rows of this kind of the revision that an alias lists, if it is such an alias.
    pub(super) fn of_listed(&self, collection: Collection, alias: &str) -> Option<String> {
        let hash = alias.strip_prefix(&self.prefix)?.strip_prefix("listed_")?;
        let ours = hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        ours.then(|| format!("{}{}_{hash}", self.prefix, collection.name()))
    }
}

fn short(revision: &str) -> String {
    hex(&Sha256::digest(revision)[..8])
}

/// The primary key of a row: 128 bits of a hash over tenant and id. Ids of any bytes become 32 hexadecimal digits, and one collection
/// holds all tenants.
pub(super) fn key(tenant: &Tenant, id: &str) -> String {
    let mut h = Sha256::new();
    h.update((tenant.as_str().len() as u64).to_le_bytes());
    h.update(tenant.as_str());
    h.update(id);
    hex(&h.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_they_hold() {
        let (names, revision) = (Names::new("p_"), "model@1 \u{1f600}");
        let users = names.rows(Collection::Users, revision);
        let listed = names.listed(revision);
        assert_eq!(names.of_listed(Collection::Users, &listed), Some(users.clone()));
        assert_eq!(Names::new("p_x").of_listed(Collection::Users, &listed), None);
        assert_eq!(Names::new("p").of_listed(Collection::Users, &listed), None);
        for other in [&users, &names.current(), &names.made(revision), &names.marker(revision), "p_listed_"] {
            assert_eq!(names.of_listed(Collection::Users, other), None);
        }
        assert_ne!(users, names.rows(Collection::Users, "model@2"));
        assert_ne!(key(&Tenant::trusted("ab"), "c"), key(&Tenant::trusted("a"), "bc"));
    }
}
