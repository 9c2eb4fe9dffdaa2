//! What the embedded files owe beyond their ports: survival of a kill, refusals that name the remedy, and projections that no
//! order or repetition of deliveries can change.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, path::Path, sync::Arc};

use nearcast_domain::{
    ErrorKind, Event, EventId, ItemId, Tenant, UserId,
    ports::{
        Append, Appended, Edge, EngagementRead as _, EngagementWrite as _, EventSink as _, EventSource as _, GraphRead as _,
        GraphWrite as _, HistoryLimit, LedgerRead as _, LedgerWrite as _, Progress as _, Tally,
    },
    taste::Taste,
    testing::events::{Maker, tenant, user, with_vector},
};
use nearcast_stores::{engagement::SqliteEngagement, graph::SqliteGraph, ledger::SqliteLedger, log::SqliteLog};
use proptest::prelude::*;

struct Stores {
    ledger: SqliteLedger,
    graph: SqliteGraph,
    engagement: SqliteEngagement,
}

impl Stores {
    async fn open(dir: &Path) -> Self {
        Self {
            ledger: SqliteLedger::open(&dir.join("ledger.db")).await.unwrap(),
            graph: SqliteGraph::open(&dir.join("graph.db")).await.unwrap(),
            engagement: SqliteEngagement::open(&dir.join("engagement.db")).await.unwrap(),
        }
    }

    async fn digests(&self) -> [String; 3] {
        [
            self.ledger.digest().await.unwrap().to_hex(),
            self.graph.digest().await.unwrap().to_hex(),
            self.engagement.digest().await.unwrap().to_hex(),
        ]
    }

    /// What a worker does with a batch, in short.
    async fn deliver(&self, batch: &[Append]) {
        let outcomes = self.ledger.append(batch, "r").await.unwrap();
        let (mut pairs, mut erased) = (BTreeSet::new(), BTreeSet::new());
        let taste = Taste::default();
        for (append, outcome) in batch.iter().zip(outcomes) {
            if !matches!(outcome, Appended::New | Appended::Duplicate) {
                continue;
            }
            match &append.event {
                Event::Engagement(e) => drop(pairs.insert((e.user_id.clone(), e.item_id.clone()))),
                Event::Message(e) => pairs.extend(e.item_id.clone().map(|i| (e.user_id.clone(), i))),
                Event::Erasure(e) => drop(erased.insert(e.user_id.clone())),
                Event::Item(_) => {}
            }
        }
        let t = tenant("t");
        for who in erased {
            self.graph.erase(&t, &who).await.unwrap();
            self.engagement.erase(&t, &who).await.unwrap();
            let all = HistoryLimit { engagements: usize::MAX, messages: 0 };
            let history = self.ledger.histories(&t, std::slice::from_ref(&who), all, None).await.unwrap().remove(0);
            pairs.retain(|(u, _)| *u != who);
            pairs.extend(history.engagements.into_iter().map(|e| (who.clone(), e.item)));
        }
        self.project(&t, pairs.into_iter().collect(), &taste).await;
    }

    async fn project(&self, t: &Tenant, pairs: Vec<(UserId, ItemId)>, taste: &Taste) {
        let (mut edges, mut tallies) = (Vec::new(), Vec::new());
        for pair in self.ledger.pairs(t, &pairs).await.unwrap() {
            let (Some(first), Some(last)) = (pair.events.first(), pair.events.last()) else { continue };
            let strength = taste.combined(pair.events.iter().map(|e| (&e.kind, e.value)));
            let (weight, positive) = (strength.weight, strength.positive);
            let (first, last) = (first.timestamp, last.timestamp);
            edges.push(Edge { user: pair.user.clone(), item: pair.item.clone(), weight, positive, first, last });
            tallies.extend(pair.events.iter().map(|e| Tally {
                id: EventId::trusted(format!("{}:{}", u8::from(e.is_message), e.id)),
                user: pair.user.clone(),
                item: pair.item.clone(),
                weight: taste.strength(&e.kind, e.value).weight,
                timestamp: e.timestamp,
            }));
        }
        self.graph.set_edges(t, &edges).await.unwrap();
        self.engagement.record(t, &tallies).await.unwrap();
    }
}

