//! The shape of a BERT model, read from its `config.json`. Refuses what no forward here computes.

use std::path::Path;

use serde::Deserialize;

use crate::EmbedError;

/// What stands between the two products of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·Φ(x), exactly.
    Gelu,
    /// The tanh form of it.
    #[serde(alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// max(x, 0).
    Relu,
}

/// The shape of the model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BertConfig {
    /// Tokens known.
    pub vocab_size: usize,
    /// Width of a token's state; the length of the vectors.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of attention a layer.
    pub num_attention_heads: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Kinds of segments; only the first is used.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Added to the variance.
    #[serde(default = "tiny")]
    pub layer_norm_eps: f64,
    /// The activation.
    #[serde(default = "gelu")]
    pub hidden_act: Activation,
    /// `bert` or nothing.
    #[serde(default)]
    pub model_type: Option<String>,
    /// `absolute` or nothing.
    #[serde(default)]
    pub position_embedding_type: Option<String>,
}

const fn two() -> usize {
    2
}
const fn tiny() -> f64 {
    1e-12
}
const fn gelu() -> Activation {
    Activation::Gelu
}

impl BertConfig {
    /// Reads and checks a `config.json`.
    pub fn read(path: &Path) -> Result<Self, EmbedError> {
        let bytes = std::fs::read(path).map_err(|e| EmbedError::io(path, e))?;
        let config: Self =
            serde_json::from_slice(&bytes).map_err(|e| EmbedError::Unsupported(format!("{}: {e}", path.display())))?;
        config.validate()?;
        Ok(config)
    }

    /// Refuses what cannot be computed.
    pub fn validate(&self) -> Result<(), EmbedError> {
        let refuse = |what: String| Err(EmbedError::Unsupported(what));
        if self.model_type.as_deref().is_some_and(|t| t != "bert") {
            return refuse(format!("model_type is {:?}, only `bert` is run", self.model_type));
        }
        if self.position_embedding_type.as_deref().is_some_and(|t| t != "absolute") {
            return refuse(format!("position_embedding_type is {:?}, only `absolute` is run", self.position_embedding_type));
        }
        let sizes = [
            self.vocab_size,
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.intermediate_size,
            self.max_position_embeddings,
            self.type_vocab_size,
        ];
        if sizes.contains(&0) || sizes.iter().any(|&s| s > 1 << 24) {
            return refuse("a size in config.json is 0 or beyond reason".into());
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return refuse(format!("{} heads do not divide a width of {}", self.num_attention_heads, self.hidden_size));
        }
        Ok(())
    }

    /// The width of one head.
    pub const fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}
