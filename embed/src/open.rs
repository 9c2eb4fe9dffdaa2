//! A model by its name or directory, whatever kind it is, run as this process runs its models.
//!
//! The one place that knows which kinds there are: the static model that is built in, static models made by `models distill`,
//! and BERT-shaped ones.

use std::sync::Arc;

use nearcast_domain::ports::ModelInfo;

use crate::{DeviceKind, EmbedError, LocalModel, ModelStore, TextModel, model::Bert};

/// How a process runs its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Windows that a BERT model reads of a long text; with 1 the text ends where the model's length ends. Vectors of long texts
    /// differ by it, so it is part of the revision. (A static model reads its first 512 tokens in any case.)
    pub windows: usize,
    /// Where BERT models are computed. (A static one needs no accelerator.)
    pub device: DeviceKind,
}

impl Default for Running {
    fn default() -> Self {
        Self { windows: 1, device: DeviceKind::Cpu }
    }
}

impl Running {
    fn applied(self, local: LocalModel) -> LocalModel {
        local.with_windows(self.windows)
    }

    /// Name, revision and dimension that a model of the store has when it is run so. Its weights need not be here where its
    /// files are pinned.
    pub fn info(self, store: &ModelStore, name: &str) -> Result<ModelInfo, EmbedError> {
        if let Some(table) = store.table(name)? {
            return Ok(table.info().clone());
        }
        let info = store.info(name)?;
        Ok(LocalModel::windowed_info(info, self.windows))
    }
}

/// Reads a model into memory.
pub fn text_model(store: &ModelStore, name: &str, running: Running) -> Result<Arc<dyn TextModel>, EmbedError> {
    if let Some(table) = store.table(name)? {
        return Ok(table);
    }
    let local = running.applied(store.open(name)?);
    Ok(match running.device.open() {
        Some(device) => Arc::new(Bert::load_on(&local, &device)?),
        None => Arc::new(Bert::load(&local)?),
    })
}