/// One producer's events in order: a user's, or the versions of an item.
fn line(n: usize, steps: &[(u8, u8, u8)]) -> Vec<Append> {
    let m = Maker::new("t");
    let who = format!("u{n}");
    let own = format!("i{n}");
    let event = |&(what, id, time): &(u8, u8, u8)| {
        let (id, item, time) = (format!("{}", id % 6), format!("i{}", id % 4), i64::from(time % 32) * 1000);
        match what % 8 {
            0 => m.erasure(&who, time),
            1 => with_vector(m.message(&id, &who, &format!("text {item}"), None, time), 1),
            2 => with_vector(m.message(&id, &who, "about", Some(&item), time), 2),
            3 => m.engagement(&id, &who, &item, "rating", f64::from(what), time),
            _ => m.view(&id, &who, &item, time),
        }
    };
    if n % 4 == 3 {
        let version = |&(what, id, time): &(u8, u8, u8)| {
            let text = format!("text {}", id % 3);
            let time = (what % 3 > 0).then_some(nearcast_domain::Timestamp::from_millis(i64::from(time % 4)));
            with_vector(m.item(&own, Some(&text), &[], |i| i.timestamp = time), u64::from(id % 3))
        };
        return steps.iter().map(version).collect();
    }
    steps.iter().map(event).collect()
}

/// Mixes lines, each in its own order, as `picks` says.
fn interleave(lines: &[Vec<Append>], picks: &[u16]) -> Vec<Append> {
    let mut at = vec![0; lines.len()];
    let mut picks = picks.iter().cycle();
    let mut all = Vec::new();
    loop {
        let open: Vec<usize> = (0..lines.len()).filter(|l| at[*l] < lines[*l].len()).collect();
        if open.is_empty() {
            return all;
        }
        let l = open[usize::from(*picks.next().unwrap_or(&0)) % open.len()];
        all.push(lines[l][at[l]].clone());
        at[l] += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_between_users_and_no_repetition_changes_anything(
        lines in prop::collection::vec(prop::collection::vec(any::<(u8, u8, u8)>(), 1..14), 1..7),
        picks in prop::collection::vec(any::<u16>(), 1..40),
        sizes in prop::collection::vec((1_usize..12, 0_u8..3), 1..12),
    ) {
        let lines: Vec<Vec<Append>> = lines.iter().enumerate().map(|(n, steps)| line(n, steps)).collect();
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (plain, wild) = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let plain = Stores::open(a.path()).await;
            for line in &lines {
                plain.deliver(line).await;
            }
            let wild = Stores::open(b.path()).await;
            let mixed = interleave(&lines, &picks);
            let (mut rest, mut sizes) = (&mixed[..], sizes.iter().cycle());
            while let Some((size, repeats)) = sizes.next().filter(|_| !rest.is_empty()) {
                let (batch, after) = rest.split_at((*size).min(rest.len()));
                for _ in 0..=*repeats {
                    wild.deliver(batch).await;
                }
                rest = after;
            }
            let once = wild.digests().await;
            wild.deliver(&mixed).await;
            prop_assert_eq!(&once, &wild.digests().await, "replaying everything");
            Ok((plain.digests().await, once))
        })?;
        prop_assert_eq!(plain, wild);
    }
}

/// Copies the files as a kill would leave them: while they are open, with the write-ahead log beside them.
fn snapshot(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // The index of the write-ahead log is shared memory: after a crash it is made anew.
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    to
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let stores = Stores::open(dir.path()).await;
    let log = SqliteLog::open(&dir.path().join("log.db")).await.unwrap();
    let m = Maker::new("t");
    for round in 0..5 {
        let batch: Vec<Append> =
            (0..40).map(|n| m.view(&format!("{round}/{n}"), &format!("u{}", n % 5), &format!("i{n}"), n + 1)).collect();
        stores.deliver(&batch).await;
        let bytes: Arc<[u8]> = round.to_string().into_bytes().into();
        let token = log.publish(&tenant("t"), &[("k".into(), bytes)]).await.unwrap();
        let killed = snapshot(dir.path());
        let again = Stores::open(killed.path()).await;
        assert_eq!(again.digests().await, stores.digests().await, "round {round}");
        let log_again = SqliteLog::open(&killed.path().join("log.db")).await.unwrap();
        assert_eq!(log_again.lag().await.unwrap(), round + 1);
        let read = log_again.source().next(99, 1 << 20).await.unwrap().unwrap();
        assert_eq!(read.records.len() as u64, round + 1);
        let mut source = log_again.source();
        let position = source.next(99, 1 << 20).await.unwrap().unwrap().position;
        source.commit(&position).await.unwrap();
        log_again.reached(&token).await.unwrap();
    }
}

#[tokio::test]
async fn an_append_that_is_given_up_is_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let stores = Stores::open(dir.path()).await;
    let m = Maker::new("t");
    let batch: Vec<Append> = (0..3000).map(|n| m.view(&n.to_string(), &format!("u{}", n % 50), "i", n + 1)).collect();
    let mut kept = 0;
    for wait in [0, 50, 200, 1_000, 3_000, 10_000, 30_000] {
        let call = stores.ledger.append(&batch, "r");
        let _ = tokio::time::timeout(std::time::Duration::from_micros(wait), call).await;
        let counts = stores.ledger.preview(&batch).await.unwrap();
        let known = counts.iter().filter(|o| **o == Appended::Duplicate).count();
        assert!(known == 0 || known == 3000, "{known}");
        assert!(known >= kept);
        kept = known;
    }
    stores.ledger.append(&batch, "r").await.unwrap();
    assert_eq!(stores.ledger.counts(&tenant("t")).await.unwrap().events, 3000);
}

