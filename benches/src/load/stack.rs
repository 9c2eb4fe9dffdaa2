//! The six real servers of `infra/local/`, named by the environment, with names of this run's own in each of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Load, Section, Setting, all_good, embedded::beside, words};
use crate::{client::Client, program::Server};

/// So many engagements, and the items they are about: FerretDB and milvus-lite are slow.
const ENGAGEMENTS: usize = 4_000;
/// Requests a second.
const RATE: f64 = 20.0;

/// Twenty requests a second, made anew.
pub fn stack(on: &Setting) -> anyhow::Result<Section> {
    let mut s =
        Section::new("stack", "Kafka, FerretDB, Milvus lite, Neo4j, PostgreSQL, Redis: 20 requests a second, made anew");
    let name = format!("load{:08x}", fastrand::u32(..));
    let own = [
        ("KAFKA__TOPIC", format!("{name}.events")),
        ("KAFKA__DEAD_LETTER_TOPIC", format!("{name}.dead")),
        ("KAFKA__GROUP", name.clone()),
        ("MONGODB__DATABASE", name.clone()),
        ("MILVUS__PREFIX", format!("{name}_")),
        ("NEO4J__PREFIX", format!("{name}_")),
        ("POSTGRES__SCHEMA", name.clone()),
        ("REDIS__PREFIX", format!("{name}:")),
    ];
    let mut env: Vec<(String, String)> = std::env::vars().filter(|(k, _)| k.starts_with("NEARCAST__")).collect();
    env.extend(own.map(|(k, v)| (format!("NEARCAST__{k}"), v)));
    let (file, users) = part(on)?;
    for args in [&["setup"][..], &["import", &file]] {
        let out = Command::new(&on.program).args(args).args(["--log", "warn"]).envs(env.iter().cloned()).output()?;
        ensure!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    let server = Server::start_in(&on.program, "serve", &env)?;
    let mut client = Client::connect(server.port)?;
    let first: Value = serde_json::from_slice(&client.get(&format!("/recommendations/{}?cache=false", users[0]))?.body)?;
    s.judge("the first answer lacks", first["degraded"].to_string(), "nothing", first["degraded"] == serde_json::json!([]));
    let paths = {
        let users = users.clone();
        std::sync::Arc::new(move |rng: &mut fastrand::Rng| {
            format!("/recommendations/{}?cache=false", rng.choice(&users).map_or("", |u| u))
        })
    };
    let time = on.seconds * 6;
    let load = Load { port: server.port, connections: 8, time, rate: Some(RATE), paths };
    let (o, ()) = beside(&load, async {})?;
    s.judge("answers", words(&o), "p99 below 100 ms", o.good.ms(0.99) < 100.0);
    s.say("answers that lack something", format!("{} of {}", o.degraded, o.good.count()));
    all_good(&mut s, "answers", &o);
    s.load("answers", &o);
    // Which names: asked again one by one, as fast as that. The first connection was closed for saying nothing meanwhile.
    let mut client = Client::connect(server.port)?;
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for user in users.iter().cycle().take(100) {
        let answer: Value = serde_json::from_slice(&client.get(&format!("/recommendations/{user}?cache=false"))?.body)?;
        for name in answer["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            *names.entry(name.to_owned()).or_default() += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    s.say("names in `degraded` of 100 more", if names.is_empty() { "none".into() } else { format!("{names:?}") });
    Ok(s)
}

/// The first engagements and their items, in a file; and who they are of.
fn part(on: &Setting) -> anyhow::Result<(String, Vec<String>)> {
    let lines =
        BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(on.data.join("movielens.events.jsonl.gz"))?)).lines();
    let (mut items, mut engagements, mut wanted, mut users) = (Vec::new(), Vec::new(), BTreeSet::new(), BTreeSet::new());
    for line in lines {
        let line = line?;
        let event: Value = serde_json::from_str(&line)?;
        let item = event["item_id"].as_str().context("an event of no item")?.to_owned();
        if event["type"] == "item" {
            items.push((item, line));
        } else if engagements.len() < ENGAGEMENTS {
            wanted.insert(item);
            users.insert(event["user_id"].as_str().unwrap_or_default().to_owned());
            engagements.push(line);
        }
    }
    let path = on.scratch.join("part.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    for line in items.iter().filter(|(i, _)| wanted.contains(i)).map(|(_, l)| l).chain(&engagements) {
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    Ok((path.display().to_string(), users.into_iter().collect()))
}
