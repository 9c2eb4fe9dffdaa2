//! One error for every store, with a kind that callers match on.
//!
//! The message is for operators and logs; it never reaches a caller of the HTTP API.

use std::fmt;

/// What went wrong, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The store cannot be reached, or answers nothing sensible. Worth trying again.
    Unavailable,
    /// No answer within the deadline. Worth trying again.
    Timeout,
    /// The store refuses more work just now. Worth trying again, later.
    Busy,
    /// No space is left.
    Full,
    /// The store may not be written.
    ReadOnly,
    /// What is stored is torn or not ours.
    Corrupt,
    /// The data was written by a newer version of the program.
    TooNew,
    /// The caller asked for something that cannot be.
    Invalid,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anyone's doing.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Busy)
    }

    /// The kind as a label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Corrupt => "corrupt",
            Self::TooNew => "too_new",
            Self::Invalid => "invalid",
        }
    }
}

/// A failed call to a store.
#[derive(Debug, Clone, thiserror::Error)]
pub struct StoreError {
    /// What a caller can act on.
    pub kind: ErrorKind,
    /// Which store: `ledger`, `vectors`, `graph`, `engagement`, `cache`, `log`, `dead_letters`, `embedder`.
    pub store: &'static str,
    /// What happened, for the operator, with the remedy where there is one.
    pub message: String,
}

impl StoreError {
    /// A failure of `store`.
    pub fn new(kind: ErrorKind, store: &'static str, message: impl fmt::Display) -> Self {
        Self { kind, store, message: message.to_string() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.store, self.kind.label(), self.message)
    }
}

/// What a port gives back.
pub type StoreResult<T> = Result<T, StoreError>;
