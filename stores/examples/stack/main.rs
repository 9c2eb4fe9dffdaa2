//! Events a second through Kafka and all five stores, beside bare clients that write the same rows in the same batches; and how soon an
//! answer follows an event at 200 events a second.
//!
//! `benches/stack/run` builds and calls it, with the servers' addresses in the environment. Everything is written under names of its own
//! and taken away again. Judges nothing: the ratios come from one run, and are printed.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod bare;
mod fresh;
mod program;

use std::{
    io::{BufRead, BufReader},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

use self::{
    bare::{BATCH, Bare, CALL},
    program::{Program, variable},
};

async fn timed(work: impl Future<Output = usize>) -> (usize, Duration) {
    let begun = Instant::now();
    (work.await, begun.elapsed())
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(program), Some(file)) = (args.next(), args.next()) else {
        println!("stack PROGRAM EVENTS.jsonl.gz [NUMBER [SECONDS]]: called by benches/stack/run");
        return;
    };
    let number: usize = args.next().map_or(30_000, |n| n.parse().unwrap());
    let lines = BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap())).lines();
    let events: Vec<String> = lines.map(Result::unwrap).take(number).collect();
    let number = events.len();
    let seconds: u64 = args.next().map_or(40, |n| n.parse().unwrap());
    let bench = Program::new(program);
    bench.run(&["setup"]);
    // From the first event that is produced until the group has committed the last: ledger and projections have all of them then.
    let worker = bench.start(&["ingest"]);
    bench.joined();
    let begun = Instant::now();
    bench.produce(&events);
    let produced = begun.elapsed();
    bench.committed(number);
    let stack = begun.elapsed();
    println!("{number} events produced in {produced:.1?}, committed after {stack:.1?}");
    // What it does in the background otherwise: profiles that became stale, neighbour lists.
    println!("ending took {:.1?}", worker.stop());

    let mongo = mongodb::Client::with_uri_str(variable("MONGODB__URI")).await.unwrap();
    let batches = bare::rows(&mongo, &bench.name, &events).await;
    let mut table: Vec<(&str, usize, Duration)> = vec![("Kafka, read", number, bench.consume(number))];
    let mut one = Bare::new(mongo.clone(), vec![bench.name.clone()]).await;
    let prefix = format!("{}_", one.name);
    let (n, took) = timed(bare::mongo(&mongo.database(&one.name), &batches)).await;
    table.push(("FerretDB or MongoDB", n, took));
    let (n, took) = timed(bare::milvus(&prefix, &batches)).await;
    table.push(("Milvus", n, took));
    let (n, took) = timed(bare::neo4j(&one.graph, &prefix, &batches)).await;
    table.push(("Neo4j", n, took));
    let (n, took) = timed(bare::postgres(&mut one.postgres, &one.name, &batches)).await;
    table.push(("PostgreSQL", n, took));
    // The same into stores that are empty again, all at once: what these servers do side by side on this machine.
    let mut two = Bare::new(mongo.clone(), Vec::new()).await;
    let (prefix, database) = (format!("{}_", two.name), mongo.database(&two.name));
    let begun = Instant::now();
    let (a, b, c, d) = tokio::join!(
        bare::mongo(&database, &batches),
        bare::milvus(&prefix, &batches),
        bare::neo4j(&two.graph, &prefix, &batches),
        bare::postgres(&mut two.postgres, &two.name, &batches)
    );
    table.push(("all four at once", a + b + c + d, begun.elapsed()));

    let rate = |took: Duration| number as f64 / took.as_secs_f64();
    println!("{number} events, {} batches of {BATCH}, calls of {CALL} rows", batches.len());
    println!("| bare client | rows | s | rows/s | events/s | the program reaches |");
    println!("|---|---|---|---|---|---|");
    for (name, rows, took) in &table {
        let s = took.as_secs_f64();
        let share = 100.0 * rate(stack) / rate(*took);
        println!("| {name} | {rows} | {s:.1} | {:.0} | {:.0} | {share:.0} % |", *rows as f64 / s, rate(*took));
    }
    println!("| **the program** | | {:.1} | | {:.0} | |", stack.as_secs_f64(), rate(stack));
    let slowest = table[1..5].iter().max_by_key(|t| t.2).unwrap();
    println!("slowest of the stores alone: {} ({:.0} events/s)", slowest.0, rate(slowest.2));
    if seconds > 0 {
        fresh::measure(&bench, &events, Duration::from_secs(seconds));
    }
    one.done().await;
    two.done().await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", variable("KAFKA__BROKERS")).create().unwrap();
    let topics = [format!("{}.events", bench.name), format!("{}.dead", bench.name)];
    admin.delete_topics(&[&topics[0], &topics[1]], &AdminOptions::new()).await.unwrap();
}
