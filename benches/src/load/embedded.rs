//! Scenarios on embedded stores: beside a bare server, at rest, steady, with a spike, in steps, and with a cache under Zipf's law.

use std::{process::Command, sync::Arc, time::Duration};

use anyhow::{Context, ensure};

use super::{
    Outcome, Paths, Section, Setting, all_good, drive,
    driver::{Load, drive as drive_on},
    percent, words,
};
use crate::{
    client::Client,
    program::{self, Server},
};

/// People of the Zipf load.
const PEOPLE: usize = 100_000;

/// Nobody trains while it is measured.
pub const IDLE: [(&str, &str); 1] = [("NEARCAST__TRAIN__ENABLED", "false")];

/// Uncached answers of a process that has learned and of one that has not, cached ones, and a bare server, in turns, eight connections
/// each.
pub fn peer(on: &Setting) -> anyhow::Result<Section> {
    let mut s = Section::new(
        "peer",
        "MovieLens, random users, 8 connections: made anew, the same after training, from the cache, and a bare axum server in turns",
    );
    let trained = on.scratch.join("trained");
    let copied = Command::new("cp").arg("-r").arg(&on.store).arg(&trained).status().context("copying the data")?;
    ensure!(copied.success(), "the data cannot be copied");
    let took = program::run(&on.program, &trained, &["train"])?;
    s.say("training", format!("{:.0} s", took.as_secs_f64()));
    let plain = Server::start_with(&on.program, &on.store, &IDLE)?;
    let learned = Server::start_with(&on.program, &trained, &IDLE)?;
    let bare = Server::hello()?;
    let hello: Paths = Arc::new(|_| "/".to_owned());
    let turns = [(plain.port, on.fresh()), (learned.port, on.fresh()), (plain.port, on.cached()), (bare.port, hello)];
    for (port, paths) in &turns {
        drive(&Load { time: Duration::from_secs(2), ..on.load(*port, 8, paths.clone()) })?;
    }
    let mut all: [Outcome; 4] = Default::default();
    for _ in 0..on.rounds {
        for (out, (port, paths)) in all.iter_mut().zip(&turns) {
            out.merge(&drive(&on.load(*port, 8, paths.clone()))?);
        }
    }
    let [fresh, taste, cached, bare] = &all;
    let ratio = |o: &Outcome| o.per_second() / bare.per_second();
    s.say("a bare axum server", words(bare));
    for (name, o) in [("made anew", fresh), ("made anew, trained", taste)] {
        s.say(name, words(o));
        s.judge(format!("{name}, against it"), percent(ratio(o), 1.0), "at least 8 %, aim 15 %", ratio(o) >= 0.08);
        let p99 = o.good.ms(0.99);
        s.judge(format!("{name}, p99"), format!("{p99:.2} ms"), "below 5 ms", p99 < 5.0);
    }
    let kept = taste.per_second() / fresh.per_second();
    s.judge("trained, against untrained", percent(kept, 1.0), "at least 90 %", kept >= 0.9);
    s.say("from the cache", words(cached));
    s.judge("from the cache, against it", percent(ratio(cached), 1.0), "at least 50 %", ratio(cached) >= 0.5);
    let names = ["made anew", "made anew, trained", "from the cache", "a bare axum server"];
    for (name, o) in names.iter().zip(&all) {
        all_good(&mut s, name, o);
        s.load(*name, o);
    }
    Ok(s)
}

/// Few requests: what one costs when nothing else goes on.
pub fn baseline(on: &Setting) -> anyhow::Result<Section> {
    let mut s = Section::new("baseline", "20 requests a second, made anew, 4 connections");
    let server = Server::start_with(&on.program, &on.store, &IDLE)?;
    let o = drive(&Load { rate: Some(20.0), ..on.load(server.port, 4, on.fresh()) })?;
    s.say("answers", words(&o));
    all_good(&mut s, "answers", &o);
    s.load("answers", &o);
    Ok(s)
}

/// What the program gives at most on its own, made anew.
pub fn capacity(on: &Setting, port: u16) -> anyhow::Result<Outcome> {
    drive(&Load { time: Duration::from_secs(2), ..on.load(port, 16, on.fresh()) })?;
    drive(&on.load(port, 16, on.fresh()))
}

/// Half of what is possible, for long.
pub fn sustained(on: &Setting) -> anyhow::Result<Section> {
    let mut s = Section::new("sustained", "half of the capacity, made anew, four times as long");
    let server = Server::start_with(&on.program, &on.store, &IDLE)?;
    let most = capacity(on, server.port)?;
    s.say("capacity, 16 connections", words(&most));
    let before = server.memory_mb()?.0;
    let o = drive(&Load { rate: Some(most.per_second() / 2.0), time: on.seconds * 4, ..on.load(server.port, 64, on.fresh()) })?;
    s.judge("answers", words(&o), "p99 below 100 ms", o.good.ms(0.99) < 100.0);
    s.say("memory", format!("{before:.0} MB before, {:.0} MB after", server.memory_mb()?.0));
    all_good(&mut s, "answers", &o);
    s.load("answers", &o);
    Ok(s)
}

