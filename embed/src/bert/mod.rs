//! BERT encoders: one plain forward on candle's tensors (any device; the reference), one made for CPUs.
//!
//! Runs every BERT-shaped sentence-transformers model: mean or CLS pooling, any number of layers, heads and widths.

pub mod config;
pub mod cpu;
pub mod device;
pub mod forward;
pub mod tensor;
mod weights;

pub use config::{Activation, BertConfig};
pub use cpu::CpuBert;
pub use device::DeviceForward;
pub use forward::Forward;
pub use tensor::TensorBert;
