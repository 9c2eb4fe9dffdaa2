//! The forward of a BERT model on one thread: sequences packed one after another, no padding, no allocation once the working
//! memory has grown to the batch.
//!
//! What candle's tensor operations lose, this does not: no padding, products at twice the rate of `f32`
//! ([`crate::kernels::gemm_i16`]), weights packed once instead of at every product, GELU, softmax, norms and rounding vectorised
//! and a row at a time. `benches/peers/embedding` has the figures.
//!
//! Threads do not share a batch. Each takes one of its own, so nothing waits at a barrier, and what a batch needs stays in the
//! core's own cache.

use std::sync::Arc;

use super::cpu::{CpuBert, Norm, Packed};
use crate::{
    EmbedError,
    kernels::{
        Level,
        attention::{AttentionScratch, Head, attend},
        gemm_f32, gemm_i16,
        rows::{activate, add_norm, mean, round},
    },
    registry::Pooling,
};

/// Rows of the feed-forward part taken at once: its inner states then stay in the second-level cache.
const CHUNK: usize = 64;

/// Working memory of one thread, and the model.
pub struct Forward {
    model: Arc<CpuBert>,
    x: Vec<f32>,
    qkv: Vec<f32>,
    /// What attention or the feed-forward part adds.
    added: Vec<f32>,
    context: Vec<f32>,
    inner: Vec<f32>,
    rounder: Rounder,
    attention: AttentionScratch,
}

impl Forward {
    /// Working memory for one thread.
    pub fn new(model: Arc<CpuBert>) -> Self {
        let config = &model.config;
        let attention = AttentionScratch::new(config.head_size(), config.max_position_embeddings);
        let inner = vec![0.0; CHUNK * config.intermediate_size];
        Self {
            x: Vec::new(),
            qkv: Vec::new(),
            added: Vec::new(),
            context: Vec::new(),
            inner,
            rounder: Rounder { level: model.level, rows: Vec::new(), scales: Vec::new() },
            attention,
            model,
        }
    }

    /// The pooled vectors of these sequences (not normalised), one after another in `out`.
    pub fn run(&mut self, sequences: &[&[u32]], out: &mut Vec<f32>) -> Result<(), EmbedError> {
        let model = Arc::clone(&self.model);
        let width = model.config.hidden_size;
        let rows = sequences.iter().map(|s| s.len()).sum::<usize>();
        for (buffer, columns) in
            [(&mut self.x, width), (&mut self.qkv, 3 * width), (&mut self.added, width), (&mut self.context, width)]
        {
            buffer.resize(rows * columns, 0.0);
        }
        self.look_up(&model, sequences)?;
        for layer in &model.layers {
            self.rounder.product(&self.x, &layer.qkv, &mut self.qkv);
            self.attend(&model, sequences);
            self.rounder.product(&self.context, &layer.out, &mut self.added);
            normalise(&model, &mut self.x, &self.added, &layer.norm1);
            let inner = model.config.intermediate_size;
            for (x, added) in self.x.chunks_mut(CHUNK * width).zip(self.added.chunks_mut(CHUNK * width)) {
                let hidden = &mut self.inner[..x.len() / width * inner];
                self.rounder.product(x, &layer.up, hidden);
                activate(model.level, hidden, model.config.hidden_act);
                self.rounder.product(hidden, &layer.down, added);
                normalise(&model, x, added, &layer.norm2);
            }
        }
        out.clear();
        out.resize(sequences.len() * width, 0.0);
        let mut row = 0;
        for (sequence, out) in sequences.iter().zip(out.chunks_exact_mut(width)) {
            let states = &self.x[row * width..(row + sequence.len()) * width];
            match model.pooling {
                Pooling::Mean => mean(model.level, states, out),
                Pooling::Cls => out.copy_from_slice(&states[..width]),
            }
            row += sequence.len();
        }
        Ok(())
    }

    fn look_up(&mut self, model: &CpuBert, sequences: &[&[u32]]) -> Result<(), EmbedError> {
        let width = model.config.hidden_size;
        let mut rows = self.x.chunks_exact_mut(width).zip(self.added.chunks_exact_mut(width));
        for sequence in sequences {
            if sequence.is_empty() || sequence.len() > model.config.max_position_embeddings {
                return Err(EmbedError::Compute(format!("a sequence of {} tokens", sequence.len())));
            }
            for (place, &token) in sequence.iter().enumerate() {
                let word = model.words.get(token as usize * width..(token as usize + 1) * width);
                let (Some(word), Some((x, added))) = (word, rows.next()) else {
                    return Err(EmbedError::Compute(format!("token {token} is none of this model's")));
                };
                x.copy_from_slice(word);
                added.copy_from_slice(&model.places[place * width..][..width]);
            }
        }
        normalise(model, &mut self.x, &self.added, &model.norm);
        Ok(())
    }

    fn attend(&mut self, model: &CpuBert, sequences: &[&[u32]]) {
        let (width, size) = (model.config.hidden_size, model.config.head_size());
        let mut row = 0;
        for sequence in sequences {
            let end = row + sequence.len();
            let qkv = &self.qkv[row * 3 * width..end * 3 * width];
            let out = &mut self.context[row * width..end * width];
            for head in 0..model.config.num_attention_heads {
                attend(model.level, qkv, Head { width, first: head * size, size }, &mut self.attention, out);
            }
            row = end;
        }
    }
}

fn normalise(model: &CpuBert, x: &mut [f32], added: &[f32], norm: &Norm) {
    add_norm(model.level, x, added, &norm.weight, &norm.bias, model.config.layer_norm_eps as f32);
}

/// Products with packed weights, rounding first where the level takes them in 16 bits.
struct Rounder {
    level: Level,
    rows: Vec<i16>,
    scales: Vec<f32>,
}

impl Rounder {
    fn product(&mut self, a: &[f32], w: &Packed, out: &mut [f32]) {
        match w {
            Packed::F32(w) => gemm_f32::product(self.level, a, w, out),
            Packed::I16(w) => {
                let rows = a.len() / w.k;
                if self.rows.len() < rows * w.stride() {
                    self.rows.resize(rows * w.stride(), 0);
                }
                if self.scales.len() < rows {
                    self.scales.resize(rows, 0.0);
                }
                let (rounded, scales) = (&mut self.rows[..rows * w.stride()], &mut self.scales[..rows]);
                round(self.level, a, w.k, rounded, w.stride(), scales);
                gemm_i16::product(self.level, gemm_i16::Rounded { rows: rounded, scales }, w, 0..w.panels(), out);
            }
        }
    }
}
