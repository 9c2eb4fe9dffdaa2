//! The address of a store, which may carry a user and a password: `scheme://user:password@host:port/path?query`.
//!
//! Never prints the password.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// An address as drivers take it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

impl Address {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of it, password and all: for the driver alone.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What may be shown. A password can itself hold `@` or `/` by mistake: everything up to the last `@` is hidden then.
    fn shown(&self) -> String {
        let (scheme, rest) = match self.0.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), &*self.0),
        };
        match rest.rsplit_once('@') {
            Some((login, place)) => {
                let user = login.split_once(':').map_or(login, |(user, _)| user);
                let secret = if login.contains(':') { ":(secret)" } else { "" };
                format!("{scheme}{user}{secret}@{place}")
            }
            None => self.0.clone(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_hidden() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379/", "redis://127.0.0.1:6379/"),
            ("postgres://u:p@h:1/db", "postgres://u:(secret)@h:1/db"),
            ("mongodb://u:p@x/y@h:1/db", "mongodb://u:(secret)@h:1/db"),
            ("u:p@h", "u:(secret)@h"),
            ("neo4j://u@h", "neo4j://u@h"),
        ] {
            assert_eq!(Address::new(text).to_string(), shown);
            assert_eq!(serde_json::to_string(&Address::new(text)).unwrap(), format!("{shown:?}"));
        }
    }
}
