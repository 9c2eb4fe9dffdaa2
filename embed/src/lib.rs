//! Texts to unit vectors: tokenizing, models on the CPU and on accelerators, the queue before them, the registry of models.
//!
//! This crate knows models and nothing of stores, events or HTTP servers. What it hands out is always finite and of unit
//! length; it never prints, and it touches the network only where a model is pulled or a hosted service was configured.

pub mod bert;
pub mod command;
pub mod device;
pub mod error;
pub mod hosted;
pub mod kernels;
pub mod model;
pub mod open;
pub mod registry;
pub mod scheduler;
pub mod statics;
pub mod tokenize;

pub use device::DeviceKind;
pub use error::EmbedError;
pub use model::{EncodeStats, Encoder, TextModel};
pub use open::{Running, text_model};
pub use registry::{LocalModel, ModelStore};
pub use scheduler::{EngineHandle, LazyEmbedder, SchedulerConfig};
