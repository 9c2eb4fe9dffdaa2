//! What is kept under which key. Everything of one user lies in one slot of a cluster: the braces hold what names the user.

use nearcast_domain::{Tenant, UserId, ports::answer_prefix};

/// The keys under one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// An answer.
    pub(super) fn answer(&self, key: &str) -> String {
        let owner = owner(key);
        format!("{}a:{{{owner}}}{}", self.prefix, &key[owner.len()..])
    }

    /// What the keys of all answers of a user begin with.
    pub(super) fn answers(&self, owner: &str) -> String {
        format!("{}a:{{{owner}}}", self.prefix)
    }

    /// The sorted set of the keys of an owner's answers, by when they end.
    pub(super) fn index(&self, owner: &str) -> String {
        format!("{}s:{{{owner}}}", self.prefix)
    }

    /// A user's epoch.
    pub(super) fn epoch(&self, owner: &str) -> String {
        format!("{}e:{{{owner}}}", self.prefix)
    }

    /// The least epoch of all users, and of which run of the server it is.
    pub(super) fn base(&self) -> String {
        format!("{}base", self.prefix)
    }

    /// Where changes are told.
    pub(super) fn channel(&self) -> String {
        format!("{}changes", self.prefix)
    }
}

/// What names a user.
pub(in crate::cache) fn owner_of(tenant: &Tenant, user: &UserId) -> String {
    answer_prefix(tenant, user)
}

/// What names the user whose answer has this key: [`answer_prefix`] at its beginning. All of a key that begins otherwise.
pub(in crate::cache) fn owner(key: &str) -> &str {
    fn part(text: &str) -> Option<usize> {
        let (digits, rest) = text.split_once(':')?;
        let length: usize = digits.parse().ok()?;
        rest.get(length..)?.starts_with('/').then_some(digits.len() + 1 + length + 1)
    }
    let Some(tenant) = part(key) else { return key };
    let Some(user) = part(&key[tenant..]) else { return key };
    &key[..tenant + user]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_what_the_prefix_says() {
        for (tenant, user) in [("default", "u1"), ("3:a/", "1:b/"), ("t", "{}"), ("é", "\u{1f511}/")] {
            let prefix = answer_prefix(&Tenant::trusted(tenant), &UserId::trusted(user));
            assert_eq!(owner(&format!("{prefix}0a1b")), prefix);
            assert_eq!(owner(&prefix), prefix);
        }
        for key in ["", "a", "1:", "1:a", "1:a/", "9:a/1:b/", "1:a/b", "1:a/1:bc/x", "1:é/1:b/"] {
            assert_eq!(owner(key), key);
        }
        let keys = Keys::new("p:");
        assert_eq!(keys.answer("1:a/2:bc/x"), "p:a:{1:a/2:bc/}x");
        assert!(keys.answer("1:a/2:bc/x").starts_with(&keys.answers("1:a/2:bc/")));
        assert_eq!(keys.answer("x"), "p:a:{x}");
    }
}
