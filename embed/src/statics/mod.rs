//! A model that is a table: one vector a token, a text their sum at unit length. Needs no network, no memory to speak of, and a
//! few microseconds a text.
//!
//! The one that is built in was distilled from all-MiniLM-L6-v2 by [`distill`] (how, and from which texts, stands beside it in
//! `embed/models/`). It knows words, not their order: good for taste, demonstrations and tests, and worse than MiniLM wherever
//! a sentence says more than its words.

pub mod corpus;
pub mod distill;
mod embedder;
mod file;
mod linear;
pub mod sts;

pub use distill::{DistillOptions, DistillReport, Step, distill};
pub use embedder::StaticEmbedder;
pub use file::{StaticHeader, StaticModel};
pub use sts::Pairs;

use std::sync::{Arc, OnceLock};

use crate::EmbedError;

/// The name of the model that is built in.
pub const BUILT_IN: &str = "static-minilm-152";

static BYTES: &[u8] = include_bytes!("../../models/static-minilm-152/model.ncstatic");

/// How large its file is.
pub(crate) const fn built_in_bytes() -> usize {
    BYTES.len()
}

/// The model that is built in. Unpacked at the first call.
pub fn built_in() -> Result<Arc<StaticModel>, EmbedError> {
    static MODEL: OnceLock<Arc<StaticModel>> = OnceLock::new();
    if let Some(model) = MODEL.get() {
        return Ok(Arc::clone(model));
    }
    let model = Arc::new(StaticModel::from_bytes(BYTES)?);
    Ok(Arc::clone(MODEL.get_or_init(|| model)))
}
