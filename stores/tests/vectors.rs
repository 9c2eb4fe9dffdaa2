//! The embedded vector index keeps the port's promises; through a graph as well as without one; and over any end of the process.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use nearcast_domain::{
    ErrorKind, Tenant, Vector,
    ports::{Collection, VectorQuery, VectorRead, VectorRow, VectorWrite},
    profile::unit,
    testing::{
        self,
        vectors::{assert_same, nearest, random_unit},
    },
};
use nearcast_stores::vectors::HnswIndex;

const ITEMS: Collection = Collection::Items;

async fn open(dir: &Path) -> HnswIndex {
    HnswIndex::open(dir).await.unwrap()
}

fn ask(vector: &Vector, limit: usize) -> VectorQuery {
    VectorQuery { vector: vector.clone(), limit, label: None, exclude: Vec::new() }
}

/// Rows in clusters, some of them equal, as texts are.
fn rows(n: usize, dimension: usize, seed: u64) -> Vec<VectorRow> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let centres: Vec<Vector> = (0..40).map(|_| random_unit(&mut rng, dimension)).collect();
    let spread = 0.9 / (dimension as f64).sqrt();
    let mut rows: Vec<VectorRow> = Vec::with_capacity(n);
    for i in 0..n {
        let vector = if i > 0 && rng.u8(..10) == 0 {
            rows[rng.usize(..i)].vector.clone()
        } else {
            let c = &centres[rng.usize(..centres.len())];
            unit(&c.iter().map(|x| f64::from(*x) + spread * (rng.f64() - 0.5) * 2.0).collect::<Vec<_>>()).unwrap()
        };
        let mut labels = vec![format!("l{}", i % 3)];
        if i % 500 == 0 {
            labels.push("rare".into());
        }
        if i % 10 != 0 {
            labels.push("most".into());
        }
        rows.push(VectorRow { id: format!("i{i:05}"), vector, labels });
    }
    rows
}

#[tokio::test]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    testing::vectors::vectors(&open(dir.path()).await).await;
}

#[tokio::test]
async fn conforms_while_the_journal_is_rewritten_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let index = HnswIndex::open_with_slack(dir.path(), 2000).await.unwrap();
    testing::vectors::vectors(&index).await;
    let digest = index.digest().await.unwrap();
    drop(index);
    assert_eq!(open(dir.path()).await.digest().await.unwrap(), digest);
}

/// Asks until the graph that the first question calls for is made.
async fn settle(index: &HnswIndex, tenant: &Tenant, vector: &Vector) {
    index.search(tenant, ITEMS, ask(vector, 1)).await.unwrap();
    index.settled().await;
}

