//! Names of tenants, users, items and events: short, cheap to clone, checked once at the edge.
//!
//! An id is never trimmed, folded or otherwise changed: two ids are the same only when their bytes are.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest id that is accepted, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 256;

/// Why a text cannot be an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The empty text names nobody.
    #[error("is empty")]
    Empty,
    /// Longer than [`MAX_ID_BYTES`].
    #[error("is longer than {MAX_ID_BYTES} bytes")]
    TooLong,
    /// NUL and other control characters cannot be kept by every store.
    #[error("holds a control character")]
    Control,
}

/// Checks the rules that every id obeys.
pub fn check(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        Err(IdError::Empty)
    } else if id.len() > MAX_ID_BYTES {
        Err(IdError::TooLong)
    } else if id.chars().any(char::is_control) {
        Err(IdError::Control)
    } else {
        Ok(())
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes an id from a producer or a caller; see [`check`].
            pub fn parse(id: &str) -> Result<Self, IdError> {
                check(id).map(|()| Self(id.into()))
            }

            /// Takes an id that a store of ours gave back: it was checked when it came in.
            pub fn trusted(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text, for callers that keep it.
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// An isolated customer. Part of every key.
    Tenant
);
id!(
    /// Who is recommended to.
    UserId
);
id!(
    /// What is recommended.
    ItemId
);
id!(
    /// One message or engagement of one user. Unique together with its tenant and user.
    EventId
);

impl Default for Tenant {
    fn default() -> Self {
        Self::trusted("default")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_ids() {
        assert_eq!(UserId::parse("").unwrap_err(), IdError::Empty);
        assert_eq!(UserId::parse(&"x".repeat(257)).unwrap_err(), IdError::TooLong);
        assert_eq!(UserId::parse("a\0b").unwrap_err(), IdError::Control);
        assert_eq!(UserId::parse("пользователь 1").unwrap().as_str(), "пользователь 1");
    }
}
