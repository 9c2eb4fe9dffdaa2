//! Jobs for a data directory that another process has: the command leaves a request in its folder `jobs`, and the process that serves it
//! takes it up. Whoever may write to the directory may ask.
//!
//! A folder rather than a route of the API: it needs no key and no port, it is there exactly where the directory is, and it cannot be
//! reached from elsewhere. `ID.request` holds the command line, `ID.out` what is told, `ID.cancel` asks to stop, `ID.done` is the end.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Job, Out, Place, execute};
use crate::{cli::Cli, data_dir::DataDir, wiring::App};

/// The folder.
const FOLDER: &str = "jobs";
/// How often both sides look.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a request may wait until it is taken up: the other process may be no server.
const TAKE_UP: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
struct Request {
    args: Vec<String>,
    base: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Done {
    error: Option<String>,
}

/// Asks the process that has the directory, tells what it tells, and ends as the job ends. `refused`: why it cannot be done here.
pub async fn ask(dir: &Path, cancel: &CancellationToken, refused: anyhow::Error) -> anyhow::Result<()> {
    let folder = dir.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let id = format!("{}-{:08x}", nearcast_domain::Timestamp::now().millis(), fastrand::u32(..));
    let path = |ending: &str| folder.join(format!("{id}.{ending}"));
    let request = Request { args: std::env::args().collect(), base: std::env::current_dir()? };
    put(&path("request"), &serde_json::to_vec(&request)?)?;
    let (mut at, mut asked_to_stop) = (0, false);
    let begun = tokio::time::Instant::now();
    let outcome = loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // The end first, the lines before it second: none is missed.
        let done = fs::read(path("done")).ok();
        tell(&path("out"), &mut at)?;
        if let Some(done) = done {
            break serde_json::from_slice::<Done>(&done)?;
        }
        if cancel.is_cancelled() && !asked_to_stop {
            asked_to_stop = true;
            put(&path("cancel"), b"")?;
        }
        // Jobs are done one after the other: while one goes on, the others wait.
        if path("request").exists() && begun.elapsed() > TAKE_UP && !is_busy(&folder) {
            let _ = fs::remove_file(path("request"));
            return Err(refused.context("the process that has the data directory takes up no jobs"));
        }
        if DataDir::open(dir).is_ok() {
            bail!("the process that did the job has ended; the same command goes on from there");
        }
    };
    for ending in ["out", "done", "cancel"] {
        let _ = fs::remove_file(path(ending));
    }
    match outcome.error {
        Some(error) => bail!(error),
        None => Ok(()),
    }
}

/// Prints what was told since.
#[allow(clippy::print_stdout, reason = "the result of the command")]
fn tell(path: &Path, at: &mut u64) -> io::Result<()> {
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    let mut text = String::new();
    file.seek(SeekFrom::Start(*at))?;
    file.read_to_string(&mut text)?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    for line in text[..whole].lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        if let Some(out) = line["out"].as_str() {
            println!("{out}");
        }
        if let Some(note) = line["note"].as_str() {
            eprintln!("{note}");
        }
    }
    *at += whole as u64;
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, bytes)?;
    fs::rename(beside, path)
}

/// Takes up requests, one after the other, until `stop`.
pub async fn take_up(app: &Arc<App>, stop: &CancellationToken) {
    let Some(folder) = app.dir.as_ref().map(|_| app.config.data_dir.join(FOLDER)) else { return };
    forget_earlier(&folder);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        for id in requests(&folder) {
            let path = |ending: &str| folder.join(format!("{id}.{ending}"));
            let error = match one(app, &folder, &id, stop).await {
                Ok(()) => None,
                Err(e) => Some(crate::one_line(&e)),
            };
            if let Err(e) = serde_json::to_vec(&Done { error }).map_err(io::Error::from).and_then(|d| put(&path("done"), &d)) {
                tracing::warn!(error = %e, "the end of a job could not be handed over");
            }
        }
    }
}

/// Whether a job is under way: it tells, and has not ended.
fn is_busy(folder: &Path) -> bool {
    let names = ending(folder, ".out");
    names.iter().any(|id| !folder.join(format!("{id}.done")).exists())
}

/// Removes what an earlier process left: whoever had asked it has ended since.
fn forget_earlier(folder: &Path) {
    for kind in ["out", "done", "cancel"] {
        for id in ending(folder, &format!(".{kind}")) {
            let _ = fs::remove_file(folder.join(format!("{id}.{kind}")));
        }
    }
}

fn requests(folder: &Path) -> BTreeSet<String> {
    ending(folder, ".request")
}

fn ending(folder: &Path, ending: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.filter_map(|n| n.strip_suffix(ending).map(str::to_owned)).collect()
}

async fn one(app: &Arc<App>, folder: &Path, id: &str, stop: &CancellationToken) -> anyhow::Result<()> {
    let path = |ending: &str| folder.join(format!("{id}.{ending}"));
    let request: Request = serde_json::from_slice(&fs::read(path("request"))?)?;
    let out = Arc::new(Out::to(File::create(path("out"))?));
    fs::remove_file(path("request"))?;
    let cli = Cli::try_parse_from(&request.args).context("the command line of the job")?;
    let job = Job::of(cli.command).context("this command is no job")?;
    tracing::info!(job = job.name(), "a job is taken up");
    let cancel = stop.child_token();
    let place = Place { app, live: true, base: request.base, out, cancel: cancel.clone(), scheduled: None };
    let told_to_stop = async {
        while !path("cancel").exists() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        cancel.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        done = execute(&job, &place) => done,
        () = told_to_stop => Ok(()),
    }
}
