//! The ledger on MongoDB when connections are cut, servers go and come back, are too old, full or closed to writes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mongo_support;

use std::collections::BTreeSet;

use mongo_support::{Own, fake::Fake, proxy::Proxy};
use mongodb::bson::doc;
use nearcast_domain::{
    ErrorKind, StoreError,
    ports::{Append, LedgerRead as _, LedgerWrite as _},
    testing::events::{Maker, item, vector, with_vector},
};
use nearcast_stores::{
    ledger::{MongoLedger, SqliteLedger},
    mongo::MongoConfig,
    remote::{Address, Secret},
};

const R: &str = "model@1.0";

/// What is there, and a batch with everything that a batch can hold.
fn story() -> (Vec<Vec<Append>>, Vec<Append>) {
    let m = Maker::new("t");
    let text = |id: &str, text: &str, seed: u64| with_vector(m.item(id, Some(text), &["c"], |_| {}), seed);
    let before = vec![
        vec![m.view("1", "u", "i", 1), m.message("2", "u", "about i", Some("i"), 50), m.view("1", "v", "i", 1)],
        vec![m.message("3", "v", "without a vector", None, 3), m.view("9", "w", "k", 9), text("i", "first", 1)],
    ];
    let batch = vec![
        m.view("4", "u", "j", 20),
        m.erasure("u", 30),
        m.view("1", "u", "i", 60),
        with_vector(m.message("5", "u", "a new life", Some("i"), 61), 5),
        m.view("1", "v", "another item", 40),
        with_vector(m.message("3", "v", "without a vector", None, 3), 6),
        text("i", "second", 2),
        text("k", "new", 3),
        m.view("6", "x", "k", 7),
        m.erasure("stranger", 4),
    ];
    (before, batch)
}

#[tokio::test]
async fn a_batch_that_was_cut_off_anywhere_is_finished_by_its_repetition() {
    let Some(probe) = Own::new("probe") else { return };
    let dir = tempfile::tempdir().unwrap();
    let sqlite = SqliteLedger::open(&dir.path().join("ledger.db")).await.unwrap();
    let (before, batch) = story();
    for part in before.iter().chain([&batch]) {
        sqlite.append(part, R).await.unwrap();
    }
    let want = sqlite.digest().await.unwrap();
    let t = Maker::new("t").0;
    let names = |l: Vec<(_, nearcast_domain::UserId, u64)>| -> BTreeSet<String> {
        l.into_iter().map(|(_, u, _): (nearcast_domain::Tenant, _, _)| u.to_string()).collect()
    };
    let marked = names(sqlite.stale_users(99).await.unwrap());
    // How many writes there are to cut at.
    let proxy = Proxy::new(probe.server()).await;
    for part in &before {
        probe.bare().append(part, R).await.unwrap();
    }
    let through = probe.through(proxy.port);
    proxy.cut_at(usize::MAX, false);
    through.append(&batch, R).await.unwrap();
    let writes = proxy.writes();
    assert!(writes >= 12, "{writes}");
    probe.done().await;
    for n in 1..=writes {
        for behind in [false, true] {
            let own = Own::new("cut").unwrap();
            let proxy = Proxy::new(own.server()).await;
            let first = own.bare();
            for part in &before {
                first.append(part, R).await.unwrap();
            }
            let asked = [item("i"), item("k")];
            let remembered = first.item_vectors(&t, &asked, R).await.unwrap();
            assert_eq!(remembered, [Some(vector(1)), None]);
            proxy.cut_at(n, behind);
            let error = own.through(proxy.port).append(&batch, R).await;
            // Behind the last write there is nothing left to lose but its acknowledgement.
            let at = format!("cut {} write {n} of {writes}", if behind { "behind" } else { "before" });
            assert!(error.unwrap_err().kind.is_transient(), "{at}");
            let again = own.bare();
            again.append(&batch, R).await.unwrap();
            assert_eq!(again.digest().await.unwrap(), want, "{at}");
            assert_eq!(again.counts(&t).await.unwrap(), sqlite.counts(&t).await.unwrap(), "{at}");
            let now = first.item_vectors(&t, &asked, R).await.unwrap();
            assert_eq!(now, [Some(vector(2)), Some(vector(3))], "{at}: what another process remembers");
            let marks = names(again.stale_users(99).await.unwrap());
            assert!(marks.is_superset(&marked), "{at}: {marks:?} {marked:?}");
            assert_eq!(own.count("erasures", doc! { "clearing": true }).await, 0, "{at}");
            assert_eq!(own.count("due", doc! {}).await, 0, "{at}");
            assert_eq!(own.count("events", doc! { "tu": "1:tu", "at": { "$lte": 50_000_i64 } }).await, 0, "{at}");
            // Once more, and with what came before.
            for part in before.iter().chain([&batch]) {
                again.append(part, R).await.unwrap();
            }
            for part in before.iter().chain([&batch]) {
                sqlite.append(part, R).await.unwrap();
            }
            assert_eq!(again.digest().await.unwrap(), sqlite.digest().await.unwrap(), "{at}");
            own.done().await;
        }
    }
}