#[tokio::test]
async fn a_graph_changes_no_promise() {
    let (dir, tenant) = (tempfile::tempdir().unwrap(), Tenant::default());
    let index = HnswIndex::open(dir.path()).await.unwrap();
    let mut kept: BTreeMap<String, VectorRow> = BTreeMap::new();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut recalls = Vec::new();
    for (round, seed) in [21, 22, 23].into_iter().enumerate() {
        // The first round fills. The second changes and takes out so little that the graph stays, the third so much that it is made anew.
        let part = [1, 20, 3][round];
        for batch in rows(24_000, 24, seed).chunks(500) {
            let batch: Vec<VectorRow> = batch.iter().filter(|_| rng.u8(..part) == 0).cloned().collect();
            index.upsert(&tenant, ITEMS, "r", &batch).await.unwrap();
            kept.extend(batch.into_iter().map(|r| (r.id.clone(), r)));
        }
        if round > 0 {
            let gone: Vec<String> = kept.keys().filter(|_| rng.u8(..4 * part) == 0).cloned().collect();
            index.delete(&tenant, ITEMS, &gone).await.unwrap();
            kept.retain(|id, _| gone.binary_search(id).is_err());
        }
        let some = kept.values().next().unwrap().vector.clone();
        settle(&index, &tenant, &some).await;

        // No row is unreachable.
        for r in kept.values().step_by(3) {
            let best = index.search(&tenant, ITEMS, ask(&r.vector, 1)).await.unwrap();
            assert!(best[0].score > 1.0 - 1e-5, "{}: {best:?}", r.id);
        }
        let (mut hits, mut asked) = (0, 0);
        for i in 0..300 {
            let near = &rows(1, 24, 1000 + i)[0].vector;
            let some_row = kept.values().nth(rng.usize(..kept.len())).unwrap();
            let vector = if i % 2 == 0 { near.clone() } else { some_row.vector.clone() };
            let exclude: Vec<String> =
                if i % 3 == 0 { nearest(kept.values(), &ask(&vector, 20)).into_iter().map(|h| h.id).collect() } else { vec![] };
            let label = [None, Some("l1"), Some("rare"), Some("most")][i as usize / 2 % 4].map(str::to_owned);
            let query = VectorQuery { vector, limit: 10, label, exclude };
            let expected = nearest(kept.values(), &query);
            let found = index.search(&tenant, ITEMS, query.clone()).await.unwrap();
            if query.label.as_deref() == Some("rare") {
                assert_same(&found, &expected, &kept, &query);
            }
            for h in &found {
                assert!(query.label.as_ref().is_none_or(|l| kept[&h.id].labels.contains(l)) && !query.exclude.contains(&h.id));
            }
            let last = expected.last().unwrap().score - 1e-6;
            asked += expected.len();
            hits += found.iter().filter(|h| h.score >= last).count();
        }
        let recall = hits as f64 / asked as f64;
        // Half of the questions lie far from every cluster, which is the hardest for a graph that is entered at one point.
        assert!(recall >= 0.98, "round {round}: {recall}");
        recalls.push(recall);

        // A new row is found at once, though the graph does not have it.
        let fresh = VectorRow { id: format!("fresh{round}"), vector: random_unit(&mut rng, 24), labels: vec![] };
        index.upsert(&tenant, ITEMS, "r", std::slice::from_ref(&fresh)).await.unwrap();
        assert_eq!(index.search(&tenant, ITEMS, ask(&fresh.vector, 1)).await.unwrap()[0].id, fresh.id);
        kept.insert(fresh.id.clone(), fresh);

        index.checkpoint().await.unwrap();
    }
    eprintln!("recall@10 as filled, changed a little, changed much: {recalls:.4?}");
    let digest = index.digest().await.unwrap();
    drop(index);
    let index = open(dir.path()).await;
    assert_eq!(index.digest().await.unwrap(), digest);
    for r in kept.values().step_by(7) {
        assert!(index.search(&tenant, ITEMS, ask(&r.vector, 1)).await.unwrap()[0].score > 1.0 - 1e-5);
    }
}

