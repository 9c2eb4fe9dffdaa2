//! What an operator sees of the queue: how much waits, how long it waited, by class, and what was given up.
//!
//! A binary of its own: the recorder is the process's.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use nearcast_domain::ports::{Embedder as _, ModelInfo, Priority};
use nearcast_embed::{
    EmbedError, EngineHandle, SchedulerConfig,
    model::{Encoder, TextModel},
};

/// One metric: its value, its highest, how often it was written.
#[derive(Default)]
struct Cell {
    value: AtomicU64,
    highest: AtomicU64,
    writes: AtomicU64,
}

impl Cell {
    fn set_to(&self, value: f64) {
        self.value.store(value.to_bits(), Ordering::SeqCst);
        self.highest.fetch_max(value as u64, Ordering::SeqCst);
        self.writes.fetch_add(1, Ordering::SeqCst);
    }
}

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        self.writes.fetch_add(value, Ordering::SeqCst);
    }
    fn absolute(&self, value: u64) {
        self.writes.store(value, Ordering::SeqCst);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, value: f64) {
        self.set_to(value);
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        self.set_to(value);
    }
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<String, Arc<Cell>>>>);

impl Seen {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels = key.labels().map(|l| format!(" {}={}", l.key(), l.value())).collect::<String>();
        Arc::clone(self.0.lock().unwrap().entry(format!("{}{labels}", key.name())).or_default())
    }

    fn named(&self, name: &str) -> Arc<Cell> {
        Arc::clone(self.0.lock().unwrap().entry(name.to_owned()).or_default())
    }
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

/// Computes nothing until the gate is opened.
struct Gated {
    info: ModelInfo,
    open: Mutex<bool>,
    opened: Condvar,
}

struct GatedEncoder(Arc<Gated>);

impl Encoder for GatedEncoder {
    fn encode(&mut self, sequences: &[&[u32]], out: &mut Vec<f32>) -> Result<(), EmbedError> {
        let mut open = self.0.open.lock().unwrap();
        while !*open {
            open = self.0.opened.wait(open).unwrap();
        }
        out.clear();
        out.resize(sequences.len() * 2, 1.0);
        Ok(())
    }
}

impl TextModel for Gated {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn tokenize(&self, text: &str, out: &mut Vec<u32>) -> Result<(), EmbedError> {
        out.extend(text.bytes().map(u32::from));
        Ok(())
    }
    fn encoder(self: Arc<Self>) -> Box<dyn Encoder> {
        Box::new(GatedEncoder(self))
    }
    fn batch_tokens(&self) -> usize {
        8
    }
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to that");
}

#[tokio::test]
async fn depth_wait_and_what_was_given_up() {
    let seen = Seen::default();
    metrics::set_global_recorder(seen.clone()).ok().unwrap();
    let info = ModelInfo { name: "gated".into(), revision: "r".into(), dimension: 2 };
    let model = Arc::new(Gated { info, open: Mutex::new(false), opened: Condvar::new() });
    let config = SchedulerConfig { threads: 1, express: false, cache_entries: 0, ..SchedulerConfig::default() };
    let engine = Arc::new(EngineHandle::start(Arc::clone(&model) as _, config).unwrap());
    let ask = |texts: Vec<Arc<str>>, priority| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.embed(&texts, priority).await.map(|v| v.len()) })
    };
    let depth = seen.named("nearcast_embed_queue_depth");
    let value = || f64::from_bits(depth.value.load(Ordering::SeqCst));
    let bulk = ask((0..20).map(|i| format!("bulk-{i:02}").into()).collect(), Priority::Bulk);
    until(|| value() == 20.0).await;
    let left = ask(vec!["abandon1".into(), "abandon2".into()], Priority::Bulk);
    let query = ask(vec!["query".into()], Priority::Query);
    until(|| value() == 23.0).await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    *model.open.lock().unwrap() = true;
    model.opened.notify_all();
    assert_eq!(query.await.unwrap().unwrap(), 1);
    assert_eq!(bulk.await.unwrap().unwrap(), 20);
    until(|| value() == 0.0).await;
    assert_eq!(depth.highest.load(Ordering::SeqCst), 23);
    let writes = |name: &str| seen.named(name).writes.load(Ordering::SeqCst);
    assert_eq!(writes("nearcast_embed_wait_seconds class=query"), 1);
    assert_eq!(writes("nearcast_embed_wait_seconds class=bulk"), 20);
    assert_eq!(writes("nearcast_embed_cancelled_total"), 2);
    assert_eq!(writes("nearcast_embed_texts_total"), 21);
    assert!(writes("nearcast_embed_batch_tokens") > 1);
    engine.shutdown().await;
}
