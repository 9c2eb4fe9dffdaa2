//! What searches of the vector index found for a user, and what was learned proposes to them: good for as long as neither the user nor what
//! was searched changed.

use std::sync::Arc;

use nearcast_domain::{UserId, Vector};
use tokio::time::Instant;

use super::tenant::Own;
use crate::recommend::{sources::Found, through::Through};

/// Whose search, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NearKey {
    /// Users near a user.
    Users(UserId),
    /// Items near a user, of a category where one is asked for.
    Items(UserId, Option<Arc<str>>),
}

impl NearKey {
    /// Whose.
    pub fn user(&self) -> &UserId {
        match self {
            Self::Users(user) | Self::Items(user, _) => user,
        }
    }
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
    /// What was proposed, through whom: as it was taken down.
    pub through: Through,
}

impl Followed {
    /// Whether nothing changed.
    pub fn holds(&self, own: &Arc<[Own]>, version: u64) -> bool {
        Arc::ptr_eq(&self.own, own) && self.version == version
    }

    /// What was proposed then.
    pub fn found(self) -> Found {
        let proposals = match &self.through {
            Through::Known { proposals, .. } => proposals.to_vec(),
            // Nobody spoke.
            _ => Vec::new(),
        };
        Found { proposals, through: self.through }
    }

    /// What it takes, in bytes, beside the asker's own items, which are kept elsewhere.
    pub fn bytes(&self) -> usize {
        match &self.through {
            Through::Known { own, proposals, speakers } => {
                size_of_val(&**own) + size_of_val(&**proposals) + size_of_val(&**speakers)
            }
            _ => 0,
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nearcast_domain::{Tenant, candidate::Source, ports::Changes};

    use super::*;
    use crate::{
        config::ItemMemoryConfig,
        memory::{Freshness, Memory},
    };

    #[test]
    fn of_an_erased_user_nothing_is_kept() {
        let memory = Memory::new(Freshness::Exclusive, &ItemMemoryConfig::default());
        let tenant = Tenant::default();
        let mem = memory.tenant(&tenant);
        let [gone, stays] = ["gone", "stays"].map(UserId::trusted);
        let of = |user: &UserId| {
            [
                NearKey::Users(user.clone()),
                NearKey::Items(user.clone(), None),
                NearKey::Items(user.clone(), Some("pens".into())),
            ]
        };
        for user in [&gone, &stays] {
            for key in of(user) {
                let stamp = Stamp { vector: Arc::from([1.0]), own: None, epochs: None, writes: 0, at: Instant::now() };
                mem.keep_found(key, NearKnown { stamp, users: Arc::default(), items: Arc::default() });
            }
            let followed = Followed { own: Arc::default(), version: 1, through: Through::Nobody };
            mem.keep_followed(user.clone(), Source::Learned, followed);
            mem.keep_profile(user.clone(), None, None);
        }
        let kept = |user: &UserId| {
            let near = of(user).iter().filter(|key| mem.found(key).is_some()).count();
            let profile = mem.profile(user, None, Duration::MAX).is_some();
            (near, mem.followed(user, Source::Learned).is_some(), profile)
        };
        memory.erased(&tenant, std::slice::from_ref(&gone));
        assert_eq!((kept(&gone), kept(&stays)), ((0, false, false), (3, true, true)));
    }
}
