//! Events a second through Kafka and all five stores, beside bare clients that write the same rows in the same batches; and how soon an
//! answer follows an event at 200 events a second.
//!
//! `benches/stack/run` builds and calls it, with the servers' addresses in the environment. Everything is written under names of its own
//! and taken away again. Program and bare clients take turns: the first two rounds warm the servers up and do not count. Judges nothing:
//! the ratios come from one run, and are printed.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod bare;
mod cores;
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
    bare::{BATCH, Bare, CALL, Rows},
    cores::Cores,
    program::{Program, variable},
};

/// What the program and the bare clients took in one round.
struct Round {
    program: Duration,
    /// Each store alone, then all at once: its name, its rows.
    bare: Vec<(&'static str, usize, Duration)>,
}

/// What a round leaves in the servers.
struct Left {
    bench: Program,
    stores: [Bare; 2],
}

impl Round {
    /// The share that the program reaches of a bare client.
    fn share(&self, place: usize) -> f64 {
        self.bare[place].2.as_secs_f64() / self.program.as_secs_f64()
    }

    /// The store that was slowest alone.
    fn slowest(&self) -> usize {
        (0..self.bare.len() - 1).max_by_key(|place| self.bare[*place].2).unwrap()
    }
}

impl Left {
    /// Takes everything away.
    async fn done(self) {
        for bare in self.stores {
            bare.done().await;
        }
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", variable("KAFKA__BROKERS")).create().unwrap();
        let topics = [format!("{}.events", self.bench.name), format!("{}.dead", self.bench.name)];
        admin.delete_topics(&[&topics[0], &topics[1]], &AdminOptions::new()).await.unwrap();
    }
}

async fn timed(work: impl Future<Output = usize>) -> (usize, Duration) {
    let begun = Instant::now();
    (work.await, begun.elapsed())
}

/// From the first event that is produced until the group has committed the last: ledger and projections have all of them then.
fn through_the_program(bench: &Program, events: &[String]) -> Duration {
    bench.run(&["setup"]);
    let worker = bench.start(&["ingest"]);
    bench.joined();
    let (begun, cores) = (Instant::now(), Cores::now());
    bench.produce(events);
    let produced = begun.elapsed();
    bench.committed(events.len());
    let took = begun.elapsed();
    println!("{} events produced in {produced:.1?}, committed after {took:.1?}; {}", events.len(), cores.since(took));
    // What it does in the background otherwise: profiles that became stale, neighbour lists.
    println!("ending took {:.1?}", worker.stop());
    took
}

/// The same rows by bare clients: each store alone, then all of them at once into stores that are empty again.
async fn by_bare_clients(one: &mut Bare, two: &mut Bare, batches: &[Rows]) -> Vec<(&'static str, usize, Duration)> {
    let mut table = Vec::new();
    let begun = (Instant::now(), Cores::now());
    let (n, took) = timed(bare::mongo(&one.database(), batches)).await;
    println!("bare: {}", begun.1.since(begun.0.elapsed()));
    table.push(("FerretDB or MongoDB", n, took));
    let (n, took) = timed(bare::milvus(&one.prefix(), batches)).await;
    table.push(("Milvus", n, took));
    let (n, took) = timed(bare::neo4j(&one.graph, &one.prefix(), batches)).await;
    table.push(("Neo4j", n, took));
    let (n, took) = timed(bare::postgres(&mut one.postgres, &one.name, batches)).await;
    table.push(("PostgreSQL", n, took));
    // What these servers do side by side on this machine.
    let (database, prefix) = (two.database(), two.prefix());
    let begun = Instant::now();
    let (a, b, c, d) = tokio::join!(
        bare::mongo(&database, batches),
        bare::milvus(&prefix, batches),
        bare::neo4j(&two.graph, &prefix, batches),
        bare::postgres(&mut two.postgres, &two.name, batches)
    );
    table.push(("all four at once", a + b + c + d, begun.elapsed()));
    table
}

async fn round(path: &str, mongo: &mongodb::Client, events: &[String]) -> (Round, Left) {
    let bench = Program::new(path.to_owned());
    let program = through_the_program(&bench, events);
    let batches = bare::rows(mongo, &bench.name, events).await;
    let mut one = Bare::new(mongo.clone(), vec![bench.name.clone()]).await;
    let mut two = Bare::new(mongo.clone(), Vec::new()).await;
    let bare = by_bare_clients(&mut one, &mut two, &batches).await;
    (Round { program, bare }, Left { bench, stores: [one, two] })
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    if all.len() % 2 == 1 { all[middle] } else { f64::midpoint(all[middle - 1], all[middle]) }
}

/// Prints medians of all rounds, each round's share beside them.
fn report(rounds: &[Round], number: usize) {
    let rate = |took: Duration| number as f64 / took.as_secs_f64();
    let batches = number.div_ceil(BATCH);
    println!("\n{number} events, {batches} batches of {BATCH}, calls of {CALL} rows; medians of {} rounds", rounds.len());
    println!("| bare client | rows | rows/s | events/s | the program reaches | in each round |");
    println!("|---|---|---|---|---|---|");
    for place in 0..rounds[0].bare.len() {
        let (name, rows, _) = rounds[0].bare[place];
        let events = median(rounds.iter().map(|r| rate(r.bare[place].2)).collect());
        let shares: Vec<f64> = rounds.iter().map(|r| 100.0 * r.share(place)).collect();
        let each: Vec<String> = shares.iter().map(|s| format!("{s:.0}")).collect();
        let rows_a_second = events * rows as f64 / number as f64;
        println!("| {name} | {rows} | {rows_a_second:.0} | {events:.0} | {:.0} % | {} |", median(shares), each.join(", "));
    }
    let (program, share) = (
        median(rounds.iter().map(|r| rate(r.program)).collect()),
        median(rounds.iter().map(|r| r.share(r.slowest())).collect()),
    );
    println!("the program: {program:.0} events/s, {:.0} % of the slowest store alone", 100.0 * share);
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(program), Some(file)) = (args.next(), args.next()) else {
        println!("stack PROGRAM EVENTS.jsonl.gz [NUMBER [SECONDS [ROUNDS]]]: called by benches/stack/run");
        return;
    };
    let mut number = |default: usize| args.next().map_or(default, |n| n.parse().unwrap());
    let (most, seconds, rounds) = (number(30_000), number(40), number(3));
    let lines = BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap())).lines();
    let events: Vec<String> = lines.map(Result::unwrap).take(most).collect();
    let mongo = mongodb::Client::with_uri_str(variable("MONGODB__URI")).await.unwrap();
    // Java compiles what it has run often enough beside the work: in the first rounds half of a core's time is that.
    println!("warming the servers up, once");
    let (_, left) = round(&program, &mongo, &events).await;
    left.done().await;
    println!("and again");
    let (_, mut left) = round(&program, &mongo, &events).await;
    let mut counted = Vec::new();
    for n in 1..=rounds {
        left.done().await;
        println!("round {n} of {rounds}");
        let (figures, leaves) = round(&program, &mongo, &events).await;
        counted.push(figures);
        left = leaves;
    }
    if !counted.is_empty() {
        report(&counted, events.len());
    }
    if seconds > 0 {
        fresh::measure(&left.bench, &events, Duration::from_secs(seconds as u64));
    }
    left.done().await;
}
