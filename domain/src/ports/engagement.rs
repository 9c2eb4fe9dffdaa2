//! Engagement totals: what rises, by hour and by category.
//!
//! Many writers share an item's total, so the total and the ids of the events in it change in one transaction: an event
//! counts once, however often it is told.

use async_trait::async_trait;

use crate::{EventId, ItemId, StoreResult, Tenant, Timestamp, UserId, digest::Digest, time::HOUR_MS};

/// One engagement to be counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// The event (or message about an item): unique with its user.
    pub id: EventId,
    /// Who.
    pub user: UserId,
    /// With what.
    pub item: ItemId,
    /// How strongly ([`crate::taste::Taste::strength`]).
    pub weight: f32,
    /// When.
    pub timestamp: Timestamp,
}

/// Totals are kept in whole steps of 2⁻²⁰, so that no order of adding changes a bit.
pub const WEIGHT_STEP: f64 = 1.0 / 1_048_576.0;

impl Tally {
    /// The weight in steps of [`WEIGHT_STEP`].
    pub fn steps(&self) -> i64 {
        (f64::from(self.weight) / WEIGHT_STEP).round() as i64
    }

    /// The hour since 1970 that it falls in.
    pub fn hour(&self) -> i64 {
        self.timestamp.millis().div_euclid(HOUR_MS)
    }
}

/// The categories of an item, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemLabels {
    /// Which.
    pub item: ItemId,
    /// Sorted.
    pub categories: Vec<String>,
}

/// What is asked of trending. The score of an item is the sum over hours of `total · 2^(-(newest - hour) / half-life)`,
/// where `newest` is the newest hour with an engagement of this tenant: no clock.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendingQuery {
    /// Of one category only.
    pub category: Option<String>,
    /// After how many hours an engagement counts half; `None`: it never fades.
    pub half_life_hours: Option<f64>,
    /// How many are wanted.
    pub limit: usize,
}

/// How trending fits a tenant, found from the tenant's own past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrendFit {
    /// After how many hours an engagement counts half; `None`: it never fades.
    pub half_life_hours: Option<f64>,
    /// How much trending should weigh beside the other sources, 0 to 1.
    pub share: f64,
}

/// The sum of the weights of an item's engagements in one hour.
#[derive(Debug, Clone, PartialEq)]
pub struct HourTotal {
    /// Hours since 1970.
    pub hour: i64,
    /// Which item.
    pub item: ItemId,
    /// How many engagements.
    pub count: u64,
    /// The sum of their weights, kept in steps of 2⁻²⁰ as a whole number so that its order does not matter.
    pub weight: f64,
}

/// What serving reads.
#[async_trait]
pub trait EngagementRead: Send + Sync {
    /// What rises: by score from the top, ties by item id.
    async fn trending(&self, tenant: &Tenant, query: TrendingQuery) -> StoreResult<Vec<(ItemId, f64)>>;

    /// The newest totals, by hour and item in ascending order, at most `limit` rows.
    async fn hours(&self, tenant: &Tenant, limit: usize) -> StoreResult<Vec<HourTotal>>;

    /// What was found to fit this tenant; `None` where nothing was looked for yet.
    async fn trend_fit(&self, tenant: &Tenant) -> StoreResult<Option<TrendFit>>;

    /// The digest of totals, counted ids and categories. What was fitted is not a fact and does not count.
    async fn digest(&self) -> StoreResult<Digest>;
}

/// What the worker and jobs write.
#[async_trait]
pub trait EngagementWrite: EngagementRead {
    /// Counts engagements, durably; those that were counted before change nothing.
    async fn record(&self, tenant: &Tenant, tallies: &[Tally]) -> StoreResult<()>;

    /// Sets the categories of items.
    async fn set_labels(&self, tenant: &Tenant, labels: &[ItemLabels]) -> StoreResult<()>;

    /// Writes down what fits.
    async fn set_trend_fit(&self, tenant: &Tenant, fit: TrendFit) -> StoreResult<()>;

    /// Takes a user's engagements out of every total. Answers how many there were.
    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64>;
}
