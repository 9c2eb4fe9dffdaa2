//! `reembed`: another model's vectors while people ask and write; killed in each phase; and how busy the model is kept.
//!
//! Loopback only, bounded in count. A bar that is missed is said so and is no error; digests that differ are one.

mod busy;
mod kills;
mod live;
mod model;

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::program;

/// The model that data begins with.
const STATIC: &str = "static-minilm-152";
const SCENARIOS: [&str; 3] = ["live", "kills", "busy"];

/// Flags of `reembed`.
#[derive(Debug, Args)]
pub struct ReembedArgs {
    /// Which scenarios: live, kills, busy (default: all).
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Messages of ubuntu-irc in `live`.
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// Messages in `kills`, which makes them anew for each phase.
    #[arg(long, default_value_t = 10_000)]
    killed_messages: usize,
    /// Messages that MiniLM embeds in `busy`.
    #[arg(long, default_value_t = 3_000)]
    busy_messages: usize,
    /// Requests a second in `live`.
    #[arg(long, default_value_t = 50.0)]
    requests: f64,
    /// Events a second in `live`.
    #[arg(long, default_value_t = 100.0)]
    events: f64,
    /// The share of the time that the job works in `live` (default: the program's).
    #[arg(long)]
    share: Option<f64>,
    /// Seconds of `live` before the job begins.
    #[arg(long, default_value_t = 30)]
    before: u64,
}

/// What scenarios share.
struct Setting<'a> {
    program: &'a Path,
    data: &'a Path,
    dir: &'a Path,
    args: &'a ReembedArgs,
}

/// Measures and prints.
pub fn run(program: &Path, data: &Path, args: &ReembedArgs) -> anyhow::Result<()> {
    if let Some(unknown) = args.scenarios.iter().find(|s| !SCENARIOS.contains(&s.as_str())) {
        bail!("{unknown} is no scenario; there are {}", SCENARIOS.join(", "));
    }
    for name in SCENARIOS.iter().filter(|s| args.scenarios.is_empty() || args.scenarios.iter().any(|a| a == *s)) {
        let dir = tempfile::tempdir()?;
        let setting = Setting { program, data, dir: dir.path(), args };
        match *name {
            "live" => live::run(&setting)?,
            "kills" => kills::run(&setting)?,
            _ => busy::run(&setting)?,
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the report")]
fn say(line: &str) {
    println!("{line}");
}

impl Setting<'_> {
    /// Lines of a data set from one place on.
    fn lines(&self, set: &str, from: usize, count: usize) -> anyhow::Result<Vec<String>> {
        let path = self.data.join(format!("{set}.events.jsonl.gz"));
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let lines = BufReader::new(GzDecoder::new(file)).lines();
        Ok(lines.skip(from).take(count).collect::<Result<_, _>>()?)
    }

    /// A file of lines.
    fn file(&self, name: &str, lines: &[String]) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(name);
        let mut file = BufWriter::new(File::create(&path)?);
        for line in lines {
            writeln!(file, "{line}")?;
        }
        file.flush()?;
        Ok(path)
    }

    /// A command that must end well, with the model that data begins with (a name, or a directory).
    fn ok(&self, store: &Path, model: &str, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = program::command(self.program, store, args);
        begin_with(&mut command, model);
        let out = command.output()?;
        ensure!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(out)
    }

    /// The digests of a directory.
    fn digests(&self, store: &Path, model: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.ok(store, model, &["verify", "--json"])?.stdout)?)
    }

    /// The digests of data that began with a model.
    fn begun_with(&self, model: &Path, file: &Path) -> anyhow::Result<Value> {
        let (store, model) = (self.dir.join("begun"), model.display().to_string());
        self.ok(&store, &model, &["import", &file.display().to_string()])?;
        self.digests(&store, &model)
    }
}

fn begin_with(command: &mut std::process::Command, model: &str) {
    if Path::new(model).is_dir() {
        command.env("NEARCAST__MODEL__NAME", "auto").env("NEARCAST__MODEL__DIR", model);
    } else {
        command.env("NEARCAST__MODEL__NAME", model);
    }
}
