//! `load`: the program under load, beside a bare HTTP server in the same run; a report with histograms.
//!
//! Loopback only, bounded in time and connections. Ratios come from one run; a bar that is missed is said so and is no error.

mod driver;
mod embedded;
mod histogram;
mod overload;
mod report;
mod stack;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::bail;
use clap::Args;

pub use histogram::Histogram;

use self::{
    driver::{Load, Outcome, Paths, run as drive},
    report::Section,
};
use crate::{data, program};

/// What can be run, in this order.
const SCENARIOS: [&str; 8] = ["peer", "baseline", "sustained", "spike", "stress", "zipf", "overload", "stack"];

/// Flags of `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Which scenarios: peer, baseline, sustained, spike, stress, zipf, overload, stack (default: all; stack where the environment names
    /// the servers).
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Where the report goes.
    #[arg(long, default_value = "load-report")]
    out: PathBuf,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Rounds of those that alternate.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections of `overload`.
    #[arg(long, default_value_t = 10_000)]
    flood: usize,
}

/// What scenarios share.
pub struct Setting {
    program: PathBuf,
    users: Vec<String>,
    store: PathBuf,
    data: PathBuf,
    scratch: PathBuf,
    seconds: Duration,
    rounds: usize,
    flood: usize,
}

/// Measures, prints and writes the report.
pub fn run(program: PathBuf, data: PathBuf, args: &LoadArgs) -> anyhow::Result<()> {
    if let Some(unknown) = args.scenarios.iter().find(|s| !SCENARIOS.contains(&s.as_str())) {
        bail!("{unknown} is no scenario; there are {}", SCENARIOS.join(", "));
    }
    let stack = std::env::var_os("NEARCAST__KAFKA__BROKERS").is_some();
    let wanted = |name: &str| match args.scenarios.is_empty() {
        true => name != "stack" || stack,
        false => args.scenarios.iter().any(|s| s == name),
    };
    let dir = tempfile::tempdir()?;
    let parts = data::movielens(&data, dir.path())?;
    let store = dir.path().join("data");
    let seconds = Duration::from_secs_f64(args.seconds.clamp(0.5, 600.0));
    let scratch = dir.path().to_owned();
    let setting =
        Setting { program, users: parts.users, store, data, scratch, seconds, rounds: args.rounds.max(1), flood: args.flood };
    if SCENARIOS.iter().any(|s| *s != "stack" && wanted(s)) {
        for file in [&parts.items, &parts.engagements] {
            program::run(&setting.program, &setting.store, &["import", &file.display().to_string()])?;
        }
    }
    let mut sections: Vec<Section> = Vec::new();
    for name in SCENARIOS.iter().filter(|s| wanted(s)) {
        let section = match *name {
            "peer" => embedded::peer(&setting)?,
            "baseline" => embedded::baseline(&setting)?,
            "sustained" => embedded::sustained(&setting)?,
            "spike" => embedded::spike(&setting)?,
            "stress" => embedded::stress(&setting)?,
            "zipf" => embedded::zipf(&setting)?,
            "overload" => overload::overload(&setting)?,
            _ => stack::stack(&setting)?,
        };
        report::print(&section);
        sections.push(section);
        // What was measured is kept, whatever comes after.
        report::write(&args.out, &machine(), &sections)?;
    }
    Ok(())
}

fn machine() -> serde_json::Value {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")).map(|l| l.trim_start_matches([' ', '\t', ':']).to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    serde_json::json!({"cpu":model,"cores":cores,"load_average":busy.split(' ').next()})
}

impl Setting {
    /// Paths of a random user each, the answer made anew.
    fn fresh(&self) -> Paths {
        let users = self.users.clone();
        Arc::new(move |rng| format!("/recommendations/{}?cache=false", rng.choice(&users).map_or("", |u| u)))
    }

    /// The same, from the cache.
    fn cached(&self) -> Paths {
        let users = self.users.clone();
        Arc::new(move |rng| format!("/recommendations/{}", rng.choice(&users).map_or("", |u| u)))
    }

    fn load(&self, port: u16, connections: usize, paths: Paths) -> Load {
        Load { port, connections, time: self.seconds, rate: None, paths }
    }
}

/// How much of one another is, in words.
fn percent(part: f64, whole: f64) -> String {
    format!("{:.1} %", 100.0 * part / whole)
}

/// A load's figures in words.
fn words(o: &Outcome) -> String {
    format!("{:.0}/s, p50 {:.2} ms, p99 {:.2} ms", o.per_second(), o.good.ms(0.5), o.good.ms(0.99))
}

/// That nothing but whole answers came.
fn all_good(section: &mut Section, name: &str, o: &Outcome) {
    let bad = o.other + o.broken + o.empty + o.turned_away.count();
    section.judge(format!("{name}: answers that were not 200, or empty"), bad.to_string(), "0", bad == 0);
}
