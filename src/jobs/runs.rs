//! `nearcast runs`: what jobs did.

use super::Place;
use crate::cli::RunsArgs;

/// A line a run, the newest first.
pub async fn run(args: &RunsArgs, place: &Place<'_>) -> anyhow::Result<()> {
    for run in place.app.stores.engagement.runs(args.job.as_deref(), args.limit).await? {
        if args.json {
            place.out.line(&serde_json::to_string(&run)?);
            continue;
        }
        let took = run.finished.map_or_else(
            || "not ended".to_owned(),
            |end| format!("{:.1} s", (end.millis() - run.started.millis()) as f64 / 1000.0),
        );
        place.out.line(&format!("{}  {:<10} {:<11} {took}  {}", run.started, run.job, run.outcome, run.report));
    }
    Ok(())
}
