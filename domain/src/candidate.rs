//! What sources propose, filters remove and scorers rank.
//!
//! Plain data, without any knowledge of how an item came to be proposed.

use serde::{Deserialize, Serialize};

use crate::ItemId;

/// Who can propose an item. The names stand in answers (`reasons`, `degraded`), metrics and configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Items next to the user's own, by co-engagement.
    Graph,
    /// Items that follow from the user's own, by weights that were learned from everyone's history.
    Learned,
    /// What people engaged with next after the user's latest items.
    Next,
    /// What users with a near profile engaged with.
    SimilarUsers,
    /// Items whose text is near the profile.
    SimilarText,
    /// What is rising now.
    Trending,
    /// The newest items of the catalogue: the last rung, so that nobody gets nothing.
    Newest,
}

impl Source {
    /// All, in the order in which ties and sums run.
    pub const ALL: [Self; 7] =
        [Self::Graph, Self::Learned, Self::Next, Self::SimilarUsers, Self::SimilarText, Self::Trending, Self::Newest];

    /// The name on every surface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Learned => "learned",
            Self::Next => "next",
            Self::SimilarUsers => "similar_users",
            Self::SimilarText => "similar_text",
            Self::Trending => "trending",
            Self::Newest => "newest",
        }
    }
}

/// One source's word for an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What is proposed.
    pub item: ItemId,
    /// Above 0, comparable within the source only.
    pub score: f32,
    /// Through whom: user ids (`similar_users`) or item ids (`graph`, `similar_text`), strongest first, a few at most.
    pub via: Vec<String>,
}

/// Why an item was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// The user engaged with it before.
    Engaged,
    /// The caller named it in `exclude`.
    Excluded,
    /// Its producer keeps it from everyone.
    Hidden,
    /// Its time is over.
    Expired,
    /// It is not in the category that was asked for.
    Category,
}
