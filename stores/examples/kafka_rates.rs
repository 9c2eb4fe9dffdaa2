//! Records a second in and out of Kafka, and how long a publisher waits: for the acknowledgement, and for a worker to have been there.
//!
//! `NEARCAST__KAFKA__BROKERS=… cargo run --release --workspace --example kafka_rates [records]`
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nearcast_domain::{
    Tenant,
    ports::{EventSink, EventSource, Progress},
};
use nearcast_stores::log::{KafkaConfig, KafkaLog};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

fn event(n: usize) -> (String, Arc<[u8]>) {
    let user = format!("u{}", n % 671);
    let text = format!(
        r#"{{"type":"engagement","event_id":"e{n}","user_id":"{user}","item_id":"i{}","kind":"rating","value":4.0,"timestamp":"2026-01-01T00:00:00Z"}}"#,
        n % 9000
    );
    (user, text.into_bytes().into())
}

fn percentiles(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |p: usize| times[(times.len() - 1) * p / 100].as_secs_f64() * 1e3;
    println!("{name:46} p50 {:7.2} ms   p99 {:7.2} ms   n {}", at(50), at(99), times.len());
}

#[tokio::main]
async fn main() {
    let Ok(brokers) = std::env::var("NEARCAST__KAFKA__BROKERS") else {
        println!("needs NEARCAST__KAFKA__BROKERS (infra/local/up kafka, then infra/local/env)");
        return;
    };
    let number: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let name = nearcast_domain::testing::servers::unique("nearcast-rates");
    let config = KafkaConfig {
        brokers,
        topic: format!("{name}.events"),
        dead_letter_topic: format!("{name}.letters"),
        group: name,
        ..KafkaConfig::default()
    };
    let log = KafkaLog::new(&config).unwrap();
    log.setup().await.unwrap();
    let tenant = Tenant::default();
    let start = Instant::now();
    for first in (0..number).step_by(5000) {
        let records: Vec<_> = (first..(first + 5000).min(number)).map(event).collect();
        log.publish(&tenant, &records).await.unwrap();
    }
    println!("published {number} records in portions of 5,000: {:.0}/s", number as f64 / start.elapsed().as_secs_f64());
    let mut source = log.source().unwrap();
    let (mut read, mut batches, start) = (0, 0, Instant::now());
    let mut first = None;
    while read < number {
        let batch = source.next(8192, 8 << 20).await.unwrap().unwrap();
        first.get_or_insert_with(Instant::now);
        read += batch.records.len();
        batches += 1;
        source.commit(&batch.position).await.unwrap();
    }
    let joined = first.map_or(start, |f| f);
    println!(
        "read and committed them in {batches} batches: {:.0}/s (joining the group took {:.0} ms)",
        number as f64 / joined.elapsed().as_secs_f64(),
        (joined - start).as_secs_f64() * 1e3
    );
    let worker = tokio::spawn(async move {
        while let Ok(Some(batch)) = source.next(8192, 8 << 20).await {
            source.commit(&batch.position).await.unwrap();
        }
    });
    let (mut acknowledged, mut reached) = (Vec::new(), Vec::new());
    for n in 0..500 {
        let start = Instant::now();
        let token = log.publish(&tenant, &[event(number + n)]).await.unwrap();
        acknowledged.push(start.elapsed());
        log.reached(&token).await.unwrap();
        reached.push(start.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    percentiles("one record, published to acknowledged", acknowledged);
    percentiles("one record, published to read and committed", reached);
    // The same where the worker is another process: the brokers are asked.
    let other = KafkaLog::new(&config).unwrap();
    let mut reached = Vec::new();
    for n in 0..200 {
        let start = Instant::now();
        let token = other.publish(&tenant, &[event(number + 500 + n)]).await.unwrap();
        other.reached(&token).await.unwrap();
        reached.push(start.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    percentiles("the same, with the worker in another process", reached);
    worker.abort();
    drop(worker.await);
    other.close().await;
    log.close().await;
    let admin: AdminClient<DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &config.brokers).create().unwrap();
    admin.delete_topics(&[&config.topic, &config.dead_letter_topic], &AdminOptions::new()).await.unwrap();
}
