//! The vector index on Milvus: the suite of the port, and what only several processes and outages show.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nearcast_domain::{
    ErrorKind, Tenant,
    ports::{Collection, VectorQuery, VectorRead, VectorRow, VectorWrite},
    testing::{self, servers, vectors::random_unit},
};
use nearcast_stores::{
    remote::Address,
    vectors::{HnswIndex, MilvusConfig, MilvusConsistency, MilvusIndex},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

fn config() -> Option<MilvusConfig> {
    let address = Address::new(servers::address("NEARCAST__MILVUS__ADDRESS")?);
    let prefix = format!("{}_", servers::unique("vectors"));
    Some(MilvusConfig { address, prefix, consistency: MilvusConsistency::Strong, partitions: 4, ..MilvusConfig::default() })
}

/// Makes a revision of nothing current and drops the others, so that the server is left with two empty markers.
async fn clean(index: &MilvusIndex, revisions: &[&str]) {
    index.switch("none").await.unwrap();
    for revision in revisions {
        index.drop_revision(revision).await.unwrap();
    }
}

fn rows(n: usize, dimension: usize, seed: u64) -> Vec<VectorRow> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let labels = [vec![], vec!["shoes".to_owned()], vec!["a \"b\" \\ {c}".to_owned(), "é\n".to_owned()]];
    (0..n)
        .map(|i| {
            // Ids of every kind and up to 256 bytes.
            let id = match i % 4 {
                0 => format!("i{i}"),
                1 => format!("\" or key != \"{i}"),
                2 => format!("\u{1f45f}{{keys}}\\{i}"),
                _ => format!("{i:0>256}"),
            };
            VectorRow { id, vector: random_unit(&mut rng, dimension), labels: labels[i % 3].clone() }
        })
        .collect()
}

fn ask(row: &VectorRow, limit: usize) -> VectorQuery {
    VectorQuery { vector: row.vector.clone(), limit, label: None, exclude: vec![] }
}

#[tokio::test]
async fn conforms() {
    let Some(config) = config() else { return };
    let index = MilvusIndex::new(&config).unwrap();
    index.setup().await.unwrap();
    testing::vectors::vectors(&index).await;
    clean(&index, &["r1", "r2"]).await;
}

