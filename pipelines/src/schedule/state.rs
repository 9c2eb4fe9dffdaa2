//! What is known of a scheduled job, under two keys of the ledger's positions, as two may write it at once: the leader, and the run.

use nearcast_domain::{ErrorKind, StoreError, StoreResult, Timestamp, ports::Positions};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended.
    Running,
    /// Well.
    Done,
    /// With an error.
    Failed,
    /// Its process was stopped, or ended.
    Interrupted,
}

/// The last run of a job. Written by whoever has the lease of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When it was due.
    pub due: Timestamp,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was no success.
    pub error: Option<String>,
}

/// What is not due any more. Written by the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// Up to here nothing is due.
    pub until: Timestamp,
    /// Runs that did not take place, since the beginning.
    pub missed: u64,
}

impl LastRun {
    /// The last run of a job, if there was one.
    pub async fn load(positions: &dyn Positions, name: &str) -> StoreResult<Option<Self>> {
        load(positions, &key(name)).await
    }

    /// Keeps it.
    pub async fn save(&self, positions: &dyn Positions, name: &str) -> StoreResult<()> {
        save(positions, &key(name), self).await
    }
}

impl Handled {
    /// `None`: the job is seen for the first time.
    pub async fn load(positions: &dyn Positions, name: &str) -> StoreResult<Option<Self>> {
        load(positions, &format!("{}/handled", key(name))).await
    }

    /// Keeps it.
    pub async fn save(&self, positions: &dyn Positions, name: &str) -> StoreResult<()> {
        save(positions, &format!("{}/handled", key(name)), self).await
    }
}

async fn load<T: DeserializeOwned>(positions: &dyn Positions, key: &str) -> StoreResult<Option<T>> {
    let Some(text) = positions.get(key).await? else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(state) => Ok(Some(state)),
        // Of another version: the job begins anew.
        Err(e) => {
            tracing::warn!(key, error = %e, "what is known of a scheduled job cannot be read; it counts as new");
            Ok(None)
        }
    }
}

async fn save<T: Serialize + Sync>(positions: &dyn Positions, key: &str, state: &T) -> StoreResult<()> {
    let text = serde_json::to_string(state).map_err(|e| StoreError::new(ErrorKind::Invalid, "schedule", e.to_string()))?;
    positions.set(key, &text).await
}

/// Also the name of the lease under which the job runs.
pub(super) fn key(name: &str) -> String {
    format!("schedule/{name}")
}
