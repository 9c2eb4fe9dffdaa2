//! The section `[schedule]`: jobs at the times of cron lines.

use std::{collections::BTreeSet, time::Duration};

use nearcast_pipelines::schedule::{Cron, Entry};
use serde::{Deserialize, Serialize};

use crate::jobs::Job;

/// The longest name of a job: it is part of a key.
const LONGEST_NAME: usize = 100;

/// The section `[schedule]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// So many seconds after its last sign of life an instance that ran the schedule is replaced by another.
    pub lease_s: u64,
    /// A run that begins up to so many seconds late is in time; after that it counts as missed. At least `lease_s`.
    pub late_s: u64,
    /// What runs when. `nearcast run` does it too, where there are any.
    pub jobs: Vec<ScheduledJob>,
}

/// One of `[[schedule.jobs]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledJob {
    /// What it is called (default: its command). What was done of a job is kept under its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Minute, hour, day of the month, month, day of the week, in UTC; a field of seconds may stand before them.
    pub cron: String,
    /// The command without `nearcast`, a word each: `["reconcile", "--repair"]`.
    pub command: Vec<String>,
    /// Whether it runs once after times that were missed.
    #[serde(default)]
    pub catch_up: bool,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { lease_s: 30, late_s: 120, jobs: Vec::new() }
    }
}

impl ScheduledJob {
    /// What it is called.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.command.join(" "))
    }
}

impl ScheduleConfig {
    /// Refuses what could never run, naming the job.
    pub fn validate(&self) -> Result<(), String> {
        if !(1..=3600).contains(&self.lease_s) {
            return Err(format!("schedule.lease_s is {}; 1 to 3600 are allowed", self.lease_s));
        }
        if self.late_s < self.lease_s {
            return Err(format!(
                "schedule.late_s is {}, less than schedule.lease_s ({}): what is due while one instance follows another would be missed",
                self.late_s, self.lease_s
            ));
        }
        self.parsed().map(|_| ())
    }

    /// How long a silent instance leads on, and how late a run may begin.
    pub const fn times(&self) -> (Duration, Duration) {
        (Duration::from_secs(self.lease_s), Duration::from_secs(self.late_s))
    }

    /// Every job with its times.
    pub fn parsed(&self) -> Result<Vec<(Entry, Job)>, String> {
        let (mut all, mut names) = (Vec::with_capacity(self.jobs.len()), BTreeSet::new());
        for job in &self.jobs {
            let name = job.name();
            let place = format!("schedule.jobs, {name:?}");
            if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
                return Err(format!("{place}: a name has 1 to {LONGEST_NAME} bytes; give it one with name = \"…\""));
            }
            if !names.insert(name.clone()) {
                return Err(format!("{place} stands there twice; tell the two apart with name = \"…\""));
            }
            let cron: Cron = job.cron.parse().map_err(|e| {
                let example = "minute hour day month weekday in UTC, such as \"0 3 * * *\"";
                format!("{place}: cron = {:?} is no cron line ({e}); it is {example}", job.cron)
            })?;
            let command = Job::parse(&job.command).map_err(|e| format!("{place}: command: {e}"))?;
            all.push((Entry { name, cron, catch_up: job.catch_up }, command));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let config: ScheduleConfig = toml::from_str(text).unwrap();
        config.validate().unwrap_err()
    }

    #[test]
    fn what_could_never_run_is_refused() {
        let job = |cron: &str, command: &str| format!("[[jobs]]\ncron = {cron:?}\ncommand = {command}\n");
        for (text, part) in [
            (job("at three", "[\"reconcile\"]"), "cron line"),
            (job("0 25 * * *", "[\"reconcile\"]"), "cron line"),
            (job("0 0 30 2 *", "[\"reconcile\"]"), "no such time"),
            (job("0 3 * * *", "[\"reconsile\"]"), "reconsile"),
            (job("0 3 * * *", "[\"reconcile\", \"--mend\"]"), "--mend"),
            (job("0 3 * * *", "[\"run\"]"), "reconcile"),
            (job("0 3 * * *", "[\"schedule\", \"--list\"]"), "reconcile"),
            (job("0 3 * * *", "[\"reconcile\", \"--data-dir\", \"x\"]"), "--data-dir"),
            (job("0 3 * * *", "[]"), "name"),
            (job("0 3 * * *", "[\"reconcile\"]").repeat(2), "twice"),
            ("lease_s = 60\nlate_s = 10\n".to_owned(), "late_s"),
            ("lease_s = 0\n".to_owned(), "lease_s"),
        ] {
            let e = refused(&text);
            assert!(e.contains(part), "{text}: {e}");
        }
        assert!(toml::from_str::<ScheduleConfig>("[[jobs]]\ncron = \"0 3 * * *\"\ncomand = []\n").is_err());
    }

    #[test]
    fn what_is_sound_is_taken() {
        let text = "[[jobs]]\ncron = \"0 3 * * *\"\ncommand = [\"reconcile\", \"--repair\"]\n\
                    [[jobs]]\nname = \"weekly\"\ncron = \"0 4 * * SUN\"\ncommand = [\"rebuild\", \"graph\"]\ncatch_up = true\n";
        let config: ScheduleConfig = toml::from_str(text).unwrap();
        config.validate().unwrap();
        let names: Vec<String> = config.parsed().unwrap().into_iter().map(|(e, _)| e.name).collect();
        assert_eq!(names, ["reconcile --repair", "weekly"]);
    }
}
