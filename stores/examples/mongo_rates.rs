//! Rows a second that `append` takes on MongoDB, beside a bare `insert_many` of the very same documents in the same batches.
//!
//! `NEARCAST__MONGODB__URI=… cargo run --release --workspace --example mongo_rates [events] [batch]`
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use mongodb::{Client, bson::Document};
use nearcast_domain::{
    ports::{Append, HistoryLimit, LedgerRead, LedgerWrite},
    testing::{
        events::{Maker, user},
        servers,
    },
};
use nearcast_stores::{ledger::MongoLedger, mongo::MongoConfig, remote::Address};

fn print(name: &str, rows: usize, took: Duration) -> f64 {
    let rate = rows as f64 / took.as_secs_f64();
    println!("{name:34} {rows:7} rows {:9.1} ms {rate:9.0} rows/s", took.as_secs_f64() * 1e3);
    rate
}

#[tokio::main]
async fn main() {
    let Some(uri) = servers::address("NEARCAST__MONGODB__URI") else { return };
    let mut numbers = std::env::args().skip(1).map(|n| n.parse::<usize>().unwrap());
    let (number, batch) = (numbers.next().unwrap_or(20_000), numbers.next().unwrap_or(1_000));
    let config = MongoConfig { uri: Address::new(&*uri), database: servers::unique("rates"), ..MongoConfig::default() };
    let ledger = MongoLedger::new(&config).unwrap();
    ledger.setup().await.unwrap();
    let m = Maker::new("default");
    let mut rng = fastrand::Rng::with_seed(1);
    let events: Vec<Append> = (0..number)
        .map(|n| m.view(&format!("e{n}"), &format!("u{}", rng.u32(0..2_000)), &format!("i{}", rng.u32(0..500)), n as i64))
        .collect();
    let start = Instant::now();
    for part in events.chunks(batch) {
        ledger.append(part, "r").await.unwrap();
    }
    let ours = print("append", number, start.elapsed());
    let client = Client::with_uri_str(&uri).await.unwrap();
    let written = client.database(&config.database).collection::<Document>("events");
    let documents: Vec<Document> = written.find(Document::new()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(documents.len(), number);
    // Into collections with the same indexes.
    let other = MongoConfig { database: servers::unique("rates_bare"), ..config.clone() };
    MongoLedger::new(&other).unwrap().setup().await.unwrap();
    let bare = client.database(&other.database).collection::<Document>("events");
    let start = Instant::now();
    for part in documents.chunks(batch) {
        bare.insert_many(part).ordered(false).await.unwrap();
    }
    let bare = print("bare insert_many", number, start.elapsed());
    println!("append reaches {:.0} % of bare inserts", 100.0 * ours / bare);
    let part = &events[..batch.min(number)];
    let start = Instant::now();
    ledger.append(part, "r").await.unwrap();
    print("append of what is there", part.len(), start.elapsed());
    let users: Vec<_> = (0..256).map(|n| user(&format!("u{n}"))).collect();
    let start = Instant::now();
    ledger.histories(&m.0, &users, HistoryLimit { engagements: 50, messages: 50 }, None).await.unwrap();
    print("histories", users.len(), start.elapsed());
    for database in [&config.database, &other.database] {
        client.database(database).drop().await.unwrap();
    }
}
