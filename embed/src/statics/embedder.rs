//! A static model as an [`Embedder`]: no queue, since a text takes a few microseconds.

use std::sync::Arc;

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Vector,
    ports::{Embedder, ModelInfo, Priority},
};
use rayon::prelude::*;

use super::StaticModel;
use crate::{
    EmbedError,
    model::{TextModel as _, shared},
};

/// Characters up to which a call is answered on the spot; what is longer goes to threads that may compute.
const AT_ONCE: usize = 4096;

/// A static model behind the port.
pub struct StaticEmbedder(Arc<StaticModel>);

impl StaticEmbedder {
    /// Any static model.
    pub fn new(model: Arc<StaticModel>) -> Self {
        Self(model)
    }

    /// The one that is built in.
    pub fn built_in() -> Result<Self, EmbedError> {
        super::built_in().map(Self)
    }
}

fn vectors(model: &StaticModel, texts: &[Arc<str>]) -> Result<Vec<Vector>, EmbedError> {
    let mut tokens = Vec::new();
    let mut out = vec![0.0; model.info().dimension];
    let one = |text: &Arc<str>| model.vector(text, &mut tokens, &mut out).map(|()| shared(&out));
    texts.iter().map(one).collect()
}

#[async_trait]
impl Embedder for StaticEmbedder {
    async fn embed(&self, texts: &[Arc<str>], _: Priority) -> StoreResult<Vec<Vector>> {
        metrics::counter!("nearcast_embed_texts_total").increment(texts.len() as u64);
        if texts.iter().map(|t| t.len()).sum::<usize>() <= AT_ONCE {
            return Ok(vectors(&self.0, texts)?);
        }
        let (model, texts) = (Arc::clone(&self.0), texts.to_vec());
        let work = move || -> Result<Vec<Vector>, EmbedError> {
            let parts = texts.par_chunks(64).map(|part| vectors(&model, part)).collect::<Result<Vec<_>, _>>()?;
            Ok(parts.concat())
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => Ok(done?),
            Err(e) => Err(StoreError::new(ErrorKind::Unavailable, "embedder", e)),
        }
    }

    fn model(&self) -> &ModelInfo {
        self.0.info()
    }
}
