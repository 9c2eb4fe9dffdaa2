//! Why an item is not recommended, from the stages that decided so.

use nearcast_domain::{ItemId, Tenant, UserId, candidate::Source};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    Query, Recommender,
    answer::{Reason, RemovalName},
    budget::Budget,
    pipeline,
    sources::Asker,
};

/// Where a watched item stood.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// From 1, among the candidates that filters kept.
    pub rank: usize,
    /// How many those were.
    pub of: usize,
    /// Its score.
    pub score: f32,
    /// What spoke for it.
    pub reasons: Vec<Reason>,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is recommended.
    Recommended,
    /// A filter removed it: see `removed`.
    Removed,
    /// Others scored higher: see `rank`, `score` and `needed`.
    Outranked,
    /// No source named it among its best.
    NotProposed,
    /// Nothing is known of such an item.
    Unknown,
}

/// Why an item is not recommended to a user.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WhyNot {
    /// To whom.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// What.
    #[schema(value_type = String)]
    pub item_id: ItemId,
    /// What became of it.
    pub fate: Fate,
    /// What removed it.
    pub removed: Option<RemovalName>,
    /// Its place, from 1: in the answer where it is recommended, else among all candidates that filters kept.
    pub rank: Option<usize>,
    /// How many candidates there were.
    pub of: Option<usize>,
    /// Its score.
    pub score: Option<f32>,
    /// The score of the last one that is recommended.
    pub needed: Option<f32>,
    /// What spoke for it.
    pub reasons: Vec<Reason>,
    /// Sources that were asked and did not name it among their best.
    #[schema(value_type = Vec<String>)]
    pub lacked: Vec<Source>,
    /// What did not answer.
    #[schema(value_type = Vec<String>)]
    pub degraded: Vec<std::borrow::Cow<'static, str>>,
}

impl Recommender {
    /// What becomes of an item when this user asks so.
    pub async fn why_not(&self, tenant: &Tenant, user: &UserId, item: ItemId, query: Query) -> WhyNot {
        let query = Query { watch: Some(item.clone()), explain: true, ..query };
        let budget = Budget::since(Instant::now(), self.config.budget());
        let outcome = pipeline::run(self, tenant, Asker::User(user), &query, None, budget.rest()).await;
        let given = outcome.recommendations.iter().position(|r| r.item_id == item);
        let removed = outcome.removed.iter().find(|r| r.item_id == item);
        let needed = outcome.recommendations.last().map(|r| r.score);
        let mut why = WhyNot {
            user_id: user.clone(),
            item_id: item.clone(),
            fate: Fate::NotProposed,
            removed: removed.map(|r| r.reason),
            rank: None,
            of: outcome.watched.as_ref().map(|w| w.of),
            score: None,
            needed,
            reasons: Vec::new(),
            lacked: Vec::new(),
            degraded: outcome.degraded.names(),
        };
        let mut named: Vec<Source> = removed.map(|r| r.sources.clone()).unwrap_or_default();
        if let Some(place) = given {
            let r = &outcome.recommendations[place];
            (why.fate, why.rank, why.score) = (Fate::Recommended, Some(place + 1), Some(r.score));
            why.reasons.clone_from(&r.reasons);
        } else if removed.is_some() {
            why.fate = Fate::Removed;
        } else if let Some(w) = outcome.watched {
            (why.fate, why.rank, why.score, why.reasons) = (Fate::Outranked, Some(w.rank), Some(w.score), w.reasons);
        } else {
            let soon = Instant::now() + self.config.budget();
            let (cards, _) = self.cards(tenant, std::slice::from_ref(&item), soon).await;
            let card = cards.into_iter().next().flatten().unwrap_or_default();
            let category = query.category.as_ref();
            let engaged = self.stores.ledger.engaged(tenant, user, std::slice::from_ref(&item)).await;
            let engaged = engaged.is_ok_and(|e| e.first() == Some(&true));
            (why.fate, why.removed) = if engaged && !self.config.recommend_engaged {
                (Fate::Removed, Some(RemovalName::Engaged))
            } else if !card.listed {
                (Fate::Unknown, None)
            } else {
                match super::filters::allowed(&card, category, nearcast_domain::Timestamp::now()) {
                    Err(removal) => (Fate::Removed, Some(removal.into())),
                    Ok(()) => (Fate::NotProposed, None),
                }
            };
        }
        named.extend(why.reasons.iter().map(|r| r.source));
        let asked = |s: &Source| *s != Source::Newest && !outcome.degraded.holds(s.name()) && outcome.asked.contains(s);
        why.lacked = Source::ALL.into_iter().filter(|s| asked(s) && !named.contains(s)).collect();
        why
    }
}
