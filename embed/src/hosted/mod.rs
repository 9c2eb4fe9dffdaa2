//! Vectors from a service: OpenAI-compatible, Cohere, or text-embeddings-inference.
//!
//! Texts go out in batches, within the service's limits of requests and tokens a minute; what fails for now is tried again,
//! as late as the service asks. Nothing is lost and nothing reordered: a call gives every vector in the order asked, or an
//! error. The key is read from the environment or a file, and no log, error or metric ever carries it.

pub mod api;
mod breaker;
mod config;
mod embedder;
mod limiter;

pub use api::Api;
pub use config::{HostedConfig, KeySource, Secret};
pub use embedder::HostedEmbedder;
