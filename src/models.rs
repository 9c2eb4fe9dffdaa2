//! Which embedding model a process uses, and how it is had: one that runs here, or a service.
//!
//! Vectors of two models are never compared, so a data directory stays with the model that it began with.

use std::sync::Arc;

use anyhow::{Context, bail};
use nearcast_domain::ports::{Embedder, ModelInfo};
use nearcast_embed::{
    EngineHandle, LazyEmbedder, ModelStore, SchedulerConfig, TextModel,
    hosted::{HostedConfig, HostedEmbedder},
    registry::{DEFAULT_MODEL, ModelState, default_cache_dir},
    statics::{BUILT_IN, StaticEmbedder},
    text_model,
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
    let opened = match config.hosted() {
        Some(hosted) => Opened { embedder: Arc::new(service(hosted)?), engine: None },
        None => open_here(config, before)?,
    };
    let found = label(opened.embedder.model());
    if let Some(before) = before
        && before != found
    {
        bail!(
            "the data was embedded with {before}, the configured model is {found}; set model.name (and model.long_texts) to the \
             former, or embed the data anew with `nearcast reembed --model NAME`, or name another directory with --data-dir"
        );
    }
    Ok(opened)
}

fn open_here(config: &ModelConfig, before: Option<&str>) -> anyhow::Result<Opened> {
    let store = store(config);
    let name = choose(config, &store, before)?;
    if let Some(table) = store.table(&name)? {
        return Ok(Opened { embedder: Arc::new(StaticEmbedder::new(table)), engine: None });
    }
    let running = config.running();
    let engine = if config.dir.is_some() {
        // Nothing vouches for a directory of the user's own: it is read now, so that a torn file is told at the start.
        EngineHandle::start(text_model(&store, &name, running)?, SchedulerConfig::default())?
    } else {
        LazyEmbedder::of_store_running(store, &name, running, SchedulerConfig::default())?
    };
    let engine = Arc::new(engine);
    Ok(Opened { embedder: engine.clone(), engine: Some(engine) })
}

/// The configuration that opens a model by a known name or from a directory, whatever else is configured.
pub fn by_name(config: &ModelConfig, source: &str) -> ModelConfig {
    let (name, dir) = match std::path::Path::new(source).is_dir() {
        true => (AUTO.to_owned(), Some(source.into())),
        false => (source.to_owned(), None),
    };
    ModelConfig {
        name,
        dir,
        cache_dir: config.cache_dir.clone(),
        offline: config.offline,
        device: config.device,
        long_texts: config.long_texts,
        max_windows: config.max_windows,
        ..ModelConfig::default()
    }
}

/// A service that embeds. Its key is read; nothing is sent.
pub fn service(config: HostedConfig) -> anyhow::Result<HostedEmbedder> {
    HostedEmbedder::new(config).context("model.api")
}

/// A model in memory, by name or as configured: for commands that embed by themselves.
pub fn load(config: &ModelConfig, name: Option<&str>) -> anyhow::Result<Arc<dyn TextModel>> {
    let store = store(config);
    let name = match name {
        Some(name) => name.to_owned(),
        None => choose(config, &store, None)?,
    };
    if !std::path::Path::new(&name).is_dir() {
        ensure(&store, &name)?;
    }
    Ok(text_model(&store, &name, config.running())?)
}

/// What a model of this machine is called in data embedded with it, as configured.
pub fn info(config: &ModelConfig, store: &ModelStore, name: &str) -> anyhow::Result<ModelInfo> {
    Ok(config.running().info(store, name)?)
}

/// Name and revision, as a data directory remembers them.
pub fn label(info: &ModelInfo) -> String {
    format!("{}@{}", info.name, info.revision)
}

fn choose(config: &ModelConfig, store: &ModelStore, before: Option<&str>) -> anyhow::Result<String> {
    if let Some(dir) = &config.dir {
        let name = dir.display().to_string();
        if store.table(&name).with_context(|| format!("model.dir {name}"))?.is_none() {
            store.open(&name).with_context(|| format!("model.dir {name}"))?;
        }
        return Ok(name);
    }
    let name = match (config.name.as_str(), before) {
        (AUTO, Some(before)) => {
            let name = before.rsplit_once('@').map_or(before, |(name, _)| name);
            ensure(store, name).with_context(|| {
                format!("the data was embedded with {before}; where that is a service or a directory, configure model.api or model.dir")
            })?;
            return Ok(name.to_owned());
        }
        (AUTO, None) => return Ok(any(store)),
        (name, _) => name.to_owned(),
    };
    ensure(store, &name)?;
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
    if store.table(name)?.is_some() {
        // It is here: built in, or made here.
        return Ok(());
    }
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
