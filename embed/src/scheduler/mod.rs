//! The model on threads of its own behind a bounded queue.
//!
//! - Two classes: whatever a request waits for goes before everything in bulk, and one thread more than there are cores is
//!   kept for it, so that it need not even wait for the batches that are under way: the system shares the cores out.
//! - Every thread takes a batch of its own, formed by tokens, as soon as it is free; there is no barrier between threads.
//! - The same text in flight twice is computed once; vectors made lately come from a cache.
//! - A text whose caller has gone is not computed. Callers wait while the queue is full; memory does not grow.
//!
//! It must never reorder a caller's answers, and never compute on a caller's thread.

mod queue;
mod worker;

use std::{
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Vector,
    ports::{Embedder, ModelInfo, Priority},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, oneshot};

use self::{
    queue::{Key, Queue, Waiter},
    worker::{Loader, Worker},
};
use crate::{
    DeviceKind, EmbedError,
    model::TextModel,
    open::{Running, text_model},
    registry::ModelStore,
};

/// How much may wait, and on how many threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Threads that compute. Default: one a core.
    pub threads: usize,
    /// Whether one more thread is kept for requests. Without it, a request waits for the first batch that ends.
    pub express: bool,
    /// Texts of ingestion and jobs that may wait before callers do.
    pub bulk_capacity: usize,
    /// Texts of requests that may wait before callers do.
    pub query_capacity: usize,
    /// Vectors kept for texts that come again; 0 keeps none.
    pub cache_entries: u64,
    /// Tokens in a batch. Default: what suits the model.
    pub batch_tokens: Option<usize>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()).min(64),
            express: true,
            bulk_capacity: 2048,
            query_capacity: 512,
            cache_entries: 16_384,
            batch_tokens: None,
        }
    }
}

/// A model that is loaded when the first text comes.
pub type LazyEmbedder = EngineHandle;

/// A model behind its queue: the [`Embedder`] that everything else is given.
pub struct EngineHandle {
    info: ModelInfo,
    queue: Arc<Queue>,
    bulk: Arc<Semaphore>,
    query: Arc<Semaphore>,
    cache: Option<moka::future::Cache<Key, Vector>>,
    seed: Sha256,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl EngineHandle {
    /// A model that is in memory already.
    pub fn start(model: Arc<dyn TextModel>, config: SchedulerConfig) -> Result<Self, EmbedError> {
        let info = model.info().clone();
        Self::lazy(info, move || Ok(Arc::clone(&model)), config)
    }

    /// A model that `load` reads when the first text comes. Where that fails, the texts waiting fail with it, and the next
    /// text tries again. What is loaded must be what `info` promised.
    pub fn lazy(
        info: ModelInfo,
        load: impl Fn() -> Result<Arc<dyn TextModel>, EmbedError> + Send + Sync + 'static,
        config: SchedulerConfig,
    ) -> Result<Self, EmbedError> {
        let queue = Arc::new(Queue::default());
        let loader = Arc::new(Loader::new(info.clone(), Box::new(load)));
        let mut threads = Vec::new();
        let common = config.threads.max(1);
        for i in 0..common + usize::from(config.express) {
            let worker = Worker::new(Arc::clone(&queue), Arc::clone(&loader), config.batch_tokens, i == common);
            let thread = std::thread::Builder::new()
                .name(format!("embed-{i}"))
                .spawn(move || worker.run())
                .map_err(|e| EmbedError::Compute(format!("no thread could be started: {e}")))?;
            threads.push(thread);
        }
        let mut seed = Sha256::new();
        seed.update(info.revision.as_bytes());
        seed.update([0]);
        Ok(Self {
            queue,
            bulk: Arc::new(Semaphore::new(config.bulk_capacity.max(1))),
            query: Arc::new(Semaphore::new(config.query_capacity.max(1))),
            cache: (config.cache_entries > 0).then(|| moka::future::Cache::new(config.cache_entries)),
            seed,
            threads: Mutex::new(threads),
            info,
        })
    }

    /// A model of the registry, by name or directory. Its weights are read when the first text comes; that its files are
    /// there is not required before.
    pub fn of_store(store: Arc<ModelStore>, name: &str, config: SchedulerConfig) -> Result<Self, EmbedError> {
        Self::of_store_running(store, name, Running::default(), config)
    }

    /// The same with long texts read in windows, or on an accelerator: one thread feeds it then, since it takes large batches
    /// one at a time.
    pub fn of_store_running(
        store: Arc<ModelStore>,
        name: &str,
        running: Running,
        mut config: SchedulerConfig,
    ) -> Result<Self, EmbedError> {
        let info = running.info(&store, name)?;
        let name = name.to_owned();
        if running.device != DeviceKind::Cpu && running.device.compiled() {
            config.threads = 1;
        }
        Self::lazy(info, move || text_model(&store, &name, running), config)
    }

    /// Takes no more texts, finishes those waiting, and returns when the threads have ended.
    pub async fn shutdown(&self) {
        self.queue.close(false);
        let threads = self.threads.lock().map(|mut t| std::mem::take(&mut *t)).unwrap_or_default();
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of the model ended by a panic");
                }
            }
        });
        if joined.await.is_err() {
            tracing::error!("waiting for the model's threads failed");
        }
    }

    fn key(&self, text: &str) -> Key {
        let mut h = self.seed.clone();
        h.update(text.as_bytes());
        let mut key = Key::default();
        key.copy_from_slice(&h.finalize()[..size_of::<Key>()]);
        key
    }
}

enum Slot {
    Known(Vector),
    Waiting { answer: oneshot::Receiver<StoreResult<Vector>>, keep_as: Option<Key> },
}

#[async_trait]
impl Embedder for EngineHandle {
    async fn embed(&self, texts: &[Arc<str>], priority: Priority) -> StoreResult<Vec<Vector>> {
        let permits = match priority {
            Priority::Query => &self.query,
            Priority::Bulk => &self.bulk,
        };
        let mut slots = Vec::with_capacity(texts.len());
        let mut hits = 0_u64;
        for text in texts {
            let key = self.key(text);
            if let Some(cache) = &self.cache
                && let Some(vector) = cache.get(&key).await
            {
                hits += 1;
                slots.push(Slot::Known(vector));
                continue;
            }
            let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| gone())?;
            let (reply, answer) = oneshot::channel();
            let first = self.queue.submit(key, text, priority, Waiter { reply, _permit: permit })?;
            slots.push(Slot::Waiting { answer, keep_as: first.then_some(key) });
        }
        metrics::counter!("nearcast_embed_cache_hits_total").increment(hits);
        let mut vectors = Vec::with_capacity(slots.len());
        for slot in slots {
            vectors.push(match slot {
                Slot::Known(vector) => vector,
                Slot::Waiting { answer, keep_as } => {
                    let vector = answer.await.map_err(|_| gone())??;
                    if let (Some(cache), Some(key)) = (&self.cache, keep_as) {
                        cache.insert(key, Arc::clone(&vector)).await;
                    }
                    vector
                }
            });
        }
        Ok(vectors)
    }

    fn model(&self) -> &ModelInfo {
        &self.info
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        // Nobody is left who could wait for an answer: the threads end after the batch they are at.
        self.queue.close(true);
    }
}

fn gone() -> StoreError {
    StoreError::new(ErrorKind::Unavailable, "embedder", "the model was shut down")
}
