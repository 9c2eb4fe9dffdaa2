//! Shapes and helpers that several groups of routes use.

use std::{sync::Arc, time::Duration};

use nearcast_domain::{ItemId, StoreResult, Tenant, Timestamp, ports::ItemState};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::App;
use crate::{memory::Card, recommend::budget::by};

/// How long a call of these routes may take in all.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most entries of a page.
pub const MAX_PAGE: usize = 500;

/// An item as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ItemCard {
    /// Which item.
    #[schema(value_type = String)]
    pub item_id: ItemId,
    /// The beginning of its text.
    #[schema(value_type = Option<String>)]
    pub text: Option<Arc<str>>,
    /// Its categories.
    #[schema(value_type = Vec<String>)]
    pub categories: Vec<Arc<str>>,
}

impl ItemCard {
    /// From what this process remembers.
    pub fn of(item: ItemId, card: Option<&Card>) -> Self {
        Self {
            item_id: item,
            text: card.and_then(|c| c.text.clone()),
            categories: card.map(|c| c.categories.clone()).unwrap_or_default(),
        }
    }
}

/// An item with a score.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ScoredItem {
    /// The item.
    #[serde(flatten)]
    pub item: ItemCard,
    /// Comparable within the list.
    pub score: f32,
}

/// An item, whole.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ItemView {
    /// Which item.
    #[schema(value_type = String)]
    pub item_id: ItemId,
    /// What it is, in words.
    #[schema(value_type = Option<String>)]
    pub text: Option<Arc<str>>,
    /// Sorted.
    #[schema(value_type = Vec<String>)]
    pub categories: Vec<Arc<str>>,
    /// From when on it is no longer recommended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Whether it is kept from everyone.
    pub hidden: bool,
    /// Whatever else its producer sent.
    #[schema(value_type = Object)]
    pub attributes: serde_json::Map<String, serde_json::Value>,
}

impl From<ItemState> for ItemView {
    fn from(s: ItemState) -> Self {
        let i = s.item;
        Self {
            item_id: i.item_id,
            text: i.text,
            categories: i.categories,
            expires_at: i.expires_at,
            hidden: i.hidden,
            attributes: i.attributes,
        }
    }
}

/// What did not answer, by name.
#[derive(Debug, Default)]
pub struct Missing(pub Vec<&'static str>);

impl Missing {
    /// The value, or its default with `name` taken down.
    pub fn or_default<T: Default>(&mut self, name: &'static str, result: StoreResult<T>) -> T {
        result.unwrap_or_else(|e| {
            tracing::warn!(store = e.store, kind = e.kind.label(), "no answer: {}", e.message);
            if !self.0.contains(&name) {
                self.0.push(name);
            }
            T::default()
        })
    }
}

/// When a call that begins now must be over.
pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// The result of a store, within the time of a call.
pub async fn soon<T>(what: &'static str, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    by(deadline(), what, call).await
}

/// Items with what is known of them; those that may not be shown are left out.
pub async fn shown(app: &App, tenant: &Tenant, items: Vec<(ItemId, f32)>, missing: &mut Missing) -> Vec<ScoredItem> {
    let r = &app.recommender();
    let ids: Vec<ItemId> = items.iter().map(|(i, _)| i.clone()).collect();
    let (cards, error) = r.cards(tenant, &ids, deadline()).await;
    if let Some(e) = error {
        missing.or_default::<()>("ledger", Err(e));
    }
    let now = Timestamp::now();
    let visible = |c: &Card| !c.hidden && c.expires_at.is_none_or(|t| t > now);
    items
        .into_iter()
        .zip(cards)
        .filter(|(_, card)| card.as_ref().is_some_and(|c| visible(c)))
        .map(|((item, score), card)| ScoredItem { item: ItemCard::of(item, card.as_deref()), score })
        .collect()
}