#[tokio::test]
async fn every_end_keeps_what_was_acknowledged() {
    let (dir, tenant) = (tempfile::tempdir().unwrap(), Tenant::default());
    let mut rng = fastrand::Rng::with_seed(31);
    let mut kept: BTreeMap<String, VectorRow> = BTreeMap::new();
    for life in 0..30 {
        let index = HnswIndex::open_with_slack(dir.path(), 20_000).await.unwrap();
        assert!(!index.needs_rebuild().await.unwrap());
        assert_eq!(index.count(&tenant, ITEMS).await.unwrap(), kept.len() as u64);
        for r in kept.values() {
            assert_eq!(index.get(&tenant, ITEMS, std::slice::from_ref(&r.id)).await.unwrap(), [Some(r.vector.clone())]);
        }
        for _ in 0..rng.usize(..6) {
            let batch: Vec<VectorRow> = rows(200, 16, rng.u64(..)).into_iter().filter(|_| rng.u8(..9) == 0).collect();
            index.upsert(&tenant, ITEMS, "r", &batch).await.unwrap();
            kept.extend(batch.into_iter().map(|r| (r.id.clone(), r)));
            let gone: Vec<String> = kept.keys().filter(|_| rng.u8(..20) == 0).cloned().collect();
            index.delete(&tenant, ITEMS, &gone).await.unwrap();
            kept.retain(|id, _| gone.binary_search(id).is_err());
        }
        if life % 4 == 0 {
            index.checkpoint().await.unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    for name in files(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

#[tokio::test]
async fn damage_is_never_taken_for_data() {
    let (source, tenant) = (tempfile::tempdir().unwrap(), Tenant::default());
    let all = rows(5000, 8, 41);
    let index = HnswIndex::open(source.path()).await.unwrap();
    for batch in all.chunks(300) {
        index.upsert(&tenant, ITEMS, "r", batch).await.unwrap();
    }
    index.checkpoint().await.unwrap();
    let digest = index.digest().await.unwrap();
    drop(index);
    assert_eq!(files(source.path()), ["vectors-1.journal", "vectors.head"], "a graph is no data and leaves no file");

    let mut rng = fastrand::Rng::with_seed(42);
    let (mut rebuilt, mut whole) = (0, 0);
    for name in files(source.path()) {
        for attempt in 0..14 {
            let dir = tempfile::tempdir().unwrap();
            copy(source.path(), dir.path());
            let path = dir.path().join(&name);
            let mut bytes = fs::read(&path).unwrap();
            match attempt {
                0 => fs::remove_file(&path).unwrap(),
                1 => fs::write(&path, b"").unwrap(),
                2 => fs::write(&path, b"not what it was").unwrap(),
                3..8 => fs::write(&path, &bytes[..rng.usize(..bytes.len())]).unwrap(),
                _ => {
                    let at = rng.usize(..bytes.len());
                    bytes[at] ^= 1 << rng.u8(..8);
                    fs::write(&path, &bytes).unwrap();
                }
            }
            let index = open(dir.path()).await;
            if index.needs_rebuild().await.unwrap() {
                rebuilt += 1;
                assert_eq!((index.count(&tenant, ITEMS).await.unwrap(), index.revision().await.unwrap()), (0, None));
                drop(index);
                let index = open(dir.path()).await;
                assert!(index.needs_rebuild().await.unwrap(), "it is not forgotten that rows are missing");
                for batch in all.chunks(1000) {
                    index.upsert(&tenant, ITEMS, "r", batch).await.unwrap();
                }
                index.checkpoint().await.unwrap();
                drop(index);
                let index = open(dir.path()).await;
                assert!(!index.needs_rebuild().await.unwrap());
                assert_eq!(index.digest().await.unwrap(), digest);
            } else {
                assert_ne!(name, "vectors-1.journal", "damage to the journal shows");
                whole += 1;
                assert_eq!(index.digest().await.unwrap(), digest);
                for r in all.iter().step_by(50) {
                    assert!(index.search(&tenant, ITEMS, ask(&r.vector, 1)).await.unwrap()[0].score > 1.0 - 1e-5);
                }
            }
        }
    }
    assert!(rebuilt >= 14 && whole >= 4, "{rebuilt} {whole}");
}

#[tokio::test]
async fn half_a_write_is_no_damage() {
    let (source, tenant) = (tempfile::tempdir().unwrap(), Tenant::default());
    let all = rows(50, 8, 51);
    let index = open(source.path()).await;
    index.upsert(&tenant, ITEMS, "r", &all).await.unwrap();
    let digest = index.digest().await.unwrap();
    drop(index);
    let whole = fs::read(source.path().join("vectors-1.journal")).unwrap();
    // The process ended while it appended the same record again.
    for part in [1, 4, 12, 13, whole.len() - 1] {
        let dir = tempfile::tempdir().unwrap();
        copy(source.path(), dir.path());
        fs::write(dir.path().join("vectors-1.journal"), [&whole[..], &whole[..part]].concat()).unwrap();
        let index = open(dir.path()).await;
        assert!(!index.needs_rebuild().await.unwrap());
        assert_eq!(index.digest().await.unwrap(), digest);
        index.upsert(&tenant, ITEMS, "r", &all[..3]).await.unwrap();
        drop(index);
        let index = open(dir.path()).await;
        assert!(!index.needs_rebuild().await.unwrap());
        assert_eq!(index.digest().await.unwrap(), digest);
    }
}

#[tokio::test]
async fn what_is_told_again_costs_nothing() {
    let (dir, tenant) = (tempfile::tempdir().unwrap(), Tenant::default());
    let all = rows(200, 8, 55);
    let index = open(dir.path()).await;
    index.upsert(&tenant, ITEMS, "r", &all).await.unwrap();
    let length = || fs::metadata(dir.path().join("vectors-1.journal")).unwrap().len();
    let before = length();
    for batch in all.chunks(30) {
        index.upsert(&tenant, ITEMS, "r", batch).await.unwrap();
    }
    assert_eq!(length(), before);
    let twice = [VectorRow { vector: all[1].vector.clone(), ..all[0].clone() }, all[0].clone()];
    index.upsert(&tenant, ITEMS, "r", &twice).await.unwrap();
    assert_eq!(index.get(&tenant, ITEMS, &[all[0].id.clone()]).await.unwrap(), [Some(all[0].vector.clone())]);
}

#[tokio::test]
async fn refuses_a_second_process() {
    let (dir, tenant) = (tempfile::tempdir().unwrap(), Tenant::default());
    let index = open(dir.path()).await;
    index.upsert(&tenant, ITEMS, "r", &rows(2, 8, 61)).await.unwrap();
    let again = HnswIndex::open(dir.path()).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Busy);
    assert!(again.message.contains("another process"), "{again}");
}

/// How many rows the killed process writes again each time.
const AGAIN: usize = 8;

/// Not a test of its own: [`a_killed_process_loses_nothing`] runs it and kills it.
#[tokio::test]
#[ignore = "is run by another test"]
async fn writes_until_it_is_killed() {
    let Ok(dir) = std::env::var("NEARCAST_TEST_VECTORS_DIR") else { return };
    let tenant = Tenant::default();
    let index = HnswIndex::open_with_slack(Path::new(&dir), 100_000).await.unwrap();
    assert!(!index.needs_rebuild().await.unwrap());
    let first = index.count(&tenant, ITEMS).await.unwrap().saturating_sub(AGAIN as u64);
    for n in first.. {
        let mut rng = fastrand::Rng::with_seed(n);
        // One row is new and stays; others are written again and again, so that the journal is rewritten now and then.
        let mut batch = vec![VectorRow { id: format!("n{n:06}"), vector: random_unit(&mut rng, 64), labels: vec![] }];
        for i in 0..AGAIN {
            batch.push(VectorRow { id: format!("again{i}"), vector: random_unit(&mut rng, 64), labels: vec![] });
        }
        index.upsert(&tenant, ITEMS, "r", &batch).await.unwrap();
        println!("\nacknowledged {n}");
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing() {
    let (dir, tenant) = (tempfile::tempdir().unwrap(), Tenant::default());
    let mut rng = fastrand::Rng::with_seed(71);
    for _ in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env("NEARCAST_TEST_VECTORS_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut last = None;
        let enough = rng.usize(1..300);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        for line in lines.by_ref().filter_map(|l| l.strip_prefix("acknowledged ").map(str::to_owned)).take(enough) {
            last = line.parse::<u64>().ok();
        }
        child.kill().unwrap();
        for line in lines.filter_map(|l| l.strip_prefix("acknowledged ").map(str::to_owned)) {
            last = line.parse().ok().or(last);
        }
        child.wait().unwrap();
        let last = last.expect("the child wrote nothing");
        let index = open(dir.path()).await;
        assert!(!index.needs_rebuild().await.unwrap());
        let count = index.count(&tenant, ITEMS).await.unwrap();
        assert!(count > last + AGAIN as u64, "{count} rows, but row {last} was acknowledged");
        for n in 0..=last {
            let expected = random_unit(&mut fastrand::Rng::with_seed(n), 64);
            assert_eq!(index.get(&tenant, ITEMS, &[format!("n{n:06}")]).await.unwrap(), [Some(expected)]);
        }
    }
    assert_eq!(files(dir.path()).iter().filter(|f| f.ends_with(".journal")).count(), 1);
    assert!(!dir.path().join("vectors-1.journal").exists(), "the journal was never rewritten, so no kill can have met that");
}
