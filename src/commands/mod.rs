//! One file a command. Each returns when its work is done; errors become one line and exit code 1.

mod config;
mod demo;
mod distill;
mod dlq;
mod embed;
mod evaluate;
mod import;
mod models;
mod run;
pub use run::{FOLLOW_EVERY, drain};
mod setup;
mod train;
mod verify;

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{cli::Command, config::Config, jobs, jobs::Job, memory, shutdown, telemetry};

/// Does what the command line asks for.
pub fn run(command: Command, config: Config) -> anyhow::Result<()> {
    match command {
        // Quiet ones: they print a result and nothing else.
        Command::Config { action } => config::run(action, &config),
        Command::Models { action } => logged(&config, || models::run(action, &config)),
        Command::Embed(args) => logged(&config, || embed::run(&args, &config.model)),
        Command::Demo(args) => on_runtime(&config, |c| demo::run(args, config.clone(), c)),
        Command::Run(args) => on_runtime(&config, |c| run::run(args, config.clone(), run::Roles::ALL, c)),
        Command::Serve(args) => on_runtime(&config, |c| run::run(args, config.clone(), run::Roles::SERVE, c)),
        Command::Ingest(args) => {
            memory::small_pages();
            on_runtime(&config, |c| run::ingest(args, config.clone(), c))
        }
        Command::Import(args) => on_runtime(&config, |c| import::run(args, config.clone(), c)),
        Command::Evaluate(args) => on_runtime(&config, |c| evaluate::run(args, config.clone(), c)),
        Command::Train(args) => on_runtime(&config, |c| train::run(args, config.clone(), c)),
        Command::Setup => on_runtime(&config, |c| setup::run(config.clone(), c)),
        Command::Verify(args) => on_runtime(&config, |c| verify::run(args, config.clone(), c)),
        Command::Reembed(args) => on_runtime(&config, |c| jobs::run(Job::Reembed(args), config.clone(), c)),
        Command::Rebuild(args) => on_runtime(&config, |c| jobs::run(Job::Rebuild(args), config.clone(), c)),
        Command::Reconcile(args) => on_runtime(&config, |c| jobs::run(Job::Reconcile(args), config.clone(), c)),
        Command::Export(args) => on_runtime(&config, |c| jobs::run(Job::Export(args), config.clone(), c)),
        Command::Aggregate(args) => on_runtime(&config, |c| jobs::run(Job::Aggregate(args), config.clone(), c)),
        Command::Replay(args) => on_runtime(&config, |c| jobs::run(Job::Replay(args), config.clone(), c)),
        Command::Erase(args) => on_runtime(&config, |c| jobs::run(Job::Erase(args), config.clone(), c)),
        Command::Schedule(args) if args.list => on_runtime(&config, |c| jobs::run(Job::Schedule(args), config.clone(), c)),
        Command::Schedule(_) => on_runtime(&config, |c| run::schedule(config.clone(), c)),
        Command::Runs(args) => on_runtime(&config, |c| jobs::run(Job::Runs(args), config.clone(), c)),
        Command::Dlq { action } => on_runtime(&config, |c| dlq::run(action, config.clone(), c)),
    }
}

fn logged(config: &Config, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    telemetry::logging(&config.log)?;
    work()
}

/// Runs a command on a runtime of its own, with a token that the first signal cancels.
fn on_runtime<F>(config: &Config, work: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    telemetry::logging(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = TaskTracker::new();
        let cancel = shutdown::on_signal(&signals)?;
        let outcome = work(cancel.clone()).await;
        cancel.cancel();
        outcome
    })
}
