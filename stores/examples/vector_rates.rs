//! How fast the embedded vector index is, and how much it finds: `vector_rates [VECTORS.npy]`.
//!
//! The file holds unit vectors, a row each, as `nearcast embed --format npy` writes them; the last thousand are the queries. Without
//! one, vectors in clusters are made up. The scan is measured beside the graph: "as written" is before there is one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "prints what it measured, ends where it cannot")]

use std::time::{Duration, Instant};

use nearcast_domain::{
    Tenant, Vector,
    ports::{Collection, VectorQuery, VectorRead, VectorRow, VectorWrite},
    profile::unit,
    testing::vectors::random_unit,
};
use nearcast_stores::vectors::HnswIndex;

const QUERIES: usize = 1000;
const ITEMS: Collection = Collection::Items;

#[tokio::main]
async fn main() {
    let all = std::env::args().nth(1).map_or_else(|| clusters(21_000, 384), |path| npy(&path));
    println!("{} vectors of {} components", all.len(), all[0].len());
    let (rows, queries) = all.split_at(all.len() - QUERIES);
    for n in [2_000, 20_000] {
        if n <= rows.len() {
            let tenth = tenth_scores(&rows[..n], queries);
            measure(&rows[..n], queries, &tenth).await;
        }
    }
}

async fn measure(rows: &[Vector], queries: &[Vector], tenth: &[f32]) {
    let dir = tempfile::tempdir().unwrap();
    let tenant = Tenant::default();
    let index = HnswIndex::open(dir.path()).await.unwrap();
    let begun = Instant::now();
    for (b, batch) in rows.chunks(500).enumerate() {
        let batch: Vec<VectorRow> = batch
            .iter()
            .enumerate()
            .map(|(i, v)| VectorRow { id: format!("i{}", 500 * b + i), vector: v.clone(), labels: vec![format!("l{}", i % 5)] })
            .collect();
        index.upsert(&tenant, ITEMS, "r", &batch).await.unwrap();
    }
    let written = begun.elapsed();
    println!("\n{} rows: written in {written:.2?} ({:.0} rows/s)", rows.len(), rows.len() as f64 / written.as_secs_f64());
    search(&index, queries, tenth, "as written", None).await;
    let begun = Instant::now();
    index.settled().await;
    println!("  graph made in {:.2?} after that", begun.elapsed());
    search(&index, queries, tenth, "settled", None).await;
    search(&index, queries, tenth, "with a label", Some("l1")).await;
    let mut lost = 0;
    for v in rows {
        let query = VectorQuery { vector: v.clone(), limit: 1, label: None, exclude: vec![] };
        lost += usize::from(index.search(&tenant, ITEMS, query).await.unwrap()[0].score < 1.0 - 1e-5);
    }
    println!("  rows that a search for their own vector does not find: {lost}");
    index.checkpoint().await.unwrap();
    index.close().await;
    drop(index);
    let begun = Instant::now();
    let index = HnswIndex::open(dir.path()).await.unwrap();
    println!("  opened again in {:.2?}", begun.elapsed());
    search(&index, queries, tenth, "opened again", None).await;
    if let Some(memory) = resident() {
        println!("  resident memory of the process: {} MiB", memory >> 20);
    }
}

async fn search(index: &HnswIndex, queries: &[Vector], tenth: &[f32], what: &str, label: Option<&str>) {
    let (mut times, mut hits) = (Vec::new(), 0);
    for (q, tenth) in queries.iter().zip(tenth) {
        let query = VectorQuery { vector: q.clone(), limit: 10, label: label.map(str::to_owned), exclude: vec![] };
        let begun = Instant::now();
        let found = index.search(&Tenant::default(), ITEMS, query).await.unwrap();
        times.push(begun.elapsed());
        hits += found.iter().filter(|h| h.score >= tenth - 1e-6).count();
    }
    let recall = if label.is_none() { hits as f64 / (10 * queries.len()) as f64 } else { f64::NAN };
    report(what, times, recall);
}

fn report(what: &str, mut times: Vec<Duration>, recall: f64) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("  {what}: search p50 {:.0?}, p99 {:.0?}, recall@10 {recall:.4}", at(0.5), at(0.99));
}

fn score(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() as f32
}

fn tenth_scores(rows: &[Vector], queries: &[Vector]) -> Vec<f32> {
    let tenth = |q: &Vector| {
        let mut scores: Vec<f32> = rows.iter().map(|r| score(q, r)).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        scores[9]
    };
    queries.iter().map(tenth).collect()
}

fn clusters(n: usize, dimension: usize) -> Vec<Vector> {
    let mut rng = fastrand::Rng::with_seed(1);
    let centres: Vec<Vector> = (0..200).map(|_| random_unit(&mut rng, dimension)).collect();
    let near = |rng: &mut fastrand::Rng| {
        let (c, other) = (&centres[rng.usize(..centres.len())], random_unit(rng, dimension));
        unit(&c.iter().zip(other.iter()).map(|(a, b)| f64::from(*a) + 1.2 * f64::from(*b)).collect::<Vec<_>>()).unwrap()
    };
    (0..n).map(|_| near(&mut rng)).collect()
}

/// A two-dimensional array of little-endian `f32`, version 1 of the format.
fn npy(path: &str) -> Vec<Vector> {
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01"), "{path} is no .npy file of version 1");
    let body = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..body]);
    assert!(header.contains("<f4") && header.contains("False"), "{path} is not of little-endian f32 in rows: {header}");
    let shape = header.split('(').nth(1).unwrap().split(')').next().unwrap();
    let dimension: usize = shape.split(',').nth(1).unwrap().trim().parse().unwrap();
    let numbers: Vec<f32> = bytes[body..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    numbers.chunks_exact(dimension).map(Vector::from).collect()
}

/// On Linux.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kb| kb << 10)
}
