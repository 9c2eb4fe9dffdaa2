//! An embedder for tests that are not about embedding: each word gets a fixed random direction, a text their mean.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    StoreResult, Vector,
    ports::{Embedder, ModelInfo, Priority},
    profile::unit,
};

/// Hashed words. Texts that share words are near each other.
pub struct WordEmbedder(ModelInfo);

impl WordEmbedder {
    pub fn new(dimension: usize) -> Self {
        Self(ModelInfo { name: "words".into(), revision: format!("words-{dimension}"), dimension })
    }

    pub fn vector(&self, text: &str) -> Vector {
        let mut sum = vec![0.0; self.0.dimension];
        for word in std::iter::once("\u{2}").chain(text.split_whitespace()) {
            let seed = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
            let mut rng = fastrand::Rng::with_seed(seed);
            let scale = if word == "\u{2}" { 0.05 } else { 1.0 };
            for s in &mut sum {
                *s += scale * (rng.f64() - 0.5);
            }
        }
        unit(&sum).unwrap()
    }
}

#[async_trait]
impl Embedder for WordEmbedder {
    async fn embed(&self, texts: &[Arc<str>], _: Priority) -> StoreResult<Vec<Vector>> {
        Ok(texts.iter().map(|t| self.vector(t)).collect())
    }

    fn model(&self) -> &ModelInfo {
        &self.0
    }
}
