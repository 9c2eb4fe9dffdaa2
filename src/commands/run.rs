//! `nearcast run`, `serve` and `ingest`: the roles of a process, until it is told to stop.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nearcast_domain::ErrorKind;
use nearcast_ingest::IngestError;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cli::{IngestArgs, ListenArgs},
    config::Config,
    data_dir::DataDirError,
    jobs,
    wiring::{App, Purpose},
};

/// What a process does.
#[derive(Debug, Clone, Copy)]
pub struct Roles {
    /// Works off the log.
    pub ingest: bool,
}

impl Roles {
    /// Everything.
    pub const ALL: Self = Self { ingest: true };
    /// The API alone.
    pub const SERVE: Self = Self { ingest: false };
}

/// What rose and what was new, in the data directory: for a start while the stores are away.
const LAST_RESORT: &str = "last_resort.json";
/// How long the worker rests after a store refused it for good.
const REST: Duration = Duration::from_secs(5);
/// And at first after one that may pass.
const SHORT_REST: Duration = Duration::from_millis(200);
/// How often it is asked which model's vectors are current.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// How often profiles that became stale are looked for.
const STALE_EVERY: Duration = Duration::from_millis(250);

/// Listens first, so that a port in use is told before anything is opened.
pub async fn run(args: ListenArgs, config: Config, roles: Roles, cancel: CancellationToken) -> anyhow::Result<()> {
    let listener = listen(args.listen.unwrap_or(config.listen)).await?;
    let purpose = if roles.ingest { Purpose::Work } else { Purpose::Serve };
    let app = Arc::new(App::open_with(config, purpose, &cancel, |letters| letters).await?);
    tracing::info!(address = %listener.local_addr()?, "serving");
    serve(app, listener, roles, cancel).await
}

/// Takes an address.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("{address} is in use by another program; choose another with --listen A:P (demo: --port P)")
        }
        _ => anyhow::anyhow!("cannot listen on {address} ({e}); choose another address with --listen A:P"),
    })
}

/// Serves until `cancel`; then drains the API, then the worker, then closes the stores.
pub async fn serve(app: Arc<App>, listener: TcpListener, roles: Roles, cancel: CancellationToken) -> anyhow::Result<()> {
    let tasks = TaskTracker::new();
    let mut config = app.config.serve.clone();
    if config.snapshot_file.is_none() && app.dir.is_some() {
        config.snapshot_file = Some(app.config.data_dir.join(LAST_RESORT));
    }
    let limits = config.limits;
    let tls = nearcast_serve::Tls::load(&config.tls)?;
    let inside = match config.admin_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let endpoint = config.traces.clone();
    let doors = nearcast_serve::doors_that_turn(app.serve_stores(), config, cancel.clone(), &tasks, app.turns())?;
    if let Some(finished) = doors.traces {
        tasks.spawn(crate::otlp::send(endpoint, finished, cancel.clone()));
    }
    let background = cancel.child_token();
    // The worker outlives the API: it finishes what the last requests brought.
    let working = CancellationToken::new();
    let api = async {
        let entrance = nearcast_serve::Entrance { router: doors.api, gate: Some(doors.gate), tls };
        let outside = nearcast_serve::serve_by(listener, entrance, limits, cancel.clone());
        let served = match inside.zip(doors.operators) {
            None => outside.await,
            Some((inside, operators)) => {
                let inside = nearcast_serve::serve(inside, operators, limits, cancel.clone());
                let (outside, inside) = tokio::join!(outside, inside);
                outside.and(inside)
            }
        };
        cancel.cancel();
        working.cancel();
        served.context("serving")
    };
    let (served, worked, (), (), (), scheduled, (), ()) = tokio::join!(
        api,
        async {
            let outcome = if roles.ingest { work(&app, &working).await } else { Ok(()) };
            if outcome.is_err() {
                cancel.cancel();
            }
            outcome
        },
        async {
            if roles.ingest {
                app.upkeep.run(&background).await
            }
        },
        async {
            if roles.ingest {
                app.trainer.run(&background).await
            }
        },
        async {
            if roles.ingest {
                keep_profiles_fresh(&app, &background).await
            }
        },
        async { if roles.ingest { jobs::schedule::keep(&app, true, &background).await } else { Ok(()) } },
        follow_revisions(&app, &background),
        jobs::handover::take_up(&app, &background),
    );
    tasks.close();
    tasks.wait().await;
    // Nobody else holds it any more: the tasks have ended.
    match Arc::try_unwrap(app) {
        Ok(app) => app.close().await?,
        Err(_) => tracing::warn!("a store is still in use; the next start takes a little longer"),
    }
    served.and(worked).and(scheduled)
}