/// A crash between an item and its marks, and nobody repeats the batch: whoever asks for marks finishes.
#[tokio::test]
async fn marks_that_a_crash_left_undone_are_spread_by_whoever_asks() {
    let Some(own) = Own::new("spread") else { return };
    let m = Maker::new("t");
    let ledger = own.bare();
    ledger.append(&[m.view("1", "fan", "i", 1)], R).await.unwrap();
    let proxy = Proxy::new(own.server()).await;
    // The item is the second write: the tenant is known, but not to a new client.
    proxy.cut_at(usize::MAX, false);
    let item = [with_vector(m.item("i", Some("text"), &[], |_| {}), 1)];
    let through = own.through(proxy.port);
    through.append(&[m.item("other", None, &[], |_| {})], R).await.unwrap();
    // The note, its arrival, the item itself, then the mark.
    proxy.cut_at(3, true);
    through.append(&item, R).await.unwrap_err();
    assert_eq!(own.count("due", doc! {}).await, 1);
    assert_eq!(own.count("items", doc! {}).await, 2);
    assert_eq!(own.count("stale", doc! {}).await, 0);
    let marks = own.bare().stale_users(9).await.unwrap();
    assert_eq!(marks.iter().map(|(_, u, _)| u.as_str()).collect::<Vec<_>>(), ["fan"]);
    assert_eq!(own.count("due", doc! {}).await, 0);
    own.done().await;
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back() {
    let Some(own) = Own::new("gone") else { return };
    let proxy = Proxy::new(own.server()).await;
    let ledger = own.through(proxy.port);
    let m = Maker::new("t");
    proxy.set_up(false);
    let e = ledger.append(&[m.view("1", "u", "i", 1)], R).await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::Unavailable, "{e}");
    proxy.set_up(true);
    until_it_works(&ledger, &m).await;
    proxy.set_up(false);
    let e = ledger.tenants().await.unwrap_err();
    assert!(e.kind.is_transient(), "{e}");
    proxy.set_up(true);
    until_it_works(&ledger, &m).await;
    own.done().await;
}

/// The driver looks for its server every half a second at most: a few attempts are enough.
async fn until_it_works(ledger: &MongoLedger, m: &Maker) {
    let mut last = None;
    for _ in 0..40 {
        match ledger.append(&[m.view("1", "u", "i", 1)], R).await {
            Ok(_) => return,
            Err(e) => last = Some(e),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{last:?}");
}

async fn refused(wire: i32, greeting: mongodb::bson::Document, answer: mongodb::bson::Document) -> StoreError {
    let fake = Fake::new(wire, greeting, answer).await;
    let uri = Address::new(format!("mongodb://127.0.0.1:{}/", fake.port));
    let ledger = MongoLedger::new(&MongoConfig { uri, selection_timeout_ms: 1_000, ..MongoConfig::default() }).unwrap();
    ledger.append(&[Maker::new("t").view("1", "u", "i", 1)], R).await.unwrap_err()
}

#[tokio::test]
async fn refusals_name_the_remedy() {
    let fails = |code: i32, name: &str| doc! { "ok": 0.0, "code": code, "codeName": name, "errmsg": format!("told {name}") };
    let e = refused(13, doc! {}, doc! { "ok": 1.0 }).await;
    assert_eq!(e.kind, ErrorKind::Invalid, "{e}");
    assert!(e.message.contains("MongoDB 6.0"), "{e}");
    for (code, name, kind, told) in [
        (14031, "OutOfDiskSpace", ErrorKind::Full, "disk"),
        (371, "UserWritesBlocked", ErrorKind::ReadOnly, "no writes"),
        (13, "Unauthorized", ErrorKind::Invalid, "mongodb.user"),
        (50, "MaxTimeMSExpired", ErrorKind::Timeout, "told"),
        (10107, "NotWritablePrimary", ErrorKind::Unavailable, "told"),
    ] {
        let e = refused(21, doc! {}, fails(code, name)).await;
        assert_eq!(e.kind, kind, "{e}");
        assert!(e.message.contains(told), "{e}");
    }
    // A server that is open for reads alone says so when collections are to be made.
    let fake = Fake::new(21, doc! { "readOnly": true }, doc! { "ok": 1.0 }).await;
    let uri = Address::new(format!("mongodb://127.0.0.1:{}/", fake.port));
    let e = MongoLedger::new(&MongoConfig { uri, ..MongoConfig::default() }).unwrap().setup().await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::ReadOnly, "{e}");
}

#[tokio::test]
async fn nobody_there_and_a_secret_that_is_not_there() {
    // Port 1 of loopback: nobody listens.
    let config =
        MongoConfig { uri: Address::new("mongodb://127.0.0.1:1/"), selection_timeout_ms: 200, ..MongoConfig::default() };
    let e = MongoLedger::new(&config).unwrap().tenants().await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::Unavailable, "{e}");
    let password = Secret::new("file:/nowhere/password");
    let config = MongoConfig { user: Some("ann".into()), password, ..config };
    let e = MongoLedger::new(&config).unwrap().tenants().await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::Invalid, "{e}");
    assert!(e.message.contains("/nowhere/password"), "{e}");
}
