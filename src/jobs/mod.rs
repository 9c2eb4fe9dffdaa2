//! Batch jobs: each beside live traffic, stopped and taken up again at will, with a report that is also written down as a run.
//!
//! Where every store lies elsewhere, the command does the work itself. Where stores are embedded, one process has the data directory: the
//! command opens it, or hands the job to the process that has it ([`handover`]).

mod aggregate;
mod erase;
mod export;
pub mod handover;
mod out;
mod rebuild;
mod reembed;
mod replay;
mod runs;
pub mod schedule;
mod truth;

use std::{path::PathBuf, sync::Arc};

use anyhow::bail;
use clap::Parser as _;
use nearcast_domain::{
    Timestamp,
    ports::{EngagementJobs, PipelineRun},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use self::out::Out;
use crate::{
    cli::{
        AggregateArgs, Cli, Command, EraseArgs, ExportArgs, RebuildArgs, ReconcileArgs, ReembedArgs, ReplayArgs, RunsArgs,
        ScheduleArgs,
    },
    config::Config,
    data_dir::DataDirError,
    wiring::App,
};

/// A job as it was asked for.
#[derive(Debug, Clone)]
pub enum Job {
    /// Another model.
    Reembed(ReembedArgs),
    /// Projections anew.
    Rebuild(RebuildArgs),
    /// Projections compared.
    Reconcile(ReconcileArgs),
    /// Everything as files.
    Export(ExportArgs),
    /// Engagement by hour or day.
    Aggregate(AggregateArgs),
    /// The log again.
    Replay(ReplayArgs),
    /// Users forgotten.
    Erase(EraseArgs),
    /// What jobs did.
    Runs(RunsArgs),
    /// What is scheduled.
    Schedule(ScheduleArgs),
}

impl Job {
    /// The job of a command line, where it is one.
    fn of(command: Command) -> Option<Self> {
        Some(match command {
            Command::Reembed(args) => Self::Reembed(args),
            Command::Rebuild(args) => Self::Rebuild(args),
            Command::Reconcile(args) => Self::Reconcile(args),
            Command::Export(args) => Self::Export(args),
            Command::Aggregate(args) => Self::Aggregate(args),
            Command::Replay(args) => Self::Replay(args),
            Command::Erase(args) => Self::Erase(args),
            Command::Runs(args) => Self::Runs(args),
            Command::Schedule(args) if args.list => Self::Schedule(args),
            _ => return None,
        })
    }

    /// The job of a command line without the program's name, for a schedule. The error says what is wrong with it.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let line = std::iter::once("nearcast").chain(words.iter().map(String::as_str));
        let cli = Cli::try_parse_from(line).map_err(|e| {
            let whole = e.to_string();
            whole.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        if cli.config.is_some() || cli.data_dir.is_some() || cli.log.is_some() {
            return Err("--config, --data-dir and --log are those of the process that runs the schedule; leave them out".into());
        }
        match Self::of(cli.command) {
            Some(Self::Runs(_) | Self::Schedule(_)) | None => Err(format!(
                "{:?} is no job that can be scheduled; reconcile, rebuild, reembed, replay and erase are",
                words.join(" ")
            )),
            Some(job) => Ok(job),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Reembed(_) => "reembed",
            Self::Rebuild(_) => "rebuild",
            Self::Reconcile(_) => "reconcile",
            Self::Export(_) => "export",
            Self::Aggregate(_) => "aggregate",
            Self::Replay(_) => "replay",
            Self::Erase(_) => "erase",
            Self::Runs(_) => "runs",
            Self::Schedule(_) => "schedule",
        }
    }

    const fn json(&self) -> bool {
        match self {
            Self::Reembed(args) => args.pace.json,
            Self::Rebuild(args) => args.pace.json,
            Self::Reconcile(args) => args.pace.json,
            Self::Export(args) => args.pace.json,
            Self::Aggregate(args) => args.pace.json,
            Self::Replay(args) => args.json,
            Self::Erase(args) => args.json,
            Self::Runs(args) => args.json,
            Self::Schedule(args) => args.json,
        }
    }
}

/// Where a job runs.
pub struct Place<'a> {
    /// Everything open.
    pub app: &'a App,
    /// Whether a worker and requests go on in this process meanwhile.
    pub live: bool,
    /// What paths are relative to.
    pub base: PathBuf,
    /// Where lines go.
    pub out: Arc<Out>,
    /// Stops it.
    pub cancel: CancellationToken,
    /// The entry of the schedule that asked for it, and when it was due.
    pub scheduled: Option<(String, Timestamp)>,
}

impl Place<'_> {
    /// The share of the time that is worked.
    fn share(&self, asked: Option<f64>) -> f64 {
        asked.unwrap_or(if self.live { 0.5 } else { 1.0 })
    }
}

