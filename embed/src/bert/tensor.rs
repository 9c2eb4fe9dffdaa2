//! The forward written plainly on candle's tensors: sequences padded to the longest, every step one tensor operation.
//!
//! It runs wherever candle does (the features `cuda` and `metal`), and on the CPU it is what the engine made for CPUs is
//! tested against. It must never be made clever.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor, safetensors::MmapedSafetensors};

use super::config::{Activation, BertConfig};
use crate::{EmbedError, registry::Pooling};

struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (b, t, k) = x.dims3()?;
        let y = x.reshape((b * t, k))?.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?;
        y.reshape((b, t, self.bias.dim(0)?))
    }
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let unit = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        unit.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm1: Norm,
    up: Linear,
    down: Linear,
    norm2: Norm,
}

/// A BERT model as tensors on a device.
pub struct TensorBert {
    config: BertConfig,
    device: Device,
    words: Tensor,
    positions: Tensor,
    segment: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

impl TensorBert {
    /// Reads the weights of a `model.safetensors` onto a device, as `f32`.
    pub fn load(path: &Path, config: BertConfig, device: &Device) -> Result<Self, EmbedError> {
        // SAFETY: the file is mapped only until its tensors were copied to the device, and files of the registry are never
        // written in place (they are replaced by renaming).
        let file = unsafe { MmapedSafetensors::new(path) }?;
        let names = file.tensors().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let prefix = prefix_of(names.iter().map(String::as_str));
        let get = |name: &str| file.load(&format!("{prefix}{name}"), device)?.to_dtype(DType::F32);
        let linear = |name: &str| -> candle_core::Result<Linear> {
            Ok(Linear { weight: get(&format!("{name}.weight"))?, bias: get(&format!("{name}.bias"))? })
        };
        let eps = config.layer_norm_eps;
        let norm = |name: &str| -> candle_core::Result<Norm> {
            Ok(Norm { weight: get(&format!("{name}.weight"))?, bias: get(&format!("{name}.bias"))?, eps })
        };
        let layer = |i: usize| -> candle_core::Result<Layer> {
            let at = |part: &str| format!("encoder.layer.{i}.{part}");
            Ok(Layer {
                query: linear(&at("attention.self.query"))?,
                key: linear(&at("attention.self.key"))?,
                value: linear(&at("attention.self.value"))?,
                out: linear(&at("attention.output.dense"))?,
                norm1: norm(&at("attention.output.LayerNorm"))?,
                up: linear(&at("intermediate.dense"))?,
                down: linear(&at("output.dense"))?,
                norm2: norm(&at("output.LayerNorm"))?,
            })
        };
        Ok(Self {
            words: get("embeddings.word_embeddings.weight")?,
            positions: get("embeddings.position_embeddings.weight")?,
            segment: get("embeddings.token_type_embeddings.weight")?.get(0)?,
            norm: norm("embeddings.LayerNorm")?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<candle_core::Result<_>>()?,
            device: device.clone(),
            config,
        })
    }

    /// The shape of the model.
    pub(crate) fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The pooled vectors of these sequences (not normalised), one after another. No sequence may be empty.
    pub fn forward(&self, sequences: &[&[u32]], pooling: Pooling) -> Result<Vec<f32>, EmbedError> {
        let (b, t) = (sequences.len(), sequences.iter().map(|s| s.len()).max().unwrap_or(0));
        if b == 0 || t == 0 {
            return Ok(Vec::new());
        }
        let mut ids = vec![0_u32; b * t];
        let mut mask = vec![0.0_f32; b * t];
        for (row, sequence) in sequences.iter().enumerate() {
            ids[row * t..][..sequence.len()].copy_from_slice(sequence);
            mask[row * t..][..sequence.len()].fill(1.0);
        }
        let mask = Tensor::from_vec(mask, (b, t), &self.device)?;
        let states = self.states(&Tensor::from_vec(ids, b * t, &self.device)?, &mask, b, t)?;
        let pooled = match pooling {
            Pooling::Cls => states.narrow(1, 0, 1)?.squeeze(1)?,
            Pooling::Mean => {
                let sum = states.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
                sum.broadcast_div(&mask.sum_keepdim(1)?)?
            }
        };
        Ok(pooled.flatten_all()?.to_vec1()?)
    }

    fn states(&self, ids: &Tensor, mask: &Tensor, b: usize, t: usize) -> candle_core::Result<Tensor> {
        let width = self.config.hidden_size;
        let words = self.words.index_select(ids, 0)?.reshape((b, t, width))?;
        let places = self.positions.narrow(0, 0, t)?.broadcast_add(&self.segment)?;
        let mut x = self.norm.forward(&words.broadcast_add(&places)?)?;
        // 0 where a token stands, a large negative number where none does.
        let shut = ((mask - 1.0)? * 1e9)?.reshape((b, 1, 1, t))?;
        for layer in &self.layers {
            let attended = layer.out.forward(&self.attention(layer, &x, &shut)?)?;
            x = layer.norm1.forward(&(x + attended)?)?;
            let hidden = layer.up.forward(&x)?;
            let hidden = match self.config.hidden_act {
                Activation::Gelu => hidden.gelu_erf()?,
                Activation::GeluNew => hidden.gelu()?,
                Activation::Relu => hidden.relu()?,
            };
            x = layer.norm2.forward(&(&x + layer.down.forward(&hidden)?)?)?;
        }
        Ok(x)
    }

    fn attention(&self, layer: &Layer, x: &Tensor, shut: &Tensor) -> candle_core::Result<Tensor> {
        let (b, t, width) = x.dims3()?;
        let (heads, size) = (self.config.num_attention_heads, self.config.head_size());
        let split = |y: Tensor| y.reshape((b, t, heads, size))?.transpose(1, 2)?.contiguous();
        let q = split(layer.query.forward(x)?)?;
        let k = split(layer.key.forward(x)?)?;
        let v = split(layer.value.forward(x)?)?;
        let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? / (size as f64).sqrt())?.broadcast_add(shut)?;
        let shares = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let shares = shares.broadcast_div(&shares.sum_keepdim(D::Minus1)?)?;
        shares.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((b, t, width))
    }
}

/// What stands before `embeddings.` in the names of a file's tensors.
pub(crate) fn prefix_of<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    const WORDS: &str = "embeddings.word_embeddings.weight";
    names.find_map(|n| n.strip_suffix(WORDS)).unwrap_or_default().to_owned()
}
