//! What was due but did not answer, in the order in which it is named.
//!
//! Logs a failing store at most once a second and name: an outage must not fill the disk.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use nearcast_domain::{StoreError, candidate::Source};

/// The ledger: filters worked with what this process remembers.
pub const LEDGER: &str = "ledger";
/// The response cache.
pub const CACHE: &str = "cache";
/// The wait for the caller's own events.
pub const AFTER: &str = "after";

const NAMES: [&str; 9] = ["graph", "learned", "similar_users", "similar_text", "trending", "newest", LEDGER, CACHE, AFTER];
static LAST_LOGGED: [AtomicU64; 9] = [const { AtomicU64::new(0) }; 9];

/// A set of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Degraded([bool; 9]);

impl Degraded {
    /// Takes down that `name` did not answer.
    pub fn add(&mut self, name: &'static str, why: &StoreError) {
        let Some(place) = NAMES.iter().position(|n| *n == name) else { return };
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        if LAST_LOGGED[place].swap(second, Ordering::Relaxed) != second {
            tracing::warn!(degraded = name, store = why.store, kind = why.kind.label(), "no answer: {}", why.message);
        }
        if !self.0[place] {
            self.0[place] = true;
            metrics::counter!("nearcast_degraded_total", "source" => name).increment(1);
        }
    }

    /// Takes over all names of another set.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
    }

    /// Whether `name` is in it.
    pub fn holds(&self, name: &str) -> bool {
        NAMES.iter().zip(self.0).any(|(n, set)| set && *n == name)
    }

    /// Whether everything answered.
    pub fn is_empty(&self) -> bool {
        self.0 == [false; 9]
    }

    /// Whether nobody who knows the asker answered.
    pub fn impersonal(&self) -> bool {
        [Source::Graph, Source::SimilarUsers, Source::SimilarText].iter().all(|s| self.holds(s.name()))
    }

    /// The names, as answers hold them.
    pub fn names(&self) -> Vec<Cow<'static, str>> {
        NAMES.iter().zip(self.0).filter(|(_, set)| *set).map(|(n, _)| Cow::Borrowed(*n)).collect()
    }
}
