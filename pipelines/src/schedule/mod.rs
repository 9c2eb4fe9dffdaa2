//! Jobs at the times of cron lines: one leader among instances by a lease, no job beside itself, and nothing missed without being told.
//!
//! What was done of a job is kept beside the ledger's positions, so that whoever leads next goes on from there. Knows no job: what runs is
//! [`Work`]. All times are UTC.

mod cron;
mod leader;
mod state;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
pub use cron::{Cron, Due};
use nearcast_domain::{
    Timestamp,
    ports::{Leases, Positions},
};
use serde::Serialize;
pub use state::{Handled, LastRun, Outcome};
use tokio_util::sync::CancellationToken;

/// The lease of whoever leads.
const LEADER: &str = "schedule";

/// A job and its times.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Unique among all entries: what is known of it is kept under this name.
    pub name: String,
    /// When it is due.
    pub cron: Cron,
    /// Whether it runs once after times that were missed.
    pub catch_up: bool,
}

/// Why runs did not take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nobody was there to begin them.
    Away,
    /// The run before was not done.
    Busy,
    /// It had begun, and its process ended.
    Cut,
}

/// Runs that did not take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// How many; counted up to 10,000.
    pub runs: u64,
    /// When the first was due.
    pub first: Timestamp,
    /// When the last was due.
    pub last: Timestamp,
    /// Why.
    pub why: Why,
}

/// What is scheduled.
#[async_trait]
pub trait Work: Send + Sync {
    /// Runs a job to its end. `cancel` asks it to stop. The error is the reason for people.
    async fn run(&self, entry: &Entry, due: Timestamp, cancel: CancellationToken) -> Result<(), String>;

    /// Tells of runs that did not take place.
    async fn missed(&self, entry: &Entry, missed: &Missed);
}

/// The clock of the schedule.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// See the module.
#[derive(Clone)]
pub struct Scheduler {
    /// What runs when.
    pub entries: Arc<[Entry]>,
    /// What a run is.
    pub work: Arc<dyn Work>,
    /// Under which one instance leads, and a job runs.
    pub leases: Arc<dyn Leases>,
    /// Where it is kept what was done.
    pub positions: Arc<dyn Positions>,
    /// A name that no other instance has.
    pub holder: String,
    /// How long a leader that is silent leads on.
    pub lease: Duration,
    /// How late a run may begin and still be none that was missed; longer than the lease.
    pub late: Duration,
    /// What the time is.
    pub clock: Clock,
}

/// An entry as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its times.
    pub cron: String,
    /// When it is due next; `None`: never again.
    pub next: Option<Timestamp>,
    /// Its last run, if there was one.
    pub last: Option<LastRun>,
    /// Runs that did not take place, since a leader saw it first.
    pub missed: u64,
}

/// How every entry stands, for people.
pub async fn standings(
    entries: &[Entry],
    positions: &dyn Positions,
    now: Timestamp,
) -> nearcast_domain::StoreResult<Vec<Standing>> {
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let last = LastRun::load(positions, &entry.name).await?;
        let missed = Handled::load(positions, &entry.name).await?.map_or(0, |h| h.missed);
        all.push(Standing { name: entry.name.clone(), cron: entry.cron.to_string(), next: entry.cron.next(now), last, missed });
    }
    Ok(all)
}
