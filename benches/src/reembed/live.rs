//! The claim of re-embedding: no failed request, no answer that mixes models, answers about as fast as before, events as fresh as before.

use std::{
    collections::BTreeSet,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;

use super::{STATIC, Setting, model, say};
use crate::{client::Client, load::Histogram, program::Server};

/// Connections that ask.
const ASKING: usize = 8;
/// Events of one call.
const TOGETHER: usize = 10;
/// Freshness is timed so often.
const FRESH_EVERY: Duration = Duration::from_millis(500);
/// And waited for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer: when it was asked for and had, how long after it was due, and by which model.
struct Answer {
    asked: Duration,
    had: Duration,
    late: Duration,
    model: Option<String>,
}

/// What the threads share.
#[derive(Clone)]
struct Beside {
    port: u16,
    begun: Instant,
    stop: Arc<AtomicBool>,
}

pub fn run(on: &Setting<'_>) -> anyhow::Result<()> {
    let args = on.args;
    let target = model::narrower(on.dir)?;
    let office = on.lines("office", 0, usize::MAX)?;
    let past = on.lines("ubuntu-irc", 0, args.messages)?;
    let present = on.lines("ubuntu-irc", args.messages, usize::MAX)?;
    ensure!(present.len() > 1000, "too few messages are left for the events: ask for fewer with --messages");
    let first = on.file("past.jsonl", &[&office[..], &past[..]].concat())?;
    let users: BTreeSet<String> = past.iter().filter_map(|l| user_of(l)).collect();
    let users: Arc<[String]> = users.into_iter().collect();
    let store = on.dir.join("live");
    on.ok(&store, STATIC, &["import", &first.display().to_string()])?;
    let server = Server::start(on.program, &store)?;
    let beside = Beside { port: server.port, begun: Instant::now(), stop: Arc::default() };
    let asking: Vec<_> = (0..ASKING).map(|n| ask(&beside, &users, n, args.requests / ASKING as f64)).collect();
    let (writing, fresh) = (write(&beside, present.clone(), args.events), freshness(&beside, &past));
    std::thread::sleep(Duration::from_secs(args.before));
    let from = beside.begun.elapsed();
    let target_text = target.display().to_string();
    let mut words = vec!["reembed", "--model", &target_text, "--json"];
    let share = args.share.map(|s| s.to_string());
    if let Some(share) = &share {
        words.extend(["--share", share]);
    }
    let report = job(on, &store, &words)?;
    let to = beside.begun.elapsed();
    std::thread::sleep(Duration::from_secs(5));
    beside.stop.store(true, Relaxed);
    let mut answers: Vec<Answer> = Vec::new();
    for thread in asking {
        answers.extend(joined(thread)?);
    }
    let (sent, refused) = joined(writing)?;
    let fresh = joined(fresh)?;
    job(on, &store, &["reembed", "--prune"])?;
    drop(server);
    on.ok(&store, STATIC, &["ingest", "--drain"])?;
    tell(&answers, &fresh, (from, to), &report, args);
    say(&format!("live: {sent} events while it went on, {refused} calls refused"));
    let all = [&office[..], &past[..], &present[..sent]].concat();
    let same = on.digests(&store, STATIC)? == on.begun_with(&target, &on.file("all.jsonl", &all)?)?;
    say(&format!("live: digests {} as of data that began with the new model", if same { "the same" } else { "NOT the same" }));
    ensure!(same && refused == 0, "see above");
    Ok(())
}

fn user_of(line: &str) -> Option<String> {
    serde_json::from_str::<Value>(line).ok()?["user_id"].as_str().map(str::to_owned)
}

fn joined<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().map_err(|_| anyhow!("a thread broke"))?
}

/// Requests at a rate, each answer made anew.
fn ask(beside: &Beside, users: &Arc<[String]>, n: usize, rate: f64) -> JoinHandle<anyhow::Result<Vec<Answer>>> {
    let (beside, users) = (beside.clone(), users.clone());
    std::thread::spawn(move || {
        let (mut rng, mut client) = (fastrand::Rng::with_seed(n as u64), Client::connect(beside.port)?);
        let (mut all, step) = (Vec::new(), Duration::from_secs_f64(1.0 / rate));
        let mut due = beside.begun.elapsed() + step.mul_f64(n as f64 / ASKING as f64);
        while !beside.stop.load(Relaxed) {
            std::thread::sleep(due.saturating_sub(beside.begun.elapsed()));
            let user = &users[rng.usize(..users.len())];
            let path = format!("/recommendations/{user}?k=10&cache=false");
            let asked = beside.begun.elapsed();
            let answer = client.get(&path);
            let had = beside.begun.elapsed();
            let model = match answer {
                Ok(a) if a.status == 200 => model_of(&a.body),
                Ok(_) => None,
                Err(_) => {
                    client = Client::connect(beside.port)?;
                    None
                }
            };
            all.push(Answer { asked, had, late: had - due, model });
            due += step;
        }
        Ok(all)
    })
}

/// The model that made an answer; `None`: an answer without recommendations, or without a model.
fn model_of(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    if answer["recommendations"].as_array().is_none_or(Vec::is_empty) {
        return None;
    }
    answer["model"].as_str().map(str::to_owned)
}

