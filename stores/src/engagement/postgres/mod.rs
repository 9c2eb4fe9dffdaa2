//! Engagement totals in PostgreSQL.
//!
//! An event's id and its part of a total are written in one statement, so an event counts once however many workers tell it at
//! the same time. Weights are added as whole steps. Works behind pgbouncer in transaction mode: it keeps nothing in a session.

mod aggregates;
mod artefacts;
mod config;
mod error;
mod jobs;
mod months;
mod read;
mod runs;
mod schema;
mod server;
mod statements;
mod write;

use std::sync::Mutex;

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId,
    digest::Digest,
    ports::{EngagementRead, EngagementWrite, HourTotal, ItemLabels, Tally, TrendFit, TrendingQuery},
};

pub use config::PostgresConfig;
use months::Known;
pub use nearcast_domain::ports::PipelineRun;
use server::Server;
use statements::Statements;

/// The name of the store in errors.
const STORE: &str = "engagement";

/// Engagement totals in PostgreSQL.
pub struct PostgresEngagement {
    shared: Shared,
}

struct Shared {
    server: Server,
    statements: Statements,
    known: Mutex<Known>,
}

impl PostgresEngagement {
    /// Prepares to connect. Does not connect: a server that is down shows with the first call.
    pub fn new(config: &PostgresConfig) -> StoreResult<Self> {
        config.validate().map_err(|e| invalid(&e))?;
        let (server, statements) = (Server::new(config), Statements::new(&config.schema));
        Ok(Self { shared: Shared { server, statements, known: Mutex::default() } })
    }

    /// Makes the tables where they are missing, and sees that the server is new enough and takes writes. May be repeated, also
    /// by several at once. Answers what there is, a line each.
    pub async fn setup(&self) -> StoreResult<Vec<String>> {
        schema::setup(&self.shared).await
    }

    /// Closes the connections. Calls after it fail.
    pub async fn close(&self) {
        self.shared.server.close().await;
    }

    /// Writes down a run of a job as it stands.
    pub async fn record_run(&self, run: &PipelineRun) -> StoreResult<()> {
        runs::record_run(&self.shared, run).await
    }

    /// The newest runs of a job, or of all.
    pub async fn runs(&self, job: Option<&str>, limit: usize) -> StoreResult<Vec<PipelineRun>> {
        runs::runs(&self.shared, job, limit).await
    }
}

fn invalid(message: &str) -> StoreError {
    StoreError::new(ErrorKind::Invalid, STORE, message)
}

#[async_trait]
impl EngagementRead for PostgresEngagement {
    async fn trending(&self, tenant: &Tenant, query: TrendingQuery) -> StoreResult<Vec<(ItemId, f64)>> {
        if query.half_life_hours.is_some_and(|h| h.is_nan() || h <= 0.0) {
            return Err(invalid("a half-life must be above 0"));
        }
        read::trending(&self.shared, tenant, &query).await
    }

    async fn hours(&self, tenant: &Tenant, limit: usize) -> StoreResult<Vec<HourTotal>> {
        read::hours(&self.shared, tenant, limit).await
    }

    async fn trend_fit(&self, tenant: &Tenant) -> StoreResult<Option<TrendFit>> {
        read::trend_fit(&self.shared, tenant).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        read::digest(&self.shared).await
    }
}

#[async_trait]
impl EngagementWrite for PostgresEngagement {
    async fn record(&self, tenant: &Tenant, tallies: &[Tally]) -> StoreResult<()> {
        if tallies.iter().any(|t| !t.weight.is_finite()) {
            return Err(invalid("a weight is not a finite number"));
        }
        write::record(&self.shared, tenant, tallies).await
    }

    async fn set_labels(&self, tenant: &Tenant, labels: &[ItemLabels]) -> StoreResult<()> {
        write::set_labels(&self.shared, tenant, labels).await
    }

    async fn set_trend_fit(&self, tenant: &Tenant, fit: TrendFit) -> StoreResult<()> {
        if fit.half_life_hours.is_some_and(|h| h.is_nan() || h <= 0.0) || !fit.share.is_finite() {
            return Err(invalid("a half-life must be above 0, and a share a finite number"));
        }
        write::set_trend_fit(&self.shared, tenant, fit).await
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        write::erase(&self.shared, tenant, user).await
    }
}