async fn refusal(path: &Path) -> nearcast_domain::StoreError {
    SqliteLedger::open(path).await.err().expect("must be refused")
}

async fn run(path: &Path, sql: &'static str) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut c = options.connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut c).await.unwrap();
    c.close().await.unwrap();
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/ledger.db");
    drop(SqliteLedger::open(&path).await.unwrap());
    run(&path, "PRAGMA user_version = 99").await;
    let e = refusal(&path).await;
    assert_eq!(e.kind, ErrorKind::TooNew);
    assert!(e.message.contains("newer version") && e.message.contains("ledger.db"), "{e}");

    let foreign = dir.path().join("foreign.db");
    run(&foreign, "CREATE TABLE x (y)").await;
    assert_eq!(refusal(&foreign).await.kind, ErrorKind::Corrupt);
    let graph = dir.path().join("graph.db");
    drop(SqliteGraph::open(&graph).await.unwrap());
    let e = refusal(&graph).await;
    assert_eq!(e.kind, ErrorKind::Corrupt, "{e}");
    assert!(SqliteGraph::open(&graph).await.is_ok(), "a refusal changes nothing");

    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, [7_u8; 9000]).unwrap();
    let e = refusal(&garbage).await;
    assert_eq!(e.kind, ErrorKind::Corrupt, "{e}");
    assert!(e.message.contains("backup"), "{e}");

    let file = dir.path().join("a file");
    std::fs::write(&file, b"").unwrap();
    assert_eq!(refusal(&file.join("ledger.db")).await.kind, ErrorKind::Invalid);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_directory_that_cannot_be_written() {
    // Not even root can make files there.
    let e = refusal(Path::new("/sys/kernel/nearcast/ledger.db")).await;
    assert_eq!(e.kind, ErrorKind::ReadOnly, "{e}");
    assert!(e.message.contains("--data-dir"), "{e}");
}

#[tokio::test]
async fn damage_within_a_file_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let store = SqliteLedger::open(&path).await.unwrap();
    let m = Maker::new("t");
    let batch: Vec<Append> = (0..2000).map(|n| m.view(&n.to_string(), &format!("u{}", n % 50), "i", n + 1)).collect();
    store.append(&batch, "r").await.unwrap();
    store.close().await;
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let from = 4096 * 4;
    bytes[from..].fill(0xee);
    std::fs::write(&path, bytes).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("ledger.db{suffix}")));
    }
    let store = match SqliteLedger::open(&path).await {
        Ok(store) => store,
        Err(e) => return assert_eq!(e.kind, ErrorKind::Corrupt, "{e}"),
    };
    let all = HistoryLimit { engagements: 9, messages: 9 };
    let e = store.histories(&tenant("t"), &[user("u1")], all, None).await.unwrap_err();
    assert_eq!(e.kind, ErrorKind::Corrupt, "{e}");
}

#[tokio::test]
async fn an_erased_user_leaves_no_bytes_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&dir.path().join("log.db")).await.unwrap();
    let record = |key: &str, text: &str| (key.to_owned(), Arc::<[u8]>::from(text.as_bytes()));
    let batch = [record("u", "secret of u"), record("v", "of v"), record("u", "another secret")];
    log.publish(&tenant("t"), &batch).await.unwrap();
    let mut source = log.source();
    let position = source.next(2, 1 << 20).await.unwrap().unwrap().position;
    source.commit(&position).await.unwrap();
    assert_eq!(
        log.forget(&[(tenant("t"), user("u")), (tenant("other"), user("v"))]).await.unwrap(),
        1,
        "what the worker has not done yet stays"
    );
    assert_eq!(log.lag().await.unwrap(), 1);
    let mut replay = log.replay("0").unwrap();
    let read = replay.next(99, 1 << 20).await.unwrap().unwrap();
    let texts: Vec<&[u8]> = read.records.iter().map(|r| &*r.bytes).collect();
    assert_eq!(texts, [b"of v".as_slice(), b"another secret"]);
    assert!(replay.next(99, 1 << 20).await.unwrap().is_none(), "a replay ends");
    assert_eq!(log.trim(0).await.unwrap(), 1);
    assert_eq!(source.next(99, 1 << 20).await.unwrap().unwrap().records.len(), 1);
}
