//! The runs of batch jobs: what was done, when, and how it ended.
//!
//! A run is written as it stands, again and again under its id; it is no fact of the event log and stands in no digest.

use nearcast_domain::{ErrorKind, StoreError, StoreResult, Timestamp, ports::PipelineRun};

use super::{
    STORE, Shared,
    server::{Mode, get, sql},
};

pub(super) async fn record_run(shared: &Shared, run: &PipelineRun) -> StoreResult<()> {
    let report = run.report.to_string();
    let call = || async {
        let mut tx = shared.server.begin(Mode::Write).await?;
        let statement = sql(&shared.statements.set_run)
            .bind(run.id.as_str())
            .bind(run.job.as_str())
            .bind(run.tenant.as_deref())
            .bind(run.started.millis())
            .bind(run.finished.map(Timestamp::millis))
            .bind(run.outcome.as_str())
            .bind(report.as_str());
        tx.run(statement).await?;
        tx.commit().await
    };
    shared.server.attempts(call).await
}

pub(super) async fn runs(shared: &Shared, job: Option<&str>, limit: usize) -> StoreResult<Vec<PipelineRun>> {
    let call = || async {
        let mut tx = shared.server.begin(Mode::Read).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.rows(sql(&shared.statements.runs).bind(job).bind(limit)).await?;
        tx.commit().await?;
        let torn = |e: serde_json::Error| StoreError::new(ErrorKind::Corrupt, STORE, format!("the report of a run: {e}"));
        rows.iter()
            .map(|row| {
                Ok(PipelineRun {
                    id: get(row, 0)?,
                    job: get(row, 1)?,
                    tenant: get(row, 2)?,
                    started: Timestamp::from_millis(get(row, 3)?),
                    finished: get::<Option<i64>>(row, 4)?.map(Timestamp::from_millis),
                    outcome: get(row, 5)?,
                    report: serde_json::from_str(get(row, 6)?).map_err(torn)?,
                })
            })
            .collect()
    };
    shared.server.attempts(call).await
}