/// Several processes begin at once, none of them knowing of the others.
#[tokio::test]
async fn many_writers_at_once_and_the_same_digest_as_in_process() {
    let Some(config) = config() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (embedded, all) = (HnswIndex::open(dir.path()).await.unwrap(), Arc::new(rows(3000, 384, 1)));
    let mut writers = JoinSet::new();
    for w in 0..4 {
        let (all, index) = (all.clone(), MilvusIndex::new(&config).unwrap());
        writers.spawn(async move {
            for (i, batch) in all.chunks(100).enumerate() {
                // Each batch is written by two of them, as after a crash.
                if i % 4 == w || (i + 1) % 4 == w {
                    let (tenant, collection) = place(i);
                    index.upsert(&tenant, collection, "m@1", batch).await.unwrap();
                }
            }
        });
    }
    for (i, batch) in all.chunks(100).enumerate() {
        let (tenant, collection) = place(i);
        embedded.upsert(&tenant, collection, "m@1", batch).await.unwrap();
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let index = MilvusIndex::new(&config).unwrap();
    assert_eq!(index.revision().await.unwrap().as_deref(), Some("m@1"));
    assert!(!index.needs_rebuild().await.unwrap());
    assert_eq!(index.digest().await.unwrap(), embedded.digest().await.unwrap());
    // And the same answers, to the bit.
    let mut found = 0;
    for (i, row) in all.iter().enumerate().step_by(101) {
        let (tenant, collection) = place(i / 100);
        let label = [None, row.labels.first().cloned()][i % 2].clone();
        let query = VectorQuery { label, exclude: vec![all[i / 100 * 100].id.clone()], ..ask(row, 10) };
        let expected = embedded.search(&tenant, collection, query.clone()).await.unwrap();
        assert_eq!(index.search(&tenant, collection, query).await.unwrap(), expected);
        found += expected.len();
    }
    assert!(found > 100, "{found}");
    let gone: Vec<String> = all.iter().step_by(3).map(|r| r.id.clone()).collect();
    for tenant in ["one", "two"].map(Tenant::trusted) {
        for collection in Collection::ALL {
            index.delete(&tenant, collection, &gone).await.unwrap();
            embedded.delete(&tenant, collection, &gone).await.unwrap();
        }
    }
    assert_eq!(index.digest().await.unwrap(), embedded.digest().await.unwrap());
    clean(&index, &["m@1"]).await;
}

/// Where a batch belongs.
fn place(batch: usize) -> (Tenant, Collection) {
    (Tenant::trusted(["one", "two"][batch % 2]), Collection::ALL[batch / 2 % 2])
}

#[tokio::test]
async fn an_interrupted_switch_mixes_nothing() {
    let Some(config) = config() else { return };
    let config = MilvusConfig { current_ms: 0, ..config };
    let (index, tenant) = (MilvusIndex::new(&config).unwrap(), Tenant::default());
    let revisions = ["m@1", "m@2"];
    for (i, revision) in revisions.iter().enumerate() {
        for collection in Collection::ALL {
            index.upsert(&tenant, collection, revision, &rows(1, 8 + 8 * i, 3)).await.unwrap();
        }
    }
    let mut rng = fastrand::Rng::with_seed(5);
    let mut cut = 0;
    for round in 0..30 {
        let to = revisions[round % 2];
        let switch = tokio::time::timeout(Duration::from_micros(rng.u64(0..15_000)), index.switch(to)).await;
        cut += usize::from(switch.is_err());
        // Another process that knows nothing yet.
        let other = MilvusIndex::new(&config).unwrap();
        let current = other.revision().await.unwrap().unwrap();
        let dimension = if current == revisions[0] { 8 } else { 16 };
        for collection in Collection::ALL {
            let found = other.get(&tenant, collection, &["i0".to_owned()]).await.unwrap();
            assert_eq!(found[0].as_ref().unwrap().len(), dimension, "round {round}: {collection:?} of another revision");
        }
        assert_eq!(other.digest().await.unwrap().rows(), 2);
    }
    assert!(cut > 0, "no switch was interrupted");
    index.switch(revisions[1]).await.unwrap();
    index.setup().await.unwrap();
    clean(&index, &revisions).await;
}

#[tokio::test]
async fn lost_rows_show_until_they_are_written_again() {
    let Some(config) = config() else { return };
    let (index, tenant) = (MilvusIndex::new(&config).unwrap(), Tenant::default());
    let all = rows(20, 8, 7);
    for collection in Collection::ALL {
        index.upsert(&tenant, collection, "m@1", &all).await.unwrap();
    }
    let digest = index.digest().await.unwrap();
    assert!(!index.needs_rebuild().await.unwrap());
    // Someone drops the items' collection.
    let client = milvus::v2::ClientV2::new(&milvus::v2::ConnectConfig::new().uri(config.address.expose())).await.unwrap();
    let alias = format!("{}items", config.prefix);
    let request = milvus::v2::prelude::DescribeAliasRequest::builder().alias(alias.as_str()).build().unwrap();
    let name = client.describe_alias(request).await.unwrap().collection_name().to_owned();
    let request = milvus::v2::prelude::DropAliasRequest::builder().alias(alias).build().unwrap();
    client.drop_alias(request).await.unwrap();
    let request = milvus::v2::prelude::DropCollectionRequest::builder().collection_name(name).build().unwrap();
    client.drop_collection(request).await.unwrap();

    let index = MilvusIndex::new(&config).unwrap();
    assert!(index.needs_rebuild().await.unwrap());
    assert_eq!(index.count(&tenant, Collection::Items).await.unwrap(), 0);
    index.upsert(&tenant, Collection::Items, "m@1", &all).await.unwrap();
    assert!(
        MilvusIndex::new(&config).unwrap().needs_rebuild().await.unwrap(),
        "whoever made it again may not have written all"
    );
    index.checkpoint().await.unwrap();
    assert!(!MilvusIndex::new(&config).unwrap().needs_rebuild().await.unwrap());
    assert_eq!(index.digest().await.unwrap(), digest);
    clean(&index, &["m@1"]).await;
}

/// A way to the server that can be cut.
async fn cuttable(to: String) -> (SocketAddr, Arc<AtomicBool>, tokio::task::AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, open) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
    let state = open.clone();
    let task = tokio::spawn(async move {
        let mut ways = JoinSet::new();
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            if !state.load(Ordering::Relaxed) {
                continue;
            }
            let (to, state) = (to.clone(), state.clone());
            ways.spawn(async move {
                let mut to = TcpStream::connect(to).await.unwrap();
                let cut = async {
                    while state.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! {
                    _ = copy_bidirectional(&mut from, &mut to) => {}
                    () = cut => {}
                }
            });
        }
    });
    (address, open, task.abort_handle())
}

#[tokio::test]
async fn an_outage_is_an_error_and_then_over() {
    let Some(config) = config() else { return };
    let server = config.address.expose().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let (address, open, task) = cuttable(server).await;
    let config = MilvusConfig { address: Address::new(format!("http://{address}")), connect_ms: 500, call_ms: 2_000, ..config };
    open.store(false, Ordering::Relaxed);
    let (index, tenant, all) = (MilvusIndex::new(&config).unwrap(), Tenant::default(), rows(10, 8, 9));
    let query = ask(&all[0], 1);
    // Never reached: an error of a kind that says to try again, at once for those who come soon after.
    assert!(index.search(&tenant, Collection::Items, query.clone()).await.unwrap_err().kind.is_transient());
    open.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    while index.upsert(&tenant, Collection::Items, "m@1", &all).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let digest = index.digest().await.unwrap();
    for _ in 0..3 {
        open.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let e = index.search(&tenant, Collection::Items, query.clone()).await.unwrap_err();
        assert!(e.kind.is_transient(), "{e}");
        let e = index.upsert(&tenant, Collection::Items, "m@1", &all).await.unwrap_err();
        assert!(e.kind.is_transient(), "{e}");
        assert!(index.digest().await.unwrap_err().kind.is_transient());
        open.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        while index.search(&tenant, Collection::Items, query.clone()).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        index.upsert(&tenant, Collection::Items, "m@1", &all).await.unwrap();
        assert_eq!(index.digest().await.unwrap(), digest);
    }
    clean(&index, &["m@1"]).await;
    index.close();
    task.abort();
}

#[tokio::test]
async fn making_an_index_asks_nobody() {
    let nobody = MilvusConfig { address: Address::new("http://127.0.0.1:1"), connect_ms: 100, ..MilvusConfig::default() };
    let index = MilvusIndex::new(&nobody).unwrap();
    assert!(index.setup().await.unwrap_err().kind.is_transient());
    assert!(index.revision().await.unwrap_err().kind.is_transient());
    let wrong = MilvusConfig { prefix: "1".into(), ..MilvusConfig::default() };
    assert_eq!(MilvusIndex::new(&wrong).unwrap_err().kind, ErrorKind::Invalid);
}
