//! Where a job's lines go: to this process's terminal, to a file that the command which asked for it reads, or to the log.

use std::{
    fs::File,
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;

/// How often progress is told.
const EVERY: Duration = Duration::from_secs(2);

enum To {
    Here,
    File(Mutex<File>),
    Log(String),
}

/// See the module.
pub struct Out {
    to: To,
    told: Mutex<Option<Instant>>,
    begun: Instant,
}

impl Out {
    /// To this process's own standard output and error.
    pub fn here() -> Self {
        Self { to: To::Here, told: Mutex::default(), begun: Instant::now() }
    }

    /// To a file, a JSON object a line.
    pub fn to(file: File) -> Self {
        Self { to: To::File(Mutex::new(file)), ..Self::here() }
    }

    /// To the log, under the name of a scheduled job.
    pub fn log(job: String) -> Self {
        Self { to: To::Log(job), ..Self::here() }
    }

    /// A line of the result.
    #[allow(clippy::print_stdout, reason = "the result of the command")]
    pub fn line(&self, line: &str) {
        match &self.to {
            To::File(file) => write(file, "out", line),
            To::Log(job) => tracing::info!(job, "{line}"),
            To::Here => println!("{line}"),
        }
    }

    /// A line about how it goes.
    pub fn note(&self, line: &str) {
        match &self.to {
            To::File(file) => write(file, "note", line),
            To::Log(job) => tracing::debug!(job, "{line}"),
            To::Here => eprintln!("{line}"),
        }
    }

    /// Progress, told from time to time, with the time that is left where the whole is known.
    pub fn progress(&self, what: &str, done: u64, of: u64) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.get_or_insert_with(Instant::now).elapsed() < EVERY {
                return;
            }
            *told = Some(Instant::now());
        }
        let took = self.begun.elapsed().as_secs_f64();
        match of {
            0 => self.note(&format!("{what}: {done}")),
            _ => {
                let left = took * (of.saturating_sub(done)) as f64 / done.max(1) as f64;
                self.note(&format!("{what}: {done} of {of} ({}%), about {left:.0} s left", done * 100 / of));
            }
        }
    }
}

fn write(file: &Mutex<File>, kind: &str, line: &str) {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    // One write, so that whoever reads never sees half a line for long.
    let line = format!("{}\n", json!({ kind: line }));
    if let Err(e) = file.write_all(line.as_bytes()) {
        tracing::warn!(error = %e, "a line of a job could not be handed over");
    }
}
