//! A model in memory: its tokenizer, its weights, and what turns tokens into unit vectors.
//!
//! Everything here computes on the caller's thread; [`crate::scheduler`] is what keeps that away from async code.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Instant,
};

use candle_core::Device;
use nearcast_domain::{Vector, ports::ModelInfo};

use crate::{
    EmbedError,
    bert::{BertConfig, CpuBert, DeviceForward, Forward, TensorBert, device},
    kernels::Level,
    registry::{LocalModel, Pooling},
    tokenize::Tokenizer,
};

/// Something that turns tokens into vectors, with working memory of its own. One a thread.
pub trait Encoder: Send {
    /// The unit vectors of these sequences, one after another in `out` (which is emptied first). No sequence is empty.
    fn encode(&mut self, sequences: &[&[u32]], out: &mut Vec<f32>) -> Result<(), EmbedError>;
}

/// A model that any number of threads use at once.
pub trait TextModel: Send + Sync {
    /// Name, revision, dimension.
    fn info(&self) -> &ModelInfo;

    /// Puts the tokens of a text, cut to the model's length, behind those in `out`.
    fn tokenize(&self, text: &str, out: &mut Vec<u32>) -> Result<(), EmbedError>;

    /// Working memory for one more thread.
    fn encoder(self: Arc<Self>) -> Box<dyn Encoder>;

    /// How many tokens one call of an encoder should hold: as few as keep the processor busy.
    fn batch_tokens(&self) -> usize;
}

/// A BERT-shaped sentence-transformers model.
pub struct Bert {
    info: ModelInfo,
    tokenizer: Tokenizer,
    max_tokens: usize,
    engine: Engine,
}

enum Engine {
    Cpu(Arc<CpuBert>),
    Device { weights: Arc<TensorBert>, pooling: Pooling },
}

impl Bert {
    /// Reads a model of the registry for this machine's processor.
    pub fn load(local: &LocalModel) -> Result<Self, EmbedError> {
        Self::load_at(local, Level::detect())
    }

    /// Reads a model for a level of processor.
    pub fn load_at(local: &LocalModel, level: Level) -> Result<Self, EmbedError> {
        let (config, weights) = (read_config(local)?, local.dir.join("model.safetensors"));
        let engine = Engine::Cpu(Arc::new(CpuBert::load(&weights, config, local.spec.pooling, level)?));
        Ok(Self { info: local.info.clone(), tokenizer: read_tokenizer(local)?, max_tokens: local.spec.max_tokens, engine })
    }

    /// Reads a model onto a device of candle's: an accelerator, with the features `cuda` or `metal`.
    pub fn load_on(local: &LocalModel, device: &Device) -> Result<Self, EmbedError> {
        let weights = TensorBert::load(&local.dir.join("model.safetensors"), read_config(local)?, device)?;
        let engine = Engine::Device { weights: Arc::new(weights), pooling: local.spec.pooling };
        Ok(Self { info: local.info.clone(), tokenizer: read_tokenizer(local)?, max_tokens: local.spec.max_tokens, engine })
    }
}

fn read_config(local: &LocalModel) -> Result<BertConfig, EmbedError> {
    BertConfig::read(&local.dir.join("config.json"))
}

fn read_tokenizer(local: &LocalModel) -> Result<Tokenizer, EmbedError> {
    let tokenizer = Tokenizer::load(&local.dir.join("tokenizer.json"), local.spec.max_tokens, &local.spec.prefix)?;
    Ok(tokenizer.with_windows(local.spec.windows))
}

impl TextModel for Bert {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenize(&self, text: &str, out: &mut Vec<u32>) -> Result<(), EmbedError> {
        self.tokenizer.encode(text, out)
    }

    fn encoder(self: Arc<Self>) -> Box<dyn Encoder> {
        let engine = match &self.engine {
            Engine::Cpu(model) => Computing::Cpu(Box::new(Forward::new(Arc::clone(model)))),
            Engine::Device { weights, pooling } => {
                Computing::Device(DeviceForward::new(Arc::clone(weights), *pooling, device::BATCH_TOKENS))
            }
        };
        Box::new(BertEncoder { dimension: self.info.dimension, max_tokens: self.max_tokens, engine })
    }

    fn batch_tokens(&self) -> usize {
        match self.engine {
            // As many as the second-level cache of a core holds with what belongs to them; half or twice as many are within
            // a few per cent as quick, and a request waits for no more than these.
            Engine::Cpu(_) => 256,
            Engine::Device { .. } => device::BATCH_TOKENS,
        }
    }
}

struct BertEncoder {
    dimension: usize,
    max_tokens: usize,
    engine: Computing,
}

enum Computing {
    Cpu(Box<Forward>),
    Device(DeviceForward),
}

impl Computing {
    fn run(&mut self, sequences: &[&[u32]], out: &mut Vec<f32>) -> Result<(), EmbedError> {
        match self {
            Self::Cpu(forward) => forward.run(sequences, out),
            Self::Device(forward) => forward.run(sequences, out),
        }
    }
}

impl Encoder for BertEncoder {
    fn encode(&mut self, sequences: &[&[u32]], out: &mut Vec<f32>) -> Result<(), EmbedError> {
        if sequences.iter().all(|s| s.len() <= self.max_tokens) {
            self.engine.run(sequences, out)?;
        } else {
            let windows = sequences.iter().flat_map(|s| s.chunks(self.max_tokens)).collect::<Vec<_>>();
            self.engine.run(&windows, out)?;
            average(sequences, self.max_tokens, self.dimension, out);
        }
        out.chunks_exact_mut(self.dimension).for_each(normalise);
        Ok(())
    }
}

