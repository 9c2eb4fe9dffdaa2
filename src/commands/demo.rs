//! `nearcast demo`: sample data, everything in one process, and a page to look at.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Context;
use nearcast_domain::{
    StoreResult, Tenant,
    ports::{EventSource, Record, SourceBatch},
};
use nearcast_pipelines::train;
use tokio_util::sync::CancellationToken;

use super::run::{Roles, listen, serve};
use crate::{
    cli::DemoArgs,
    config::{Config, StoresConfig},
    demo,
    progress::Progress,
    wiring::App,
};

/// Where the sample data lies unless another directory is named: beside real data, never in it.
const DEFAULT_DIR: &str = "nearcast-demo";

/// Ingests the sample data where it is not there yet, serves, and prints the address.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub async fn run(args: DemoArgs, mut config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let listener = listen(args.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], args.port)))).await?;
    if config.data_dir == Config::default().data_dir {
        config.data_dir = PathBuf::from(DEFAULT_DIR);
    }
    // Sample data is kept here, never in a deployment's own stores.
    config.stores = StoresConfig::default();
    let mut app = App::open(config, &cancel).await?;
    if app.dir.as_mut().and_then(|dir| dir.get_mut().ok()).is_some_and(|dir| dir.about().demo != Some(args.seed)) {
        fill(&app, args.seed, &cancel).await?;
        if cancel.is_cancelled() {
            app.close().await?;
            anyhow::bail!("interrupted; the next start goes on from here");
        }
        if let Some(dir) = app.dir.as_mut().and_then(|dir| dir.get_mut().ok()) {
            dir.update(|about| about.demo = Some(args.seed))?;
        }
    }
    let address = format!("http://{}", listener.local_addr()?);
    println!("Nearcast is ready: {address}   (Ctrl-C stops it; the data stays in {})", app.config.data_dir.display());
    if !args.no_open {
        // A machine without a browser has the address on its terminal.
        let _ = open::that_detached(&address);
    }
    let (app, over) = (Arc::new(app), cancel.child_token());
    let ended = over.clone().drop_guard();
    let telling = tell_of_training(Arc::downgrade(&app), over);
    let serving = async move {
        let served = serve(app, listener, Roles::ALL, cancel).await;
        drop(ended);
        served
    };
    tokio::join!(serving, telling).0
}

/// Says what training by itself found, as soon as it found it: answers before and after on choices that it had not seen.
#[allow(clippy::print_stdout, reason = "the result of the command")]
async fn tell_of_training(app: Weak<App>, over: CancellationToken) {
    let newest = async || {
        let all = app.upgrade()?.trainer.list(&Tenant::default()).await.ok()?;
        serde_json::from_value::<train::Figures>(all.into_iter().next()?.figures).ok()
    };
    let found = async {
        loop {
            if let Some(figures) = newest().await {
                return figures;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = over.cancelled() => {}
        f = found => {
            let outcome = match f.verdict {
                train::Verdict::Better | train::Verdict::Refreshed => "what was learned answers now",
                train::Verdict::Kept | train::Verdict::TooLittle => "not clearly better, so answers stay as they were",
            };
            println!(
                "Trained on this history: NDCG@10 on {} people's later choices {:.3} before, {:.3} after; {outcome}.",
                f.people, f.before, f.after
            );
        }
    }
}

/// Sends the sample events through the worker, as a producer's would go.
async fn fill(app: &App, seed: u64, cancel: &CancellationToken) -> anyhow::Result<()> {
    let made = move || {
        let events = demo::events(seed);
        (events.counts(), events.collect::<Vec<String>>())
    };
    let (counts, lines) = tokio::task::spawn_blocking(made).await.context("making the sample data")?;
    let total = lines.len() as u64;
    eprintln!(
        "sample data: {} items, {} people, {} messages, {} engagements; model {}",
        counts.items,
        counts.users,
        counts.messages,
        counts.engagements,
        app.embedder.model().label()
    );
    let progress = Progress::new("ingesting", total, false);
    let mut source = Lines { lines: lines.into_iter(), at: 0 };
    let watch = async {
        let totals = app.worker.totals();
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let t = *totals.borrow();
            progress.at(t.records, &format!("{} texts embedded", t.embedded));
        }
    };
    let outcome = tokio::select! {
        outcome = app.worker.run(&mut source, cancel) => outcome,
        () = watch => unreachable!("the watch never ends"),
    };
    outcome?;
    if !cancel.is_cancelled() {
        app.settle().await?;
    }
    progress.done("");
    Ok(())
}

/// Lines in memory as a source.
struct Lines {
    lines: std::vec::IntoIter<String>,
    at: u64,
}

/// Small enough for the bar to move.
const BATCH: usize = 1000;

#[async_trait::async_trait]
impl EventSource for Lines {
    async fn next(&mut self, max_records: usize, _: usize) -> StoreResult<Option<SourceBatch>> {
        let mut records = Vec::new();
        for line in self.lines.by_ref().take(max_records.min(BATCH)) {
            self.at += 1;
            records.push(Record {
                bytes: line.into_bytes().into(),
                tenant: Tenant::default(),
                origin: format!("sample:{}", self.at),
                ..Record::default()
            });
        }
        Ok((!records.is_empty()).then(|| SourceBatch { records, position: self.at.to_string(), ..SourceBatch::default() }))
    }

    async fn commit(&mut self, _: &str) -> StoreResult<()> {
        Ok(())
    }
}
