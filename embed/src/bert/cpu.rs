//! A BERT model laid out for a CPU: queries, keys and values in one matrix, weights packed for the processor's level.
//!
//! Read once, shared by all threads, never changed.

use std::path::Path;

use rayon::prelude::*;

use super::{config::BertConfig, weights::Weights};
use crate::{
    EmbedError,
    kernels::{Level, gemm_f32::PackedF32, gemm_i16::PackedI16},
    registry::Pooling,
};

/// A packed matrix of weights.
pub(crate) enum Packed {
    F32(PackedF32),
    I16(PackedI16),
}

impl Packed {
    fn new(level: Level, weights: &[f32], bias: &[f32], k: usize) -> Self {
        if level.has_i16() {
            Self::I16(PackedI16::pack(weights, bias, k))
        } else {
            Self::F32(PackedF32::pack(weights, bias, k))
        }
    }
}

pub(crate) struct Norm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

pub(crate) struct Layer {
    pub qkv: Packed,
    pub out: Packed,
    pub norm1: Norm,
    pub up: Packed,
    pub down: Packed,
    pub norm2: Norm,
}

/// A BERT model for a CPU.
pub struct CpuBert {
    pub(crate) config: BertConfig,
    pub(crate) level: Level,
    pub(crate) pooling: Pooling,
    /// A row a token.
    pub(crate) words: Vec<f32>,
    /// A row a place, the first segment's added.
    pub(crate) places: Vec<f32>,
    pub(crate) norm: Norm,
    pub(crate) layers: Vec<Layer>,
}

impl CpuBert {
    /// Reads and packs a `model.safetensors` for a level of processor.
    pub fn load(path: &Path, config: BertConfig, pooling: Pooling, level: Level) -> Result<Self, EmbedError> {
        let file = Weights::open(path)?;
        let width = config.hidden_size;
        let words = file.get("embeddings.word_embeddings.weight", &[config.vocab_size, width])?;
        let mut places = file.get("embeddings.position_embeddings.weight", &[config.max_position_embeddings, width])?;
        let segments = file.get("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, width])?;
        for row in places.chunks_exact_mut(width) {
            row.iter_mut().zip(&segments).for_each(|(p, s)| *p += s);
        }
        let norm = read_norm(&file, "embeddings.LayerNorm", width)?;
        let layers = (0..config.num_hidden_layers)
            .into_par_iter()
            .map(|i| read_layer(&file, &config, i, level))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { config, level, pooling, words, places, norm, layers })
    }
}

fn read_norm(file: &Weights, name: &str, width: usize) -> Result<Norm, EmbedError> {
    Ok(Norm { weight: file.get(&format!("{name}.weight"), &[width])?, bias: file.get(&format!("{name}.bias"), &[width])? })
}

fn read_layer(file: &Weights, config: &BertConfig, i: usize, level: Level) -> Result<Layer, EmbedError> {
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    let linear = |part: &str, n: usize, k: usize| -> Result<(Vec<f32>, Vec<f32>), EmbedError> {
        let name = format!("encoder.layer.{i}.{part}");
        Ok((file.get(&format!("{name}.weight"), &[n, k])?, file.get(&format!("{name}.bias"), &[n])?))
    };
    let packed = |part: &str, n: usize, k: usize| -> Result<Packed, EmbedError> {
        let (weight, bias) = linear(part, n, k)?;
        Ok(Packed::new(level, &weight, &bias, k))
    };
    let (mut weight, mut bias) = linear("attention.self.query", width, width)?;
    // The scale of the scores is a property of the queries.
    let scale = 1.0 / (config.head_size() as f32).sqrt();
    weight.iter_mut().chain(&mut bias).for_each(|w| *w *= scale);
    for part in ["attention.self.key", "attention.self.value"] {
        let (w, b) = linear(part, width, width)?;
        weight.extend(w);
        bias.extend(b);
    }
    Ok(Layer {
        qkv: Packed::new(level, &weight, &bias, width),
        out: packed("attention.output.dense", width, width)?,
        norm1: read_norm(file, &format!("encoder.layer.{i}.attention.output.LayerNorm"), width)?,
        up: packed("intermediate.dense", inner, width)?,
        down: packed("output.dense", width, inner)?,
        norm2: read_norm(file, &format!("encoder.layer.{i}.output.LayerNorm"), width)?,
    })
}
