//! Jobs at their times, in this process; and `nearcast schedule --list`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use nearcast_domain::{Timestamp, ports::PipelineRun};
use nearcast_pipelines::schedule::{Entry, Missed, Scheduler, Work, standings};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Job, Out, Place, execute, note};
use crate::{cli::ScheduleArgs, wiring::App};

/// The configured jobs on the stores of this process.
struct Configured {
    app: Arc<App>,
    live: bool,
    jobs: BTreeMap<String, Job>,
}

#[async_trait]
impl Work for Configured {
    async fn run(&self, entry: &Entry, due: Timestamp, cancel: CancellationToken) -> Result<(), String> {
        let Some(job) = self.jobs.get(&entry.name) else { return Err("no such job is configured".into()) };
        let base = std::env::current_dir().map_err(|e| e.to_string())?;
        let out = Arc::new(Out::log(entry.name.clone()));
        let scheduled = Some((entry.name.clone(), due));
        let place = Place { app: &self.app, live: self.live, base, out, cancel, scheduled };
        execute(job, &place).await.map_err(|e| crate::one_line(&e))
    }

    async fn missed(&self, entry: &Entry, missed: &Missed) {
        let now = Timestamp::now();
        let job = self.jobs.get(&entry.name).map_or("schedule", Job::name);
        let run = PipelineRun {
            id: format!("missed-{}-{:08x}", now.millis(), fastrand::u32(..)),
            job: job.into(),
            tenant: None,
            started: now,
            finished: Some(now),
            outcome: "missed".into(),
            report: json!({ "schedule": entry.name, "missed": missed }),
        };
        note(&self.app.stores.engagement, &run).await;
    }
}

/// Runs what is configured until `stop`, wherever this instance leads. `live`: this process serves, too.
pub async fn keep(app: &Arc<App>, live: bool, stop: &CancellationToken) -> anyhow::Result<()> {
    let config = &app.config.schedule;
    let parsed = config.parsed().map_err(anyhow::Error::msg)?;
    if parsed.is_empty() {
        return Ok(());
    }
    let entries = parsed.iter().map(|(entry, _)| entry.clone()).collect();
    let jobs = parsed.into_iter().map(|(entry, job)| (entry.name, job)).collect();
    let (lease, late) = config.times();
    let scheduler = Scheduler {
        entries,
        work: Arc::new(Configured { app: app.clone(), live, jobs }),
        leases: app.stores.leases.clone(),
        positions: app.stores.positions.clone(),
        // One process has a data directory: what a killed one held is taken over at once.
        holder: if app.config.stores.any_shared() { app.holder.clone() } else { "the data directory".into() },
        lease,
        late,
        clock: Arc::new(Timestamp::now),
    };
    scheduler.run(stop).await;
    Ok(())
}

/// A line a job: when it is due next, and what came of it last.
pub async fn list(args: &ScheduleArgs, place: &Place<'_>) -> anyhow::Result<()> {
    let config = &place.app.config.schedule;
    let entries: Vec<Entry> = config.parsed().map_err(anyhow::Error::msg)?.into_iter().map(|(entry, _)| entry).collect();
    let all = standings(&entries, &*place.app.stores.positions, Timestamp::now()).await?;
    if all.is_empty() && !args.json {
        place.out.line("no jobs are scheduled: name some under [[schedule.jobs]] in the configuration");
    }
    for one in all {
        if args.json {
            place.out.line(&serde_json::to_string(&one)?);
            continue;
        }
        let next = one.next.map_or_else(|| "never".to_owned(), |n| n.to_string());
        let last = match &one.last {
            None => "has not run yet".to_owned(),
            Some(run) => {
                let outcome = format!("{:?}", run.outcome).to_lowercase();
                let took = run.ended.map_or_else(String::new, |end| {
                    format!(" after {:.1} s", (end.millis() - run.began.millis()) as f64 / 1000.0)
                });
                let why = run.error.as_ref().map_or_else(String::new, |e| format!(": {e}"));
                format!("last {} {outcome}{took}{why}", run.began)
            }
        };
        let missed = if one.missed > 0 { format!("; {} missed so far", one.missed) } else { String::new() };
        place.out.line(&format!("{}  ({})  next {next}; {last}{missed}", one.name, one.cron));
    }
    Ok(())
}
