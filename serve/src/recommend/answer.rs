//! What a caller asks and what comes back, as plain data: the shapes of the contract.
//!
//! Fields may be added; none may change its meaning.

use std::{borrow::Cow, sync::Arc, time::Duration};

use nearcast_domain::{
    ItemId, Timestamp, UserId,
    candidate::{Removal, Source},
    ports::Token,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::stages::Parts;

/// How recommendations are wanted.
#[derive(Debug, Clone)]
pub struct Query {
    /// How many, 1 to [`crate::config::MAX_K`].
    pub k: usize,
    /// Only items of this category.
    pub category: Option<Arc<str>>,
    /// None of these.
    pub exclude: Vec<ItemId>,
    /// Whether to tell what was removed, and each source's own score.
    pub explain: bool,
    /// How long it may take; the configured budget where `None`.
    pub budget: Option<Duration>,
    /// Wait, within the budget, until the events behind this token have had their effect.
    pub after: Option<Token>,
    /// Whether cached answers may be read and written.
    pub cache: bool,
    /// An item whose fate is to be told.
    pub watch: Option<ItemId>,
    /// Where it is written down how long each part took, if somebody wants to know.
    pub parts: Option<Arc<Parts>>,
    /// Where the last place goes to a new item: what it is drawn by.
    pub explore: Option<u64>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            k: 10,
            category: None,
            exclude: Vec::new(),
            explain: false,
            budget: None,
            after: None,
            cache: true,
            watch: None,
            parts: None,
            explore: None,
        }
    }
}

/// Someone never seen before: what they wrote or looked at just now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Session {
    /// A search, a text, a message.
    pub text: Option<Arc<str>>,
    /// Items of the session, newest first.
    pub items: Vec<ItemId>,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheState {
    /// Made for this request.
    Miss,
    /// Made a moment ago; still what would be made now.
    Hit,
    /// From before: no source that knows the user answered.
    Stale,
}

/// Recommendations, best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// Who was asked for; null for a session.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    /// Different items, best first: `k` of them where the catalogue has so many.
    pub recommendations: Vec<Recommendation>,
    /// What was due but did not answer in time: names of sources (`graph`, `similar_users`, `similar_text`, `trending`,
    /// `newest`), `ledger`, `cache`, or `after`.
    #[schema(value_type = Vec<String>)]
    pub degraded: Vec<Cow<'static, str>>,
    /// Where the answer comes from.
    pub cache: CacheState,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub generated_at: Timestamp,
    /// The embedding model: name and the beginning of its revision.
    pub model: String,
    /// With `explain=true`: the candidates that filters removed, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Vec<Removed>>,
}

/// One recommended item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Recommendation {
    /// Which item.
    #[schema(value_type = String)]
    pub item_id: ItemId,
    /// The blend of what the sources say, 0 to 1. Never above that of the item before.
    pub score: f32,
    /// Who proposed it, the strongest first.
    pub reasons: Vec<Reason>,
    /// The beginning of the item's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub text: Option<Arc<str>>,
    /// The item's categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub categories: Vec<Arc<str>>,
    /// Where this item was drawn from the newest ones to give it a chance (`serve.explore`): with what probability it was this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f32>,
}

/// A source's part in a recommendation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// Which source.
    #[schema(value_type = String, example = "similar_users")]
    pub source: Source,
    /// Its share of the score, 0 to 1; all reasons of an item together make 1.
    pub weight: f32,
    /// Through whom, at most three: users (`similar_users`) or items of the user's own (`graph`).
    pub via: Vec<String>,
    /// With `explain=true`: the source's own score, comparable within the source only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

/// A candidate that is not recommended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// Which item.
    #[schema(value_type = String)]
    pub item_id: ItemId,
    /// Why not: `engaged`, `excluded`, `hidden`, `expired` or `category`.
    pub reason: RemovalName,
    /// Who had proposed it.
    #[schema(value_type = Vec<String>)]
    pub sources: Vec<Source>,
}

/// Why a candidate is not recommended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RemovalName {
    /// The user engaged with it before.
    Engaged,
    /// The caller named it.
    Excluded,
    /// Its producer keeps it from everyone.
    Hidden,
    /// Its time is over.
    Expired,
    /// It is not in the category that was asked for.
    Category,
    /// Whether it may be shown could not be found out.
    Unverified,
}

impl From<Removal> for RemovalName {
    fn from(r: Removal) -> Self {
        match r {
            Removal::Engaged => Self::Engaged,
            Removal::Excluded => Self::Excluded,
            Removal::Hidden => Self::Hidden,
            Removal::Expired => Self::Expired,
            Removal::Category => Self::Category,
        }
    }
}

/// The token of `after` is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a token that POST /events gave")]
pub struct BadToken;
