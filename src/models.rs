//! Which embedding model a process uses, and how it is had.
//!
//! Vectors of two models are never compared, so a data directory stays with the model that it began with.

use std::sync::Arc;

use anyhow::{Context, bail};
use nearcast_domain::ports::{Embedder, ModelInfo};
use nearcast_embed::{
    EngineHandle, LazyEmbedder, ModelStore, SchedulerConfig, TextModel,
    model::Bert,
    registry::{DEFAULT_MODEL, ModelState, default_cache_dir},
    statics::{self, BUILT_IN, StaticEmbedder},
};

use crate::{config::ModelConfig, progress::Progress};

/// What `model.name` says when the program is to choose.
pub const AUTO: &str = "auto";

/// The models of this machine.
pub fn store(config: &ModelConfig) -> Arc<ModelStore> {
    let cache = config.cache_dir.clone().unwrap_or_else(default_cache_dir);
    Arc::new(ModelStore::new(cache, config.offline))
}

/// A model that is ready for texts.
pub struct Opened {
    /// What everything else is given.
    pub embedder: Arc<dyn Embedder>,
    engine: Option<Arc<EngineHandle>>,
}

impl Opened {
    /// Finishes the texts that wait and ends the threads.
    pub async fn shutdown(&self) {
        if let Some(engine) = &self.engine {
            engine.shutdown().await;
        }
    }
}

/// The model for data that was embedded with `before`, fetched with progress where it has to be. Its weights are read when
/// the first text comes.
pub fn open(config: &ModelConfig, before: Option<&str>) -> anyhow::Result<Opened> {
    let store = store(config);
    let name = choose(config, &store, before)?;
    let opened = if name == BUILT_IN {
        Opened { embedder: Arc::new(StaticEmbedder::built_in()?), engine: None }
    } else {
        let engine = if config.dir.is_some() {
            // Nothing vouches for a directory of the user's own: it is read now, so that a torn file is told at the start.
            EngineHandle::start(Arc::new(Bert::load(&store.open(&name)?)?), SchedulerConfig::default())?
        } else {
            LazyEmbedder::of_store(store, &name, SchedulerConfig::default())?
        };
        let engine = Arc::new(engine);
        Opened { embedder: engine.clone(), engine: Some(engine) }
    };
    let found = label(opened.embedder.model());
    if let Some(before) = before
        && before != found
    {
        bail!(
            "the data was embedded with {before}, the configured model is {found}; set model.name to the former, or name another \
             directory with --data-dir"
        );
    }
    Ok(opened)
}

/// A model in memory, by name or as configured: for commands that embed by themselves.
pub fn load(config: &ModelConfig, name: Option<&str>) -> anyhow::Result<Arc<dyn TextModel>> {
    let store = store(config);
    let name = match name {
        Some(name) => name.to_owned(),
        None => choose(config, &store, None)?,
    };
    if name == BUILT_IN {
        return Ok(statics::built_in()?);
    }
    if !std::path::Path::new(&name).is_dir() {
        ensure(&store, &name)?;
    }
    Ok(Arc::new(Bert::load(&store.open(&name)?)?))
}

/// Name and revision, as a data directory remembers them.
pub fn label(info: &ModelInfo) -> String {
    format!("{}@{}", info.name, info.revision)
}

fn choose(config: &ModelConfig, store: &ModelStore, before: Option<&str>) -> anyhow::Result<String> {
    if let Some(dir) = &config.dir {
        let name = dir.display().to_string();
        store.open(&name).with_context(|| format!("model.dir {name}"))?;
        return Ok(name);
    }
    let name = match (config.name.as_str(), before) {
        (AUTO, Some(before)) => before.split('@').next().unwrap_or(before).to_owned(),
        (AUTO, None) => return Ok(any(store)),
        (name, _) => name.to_owned(),
    };
    if name != BUILT_IN {
        ensure(store, &name)?;
    }
    Ok(name)
}

/// The best model that can be had: MiniLM where it is here or can be fetched, else the one that is built in.
fn any(store: &ModelStore) -> String {
    match ensure(store, DEFAULT_MODEL) {
        Ok(()) => DEFAULT_MODEL.to_owned(),
        Err(e) => {
            tracing::warn!("{DEFAULT_MODEL} cannot be had ({e}); going on with the built-in {BUILT_IN}");
            BUILT_IN.to_owned()
        }
    }
}

/// Fetches a model where it is missing.
pub fn ensure(store: &ModelStore, name: &str) -> anyhow::Result<()> {
    match store.describe(name)?.state {
        ModelState::Ready => Ok(()),
        ModelState::Torn(what) => bail!(what),
        ModelState::Absent => pull(store, name),
    }
}

/// Fetches a model with a progress bar.
pub fn pull(store: &ModelStore, name: &str) -> anyhow::Result<()> {
    let progress = Progress::new(&format!("fetching {name}"), 0, true);
    store.pull(name, &mut |p| {
        if let Some(total) = p.total {
            progress.set_total(total);
        }
        progress.at(p.done, p.file);
    })?;
    progress.done("");
    Ok(())
}
