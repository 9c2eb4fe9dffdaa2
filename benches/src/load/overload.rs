//! Far more than can be answered: what still is, and whether all is as before when it is over.
//!
//! The program has the first half of the cores and the load the other, so that the load takes nothing of the program's.

use std::time::{Duration, Instant};

use super::{
    Section, Setting, drive,
    driver::Load,
    embedded::{IDLE, capacity},
    percent, words,
};
use crate::program::{Server, pin};

/// Four and ten times the capacity, then as before.
pub fn overload(on: &Setting) -> anyhow::Result<Section> {
    let mut s = Section::new(
        "overload",
        "the program on half of the cores: four times its capacity, then ten times over many connections",
    );
    let cores = std::thread::available_parallelism()?.get();
    let (mine, theirs) = if cores > 1 {
        (format!("{}-{}", cores / 2, cores - 1), format!("0-{}", cores / 2 - 1))
    } else {
        ("0".into(), "0".into())
    };
    let server = Server::start_on(&on.program, &on.store, &theirs, &IDLE)?;
    pin(&mine)?;
    let measured = measure(on, &server, &mut s);
    pin(&format!("0-{}", cores - 1))?;
    measured.map(|()| s)
}

fn measure(on: &Setting, server: &Server, s: &mut Section) -> anyhow::Result<()> {
    let peak = capacity(on, server.port)?;
    let most = peak.per_second();
    s.say("capacity, 16 connections", words(&peak));
    let few = Load { rate: Some((most * 0.1).min(200.0)), ..on.load(server.port, 8, on.fresh()) };
    let before = drive(&few)?;
    s.say("at rest before", words(&before));
    let (open, memory) = (server.descriptors()?, server.memory_mb()?.0);

    let four = drive(&Load { rate: Some(most * 4.0), ..on.load(server.port, 1_024, on.fresh()) })?;
    let share = four.goodput() / most;
    s.judge(
        "four times: answered within 100 ms, of the capacity",
        format!("{} ({:.0}/s; {} turned away)", percent(share, 1.0), four.goodput(), four.turned_away.count()),
        "at least 80 %",
        share >= 0.8,
    );
    s.load("four times", &four);

    let time = on.seconds * 4;
    let ten = drive(&Load { rate: Some(most * 10.0), time, ..on.load(server.port, on.flood, on.fresh()) })?;
    s.say(
        format!("ten times, {} connections", on.flood),
        format!("{:.0}/s within 100 ms, {} turned away, {} broken", ten.goodput(), ten.turned_away.count(), ten.broken),
    );
    s.judge("ten times: other than 200, 429 and 503", ten.other.to_string(), "0", ten.other == 0);
    s.load("ten times", &ten);

    let begun = Instant::now();
    let limit = (before.good.ms(0.99) * 3.0).max(20.0);
    let back = loop {
        let now = drive(&Load { time: Duration::from_millis(500), ..few.clone() })?;
        if now.good.ms(0.99) <= limit && now.turned_away.count() == 0 {
            break begun.elapsed();
        }
        if begun.elapsed() > Duration::from_secs(30) {
            break Duration::MAX;
        }
    };
    s.judge(
        format!("p99 again below {limit:.0} ms"),
        format!("after {:.1} s", back.as_secs_f64().min(999.0)),
        "within 5 s",
        back <= Duration::from_secs(5),
    );
    let after = drive(&few)?;
    s.say("at rest after", words(&after));
    s.load("at rest after", &after);
    std::thread::sleep(Duration::from_secs(3));
    let (open_after, memory_after) = (server.descriptors()?, server.memory_mb()?.0);
    s.judge("descriptors", format!("{open} before, {open_after} after"), "no more than 8 more", open_after <= open + 8);
    s.judge("requests under way", format!("{:.0}", server.figure("http_requests_in_flight")?), "the one that asks", {
        server.figure("http_requests_in_flight")? <= 1.0
    });
    s.judge(
        "memory",
        format!("{memory:.0} MB before, {memory_after:.0} MB after"),
        "no more than 100 MB more",
        memory_after <= memory + 100.0,
    );
    Ok(())
}
