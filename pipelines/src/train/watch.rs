//! Training by itself: looks now and then whether there is enough new history, and whether it has come to rest.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nearcast_domain::{StoreResult, Tenant};
use tokio_util::sync::CancellationToken;

use super::{
    compute::Verdict,
    job::{Threads, Trainer},
};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);
/// How long the lease is held without being renewed: longer than any training takes.
const LEASE_FOR: Duration = Duration::from_secs(1800);

/// What is known of a tenant's history.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// How many edges there were when it was last trained.
    trained: u64,
    /// How many there are.
    edges: u64,
    /// When that last changed.
    changed: Instant,
    /// Since when there has been enough that is new.
    waiting: Option<Instant>,
}

impl Trainer {
    /// Trains whenever there is enough that is new, until `cancel` fires. A failed training is tried again when there is more.
    pub async fn run(&self, cancel: &CancellationToken) {
        if !self.config.enabled {
            return;
        }
        let mut seen: BTreeMap<Tenant, Seen> = BTreeMap::new();
        let mut pause = EVERY;
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            let begun = Instant::now();
            match self.look(&mut seen, cancel).await {
                // Rests in proportion to what it took.
                Ok(true) => {
                    pause = begun.elapsed().mul_f64(1.0 / self.config.share - 1.0).clamp(EVERY, Duration::from_secs(3600))
                }
                Ok(false) => pause = EVERY,
                Err(e) => {
                    tracing::warn!(error = %e, "training will be tried again");
                    pause = 10 * EVERY;
                }
            }
        }
    }

    /// Trains the first tenant whose turn it is; `false`: nobody's.
    async fn look(&self, seen: &mut BTreeMap<Tenant, Seen>, cancel: &CancellationToken) -> StoreResult<bool> {
        for tenant in self.ledger.tenants().await? {
            let edges = self.graph.count(&tenant).await?;
            let now = Instant::now();
            let known = match seen.get_mut(&tenant) {
                Some(known) => known,
                None => {
                    // What the newest artefact was made of, whether it went into service or not.
                    let newest = self.artefacts.list(&tenant).await?.into_iter().next();
                    let trained = newest.and_then(|a| a.figures["choices"].as_u64()).unwrap_or(0);
                    seen.entry(tenant.clone()).or_insert(Seen { trained, edges, changed: now, waiting: None })
                }
            };
            if known.edges != edges {
                (known.edges, known.changed) = (edges, now);
            }
            let grown = edges.abs_diff(known.trained) as f64;
            if edges < self.config.least as u64 || grown < 1.0_f64.max(self.config.growth * known.trained as f64) {
                known.waiting = None;
                continue;
            }
            let waiting = *known.waiting.get_or_insert(now);
            let quiet = now.duration_since(known.changed) >= Duration::from_secs(self.config.quiet_s);
            if !quiet && now.duration_since(waiting) < Duration::from_secs(self.config.longest_wait_s) {
                continue;
            }
            let lease = format!("train/{tenant}");
            if let Some((leases, holder)) = &self.one_of_many
                && !leases.acquire(&lease, holder, LEASE_FOR).await?
            {
                // Another process does it.
                continue;
            }
            (known.trained, known.waiting) = (edges, None);
            let done = tokio::select! {
                () = cancel.cancelled() => None,
                done = self.train_on(&tenant, Threads::OneBehind) => Some(done),
            };
            if let Some((leases, holder)) = &self.one_of_many {
                leases.release(&lease, holder).await?;
            }
            let Some(report) = done.transpose()? else { return Ok(false) };
            metrics::histogram!("nearcast_train_seconds").record(report.seconds);
            match &report.figures {
                Some(f) => tracing::info!(
                    %tenant, verdict = ?report.verdict, version = report.version, before = f.before, after = f.after,
                    seconds = report.seconds, "trained"
                ),
                None => tracing::debug!(%tenant, verdict = ?report.verdict, "trained"),
            }
            return Ok(report.verdict != Verdict::TooLittle);
        }
        Ok(false)
    }
}
