//! What searches of the vector index found for a user, and what was learned proposes to them: good for as long as neither the user nor what
//! was searched changed.

use std::sync::Arc;

use nearcast_domain::{UserId, Vector};
use tokio::time::Instant;

use super::tenant::Own;
use crate::recommend::{tally::Proposed, through::Through};

/// Whose search, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NearKey {
    /// Users near a user.
    Users(UserId),
    /// Items near a user, of a category where one is asked for.
    Items(UserId, Option<Arc<str>>),
}

/// What a search was made with.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The vector: compared by where it lies, then by its bits.
    pub vector: Vector,
    /// The asker's own items that were left out.
    pub own: Option<Arc<[Own]>>,
    /// The epochs of the asker and of erasures; `None` where they are not known.
    pub epochs: Option<(u64, u64)>,
    /// How many writes to the index had been told.
    pub writes: u64,
    /// When.
    pub at: Instant,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct NearKnown {
    /// Made with.
    pub stamp: Stamp,
    /// Users by id, or items by number, best first, each with how far it stands out.
    pub users: Arc<[(UserId, f32)]>,
    /// See `users`.
    pub items: Arc<[(u32, f32)]>,
}

/// What an artefact's lists propose to a user: good for as long as neither the user's own items nor the artefact changed.
#[derive(Clone)]
pub struct Followed {
    /// The asker's own items, by where they lie.
    pub own: Arc<[Own]>,
    /// Of the artefact.
    pub version: u64,
    /// As they were proposed.
    pub proposals: Arc<[Proposed]>,
    /// Through whom: what was taken down of it.
    pub through: Through,
}

impl Followed {
    /// Whether nothing changed.
    pub fn holds(&self, own: &Arc<[Own]>, version: u64) -> bool {
        Arc::ptr_eq(&self.own, own) && self.version == version
    }
}

impl Stamp {
    /// Whether nothing changed between this and `now`, as far as this process was told.
    pub fn same(&self, now: &Self) -> bool {
        self.writes == now.writes && same_vector(&self.vector, &now.vector) && same_own(&self.own, &now.own)
    }
}

fn same_vector(a: &Vector, b: &Vector) -> bool {
    Arc::ptr_eq(a, b) || (a.len() == b.len() && a.iter().zip(b.iter()).all(|(x, y)| x.to_bits() == y.to_bits()))
}

fn same_own(a: &Option<Arc<[Own]>>, b: &Option<Arc<[Own]>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
        (None, None) => true,
        _ => false,
    }
}