/// Brings the vectors of windows together, text by text: each window's at unit length, weighted by its tokens.
fn average(sequences: &[&[u32]], window: usize, dimension: usize, vectors: &mut Vec<f32>) {
    let mut at = 0;
    for (i, sequence) in sequences.iter().enumerate() {
        let mut sum = vec![0.0; dimension];
        for part in sequence.chunks(window) {
            let v = &mut vectors[at * dimension..][..dimension];
            normalise(v);
            sum.iter_mut().zip(&*v).for_each(|(s, x)| *s += x * part.len() as f32);
            at += 1;
        }
        // What stands at `i` was read before: a text has at least one window.
        vectors[i * dimension..][..dimension].copy_from_slice(&sum);
    }
    vectors.truncate(sequences.len() * dimension);
}

/// Brings a vector to unit length. One without direction, which no text should give, becomes the first axis.
pub(crate) fn normalise(v: &mut [f32]) {
    let norm = v.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if norm.is_finite() && norm > 1e-12 {
        let scale = 1.0 / norm;
        v.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
    } else {
        v.fill(0.0);
        if let Some(first) = v.first_mut() {
            *first = 1.0;
        }
    }
}

/// What an encoding took.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct EncodeStats {
    /// Texts encoded.
    pub texts: u64,
    /// Their tokens, the special ones included.
    pub tokens: u64,
    /// Seconds, without loading the model.
    pub seconds: f64,
}

/// Encodes many texts on `threads` threads, outside any runtime: for commands and jobs of their own process. Tokenizing is
/// part of it. `each` gets the vectors in the order of the texts.
pub fn encode_all(
    model: &Arc<dyn TextModel>,
    texts: &[Arc<str>],
    threads: usize,
    each: &mut dyn FnMut(usize, &[f32]),
) -> Result<EncodeStats, EmbedError> {
    let start = Instant::now();
    let dimension = model.info().dimension;
    let groups = groups(texts, model.batch_tokens());
    let next = AtomicUsize::new(0);
    let mut tokens = 0;
    let (send, receive) = mpsc::sync_channel(4 * threads.max(1));
    std::thread::scope(|scope| -> Result<(), EmbedError> {
        for _ in 0..threads.max(1) {
            let (send, next, groups) = (send.clone(), &next, &groups);
            scope.spawn(move || {
                let mut worker = GroupEncoder::new(Arc::clone(model));
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(group) = groups.get(i) else { return };
                    // A receiver that is gone has met an error: there is nothing left to do.
                    if send.send((i, worker.encode(&texts[group.clone()]))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (i, result) in receive {
            early.insert(i, result?);
            while let Some((n, vectors)) = early.remove(&due) {
                tokens += n;
                for (j, v) in vectors.chunks_exact(dimension).enumerate() {
                    each(groups[due].start + j, v);
                }
                due += 1;
            }
        }
        Ok(())
    })?;
    Ok(EncodeStats { texts: texts.len() as u64, tokens, seconds: start.elapsed().as_secs_f64() })
}

/// Runs of texts that a thread takes at once: about as many tokens as make a batch, judged by their bytes.
fn groups(texts: &[Arc<str>], tokens: usize) -> Vec<Range<usize>> {
    const BYTES_A_TOKEN: usize = 4;
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (i, text) in texts.iter().enumerate() {
        bytes += text.len().min(tokens * BYTES_A_TOKEN) + 2 * BYTES_A_TOKEN;
        if bytes >= tokens * BYTES_A_TOKEN {
            groups.push(start..i + 1);
            (start, bytes) = (i + 1, 0);
        }
    }
    if start < texts.len() {
        groups.push(start..texts.len());
    }
    groups
}

struct GroupEncoder {
    budget: usize,
    encoder: Box<dyn Encoder>,
    model: Arc<dyn TextModel>,
    output: Vec<f32>,
}

impl GroupEncoder {
    fn new(model: Arc<dyn TextModel>) -> Self {
        let encoder = Arc::clone(&model).encoder();
        // A group that turns out somewhat longer than it was judged is better done at once.
        Self { budget: model.batch_tokens() * 3 / 2, encoder, model, output: Vec::new() }
    }

    /// How many tokens, and the vectors.
    fn encode(&mut self, texts: &[Arc<str>]) -> Result<(u64, Vec<f32>), EmbedError> {
        let mut tokens = Vec::new();
        let mut ends = Vec::with_capacity(texts.len());
        for text in texts {
            self.model.tokenize(text, &mut tokens)?;
            ends.push(tokens.len());
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let sequences = starts.zip(&ends).map(|(from, &to)| &tokens[from..to]).collect::<Vec<_>>();
        let mut vectors = Vec::with_capacity(texts.len() * self.model.info().dimension);
        let mut rest = sequences.as_slice();
        while !rest.is_empty() {
            let mut sum = 0;
            let fit = rest.iter().take_while(|s| {
                sum += s.len();
                sum <= self.budget
            });
            let (batch, later) = rest.split_at(fit.count().max(1));
            self.encoder.encode(batch, &mut self.output)?;
            vectors.extend_from_slice(&self.output);
            rest = later;
        }
        Ok((tokens.len() as u64, vectors))
    }
}

/// A vector as it is shared.
pub(crate) fn shared(v: &[f32]) -> Vector {
    Arc::from(v)
}