/// What came of a job.
pub struct Outcome {
    /// Counts, for machines.
    pub report: Value,
    /// The same for people.
    pub text: Vec<String>,
    /// Why it is no success, where it is none.
    pub failed: Option<String>,
}

impl Outcome {
    /// What is written down of it: nobody who was erased, or looked for, is named there.
    fn recorded(&self) -> Value {
        let mut report = self.report.clone();
        for named in ["receipts", "found"] {
            if let Some(list) = report.get_mut(named) {
                *list = list.as_array().map_or(0, Vec::len).into();
            }
        }
        report
    }
}

/// Runs a job here, or has it run where the data directory is.
pub async fn run(job: Job, config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let dir = config.data_dir.clone();
    let app = match App::open(config, &cancel).await {
        Ok(app) => app,
        Err(e) if matches!(e.downcast_ref(), Some(DataDirError::InUse { .. })) => {
            return handover::ask(&dir, &cancel, e).await;
        }
        Err(e) => return Err(e),
    };
    let out = Arc::new(Out::here());
    let place = Place { app: &app, live: false, base: std::env::current_dir()?, out, cancel, scheduled: None };
    let outcome = execute(&job, &place).await;
    drop(place);
    app.close().await?;
    outcome
}

/// Runs a job to its end, tells what came of it and writes it down.
pub async fn execute(job: &Job, place: &Place<'_>) -> anyhow::Result<()> {
    match job {
        Job::Runs(args) => return runs::run(args, place).await,
        Job::Schedule(args) => return schedule::list(args, place).await,
        _ => {}
    }
    if let Job::Aggregate(args) = job
        && args.print
    {
        // It changes nothing: there is no run to write down, and no report.
        return aggregate::run(args, place).await.map(drop);
    }
    let engagement = &place.app.stores.engagement;
    let started = Timestamp::now();
    let mut run = PipelineRun {
        id: format!("{}-{}-{:08x}", job.name(), started.millis(), fastrand::u32(..)),
        job: job.name().into(),
        tenant: None,
        started,
        finished: None,
        outcome: "running".into(),
        report: json!({}),
    };
    note(engagement, &run).await;
    let outcome = match job {
        Job::Reembed(args) => reembed::run(args, place).await,
        Job::Rebuild(args) => rebuild::rebuild(args, place).await,
        Job::Reconcile(args) => rebuild::reconcile(args, place).await,
        Job::Export(args) => export::run(args, place).await,
        Job::Aggregate(args) => aggregate::run(args, place).await,
        Job::Replay(args) => replay::run(args, place).await,
        Job::Erase(args) => erase::run(args, place).await,
        Job::Runs(_) | Job::Schedule(_) => unreachable!("told above"),
    };
    run.finished = Some(Timestamp::now());
    match &outcome {
        Ok(done) => {
            run.outcome = if done.failed.is_some() { "failed" } else { "done" }.into();
            run.report = done.recorded();
            if let Some(why) = &done.failed {
                run.report["error"] = why.as_str().into();
            }
        }
        Err(e) => {
            run.outcome = if place.cancel.is_cancelled() { "interrupted" } else { "failed" }.into();
            run.report = json!({ "error": format!("{e:#}") });
        }
    }
    if let Some((name, due)) = &place.scheduled {
        run.report["schedule"] = name.as_str().into();
        run.report["due"] = due.to_string().into();
    }
    note(engagement, &run).await;
    let done = outcome?;
    if job.json() {
        place.out.line(&done.report.to_string());
    } else {
        done.text.iter().for_each(|line| place.out.line(line));
    }
    if let Some(why) = done.failed {
        bail!(why);
    }
    Ok(())
}

/// Writes a run down. A job does not fail for that.
async fn note(engagement: &Arc<dyn EngagementJobs>, run: &PipelineRun) {
    if let Err(e) = engagement.record_run(run).await {
        tracing::warn!(error = %e, "the run of this job could not be written down");
    }
}
