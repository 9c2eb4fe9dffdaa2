//! The jobs that run beside serving: neighbour lists for what was touched, and the half-life that fits.
//!
//! A pass takes at most a small share of the time ([`UpkeepConfig::share`]); it never runs on the runtime's threads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant,
    ports::{EngagementWrite, GraphWrite, Leases},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    neighbours::{Matrix, NeighbourRule, all_lists},
    trending::{FitRule, fit},
};

/// The section `[upkeep]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpkeepConfig {
    /// The shortest pause between two passes, in milliseconds.
    pub pause_ms: u64,
    /// The share of one core that passes may take over time, above 0 and at most 1.
    pub share: f64,
    /// How neighbour lists are made.
    pub neighbours: NeighbourRule,
    /// How the half-life of trending is found.
    pub trending: FitRule,
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        Self { pause_ms: 1000, share: 0.1, neighbours: NeighbourRule::default(), trending: FitRule::default() }
    }
}

impl UpkeepConfig {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), String> {
        if !(self.share > 0.0 && self.share <= 1.0) {
            return Err("upkeep.share must lie above 0 and at most at 1".into());
        }
        self.neighbours.validate()?;
        self.trending.validate()
    }
}

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct UpkeepReport {
    /// Tenants with something touched.
    pub tenants: usize,
    /// Items that were touched.
    pub touched: usize,
    /// Edges that were read.
    pub edges: usize,
    /// Lists that were written.
    pub lists: usize,
}

/// The lease under which passes run in the background.
const LEASE: &str = "upkeep";
/// How long it is held without being renewed: a process that died hands it on after so long.
const LEASE_FOR: Duration = Duration::from_secs(30);

/// Runs passes.
pub struct Upkeep {
    graph: Arc<dyn GraphWrite>,
    engagement: Arc<dyn EngagementWrite>,
    config: UpkeepConfig,
    one_of_many: Option<(Arc<dyn Leases>, String)>,
}

impl Upkeep {
    /// Over these stores.
    pub fn new(graph: Arc<dyn GraphWrite>, engagement: Arc<dyn EngagementWrite>, config: UpkeepConfig) -> Self {
        Self { graph, engagement, config, one_of_many: None }
    }

    /// In the background, passes only while this holder has the lease: one process among many does the work. Two at once would only
    /// waste it, as both write the same lists.
    pub fn under(mut self, leases: Arc<dyn Leases>, holder: String) -> Self {
        self.one_of_many = Some((leases, holder));
        self
    }

    /// Passes, with pauses, until `cancel` fires. A failed pass is tried again.
    pub async fn run(&self, cancel: &CancellationToken) {
        let mut pause = Duration::from_millis(self.config.pause_ms);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            let begun = Instant::now();
            match self.pass_if_mine().await {
                Ok(report) if report.lists > 0 => {
                    tracing::debug!(?report, took_ms = begun.elapsed().as_millis() as u64, "neighbours are up to date");
                    metrics::histogram!("nearcast_upkeep_pass_seconds").record(begun.elapsed().as_secs_f64());
                }
                Ok(_) => {}
                Err(e) => tracing::warn!(error = %e, "upkeep will be tried again"),
            }
            let rest = begun.elapsed().mul_f64(1.0 / self.config.share - 1.0);
            pause = rest.max(Duration::from_millis(self.config.pause_ms)).min(Duration::from_secs(3600));
        }
        if let Some((leases, holder)) = &self.one_of_many
            && let Err(e) = leases.release(LEASE, holder).await
        {
            tracing::debug!(error = %e, "the lease of upkeep ends by itself");
        }
    }

    async fn pass_if_mine(&self) -> StoreResult<UpkeepReport> {
        match &self.one_of_many {
            Some((leases, holder)) if !leases.acquire(LEASE, holder, LEASE_FOR).await? => Ok(UpkeepReport::default()),
            _ => self.pass().await,
        }
    }

    /// Brings everything that was touched up to date, once.
    pub async fn pass(&self) -> StoreResult<UpkeepReport> {
        let mut report = UpkeepReport::default();
        for tenant in self.graph.touched_tenants().await? {
            report.tenants += 1;
            self.pass_of(&tenant, &mut report).await?;
        }
        Ok(report)
    }

    async fn pass_of(&self, tenant: &Tenant, report: &mut UpkeepReport) -> StoreResult<()> {
        // Marks first, edges second: what changes in between is marked again and done in the next pass.
        let touched = self.graph.touched(tenant, usize::MAX).await?;
        let edges = self.graph.scan(tenant).await?;
        report.touched += touched.items.len();
        report.edges += edges.len();
        let (neighbours, trending) = (self.config.neighbours.clone(), self.config.trending.clone());
        let work = move || (all_lists(&Matrix::new(&edges, neighbours.history), &neighbours), fit(&edges, &trending));
        let (lists, found) =
            tokio::task::spawn_blocking(work).await.map_err(|e| StoreError::new(ErrorKind::Unavailable, "graph", e))?;
        report.lists += lists.len();
        if let Some(found) = found {
            self.engagement.set_trend_fit(tenant, found).await?;
        }
        // Last, because it takes the marks back.
        self.graph.replace_neighbours(tenant, &lists, touched.upto).await
    }
}