/// A fifth of the capacity, then twice as much as is possible, then a fifth again.
pub fn spike(on: &Setting) -> anyhow::Result<Section> {
    let mut s = Section::new("spike", "a fifth of the capacity, then twice the capacity, then a fifth again; made anew");
    let server = Server::start_with(&on.program, &on.store, &IDLE)?;
    let most = capacity(on, server.port)?.per_second();
    for (name, share, connections) in [("before", 0.2, 32), ("spike", 2.0, 512), ("after", 0.2, 32)] {
        let o = drive(&Load { rate: Some(most * share), ..on.load(server.port, connections, on.fresh()) })?;
        let text = format!("{}, {} turned away, {:.0}/s within 100 ms", words(&o), o.turned_away.count(), o.goodput());
        match name {
            "after" => s.judge(name, text, "p99 below 100 ms", o.good.ms(0.99) < 100.0),
            _ => s.say(name, text),
        }
        s.load(name, &o);
    }
    Ok(s)
}

/// In steps, up to one and a half times the capacity.
pub fn stress(on: &Setting) -> anyhow::Result<Section> {
    let mut s = Section::new("stress", "steps of the capacity, made anew, 128 connections");
    let server = Server::start_with(&on.program, &on.store, &IDLE)?;
    let most = capacity(on, server.port)?.per_second();
    for share in [0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5] {
        let o = drive(&Load { rate: Some(most * share), ..on.load(server.port, 128, on.fresh()) })?;
        s.say(
            format!("{:.0} % of {most:.0}/s", share * 100.0),
            format!("{}, {} turned away", words(&o), o.turned_away.count()),
        );
        s.load(format!("{:.0} %", share * 100.0), &o);
    }
    Ok(s)
}

/// A hundred thousand people of whom the n-th asks one n-th as often as the first.
pub fn zipf(on: &Setting) -> anyhow::Result<Section> {
    let mut s = Section::new(
        "zipf",
        "100,000 users by Zipf's law with exponent 1, cached; the first third of the time fills the cache",
    );
    let server = Server::start_with(&on.program, &on.store, &IDLE)?;
    let mut sums = Vec::with_capacity(PEOPLE);
    let mut sum = 0.0;
    for n in 1..=PEOPLE {
        sum += 1.0 / n as f64;
        sums.push(sum);
    }
    let known = on.users.clone();
    let paths: Paths = Arc::new(move |rng| {
        let at = sums.partition_point(|s| *s < rng.f64() * sum);
        // Those who ask most are those of whom something is known.
        known.get(at).map_or_else(|| format!("/recommendations/visitor-{at}"), |u| format!("/recommendations/{u}"))
    });
    let time = on.seconds * 4;
    drive(&Load { time, ..on.load(server.port, 32, paths.clone()) })?;
    let before = counted(server.port)?;
    let o = drive(&Load { time: time * 2, ..on.load(server.port, 32, paths) })?;
    let after = counted(server.port)?;
    let [hit, miss, stale] = [0, 1, 2].map(|n| after[n] - before[n]);
    let rate = (hit + stale) / (hit + miss + stale).max(1.0);
    s.judge("hit rate", percent(rate, 1.0), "above 90 %", rate > 0.9);
    s.say("answers", words(&o));
    s.say("memory", format!("{:.0} MB", server.memory_mb()?.0));
    all_good(&mut s, "answers", &o);
    s.load("answers", &o);
    Ok(s)
}

/// Hits, misses and old answers so far.
fn counted(port: u16) -> anyhow::Result<[f64; 3]> {
    let text = String::from_utf8(Client::connect(port)?.get("/metrics")?.body)?;
    let mut out = [0.0; 3];
    for (n, result) in ["hit", "miss", "stale"].iter().enumerate() {
        let name = format!("nearcast_response_cache_total{{result=\"{result}\"}} ");
        out[n] = text.lines().find_map(|l| l.strip_prefix(&name)).context("no such figure")?.trim().parse()?;
    }
    Ok(out)
}

/// Runs a load with something else going on beside it.
pub fn beside<T>(load: &Load, other: impl Future<Output = T>) -> anyhow::Result<(Outcome, T)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (outcome, other) = tokio::join!(drive_on(load), other);
        Ok((outcome?, other))
    })
}