/// `nearcast schedule`: the jobs of the configuration at their times, until told to stop.
pub async fn schedule(config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    if config.schedule.jobs.is_empty() {
        bail!("no jobs are scheduled: name some under [[schedule.jobs]] in the configuration");
    }
    let app = match App::open(config, &cancel).await {
        Err(e) if matches!(e.downcast_ref(), Some(DataDirError::InUse { .. })) => {
            return Err(e.context("a process that has the data directory, as nearcast run, runs its schedule itself"));
        }
        app => Arc::new(app?),
    };
    let following = cancel.child_token();
    let (kept, ()) = tokio::join!(
        async {
            let kept = jobs::schedule::keep(&app, false, &cancel).await;
            following.cancel();
            kept
        },
        follow_revisions(&app, &following)
    );
    match Arc::try_unwrap(app) {
        Ok(app) => app.close().await?,
        Err(_) => tracing::warn!("a store is still in use; the next start takes a little longer"),
    }
    kept
}

/// Works off the log until told to stop. A full disk, a store that is read-only and a log that is away are waited for: serving goes on.
async fn work(app: &App, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut rest = SHORT_REST;
    loop {
        let begun = Instant::now();
        let outcome = match app.stores.log.source() {
            Ok(mut source) => app.worker.run(&mut *source, stop).await,
            Err(e) => Err(e.into()),
        };
        let pause = match outcome {
            Ok(_) => return Ok(()),
            Err(IngestError::Store(e)) if matches!(e.kind, ErrorKind::Full | ErrorKind::ReadOnly) => {
                tracing::error!(error = %e, "events wait in the log until there is room again");
                REST
            }
            Err(IngestError::Store(e)) if e.kind.is_transient() => {
                tracing::warn!(error = %e, "the worker begins again where it stopped");
                rest = if begun.elapsed() > REST { SHORT_REST } else { (rest * 2).min(REST) };
                rest
            }
            Err(e) => return Err(e).context("the worker stopped"),
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Does as the index and the plan of a re-embedding say, whoever changes them.
async fn follow_revisions(app: &App, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
        }
        if let Err(e) = app.follow().await {
            tracing::warn!(error = %e, "which model is current will be asked again");
        }
    }
}

async fn keep_profiles_fresh(app: &App, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STALE_EVERY) => {}
        }
        loop {
            match app.worker.refresh_stale().await {
                Ok(0) => break,
                Ok(_) if stop.is_cancelled() => return,
                Ok(_) => {}
                Err(e) => {
                    tracing::warn!(error = %e, "stale profiles will be tried again");
                    break;
                }
            }
        }
    }
}

/// `nearcast ingest`: the worker alone.
pub async fn ingest(args: IngestArgs, config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let app = App::open(config, &cancel).await?;
    let following = cancel.child_token();
    let (outcome, ()) = tokio::join!(
        async {
            let outcome = if args.drain { drain(&app, &cancel).await } else { work(&app, &cancel).await };
            following.cancel();
            outcome
        },
        follow_revisions(&app, &following)
    );
    let settled = app.settle().await;
    app.close().await?;
    outcome.and(settled)
}

/// Works until the log is empty.
pub async fn drain(app: &App, cancel: &CancellationToken) -> anyhow::Result<()> {
    let stop = cancel.child_token();
    let mut source = app.stores.log.source()?;
    let progress = app.stores.log.progress();
    let empty = async {
        while progress.lag().await? > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
        anyhow::Ok(())
    };
    let (worked, waited) = tokio::join!(app.worker.run(&mut *source, &stop), async {
        tokio::select! {
            waited = empty => waited,
            () = stop.cancelled() => Ok(()),
        }
    });
    worked?;
    waited?;
    if cancel.is_cancelled() {
        bail!("interrupted; what waits in the log is worked off by the next run");
    }
    Ok(())
}
