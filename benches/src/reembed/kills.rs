//! SIGKILL in each phase of a re-embedding, then the same command again: the digests of data that began with the new model.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{STATIC, Setting, begin_with, model, say};
use crate::program;

/// What is told as a phase begins, and how far into it the process is killed.
const PHASES: [(&str, u64); 8] = [
    ("filling", 0),
    ("filling", 250),
    ("projecting", 0),
    ("projecting", 150),
    ("comparing", 0),
    ("switching", 0),
    ("switching", 3),
    ("settling", 20),
];

pub fn run(on: &Setting<'_>) -> anyhow::Result<()> {
    let model = model::narrower(on.dir)?;
    let lines = on.lines("ubuntu-irc", 0, on.args.killed_messages)?;
    let file = on.file("events.jsonl", &lines)?;
    let expected = on.begun_with(&model, &file)?;
    let model = model.display().to_string();
    let mut all_same = true;
    for (n, (phase, wait)) in PHASES.iter().enumerate() {
        let store = on.dir.join(format!("killed-{n}"));
        on.ok(&store, STATIC, &["import", &file.display().to_string()])?;
        let reembed = ["reembed", "--model", &model];
        let killed = kill_in(on, &store, &reembed, phase, *wait)?;
        let begun = Instant::now();
        on.ok(&store, STATIC, &reembed)?;
        let took = begun.elapsed();
        kill_in(on, &store, &["reembed", "--prune"], "pruning", 5)?;
        on.ok(&store, STATIC, &["reembed", "--prune"])?;
        let same = on.digests(&store, STATIC)? == expected;
        all_same &= same;
        let end = if killed { "killed" } else { "had ended" };
        say(&format!(
            "kills: {end} {wait} ms into {phase}, again in {:.1} s, then killed while pruning: digests {}",
            took.as_secs_f64(),
            if same { "the same" } else { "DIFFER" }
        ));
        std::fs::remove_dir_all(&store)?;
    }
    ensure!(all_same, "digests differ from those of data that began with the new model");
    Ok(())
}

/// Starts a job and kills it so many milliseconds after it told of a phase. Answers whether it was still there.
fn kill_in(on: &Setting<'_>, store: &std::path::Path, args: &[&str], phase: &str, wait: u64) -> anyhow::Result<bool> {
    let mut command = program::command(on.program, store, args);
    begin_with(&mut command, STATIC);
    let mut job = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let told = BufReader::new(job.stderr.take().context("no standard error")?).lines();
    for line in told {
        if line?.starts_with(&format!("phase: {phase}")) {
            break;
        }
    }
    std::thread::sleep(Duration::from_millis(wait));
    let alive = job.try_wait()?.is_none();
    job.kill()?;
    job.wait()?;
    Ok(alive)
}
