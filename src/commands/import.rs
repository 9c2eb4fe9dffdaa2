//! `nearcast import FILE…`: events from files, exports and what other programs wrote, until all of it is served.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nearcast_domain::{
    Tenant,
    ports::{EventSource, Positions},
};
use nearcast_ingest::{Totals, Worker, source::FileSource};
use nearcast_pipelines::{
    import::{Input, Kind, Known, ReaderSource},
    transfer,
};
use tokio_util::sync::CancellationToken;

use crate::{cli::ImportArgs, config::Config, progress::Progress, wiring::App};

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Imports, settles, and prints what became of the records.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub async fn run(args: ImportArgs, config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let tenant = Tenant::parse(&args.tenant).map_err(|e| anyhow::anyhow!("--tenant {e}"))?;
    for file in args.files.iter().filter(|f| f.as_os_str() != "-") {
        std::fs::metadata(file).with_context(|| file.display().to_string())?;
    }
    let inputs = args.files.iter().map(|f| Input::of(f, args.from.as_deref())).collect::<Result<Vec<_>, _>>()?;
    // Nothing is imported where an export is not whole.
    for input in inputs.iter().flatten().filter(|i| i.kind == Kind::Export) {
        whole(input, &cancel).await?;
    }
    let app = App::open(config, &cancel).await?;
    let begun = Instant::now();
    let mut totals = Totals::default();
    let mut failed = None;
    for (file, input) in args.files.iter().zip(inputs) {
        let done = match input {
            Some(input) => foreign(&app, input, tenant.clone(), &cancel).await,
            None => import(&app, file, tenant.clone(), &cancel).await,
        };
        match done {
            Ok(t) => totals.add(&t),
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
        if cancel.is_cancelled() {
            break;
        }
    }
    if failed.is_none() && !cancel.is_cancelled() {
        app.settle().await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    app.close().await?;
    if let Some(e) = failed {
        return Err(e);
    }
    if args.json {
        let mut json = serde_json::to_value(totals)?;
        json["seconds"] = seconds.into();
        println!("{json}");
    } else {
        println!("{}", sentence(&totals, seconds));
    }
    if cancel.is_cancelled() {
        bail!("interrupted; what was imported is kept, and the same command goes on from there");
    }
    Ok(())
}

/// One file through the worker, with progress.
pub async fn import(app: &App, file: &Path, tenant: Tenant, cancel: &CancellationToken) -> anyhow::Result<Totals> {
    let positions: Arc<dyn Positions> = app.stores.positions.clone();
    let mut source = FileSource::open(file, tenant, positions).await?;
    let (read, size) = (source.bytes_read(), source.size().unwrap_or(0));
    let name = file.file_name().map_or_else(|| "standard input".into(), |n| n.to_string_lossy().into_owned());
    if source.skipped() > 0 {
        eprintln!("{name}: going on after line {}", source.skipped());
    }
    work(app, &mut source, name, (read, size), cancel).await
}

/// Compares the checksums of an export before anything of it is used.
async fn whole(input: &Input, cancel: &CancellationToken) -> anyhow::Result<()> {
    let (dir, stop) = (input.path.clone(), cancel.clone());
    let check = move || {
        let progress = Progress::new("checksums", 0, false);
        let checked =
            transfer::check(&dir, &|done, of| progress.at(done, &format!("{done} of {of} bytes")), &|| stop.is_cancelled());
        progress.done("");
        checked.map(drop)
    };
    Ok(tokio::task::spawn_blocking(check).await??)
}

/// What is no file of events, through the worker.
async fn foreign(app: &App, input: Input, tenant: Tenant, cancel: &CancellationToken) -> anyhow::Result<Totals> {
    let (name, kind, path) = (input.path.display().to_string(), input.kind, input.path.clone());
    let mut size = input.size();
    let lanes = app.worker.lanes();
    let mut known = None;
    if kind == Kind::Export {
        let manifest = transfer::Manifest::read(&path)?;
        size = manifest.files.iter().map(|f| f.bytes).sum();
        let model = lanes.main.embedder.model();
        if manifest.model.revision == model.revision {
            // Vectors that come along are not made again.
            let told = Arc::new(Known::new(lanes.main.embedder.clone()));
            let main: Arc<dyn nearcast_domain::ports::Embedder> = told.clone();
            app.worker.set_lanes(&main, lanes.also.as_ref().map(|l| &l.embedder)).await;
            known = Some(told);
        } else {
            eprintln!(
                "{name}: its vectors are of {}, this instance's model is {}: texts are embedded anew",
                manifest.model.name,
                model.label()
            );
        }
    }
    let mut source = ReaderSource::open(input, tenant, app.stores.positions.clone(), known.clone()).await?;
    if source.skipped() > 0 {
        eprintln!("{name}: going on after record {}", source.skipped());
    }
    let read = source.bytes_read();
    let done = work(app, &mut source, name.clone(), (read, size), cancel).await;
    app.worker.set_lanes(&lanes.main.embedder, lanes.also.as_ref().map(|l| &l.embedder)).await;
    for note in source.notes() {
        eprintln!("{note}");
    }
    let mut totals = done?;
    totals.embedded = totals.embedded.saturating_sub(known.map_or(0, |k| k.spared()));
    Ok(totals)
}

/// A source through the worker, with progress in bytes.
async fn work(
    app: &App,
    source: &mut dyn EventSource,
    name: String,
    (read, size): (Arc<std::sync::atomic::AtomicU64>, u64),
    cancel: &CancellationToken,
) -> anyhow::Result<Totals> {
    let progress = Progress::new(&name, size, size > 0);
    let worker: &Worker = &app.worker;
    let before = *worker.totals().borrow();
    let begun = Instant::now();
    let watch = async {
        let totals = worker.totals();
        loop {
            tokio::time::sleep(TICK).await;
            let t = *totals.borrow();
            let (events, texts) = (t.records - before.records, t.embedded - before.embedded);
            let rate = events as f64 / begun.elapsed().as_secs_f64();
            let texts = if texts > 0 { format!(", {texts} texts embedded") } else { String::new() };
            let at = if size > 0 { read.load(Ordering::Relaxed) } else { events };
            progress.at(at, &format!("{events} events, {rate:.0}/s{texts}"));
        }
    };
    let outcome = tokio::select! {
        outcome = worker.run(source, cancel) => outcome,
        () = watch => unreachable!("the watch never ends"),
    };
    progress.done("");
    let after = outcome.with_context(|| name.clone())?;
    Ok(minus(&after, &before))
}

fn minus(a: &Totals, b: &Totals) -> Totals {
    Totals {
        records: a.records - b.records,
        bytes: a.bytes - b.bytes,
        new: a.new - b.new,
        duplicates: a.duplicates - b.duplicates,
        conflicts: a.conflicts - b.conflicts,
        erased: a.erased - b.erased,
        rejected: a.rejected - b.rejected,
        embedded: a.embedded - b.embedded,
    }
}

/// The counts in words; nothing is said of what did not happen.
pub fn sentence(t: &Totals, seconds: f64) -> String {
    let mut parts = vec![format!("{} records in {seconds:.1} s: {} new", t.records, t.new)];
    let mut add = |n: u64, what: &str| {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    };
    add(t.duplicates, "known already");
    add(t.conflicts, "in conflict (see nearcast dlq list)");
    add(t.erased, "of erased users");
    add(t.rejected, "rejected (see nearcast dlq list)");
    add(t.embedded, "texts embedded");
    parts.join(", ")
}
