//! How busy a re-embedding keeps the model: its tokens a second beside those of `nearcast embed` on the same texts, in turns.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::{STATIC, Setting, say};

const MINILM: &str = "all-MiniLM-L6-v2";
const ROUNDS: usize = 2;

pub fn run(on: &Setting<'_>) -> anyhow::Result<()> {
    let lines = on.lines("ubuntu-irc", 0, on.args.busy_messages)?;
    let file = on.file("busy.jsonl", &lines)?;
    let texts: Vec<String> = lines
        .iter()
        .map(|l| Ok(serde_json::from_str::<Value>(l)?["text"].as_str().unwrap_or_default().replace(['\n', '\r'], " ")))
        .collect::<anyhow::Result<_>>()?;
    let texts = on.file("texts.txt", &texts)?;
    let (mut alone, mut beside, mut tokens) = (f64::INFINITY, f64::INFINITY, 0.0);
    for round in 0..ROUNDS {
        let store = on.dir.join(format!("busy-{round}"));
        let (t, seconds) = alone_once(on, &store, &texts)?;
        (alone, tokens) = (alone.min(seconds), t);
        on.ok(&store, STATIC, &["import", &file.display().to_string()])?;
        let out = on.ok(&store, STATIC, &["reembed", "--model", MINILM, "--min-overlap", "0", "--json"])?;
        let filled = serde_json::from_slice::<Value>(&out.stdout)?["filled"].clone();
        let took = filled["took_ms"].as_f64().context("no took_ms")? / 1e3;
        say(&format!("busy: embed alone {seconds:.1} s, filling {took:.1} s: {filled}"));
        beside = beside.min(took);
    }
    let share = alone / beside;
    say(&format!(
        "busy: {:.0} tokens/s alone, {:.0} tokens/s in reembed: {:.1} % (at least 85 %: {})",
        tokens / alone,
        tokens / beside,
        100.0 * share,
        if share >= 0.85 { "reached" } else { "MISSED" }
    ));
    Ok(())
}

fn alone_once(on: &Setting<'_>, store: &Path, texts: &Path) -> anyhow::Result<(f64, f64)> {
    let out =
        on.ok(store, STATIC, &["embed", &texts.display().to_string(), "--format", "npy", "--stats", "--model", MINILM])?;
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    let stats: Value = serde_json::from_str(told.lines().last().context("no stats")?)?;
    Ok((stats["tokens"].as_f64().context("no tokens")?, stats["seconds"].as_f64().context("no seconds")?))
}
