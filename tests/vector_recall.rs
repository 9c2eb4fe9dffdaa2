//! How much the vector index finds among 20,000 real messages, against comparing with every one of them.
//!
//! The vectors are made once with MiniLM and kept in cargo's directory for tests, under the model's revision.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it broke")]

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::read::MultiGzDecoder;
use nearcast_domain::{
    Tenant, Vector,
    ports::{Collection, Embedder, Priority, VectorQuery, VectorRead, VectorRow, VectorWrite},
};
use nearcast_embed::{EngineHandle, ModelStore, SchedulerConfig, model::Bert, registry::DEFAULT_MODEL};
use nearcast_stores::vectors::HnswIndex;

const ROWS: usize = 20_000;
const QUERIES: usize = 1_000;
const ITEMS: Collection = Collection::Items;

fn not_run(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    eprintln!("not run: {why}");
}

/// Different messages, in the order in which they were written.
fn texts(path: &Path, n: usize) -> Vec<Arc<str>> {
    let (mut seen, mut texts) = (HashSet::new(), Vec::with_capacity(n));
    for line in BufReader::new(MultiGzDecoder::new(File::open(path).unwrap())).lines() {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if let Some(text) = event["text"].as_str()
            && event["type"] == "message"
            && seen.insert(text.to_owned())
        {
            texts.push(text.into());
            if texts.len() == n {
                break;
            }
        }
    }
    assert_eq!(texts.len(), n, "too few messages in {}", path.display());
    texts
}

/// The vectors of these texts, from the file of an earlier run where it is whole.
async fn vectors(texts: &[Arc<str>], model: &EngineHandle) -> Vec<Vector> {
    let (revision, dimension) = (&model.model().revision, model.model().dimension);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("recall-{revision}-{}.f32", texts.len()));
    if let Ok(bytes) = fs::read(&path)
        && bytes.len() == 4 * dimension * texts.len()
    {
        let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        return numbers.chunks_exact(dimension).map(Vector::from).collect();
    }
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(1000) {
        vectors.extend(model.embed(batch, Priority::Bulk).await.unwrap());
    }
    let bytes: Vec<u8> = vectors.iter().flat_map(|v| v.iter().flat_map(|x| x.to_le_bytes())).collect();
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&beside, bytes).unwrap();
    fs::rename(&beside, &path).unwrap();
    vectors
}

fn score(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() as f32
}

/// The share of the ten nearest that an answer holds. Rows whose score equals the tenth's are as good as it.
async fn recall(index: &HnswIndex, rows: &[(String, Vector)], queries: &[Vector]) -> f64 {
    let mut hits = 0;
    for q in queries {
        let mut exact: Vec<f32> = rows.iter().map(|(_, v)| score(q, v)).collect();
        let (_, tenth, _) = exact.select_nth_unstable_by(9, |a, b| b.total_cmp(a));
        let query = VectorQuery { vector: q.clone(), limit: 10, label: None, exclude: Vec::new() };
        let found = index.search(&Tenant::default(), ITEMS, query).await.unwrap();
        assert_eq!(found.len(), 10);
        hits += found.iter().filter(|h| h.score >= *tenth - 1e-6).count();
    }
    hits as f64 / (10 * queries.len()) as f64
}

/// Every row is found by its own vector.
async fn assert_reachable(index: &HnswIndex, rows: &[(String, Vector)]) {
    for (id, v) in rows {
        let query = VectorQuery { vector: v.clone(), limit: 1, label: None, exclude: Vec::new() };
        let found = index.search(&Tenant::default(), ITEMS, query).await.unwrap();
        assert!(found[0].score > 1.0 - 1e-5, "{id} is not found by its own vector, but {found:?}");
    }
}

async fn write(index: &HnswIndex, rows: &[(String, Vector)]) {
    for batch in rows.chunks(500) {
        let batch: Vec<VectorRow> =
            batch.iter().map(|(id, vector)| VectorRow { id: id.clone(), vector: vector.clone(), labels: vec![] }).collect();
        index.upsert(&Tenant::default(), ITEMS, "r", &batch).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_99_of_100_among_20_000_real_messages() {
    let file = "ubuntu-irc.events.jsonl.gz";
    let Some(path) = std::env::var_os("NEARCAST_TEST_DATA").map(|d| PathBuf::from(d).join(file)).filter(|p| p.exists()) else {
        return not_run(&format!(
            "{file} (messages of an Ubuntu channel) is not in the directory that NEARCAST_TEST_DATA names"
        ));
    };
    let local =
        match tokio::task::spawn_blocking(|| ModelStore::in_default_dir(false).pull(DEFAULT_MODEL, &mut |_| ())).await.unwrap()
        {
            Ok(local) => local,
            Err(e) => return not_run(&e.to_string()),
        };
    let model = EngineHandle::start(Arc::new(Bert::load(&local).unwrap()), SchedulerConfig::default()).unwrap();
    let all = vectors(&texts(&path, ROWS + QUERIES), &model).await;
    model.shutdown().await;
    let (stored, queries) = all.split_at(ROWS);
    let mut rows: Vec<(String, Vector)> = stored.iter().enumerate().map(|(i, v)| (format!("m{i}"), v.clone())).collect();

    let dir = tempfile::tempdir().unwrap();
    let index = HnswIndex::open(dir.path()).await.unwrap();
    write(&index, &rows).await;
    let exact = recall(&index, &rows, &queries[..50]).await;
    assert!(exact >= 0.99, "before there is a graph: {exact}");
    index.settled().await;
    let settled = recall(&index, &rows, queries).await;
    assert!(settled >= 0.993, "through the graph: {settled}");
    assert_reachable(&index, &rows).await;

    // A quarter goes, a quarter moves to where others were, and what went comes back.
    let gone: Vec<(String, Vector)> = rows.iter().step_by(4).cloned().collect();
    let ids: Vec<String> = gone.iter().map(|(id, _)| id.clone()).collect();
    index.delete(&Tenant::default(), ITEMS, &ids).await.unwrap();
    for i in (1..ROWS).step_by(4) {
        rows[i].1 = stored[(i + ROWS / 2) % ROWS].clone();
    }
    let moved: Vec<(String, Vector)> = rows.iter().skip(1).step_by(4).cloned().collect();
    write(&index, &moved).await;
    let kept: Vec<(String, Vector)> = rows.iter().enumerate().filter(|(i, _)| i % 4 != 0).map(|(_, r)| r.clone()).collect();
    recall(&index, &kept, &queries[..1]).await;
    index.settled().await;
    let fewer = recall(&index, &kept, &queries[..300]).await;
    assert!(fewer >= 0.99, "after deletions and updates: {fewer}");
    write(&index, &gone).await;
    recall(&index, &rows, &queries[..1]).await;
    index.settled().await;
    let again = recall(&index, &rows, &queries[..300]).await;
    assert!(again >= 0.99, "after insertions: {again}");
    assert_reachable(&index, &rows).await;

    // Nothing but rows is written down; the graph that is made of them then is as good.
    index.checkpoint().await.unwrap();
    index.close().await;
    drop(index);
    let index = HnswIndex::open(dir.path()).await.unwrap();
    recall(&index, &rows, &queries[..1]).await;
    index.settled().await;
    let reopened = recall(&index, &rows, &queries[..300]).await;
    assert!(reopened >= 0.99, "opened again: {reopened}");
    eprintln!(
        "recall@10: {exact:.4} scanned, {settled:.4} settled, {fewer:.4} after deletions, {again:.4} after insertions, {reopened:.4} opened again"
    );
}
