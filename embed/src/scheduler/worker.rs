//! One thread of the model: takes what is next, tokenizes or encodes it, answers.
//!
//! A panic in the model answers that batch with an error and leaves the thread running.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult, ports::ModelInfo};

use super::queue::{Key, Queue, Work};
use crate::{
    EmbedError,
    model::{Encoder, TextModel, shared},
};

type Load = Box<dyn Fn() -> Result<Arc<dyn TextModel>, EmbedError> + Send + Sync>;

/// Loads the model once, when it is first needed.
pub(crate) struct Loader {
    info: ModelInfo,
    load: Load,
    model: Mutex<Option<Arc<dyn TextModel>>>,
}

impl Loader {
    pub fn new(info: ModelInfo, load: Load) -> Self {
        Self { info, load, model: Mutex::new(None) }
    }

    fn get(&self) -> StoreResult<Arc<dyn TextModel>> {
        let mut slot = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = &*slot {
            return Ok(Arc::clone(model));
        }
        let model = (self.load)()?;
        if *model.info() != self.info {
            let message = format!("{} was promised, {} was found; start again", self.info.label(), model.info().label());
            return Err(StoreError::new(ErrorKind::Corrupt, "embedder", message));
        }
        tracing::info!(model = %self.info.label(), "the model is in memory");
        *slot = Some(Arc::clone(&model));
        Ok(model)
    }
}

/// One thread's work.
pub(crate) struct Worker {
    queue: Arc<Queue>,
    loader: Arc<Loader>,
    batch_tokens: Option<usize>,
    express: bool,
    output: Vec<f32>,
}

impl Worker {
    /// An `express` worker takes only what requests wait for.
    pub fn new(queue: Arc<Queue>, loader: Arc<Loader>, batch_tokens: Option<usize>, express: bool) -> Self {
        Self { queue, loader, batch_tokens, express, output: Vec::new() }
    }

    /// Until the queue is closed and empty.
    pub fn run(mut self) {
        let mut loaded: Option<(Arc<dyn TextModel>, Box<dyn Encoder>)> = None;
        loop {
            let budget = self.batch_tokens.or_else(|| loaded.as_ref().map(|(m, _)| m.batch_tokens())).unwrap_or(256);
            let work = self.queue.next(budget, self.express);
            if let Work::Stop = work {
                return;
            }
            let (model, encoder) = match &mut loaded {
                Some((model, encoder)) => (model, encoder),
                None => match self.loader.get() {
                    Ok(model) => {
                        let encoder = Arc::clone(&model).encoder();
                        let (model, encoder) = loaded.insert((model, encoder));
                        (model, encoder)
                    }
                    Err(e) => {
                        tracing::error!(error = %e, "the model could not be loaded");
                        self.queue.fail_all(&e);
                        continue;
                    }
                },
            };
            let survived = match work {
                Work::Tokenize(texts) => self.tokenize(&**model, texts),
                Work::Encode(batch) => self.encode(model.info().dimension, &mut **encoder, &batch),
                Work::Stop => return,
            };
            if !survived {
                // What the panic left in the working memory is not to be trusted.
                loaded = None;
            }
        }
    }

    fn tokenize(&self, model: &dyn TextModel, texts: Vec<(Key, Arc<str>)>) -> bool {
        let mut done = Vec::with_capacity(texts.len());
        let mut survived = true;
        for (key, text) in texts {
            let mut tokens = Vec::new();
            match guarded(|| model.tokenize(&text, &mut tokens)) {
                Ok(Ok(())) => done.push((key, tokens)),
                Ok(Err(e)) => self.queue.answer(&key, &Err(e.into())),
                Err(e) => {
                    survived = false;
                    self.queue.answer(&key, &Err(e));
                }
            }
        }
        self.queue.tokenized(done);
        survived
    }

    fn encode(&mut self, dimension: usize, encoder: &mut dyn Encoder, batch: &[(Key, Vec<u32>)]) -> bool {
        let sequences = batch.iter().map(|(_, tokens)| tokens.as_slice()).collect::<Vec<_>>();
        let output = &mut self.output;
        let (result, survived) = match guarded(|| encoder.encode(&sequences, output)) {
            Ok(done) => (done.map_err(StoreError::from), true),
            Err(e) => (Err(e), false),
        };
        match result {
            Ok(()) => {
                metrics::counter!("nearcast_embed_texts_total").increment(batch.len() as u64);
                let tokens = sequences.iter().map(|s| s.len() as u64).sum();
                metrics::counter!("nearcast_embed_tokens_total").increment(tokens);
                for ((key, _), vector) in batch.iter().zip(self.output.chunks_exact(dimension)) {
                    self.queue.answer(key, &Ok(shared(vector)));
                }
            }
            Err(e) => batch.iter().for_each(|(key, _)| self.queue.answer(key, &Err(e.clone()))),
        }
        survived
    }
}

fn guarded<T>(work: impl FnOnce() -> T) -> StoreResult<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let what = panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
        let message = format!("the model panicked: {}", what.unwrap_or_default());
        tracing::error!("{message}");
        StoreError::new(ErrorKind::Unavailable, "embedder", message)
    })
}
