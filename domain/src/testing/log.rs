//! What every event log must do: a sink, a source over it, and the progress of the worker in between.

use std::{collections::BTreeSet, sync::Arc};

use super::events::tenant;
use crate::{
    ErrorKind, Tenant,
    ports::{EventSink, EventSource, Positions, Progress, Record, Token},
};

type Records = Vec<(String, Arc<[u8]>)>;

fn records(key: &str, texts: &[&str]) -> Records {
    texts.iter().map(|t| (key.to_owned(), t.as_bytes().into())).collect()
}

/// Reads until so many records have come; gives them and the last position.
async fn read_records(source: &mut dyn EventSource, number: usize) -> (Vec<Record>, String) {
    let (mut records, mut position) = (Vec::new(), String::new());
    while records.len() < number {
        let batch = source.next(64, 1 << 20).await.unwrap().unwrap();
        assert!(!batch.records.is_empty() && batch.claim.holds());
        records.extend(batch.records);
        position = batch.position;
    }
    (records, position)
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.bytes.to_vec()).unwrap()).collect()
}

/// The same, their texts.
async fn read(source: &mut dyn EventSource, number: usize) -> (Vec<String>, String) {
    let (records, position) = read_records(source, number).await;
    (texts(&records), position)
}

fn waits<T>(future: impl Future<Output = T>) -> impl Future<Output = bool> {
    let mut future = Box::pin(future);
    async move { std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await }
}

/// An empty log of one partition, a way to open a source from what was committed (once the source before is gone), and texts that
/// look like tokens of this log and are none.
pub async fn log<L: EventSink + Progress, S: EventSource>(log: &L, open: impl AsyncFn() -> S, bad_tokens: &[&str]) {
    let (t, other) = (tenant("t"), tenant("other"));
    let mut source = open().await;
    assert_eq!(log.lag().await.unwrap(), 0);
    let nothing = log.publish(&t, &[]).await.unwrap();
    log.reached(&nothing).await.unwrap();
    // In order, whole, with their tenants; oversized nothing.
    let first = log.publish(&t, &records("u", &["1", "2", "3"])).await.unwrap();
    let second = log.publish(&other, &records("v", &["4"])).await.unwrap();
    assert_eq!(log.lag().await.unwrap(), 4);
    let batch = source.next(2, 1 << 20).await.unwrap().unwrap();
    let had = batch.records.len();
    assert!((1..=2).contains(&had), "at most as many as asked for");
    assert_eq!((&*batch.records[0].bytes, &batch.records[0].tenant), (b"1".as_slice(), &t));
    let rest = read_records(&mut source, 4 - had).await;
    let origins: BTreeSet<&str> = batch.records.iter().chain(&rest.0).map(|r| &*r.origin).collect();
    assert_eq!(origins.len(), 4, "each says where it is from");
    assert_eq!(rest.0.last().unwrap().tenant, other);
    let (texts, position) = (texts(&rest.0), rest.1);
    assert_eq!(texts, ["1", "2", "3", "4"][had..]);
    // Reading is not doing: nothing counts before it is committed.
    assert_eq!(log.lag().await.unwrap(), 4);
    assert!(waits(log.reached(&first)).await);
    source.commit(&batch.position).await.unwrap();
    assert_eq!(log.lag().await.unwrap(), 4 - had as u64);
    assert!(waits(log.reached(&first)).await, "two of three are not all");
    let (reached, ()) = futures_join(log.reached(&first), async { source.commit(&position).await.unwrap() }).await;
    reached.unwrap();
    log.reached(&second).await.unwrap();
    log.reached(&first).await.unwrap();
    assert_eq!(log.lag().await.unwrap(), 0);
    // An older position takes nothing back.
    source.commit(&batch.position).await.unwrap();
    assert_eq!(log.lag().await.unwrap(), 0);
    for bad in ["", "nonsense", ":", "1"].iter().chain(bad_tokens) {
        assert_eq!(log.reached(&Token((*bad).into())).await.unwrap_err().kind, ErrorKind::Invalid, "{bad:?}");
    }
    assert_eq!(source.commit("nonsense").await.unwrap_err().kind, ErrorKind::Invalid);
    wakes_and_resumes(log, source, open, &t).await;
}

