//! What jobs ask of embedded stores: vectors of another revision, digests of ranges, totals made anew, runs written down.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

use nearcast_domain::{
    Event, EventId, Item, ItemId, Message, Tenant, Timestamp, UserId, Vector,
    digest::{Digest, bucket},
    ports::*,
};
use nearcast_stores::{engagement::SqliteEngagement, ledger::SqliteLedger, vectors::HnswIndex};

fn vector(x: f32) -> Vector {
    [x, (1.0 - x * x).sqrt()].into_iter().collect()
}

fn append(event: Event, x: f32) -> Append {
    Append { hash: event.content_hash(), event, vector: Some(vector(x)) }
}

fn item(text: &str) -> Event {
    Event::Item(Item {
        tenant: Tenant::default(),
        item_id: ItemId::trusted("i"),
        text: Some(text.into()),
        categories: Vec::new(),
        expires_at: None,
        hidden: false,
        attributes: serde_json::Map::new(),
        timestamp: None,
    })
}

fn message(text: &str) -> Event {
    Event::Message(Message {
        tenant: Tenant::default(),
        message_id: EventId::trusted("m"),
        user_id: UserId::trusted("u"),
        text: text.into(),
        item_id: Some(ItemId::trusted("i")),
        timestamp: Timestamp::from_millis(5),
    })
}

#[tokio::test]
async fn vectors_are_added_to_content_that_stands() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&dir.path().join("ledger.db")).await.unwrap();
    let (tenant, id) = (Tenant::default(), [ItemId::trusted("i")]);
    ledger.append(&[append(item("old"), 0.1), append(message("hello"), 0.2), append(item("new"), 0.3)], "r1").await.unwrap();
    ledger.clear_stale(&ledger.stale_users(9).await.unwrap()).await.unwrap();
    let before = ledger.digest().await.unwrap();
    // An older version, another content under the same id, somebody unknown.
    let late = [append(item("old"), 0.5), append(message("other"), 0.5)];
    assert_eq!(ledger.add_vectors(&late, "r2", true).await.unwrap(), 0);
    assert_eq!(ledger.digest().await.unwrap(), before);
    let right = [append(item("new"), 0.6), append(message("hello"), 0.7)];
    assert_eq!(ledger.add_vectors(&right, "r2", false).await.unwrap(), 2);
    assert_eq!(ledger.add_vectors(&right, "r2", true).await.unwrap(), 0, "they are there");
    assert!(ledger.stale_users(9).await.unwrap().is_empty());
    let of = async |revision| ledger.items(&tenant, &id, Some(revision)).await.unwrap()[0].clone().unwrap().vector;
    assert_eq!((of("r1").await, of("r2").await), (Some(vector(0.3)), Some(vector(0.6))));
    assert_eq!(ledger.drop_vectors("r2").await.unwrap(), 2);
    assert_eq!(ledger.digest().await.unwrap(), before);
    ledger.add_vectors(&right, "r3", true).await.unwrap();
    assert_eq!(ledger.stale_users(9).await.unwrap().len(), 1, "whoever engaged with the item");
}

#[tokio::test]
async fn an_index_is_read_in_a_revision_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let index = HnswIndex::open(dir.path()).await.unwrap();
    let tenant = Tenant::default();
    let row = |i: usize, x: f32| VectorRow { id: format!("u{i}"), vector: vector(x), labels: Vec::new() };
    let rows: Vec<VectorRow> = (0..500).map(|i| row(i, i as f32 / 500.0)).collect();
    index.upsert(&tenant, Collection::Users, "a", &rows).await.unwrap();
    index.upsert(&tenant, Collection::Users, "b", &rows[..10]).await.unwrap();
    let (a, b) = (index.of_revision("a"), index.of_revision("b"));
    let count = async |r: &dyn VectorRead| r.count(&tenant, Collection::Users).await.unwrap();
    assert_eq!((count(&*a).await, count(&*b).await, count(&index).await), (500, 10, 500));
    index.switch("b").await.unwrap();
    assert_eq!((count(&*a).await, count(&*b).await, count(&index).await), (500, 10, 10));
    let digests = index.buckets(&tenant, Collection::Users, "a", 64).await.unwrap();
    let mut all = Digest::default();
    digests.iter().for_each(|d| all.merge(d));
    assert_eq!(all, a.digest().await.unwrap());
    let wanted = [bucket("u7", 64), bucket("u8", 64)];
    let some = index.rows(&tenant, Collection::Users, "a", 64, &wanted).await.unwrap();
    assert!(some.iter().any(|r| r.id == "u7") && some.len() < 100);
    assert!(some.iter().all(|r| wanted.contains(&bucket(&r.id, 64))));
}

#[tokio::test]
async fn totals_are_counted_again_and_runs_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteEngagement::open(&dir.path().join("engagement.db")).await.unwrap();
    let tenant = Tenant::default();
    let tally = |n: i64| Tally {
        id: EventId::trusted(format!("e:{n}")),
        user: UserId::trusted(format!("u{}", n % 7)),
        item: ItemId::trusted(format!("i{}", n % 3)),
        weight: 0.5,
        timestamp: Timestamp::from_millis(n * 1_000_000),
    };
    store.record(&tenant, &(0..100).map(tally).collect::<Vec<_>>()).await.unwrap();
    let (digest, buckets) = (store.digest().await.unwrap(), store.buckets(&tenant, 64).await.unwrap());
    store.recount(&tenant).await.unwrap();
    assert_eq!(store.digest().await.unwrap(), digest);
    assert_eq!(store.buckets(&tenant, 64).await.unwrap(), buckets);
    assert_eq!(buckets.counted.iter().map(Digest::rows).sum::<u64>(), 100);
    let users = store.counted_users(&tenant, 64, &(0..64).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(users.len(), 7);
    let run = |id: &str, started: i64| PipelineRun {
        id: id.into(),
        job: "reembed".into(),
        tenant: None,
        started: Timestamp::from_millis(started),
        finished: None,
        outcome: "running".into(),
        report: serde_json::json!({}),
    };
    store.record_run(&run("a", 1)).await.unwrap();
    store.record_run(&run("b", 2)).await.unwrap();
    let done = PipelineRun { outcome: "done".into(), finished: Some(Timestamp::from_millis(3)), ..run("a", 1) };
    store.record_run(&done).await.unwrap();
    assert_eq!(store.runs(Some("reembed"), 9).await.unwrap(), [run("b", 2), done]);
    assert!(store.runs(Some("other"), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn aggregates_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteEngagement::open(&dir.path().join("engagement.db")).await.unwrap();
    nearcast_domain::testing::aggregates::aggregates(&store).await;
}
