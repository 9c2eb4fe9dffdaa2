//! What rises and what is new, as this process last saw it: shared by all requests, and the last thing left when every
//! store is away.
//!
//! Each list is read once at a time, however many requests wait for it. Bounded in lists and in their length.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use nearcast_domain::{
    ItemId, StoreError, StoreResult, Tenant,
    ports::{EngagementRead, ItemState, LedgerRead, TrendFit, TrendingQuery},
};

use crate::config::SourceLimits;

/// A tenant and a category.
type Key = (Tenant, Option<Arc<str>>);

/// What rises.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rising {
    /// The strongest first, each above 0.
    pub items: Vec<(ItemId, f32)>,
    /// How much trending should weigh beside the other sources, 0 to 1: what fits the tenant.
    pub share: f32,
}

/// Lists at most, of each sort.
const LISTS: u64 = 1_024;
/// How many new items are kept at hand.
pub const NEWEST_DEPTH: usize = 200;

/// The lists.
pub struct Shelf {
    rising: Cache<Key, Arc<Rising>>,
    last_rising: Cache<Key, Arc<Rising>>,
    last_newest: Cache<Key, Arc<Vec<ItemId>>>,
    depth: usize,
    default_fit: TrendFit,
}

impl Shelf {
    /// Empty.
    pub fn new(limits: &SourceLimits) -> Self {
        let fresh = Duration::from_millis(limits.trending_fresh_ms);
        Self {
            rising: Cache::builder().max_capacity(LISTS).time_to_live(fresh).build(),
            last_rising: Cache::new(LISTS),
            last_newest: Cache::new(LISTS),
            depth: limits.trending_depth.max(limits.trending),
            default_fit: TrendFit { half_life_hours: Some(limits.half_life_hours), share: f64::from(limits.trending_share) },
        }
    }

    /// What rises: at most a moment old.
    pub async fn rising(
        &self,
        engagement: &dyn EngagementRead,
        tenant: &Tenant,
        category: Option<&Arc<str>>,
    ) -> StoreResult<Arc<Rising>> {
        let key = (tenant.clone(), category.cloned());
        let read = async {
            let fit = engagement.trend_fit(tenant).await?.unwrap_or(self.default_fit);
            let query = TrendingQuery {
                category: category.map(|c| c.as_ref().to_owned()),
                half_life_hours: fit.half_life_hours,
                limit: self.depth,
            };
            let found: Vec<_> = engagement.trending(tenant, query).await?;
            let items = found.into_iter().map(|(i, s)| (i, s as f32)).filter(|(_, s)| s.is_finite() && *s > 0.0).collect();
            let list = Arc::new(Rising { items, share: (fit.share as f32).clamp(0.0, 1.0) });
            self.last_rising.insert(key.clone(), list.clone()).await;
            Ok(list)
        };
        self.rising.try_get_with(key.clone(), read).await.map_err(|e: Arc<StoreError>| (*e).clone())
    }

    /// What rose when it could last be read. Of the whole catalogue where the category's own list was never read.
    pub async fn last_rising(&self, tenant: &Tenant, category: Option<&Arc<str>>) -> Arc<Rising> {
        match self.last_rising.get(&(tenant.clone(), category.cloned())).await {
            Some(list) => list,
            None => self.last_rising.get(&(tenant.clone(), None)).await.unwrap_or_default(),
        }
    }

    /// The newest items, read now.
    pub async fn newest(
        &self,
        ledger: &dyn LedgerRead,
        tenant: &Tenant,
        category: Option<&Arc<str>>,
    ) -> StoreResult<Vec<ItemState>> {
        let states = ledger.newest_items(tenant, category.map(AsRef::as_ref), NEWEST_DEPTH).await?;
        let ids = Arc::new(states.iter().map(|s| s.item.item_id.clone()).collect());
        self.last_newest.insert((tenant.clone(), category.cloned()), ids).await;
        Ok(states)
    }

    /// The newest items when they could last be read.
    pub async fn last_newest(&self, tenant: &Tenant, category: Option<&Arc<str>>) -> Arc<Vec<ItemId>> {
        match self.last_newest.get(&(tenant.clone(), category.cloned())).await {
            Some(list) => list,
            None => self.last_newest.get(&(tenant.clone(), None)).await.unwrap_or_default(),
        }
    }
}
