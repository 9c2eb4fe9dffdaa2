//! How fast rows are written to a Milvus server and how long searches take: `NEARCAST__MILVUS__ADDRESS=… milvus_rates [rows]`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use nearcast_domain::{
    Tenant,
    ports::{Collection, VectorQuery, VectorRead, VectorRow, VectorWrite},
};
use nearcast_stores::{
    remote::Address,
    vectors::{MilvusConfig, MilvusConsistency, MilvusIndex},
};

const DIMENSION: usize = 384;

fn unit(rng: &mut fastrand::Rng) -> nearcast_domain::Vector {
    let v: Vec<f64> = (0..DIMENSION).map(|_| rng.f64() - 0.5).collect();
    let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
    v.iter().map(|x| (x / norm) as f32).collect()
}

#[tokio::main]
async fn main() {
    let n: usize = std::env::args().nth(1).map_or(5_000, |a| a.parse().unwrap());
    let address = Address::new(std::env::var("NEARCAST__MILVUS__ADDRESS").unwrap());
    let config = MilvusConfig { address, prefix: format!("rates_{}_", std::process::id()), ..MilvusConfig::default() };
    let (index, tenant, items) = (MilvusIndex::new(&config).unwrap(), Tenant::default(), Collection::Items);
    let mut rng = fastrand::Rng::with_seed(1);
    let rows: Vec<VectorRow> = (0..n)
        .map(|i| VectorRow { id: format!("i{i}"), vector: unit(&mut rng), labels: vec![format!("l{}", i % 10)] })
        .collect();
    let begun = Instant::now();
    index.upsert(&tenant, items, "m@1", &rows[..1]).await.unwrap();
    println!("collections made in {:.2?}", begun.elapsed());
    for batch in [100, 1000] {
        let begun = Instant::now();
        for rows in rows.chunks(batch) {
            index.upsert(&tenant, items, "m@1", rows).await.unwrap();
        }
        println!("upserts of {batch}: {:.0} rows/s", n as f64 / begun.elapsed().as_secs_f64());
    }
    for consistency in [MilvusConsistency::Strong, MilvusConsistency::Bounded] {
        let index = index.with_consistency(consistency);
        for label in [None, Some("l3".to_owned())] {
            let mut times = Vec::new();
            for _ in 0..50 {
                let query = VectorQuery { vector: unit(&mut rng), limit: 50, label: label.clone(), exclude: vec![] };
                let begun = Instant::now();
                index.search(&tenant, items, query).await.unwrap();
                times.push(begun.elapsed());
            }
            times.sort_unstable();
            println!("{consistency:?}, label {label:?}: search p50 {:.2?}, p95 {:.2?}", times[25], times[47]);
        }
    }
    let begun = Instant::now();
    println!("digest of {} rows in {:.2?}", index.digest().await.unwrap().rows(), begun.elapsed());
    index.switch("none").await.unwrap();
    index.drop_revision("m@1").await.unwrap();
}
