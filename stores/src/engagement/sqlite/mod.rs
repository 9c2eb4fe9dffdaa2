//! Engagement totals in one SQLite file.
//!
//! Weights are added as whole numbers of steps, so that no order of events changes a bit. An event's row in `counted` and its
//! part of a total are written in one transaction, or not at all.

mod aggregates;
mod jobs;
mod read;
mod schema;
mod write;

use std::path::Path;

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId,
    digest::Digest,
    ports::{EngagementRead, EngagementWrite, HourTotal, ItemLabels, Tally, TrendFit, TrendingQuery},
};

use crate::sqlite::Database;

/// `engagement.db`.
pub struct SqliteEngagement {
    db: Database,
}

impl SqliteEngagement {
    /// Opens the file, making it where it is missing.
    pub async fn open(path: &Path) -> StoreResult<Self> {
        Ok(Self { db: Database::open(path, &schema::SCHEMA).await? })
    }

    /// Tidies up before the end of the process. Not needed for safety.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Writes the file anew, so that nothing is left in it of what was deleted.
    pub async fn compact(&self) -> StoreResult<()> {
        self.db.compact().await
    }
}

fn invalid(message: &str) -> StoreError {
    StoreError::new(ErrorKind::Invalid, "engagement", message)
}

#[async_trait]
impl EngagementRead for SqliteEngagement {
    async fn trending(&self, tenant: &Tenant, query: TrendingQuery) -> StoreResult<Vec<(ItemId, f64)>> {
        if query.half_life_hours.is_some_and(|h| h.is_nan() || h <= 0.0) {
            return Err(invalid("a half-life must be above 0"));
        }
        read::trending(&self.db, tenant, query).await.map_err(|e| self.db.error(e))
    }

    async fn hours(&self, tenant: &Tenant, limit: usize) -> StoreResult<Vec<HourTotal>> {
        read::hours(&self.db, tenant, limit).await.map_err(|e| self.db.error(e))
    }

    async fn trend_fit(&self, tenant: &Tenant) -> StoreResult<Option<TrendFit>> {
        read::trend_fit(&self.db, tenant).await.map_err(|e| self.db.error(e))
    }

    async fn digest(&self) -> StoreResult<Digest> {
        read::digest(&self.db).await.map_err(|e| self.db.error(e))
    }
}

#[async_trait]
impl EngagementWrite for SqliteEngagement {
    async fn record(&self, tenant: &Tenant, tallies: &[Tally]) -> StoreResult<()> {
        if tallies.iter().any(|t| !t.weight.is_finite()) {
            return Err(invalid("a weight is not a finite number"));
        }
        write::record(&self.db, tenant, tallies).await.map_err(|e| self.db.error(e))
    }

    async fn set_labels(&self, tenant: &Tenant, labels: &[ItemLabels]) -> StoreResult<()> {
        write::set_labels(&self.db, tenant, labels).await.map_err(|e| self.db.error(e))
    }

    async fn set_trend_fit(&self, tenant: &Tenant, fit: TrendFit) -> StoreResult<()> {
        if fit.half_life_hours.is_some_and(|h| h.is_nan() || h <= 0.0) || !fit.share.is_finite() {
            return Err(invalid("a half-life must be above 0, and a share a finite number"));
        }
        write::set_trend_fit(&self.db, tenant, fit).await.map_err(|e| self.db.error(e))
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        write::erase(&self.db, tenant, user).await.map_err(|e| self.db.error(e))
    }
}