async fn wakes_and_resumes<L: EventSink + Progress, S: EventSource>(
    log: &L,
    mut source: S,
    open: impl AsyncFn() -> S,
    t: &Tenant,
) {
    // A source that has nothing waits, is woken by what is published, and loses nothing when it is dropped while waiting.
    assert!(waits(source.next(9, 1 << 20)).await);
    let (batch, token) = futures_join(source.next(9, 1 << 20), log.publish(t, &records("u", &["5"]))).await;
    assert_eq!(&*batch.unwrap().unwrap().records[0].bytes, b"5");
    log.publish(t, &records("u", &["6"])).await.unwrap();
    // What was read and not committed comes again to whoever opens the log after a crash.
    drop(source);
    let mut after_crash = open().await;
    let (texts, position) = read(&mut after_crash, 2).await;
    assert_eq!(texts, ["5", "6"]);
    after_crash.commit(&position).await.unwrap();
    log.reached(&token.unwrap()).await.unwrap();
    assert_eq!(log.lag().await.unwrap(), 0);
    // About as many bytes as asked for, but always one record.
    let big = "x".repeat(1000);
    let texts: Vec<&str> = std::iter::repeat_n(big.as_str(), 10).collect();
    log.publish(t, &records("u", &texts)).await.unwrap();
    let batch = after_crash.next(99, 10).await.unwrap().unwrap();
    assert_eq!(batch.records.len(), 1);
    let batch = after_crash.next(99, 3000).await.unwrap().unwrap();
    assert!((1..=4).contains(&batch.records.len()), "{}", batch.records.len());
    let left = 9 - batch.records.len();
    let (_, position) = read(&mut after_crash, left).await;
    after_crash.commit(&position).await.unwrap();
    assert_eq!(log.lag().await.unwrap(), 0);
}

/// Many publishers at once: each finds all of its records, in its own order, and each token is reached only behind them.
pub async fn log_concurrent<L: EventSink + Progress>(log: &L, source: &mut dyn EventSource) {
    const PUBLISHERS: usize = 40;
    let t = tenant("crowd");
    let publish = async |n: usize| {
        let texts: Vec<String> = (0..5).map(|i| format!("{n}/{i}")).collect();
        let list: Records = texts.iter().map(|x| (n.to_string(), x.as_bytes().into())).collect();
        log.publish(&t, &list).await.unwrap()
    };
    let tokens = join_all((0..PUBLISHERS).map(publish)).await;
    assert_eq!(tokens.len(), PUBLISHERS);
    let (texts, position) = read(source, PUBLISHERS * 5).await;
    assert_eq!(texts.len(), PUBLISHERS * 5);
    for n in 0..PUBLISHERS {
        let prefix = format!("{n}/");
        let own: Vec<&String> = texts.iter().filter(|x| x.starts_with(&prefix)).collect();
        assert_eq!(own, (0..5).map(|i| format!("{n}/{i}")).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    }
    for token in &tokens {
        assert!(waits(log.reached(token)).await);
    }
    source.commit(&position).await.unwrap();
    for token in &tokens {
        log.reached(token).await.unwrap();
    }
}

/// Positions: set, read, replaced, removed.
pub async fn positions(store: &dyn Positions) {
    assert_eq!(store.get("a").await.unwrap(), None);
    store.remove("a").await.unwrap();
    store.set("a", "1").await.unwrap();
    store.set("b \"'", "π").await.unwrap();
    store.set("a", "2").await.unwrap();
    assert_eq!(store.get("a").await.unwrap().as_deref(), Some("2"));
    assert_eq!(store.get("b \"'").await.unwrap().as_deref(), Some("π"));
    store.remove("a").await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), None);
}

/// Both at once, without a runtime of a particular kind.
async fn futures_join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    let (mut left, mut right) = (None, None);
    std::future::poll_fn(move |cx| {
        if left.is_none()
            && let std::task::Poll::Ready(value) = a.as_mut().poll(cx)
        {
            left = Some(value);
        }
        if right.is_none()
            && let std::task::Poll::Ready(value) = b.as_mut().poll(cx)
        {
            right = Some(value);
        }
        match (left.take(), right.take()) {
            (Some(l), Some(r)) => std::task::Poll::Ready((l, r)),
            (l, r) => {
                (left, right) = (l, r);
                std::task::Poll::Pending
            }
        }
    })
    .await
}

async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(move |cx| {
        for (future, value) in &mut futures {
            if value.is_none()
                && let std::task::Poll::Ready(v) = future.as_mut().poll(cx)
            {
                *value = Some(v);
            }
        }
        if futures.iter().all(|(_, v)| v.is_some()) {
            std::task::Poll::Ready(futures.iter_mut().filter_map(|(_, v)| v.take()).collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}
