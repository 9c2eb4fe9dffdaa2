//! The queue before the model: two classes, one computation a text, bounded, cancelled, shut down in order.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use nearcast_domain::{
    ErrorKind,
    ports::{Embedder as _, ModelInfo, Priority},
};
use nearcast_embed::{
    EmbedError, EngineHandle, SchedulerConfig,
    model::{Encoder, TextModel},
};

/// A model whose tokens are the text's bytes, that computes only when it is let.
struct Gated {
    info: ModelInfo,
    gate: Mutex<usize>,
    opened: Condvar,
    log: Mutex<Vec<Vec<Vec<u8>>>>,
    tokenized: AtomicUsize,
    waiting: AtomicUsize,
}

impl Gated {
    fn new(open: usize) -> Arc<Self> {
        Arc::new(Self {
            info: ModelInfo { name: "gated".into(), revision: "r".into(), dimension: 2 },
            gate: Mutex::new(open),
            opened: Condvar::new(),
            log: Mutex::default(),
            tokenized: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        })
    }

    fn open(&self, batches: usize) {
        *self.gate.lock().unwrap() += batches;
        self.opened.notify_all();
    }

    fn batches(&self) -> Vec<Vec<String>> {
        let text = |t: &Vec<u8>| String::from_utf8(t.clone()).unwrap();
        self.log.lock().unwrap().iter().map(|b| b.iter().map(text).collect()).collect()
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        for _ in 0..2000 {
            if what(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it never came to that");
    }
}

struct GatedEncoder(Arc<Gated>);

impl Encoder for GatedEncoder {
    fn encode(&mut self, sequences: &[&[u32]], out: &mut Vec<f32>) -> Result<(), EmbedError> {
        let model = &self.0;
        let mut gate = model.gate.lock().unwrap();
        model.waiting.fetch_add(1, Ordering::SeqCst);
        let passes = sequences[0][0] == u32::from(b'!');
        while *gate == 0 && !passes {
            gate = model.opened.wait(gate).unwrap();
        }
        *gate -= usize::from(!passes);
        drop(gate);
        out.clear();
        let mut texts = Vec::new();
        for s in sequences {
            let text = s.iter().map(|&b| b as u8).collect::<Vec<_>>();
            assert!(text != b"panic", "as asked");
            out.extend_from_slice(&[s.len() as f32, f32::from(text[0])]);
            texts.push(text);
        }
        model.log.lock().unwrap().push(texts);
        Ok(())
    }
}

impl TextModel for Gated {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenize(&self, text: &str, out: &mut Vec<u32>) -> Result<(), EmbedError> {
        self.tokenized.fetch_add(1, Ordering::SeqCst);
        out.extend(text.bytes().map(u32::from));
        Ok(())
    }

    fn encoder(self: Arc<Self>) -> Box<dyn Encoder> {
        Box::new(GatedEncoder(self))
    }

    fn batch_tokens(&self) -> usize {
        10
    }
}

fn start(model: &Arc<Gated>, config: SchedulerConfig) -> Arc<EngineHandle> {
    let model: Arc<dyn TextModel> = Arc::clone(model) as _;
    Arc::new(EngineHandle::start(model, config).unwrap())
}

fn one_thread() -> SchedulerConfig {
    SchedulerConfig { threads: 1, express: false, cache_entries: 0, ..SchedulerConfig::default() }
}

fn texts(list: &[&str]) -> Vec<Arc<str>> {
    list.iter().map(|t| Arc::from(*t)).collect()
}

fn ask(
    engine: &Arc<EngineHandle>,
    list: &[&str],
    priority: Priority,
) -> tokio::task::JoinHandle<Result<Vec<[f32; 2]>, ErrorKind>> {
    let (engine, texts) = (Arc::clone(engine), texts(list));
    tokio::spawn(async move {
        let vectors = engine.embed(&texts, priority).await.map_err(|e| e.kind)?;
        Ok(vectors.iter().map(|v| [v[0], v[1]]).collect())
    })
}

#[tokio::test]
async fn a_request_waits_for_one_batch_at_most() {
    let model = Gated::new(0);
    let engine = start(&model, one_thread());
    let bulk = ask(&engine, &["aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff"], Priority::Bulk);
    model.until(|m| m.waiting.load(Ordering::SeqCst) == 1).await;
    let query = ask(&engine, &["qqqq"], Priority::Query);
    tokio::time::sleep(Duration::from_millis(50)).await;
    model.open(100);
    assert_eq!(query.await.unwrap().unwrap(), [[4.0, f32::from(b'q')]]);
    let vectors = bulk.await.unwrap().unwrap();
    assert_eq!(vectors.iter().map(|v| v[1] as u8).collect::<Vec<_>>(), b"abcdef");
    let batches = model.batches();
    // Formed by tokens (ten, two texts of four each), and the request right after the batch that was under way.
    assert_eq!(batches[0], ["aaaa", "bbbb"]);
    assert_eq!(batches[1], ["qqqq"]);
    assert!(batches.iter().all(|b| b.iter().map(String::len).sum::<usize>() <= 10), "{batches:?}");
}

#[tokio::test]
async fn the_express_thread_waits_for_no_batch() {
    let model = Gated::new(0);
    let engine = start(&model, SchedulerConfig { express: true, ..one_thread() });
    let bulk = ask(&engine, &["aaaa", "!bulk text", "cccc"], Priority::Bulk);
    model.until(|m| m.waiting.load(Ordering::SeqCst) == 1).await;
    // The only common thread stands at the gate; requests are answered all the same, what is in bulk is not.
    for _ in 0..3 {
        assert_eq!(ask(&engine, &["!now"], Priority::Query).await.unwrap().unwrap()[0][0], 4.0);
    }
    assert!(!model.batches().concat().contains(&"!bulk text".to_owned()));
    model.open(100);
    assert_eq!(bulk.await.unwrap().unwrap().len(), 3);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_text_in_flight_is_computed_once_and_moves_up() {
    let model = Gated::new(0);
    let engine = start(&model, one_thread());
    let bulk = ask(&engine, &["first-long", "second-lon", "wanted", "wanted"], Priority::Bulk);
    model.until(|m| m.waiting.load(Ordering::SeqCst) == 1).await;
    let query = ask(&engine, &["wanted"], Priority::Query);
    tokio::time::sleep(Duration::from_millis(50)).await;
    model.open(100);
    assert_eq!(query.await.unwrap().unwrap()[0][0], 6.0);
    assert_eq!(bulk.await.unwrap().unwrap().len(), 4);
    let batches = model.batches();
    assert_eq!(batches[1], ["wanted"], "{batches:?}");
    assert_eq!(batches.concat().iter().filter(|t| *t == "wanted").count(), 1);
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_computed() {
    let model = Gated::new(0);
    let engine = start(&model, one_thread());
    let kept = ask(&engine, &["first-long"], Priority::Bulk);
    model.until(|m| m.waiting.load(Ordering::SeqCst) == 1).await;
    let left = ask(&engine, &["abandoned1", "abandoned2"], Priority::Bulk);
    let shared = ask(&engine, &["abandoned2"], Priority::Bulk);
    tokio::time::sleep(Duration::from_millis(50)).await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    model.open(100);
    kept.await.unwrap().unwrap();
    shared.await.unwrap().unwrap();
    let done = model.batches().concat();
    assert!(!done.contains(&"abandoned1".to_owned()), "{done:?}");
    assert!(done.contains(&"abandoned2".to_owned()), "someone else still waited for it");
}

#[tokio::test]
async fn callers_wait_while_the_queue_is_full() {
    let model = Gated::new(0);
    let engine = start(&model, SchedulerConfig { bulk_capacity: 4, ..one_thread() });
    let list = (0..50).map(|i| format!("text-{i:05}")).collect::<Vec<_>>();
    let bulk = ask(&engine, &list.iter().map(String::as_str).collect::<Vec<_>>(), Priority::Bulk);
    model.until(|m| m.waiting.load(Ordering::SeqCst) == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(model.tokenized.load(Ordering::SeqCst) <= 4);
    // A request is not kept out by what is full in bulk.
    let query = ask(&engine, &["q"], Priority::Query);
    model.open(1000);
    query.await.unwrap().unwrap();
    assert_eq!(bulk.await.unwrap().unwrap().len(), 50);
}

#[tokio::test]
async fn what_came_lately_comes_from_the_cache() {
    let model = Gated::new(1000);
    let engine = start(&model, SchedulerConfig { cache_entries: 100, ..one_thread() });
    for _ in 0..3 {
        ask(&engine, &["again", "and again"], Priority::Bulk).await.unwrap().unwrap();
    }
    assert_eq!(model.tokenized.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_panic_is_an_error_and_the_next_text_is_served() {
    let model = Gated::new(1000);
    let engine = start(&model, one_thread());
    assert_eq!(ask(&engine, &["panic"], Priority::Query).await.unwrap().unwrap_err(), ErrorKind::Unavailable);
    ask(&engine, &["calm"], Priority::Query).await.unwrap().unwrap();
}

#[tokio::test]
async fn shut_down_finishes_what_waits() {
    let model = Gated::new(0);
    let engine = start(&model, SchedulerConfig { threads: 2, ..one_thread() });
    let waiting = ask(&engine, &["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc", "dddddddddd"], Priority::Bulk);
    model.until(|m| m.waiting.load(Ordering::SeqCst) == 2).await;
    let ending = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.shutdown().await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(ask(&engine, &["late"], Priority::Query).await.unwrap().unwrap_err(), ErrorKind::Unavailable);
    model.open(100);
    assert_eq!(waiting.await.unwrap().unwrap().len(), 4);
    ending.await.unwrap();
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_tried_again() {
    let model = Gated::new(1000);
    let there = Arc::new(AtomicBool::new(false));
    let load = {
        let (model, there) = (Arc::clone(&model), Arc::clone(&there));
        move || -> Result<Arc<dyn TextModel>, EmbedError> {
            if there.load(Ordering::SeqCst) {
                Ok(Arc::clone(&model) as _)
            } else {
                Err(EmbedError::Missing { name: "gated".into() })
            }
        }
    };
    let engine = EngineHandle::lazy(model.info.clone(), load, one_thread()).unwrap();
    let error = engine.embed(&texts(&["a"]), Priority::Query).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("nearcast models pull gated"), "{error}");
    there.store(true, Ordering::SeqCst);
    assert_eq!(engine.embed(&texts(&["a"]), Priority::Query).await.unwrap().len(), 1);
}
