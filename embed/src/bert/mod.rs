//! BERT encoders: one plain forward on candle's tensors (any device; the reference), one made for CPUs.
//!
//! Runs every BERT-shaped sentence-transformers model: mean or CLS pooling, any number of layers, heads and widths.

pub mod config;
pub mod tensor;

pub use config::{Activation, BertConfig};
pub use tensor::TensorBert;
