//! A model in memory: its tokenizer, its weights, and what turns tokens into unit vectors.
//!
//! Everything here computes on the caller's thread; [`crate::scheduler`] is what keeps that away from async code.

use std::{sync::Arc, time::Instant};

use candle_core::Device;
use nearcast_domain::{Vector, ports::ModelInfo};

use crate::{
    EmbedError,
    bert::{BertConfig, TensorBert},
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

    /// How many threads may compute at once to advantage.
    fn threads(&self) -> usize;
}

/// A BERT-shaped sentence-transformers model.
pub struct Bert {
    info: ModelInfo,
    tokenizer: Tokenizer,
    pooling: Pooling,
    weights: TensorBert,
}

impl Bert {
    /// Reads a model of the registry for the CPU.
    pub fn load(local: &LocalModel) -> Result<Self, EmbedError> {
        Self::load_on(local, &Device::Cpu)
    }

    /// Reads a model onto a device of candle's.
    pub fn load_on(local: &LocalModel, device: &Device) -> Result<Self, EmbedError> {
        let config = BertConfig::read(&local.dir.join("config.json"))?;
        let tokenizer = Tokenizer::load(&local.dir.join("tokenizer.json"), local.spec.max_tokens, &local.spec.prefix)?;
        let weights = TensorBert::load(&local.dir.join("model.safetensors"), config, device)?;
        Ok(Self { info: local.info.clone(), tokenizer, pooling: local.spec.pooling, weights })
    }
}

impl TextModel for Bert {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenize(&self, text: &str, out: &mut Vec<u32>) -> Result<(), EmbedError> {
        self.tokenizer.encode(text, out)
    }

    fn encoder(self: Arc<Self>) -> Box<dyn Encoder> {
        Box::new(TensorEncoder(self))
    }

    fn batch_tokens(&self) -> usize {
        1024
    }

    fn threads(&self) -> usize {
        1
    }
}

struct TensorEncoder(Arc<Bert>);

impl Encoder for TensorEncoder {
    fn encode(&mut self, sequences: &[&[u32]], out: &mut Vec<f32>) -> Result<(), EmbedError> {
        *out = self.0.weights.forward(sequences, self.0.pooling)?;
        out.chunks_exact_mut(self.0.info.dimension).for_each(normalise);
        Ok(())
    }
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

/// Encodes many texts on all cores, outside any runtime: for commands and jobs of their own process. Calls `each` with the
/// vectors in the order of the texts.
pub fn encode_all(
    model: &Arc<dyn TextModel>,
    texts: &[Arc<str>],
    each: &mut dyn FnMut(usize, &[f32]),
) -> Result<EncodeStats, EmbedError> {
    let start = Instant::now();
    let mut sequences = Vec::with_capacity(texts.len());
    for text in texts {
        let mut ids = Vec::new();
        model.tokenize(text, &mut ids)?;
        sequences.push(ids);
    }
    let dimension = model.info().dimension;
    let mut encoder = Arc::clone(model).encoder();
    let mut out = Vec::new();
    let (mut tokens, mut from) = (0, 0);
    while from < sequences.len() {
        let (mut to, mut sum) = (from, 0);
        while to < sequences.len() && (to == from || sum + sequences[to].len() <= model.batch_tokens()) {
            sum += sequences[to].len();
            to += 1;
        }
        let batch = sequences[from..to].iter().map(Vec::as_slice).collect::<Vec<_>>();
        encoder.encode(&batch, &mut out)?;
        for (i, v) in out.chunks_exact(dimension).enumerate() {
            each(from + i, v);
        }
        tokens += sum as u64;
        from = to;
    }
    Ok(EncodeStats { texts: texts.len() as u64, tokens, seconds: start.elapsed().as_secs_f64() })
}

/// A vector as it is shared.
pub(crate) fn shared(v: &[f32]) -> Vector {
    Arc::from(v)
}