/// Events at a rate; answers how many were taken, and how many calls were not.
fn write(beside: &Beside, lines: Vec<String>, rate: f64) -> JoinHandle<anyhow::Result<(usize, usize)>> {
    let beside = beside.clone();
    std::thread::spawn(move || {
        let (mut client, mut sent, mut refused) = (Client::connect(beside.port)?, 0, 0);
        let step = Duration::from_secs_f64(TOGETHER as f64 / rate);
        let mut due = beside.begun.elapsed();
        for part in lines.chunks_exact(TOGETHER) {
            if beside.stop.load(Relaxed) {
                return Ok((sent, refused));
            }
            std::thread::sleep(due.saturating_sub(beside.begun.elapsed()));
            // One that is refused is sent again: nothing may be left out of what follows it.
            while client.post("/events", &format!("[{}]", part.join(",")))?.status != 202 {
                refused += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            sent += TOGETHER;
            due += step;
        }
        bail!("the events ran out: ask for fewer with --messages")
    })
}

/// How long after an event was taken an answer reflects it: when, and how long.
fn freshness(beside: &Beside, past: &[String]) -> JoinHandle<anyhow::Result<Vec<(Duration, Duration)>>> {
    let beside = beside.clone();
    // Events that are there already: they take the whole way and change no digest.
    let known: Vec<String> = past.iter().step_by(past.len().div_ceil(1000).max(1)).cloned().collect();
    std::thread::spawn(move || {
        let (mut client, mut all) = (Client::connect(beside.port)?, Vec::new());
        for event in known.iter().cycle() {
            if beside.stop.load(Relaxed) {
                break;
            }
            std::thread::sleep(FRESH_EVERY);
            let begun = beside.begun.elapsed();
            let taken: Value = serde_json::from_slice(&client.post("/events", &format!("[{event}]"))?.body)?;
            let (Some(token), Some(user)) = (taken["token"].as_str(), user_of(event)) else { continue };
            let path = format!("/recommendations/{user}?k=1&cache=false&after={token}");
            while beside.begun.elapsed() - begun < PATIENCE {
                let answer: Value = serde_json::from_slice(&client.get(&path)?.body)?;
                if answer["degraded"].as_array().is_some_and(|d| !d.iter().any(|s| s == "after")) {
                    break;
                }
            }
            all.push((begun, beside.begun.elapsed() - begun));
        }
        Ok(all)
    })
}

/// A job that the serving process is handed; its report.
fn job(on: &Setting<'_>, store: &Path, words: &[&str]) -> anyhow::Result<Value> {
    let mut command: Command = crate::program::command(on.program, store, words);
    super::begin_with(&mut command, STATIC);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let mut text = String::new();
    child.stdout.take().context("no standard output")?.read_to_string(&mut text)?;
    ensure!(child.wait()?.success(), "{words:?} failed: {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn tell(
    answers: &[Answer],
    fresh: &[(Duration, Duration)],
    (from, to): (Duration, Duration),
    report: &Value,
    args: &super::ReembedArgs,
) {
    let (mut before, mut during) = (Histogram::default(), Histogram::default());
    let failed = answers.iter().filter(|a| a.model.is_none()).count();
    let models: BTreeSet<&str> = answers.iter().filter_map(|a| a.model.as_deref()).collect();
    let (old, new) = (of(report, "from"), of(report, "to"));
    // Whoever asks after someone had an answer of the new model has one of it, too.
    let first_new = answers.iter().filter(|a| a.model.as_deref() == Some(new)).map(|a| a.had).min();
    let mixed = answers.iter().filter(|a| a.model.as_deref() == Some(old) && first_new.is_some_and(|f| a.asked > f)).count();
    for a in answers {
        if a.asked < from {
            before.add(a.late);
        } else if a.asked < to {
            during.add(a.late);
        }
    }
    let ratio = during.ms(0.99) / before.ms(0.99);
    say(&format!(
        "live: {} messages, {} requests/s, {} events/s: re-embedded in {:.1} s, {} vectors",
        args.messages,
        args.requests,
        args.events,
        (to - from).as_secs_f64(),
        report["filled"]["vectors"]
    ));
    say(&format!("live: {} answers, {failed} failed (0: {})", answers.len(), verdict(failed == 0)));
    say(&format!(
        "live: {models:?}; after the first answer of the new one {mixed} of the old one (0: {})",
        verdict(mixed == 0)
    ));
    for (name, h) in [("before", &before), ("during", &during)] {
        say(&format!(
            "live: {name}: {} answers, p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms",
            h.count(),
            h.ms(0.5),
            h.ms(0.9),
            h.ms(0.99)
        ));
    }
    say(&format!("live: p99 during / before {ratio:.2} (at most 1.5: {})", verdict(ratio <= 1.5)));
    for (name, within) in [("before", Duration::ZERO..from), ("during", from..to)] {
        let mut h = Histogram::default();
        fresh.iter().filter(|(at, _)| within.contains(at)).for_each(|(_, took)| h.add(*took));
        say(&format!("live: freshness {name}: {} events, p50 {:.0} ms, p99 {:.0} ms", h.count(), h.ms(0.5), h.ms(0.99)));
    }
}

fn of<'v>(report: &'v Value, key: &str) -> &'v str {
    report[key].as_str().unwrap_or_default()
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}
