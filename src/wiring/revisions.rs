//! Which model's vectors are read, which others are written beside them, and how a process follows when that changes.
//!
//! The index alone says which revision is current. Beside it a plan in the ledger's positions names the two models of a re-embedding, so
//! that every process writes both; and a record names the current model, so that the next start opens it. Both can be behind the index
//! after a crash, and are put right by whoever comes next.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nearcast_domain::ports::{Embedder, Positions};
use nearcast_serve::{Freshness, Memory, Turn};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{App, SHARED_AGE, Stores};
use crate::{config::ModelConfig, models};

/// Where the plan stands.
const PLAN: &str = "reembed";
/// Where the current model is named.
const CURRENT: &str = "model";
/// How long requests may take to be answered with another model before that is told.
const TURN_PATIENCE: Duration = Duration::from_secs(30);

/// A model: what data embedded with it says, and how it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Name and revision.
    pub label: String,
    /// A known name or a directory; empty: as configured.
    pub source: String,
}

impl Named {
    /// The revision alone.
    pub fn revision(&self) -> &str {
        self.label.rsplit_once('@').map_or(&self.label, |(_, revision)| revision)
    }
}

/// How far a re-embedding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new revision is filled and not read yet.
    Filling,
    /// The new revision is read, the old one is kept.
    Switched,
    /// The old revision is read again, the new one is kept.
    RolledBack,
    /// What is not read goes.
    Pruning,
}

/// A re-embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The model that was read when it began.
    pub from: Named,
    /// The model that is to be read.
    pub to: Named,
    /// How far it is.
    pub phase: Phase,
}

/// The models of a process.
pub struct Revisions {
    config: ModelConfig,
    open: Mutex<BTreeMap<String, models::Opened>>,
    /// The one that is read, and the one beside it, by their labels.
    lanes: Mutex<(Named, Option<String>)>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    turns: watch::Sender<Option<Turn>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn stored<T: for<'a> Deserialize<'a>>(positions: &dyn Positions, key: &str) -> anyhow::Result<Option<T>> {
    let text = positions.get(key).await?;
    text.map(|t| serde_json::from_str(&t).with_context(|| format!("what stands under {key:?}"))).transpose()
}

/// What is planned.
async fn plan(stores: &Stores) -> anyhow::Result<Option<Plan>> {
    stored(&*stores.positions, PLAN).await
}

impl Revisions {
    /// Opens the model whose vectors are current. `before`: as the data directory remembers it. Where stores may be away, what cannot be
    /// asked is followed later.
    pub async fn open(config: &ModelConfig, before: Option<String>, stores: &Stores, patient: bool) -> anyhow::Result<Self> {
        let asked = async {
            let current = stores.vectors.revision().await?;
            let record: Option<Named> = stored(&*stores.positions, CURRENT).await?;
            let plan = plan(stores).await?;
            anyhow::Ok((current, record, plan))
        };
        let known =
            if patient { asked.await? } else { timeout(SHARED_AGE, asked).await.ok().and_then(Result::ok).unwrap_or_default() };
        let (current, record, plan) = known;
        let mut candidates: Vec<Named> = record.into_iter().collect();
        candidates.extend(plan.into_iter().flat_map(|p| [p.to, p.from]));
        let found = current.and_then(|r| candidates.into_iter().find(|n| n.revision() == r));
        let (named, model) = match found {
            Some(named) => {
                if config.name != models::AUTO
                    && named.source != config.name
                    && !named.label.starts_with(&format!("{}@", config.name))
                {
                    tracing::warn!(
                        "model.name is {:?}, but the data was embedded anew with {}, which is used; set model.name to it, or leave it out",
                        config.name,
                        named.label
                    );
                }
                let (config, name) = (config.clone(), named.clone());
                let model = tokio::task::spawn_blocking(move || open(&config, &name)).await??;
                (named, model)
            }
            None => {
                let config = config.clone();
                let model = tokio::task::spawn_blocking(move || models::open(&config, before.as_deref())).await??;
                (Named { label: models::label(model.embedder.model()), source: String::new() }, model)
            }
        };
        let open = Mutex::new([(named.label.clone(), model)].into());
        let (lanes, turns) = (Mutex::new((named, None)), watch::Sender::new(None));
        Ok(Self { config: config.clone(), open, lanes, changing: tokio::sync::Mutex::default(), turns })
    }

    /// The model that is read.
    pub fn main(&self) -> Arc<dyn Embedder> {
        let label = self.named().label;
        match lock(&self.open).get(&label) {
            Some(model) => model.embedder.clone(),
            None => unreachable!("the model that is read is open"),
        }
    }

    /// The same by name.
    pub fn named(&self) -> Named {
        lock(&self.lanes).0.clone()
    }

    /// The model of a name or a directory, opened.
    pub async fn find(&self, source: &str) -> anyhow::Result<(Named, Arc<dyn Embedder>)> {
        let (config, name) = (models::by_name(&self.config, source), source.to_owned());
        let model = tokio::task::spawn_blocking(move || models::open(&config, None)).await?.with_context(|| name.clone())?;
        let label = models::label(model.embedder.model());
        let mut open = lock(&self.open);
        let embedder = open.entry(label.clone()).or_insert(model).embedder.clone();
        Ok((Named { label, source: source.to_owned() }, embedder))
    }

    /// A model that is named in a plan.
    pub async fn opened(&self, named: &Named) -> anyhow::Result<Arc<dyn Embedder>> {
        if let Some(model) = lock(&self.open).get(&named.label) {
            return Ok(model.embedder.clone());
        }
        let (config, name) = (self.config.clone(), named.clone());
        let model = tokio::task::spawn_blocking(move || open(&config, &name)).await??;
        Ok(lock(&self.open).entry(named.label.clone()).or_insert(model).embedder.clone())
    }

    pub fn turns(&self) -> watch::Receiver<Option<Turn>> {
        self.turns.subscribe()
    }

    /// Finishes the texts that wait and ends the threads of all models.
    pub async fn shutdown(&self) {
        let all = std::mem::take(&mut *lock(&self.open));
        for model in all.into_values() {
            model.shutdown().await;
        }
    }
}

/// A model whose label is known: it must be the same still.
fn open(config: &ModelConfig, named: &Named) -> anyhow::Result<models::Opened> {
    let config = if named.source.is_empty() { config.clone() } else { models::by_name(config, &named.source) };
    let label = named.label.clone();
    let model = models::open(&config, None).with_context(|| format!("the model {label}"))?;
    let found = models::label(model.embedder.model());
    if found != label {
        bail!("the data was embedded with {label}, but {} is {found} now; bring the former back", named.source);
    }
    Ok(model)
}

impl App {
    /// What is planned.
    pub async fn plan(&self) -> anyhow::Result<Option<Plan>> {
        plan(&self.stores).await
    }

    /// Writes down what is planned, or that nothing is.
    pub async fn set_plan(&self, plan: Option<&Plan>) -> anyhow::Result<()> {
        match plan {
            Some(plan) => self.stores.positions.set(PLAN, &serde_json::to_string(plan)?).await?,
            None => self.stores.positions.remove(PLAN).await?,
        }
        Ok(())
    }

    /// Does as the index and the plan say: requests are answered with the model whose revision is current, and events are written with it
    /// and with the one beside it. Returns when that is so.
    pub async fn follow(&self) -> anyhow::Result<()> {
        let revisions = &self.revisions;
        let _alone = revisions.changing.lock().await;
        let plan = self.plan().await?;
        let before = lock(&revisions.lanes).clone();
        let current = self.stores.vectors.revision().await?;
        let mut candidates = vec![before.0.clone()];
        let record: Option<Named> = stored(&*self.stores.positions, CURRENT).await?;
        candidates.extend(record.clone());
        candidates.extend(plan.iter().flat_map(|p| [p.to.clone(), p.from.clone()]));
        let main = match &current {
            None => before.0.clone(),
            Some(r) => candidates.into_iter().find(|n| n.revision() == r).with_context(|| {
                format!("the vector index holds vectors of the revision {r}, which no model that this process knows has")
            })?,
        };
        // A process that ended between a switch and its record leaves that to whoever comes next, while the plan still names the model.
        if let Some(plan) = &plan
            && current.is_some()
            && record.as_ref() != Some(&main)
            && (record.is_some() || main.label == plan.to.label)
        {
            self.stores.positions.set(CURRENT, &serde_json::to_string(&main)?).await?;
        }
        let also = plan.filter(|p| p.phase != Phase::Pruning).and_then(|p| [p.to, p.from].into_iter().find(|n| *n != main));
        if (&main, also.as_ref().map(|n| &n.label)) == (&before.0, before.1.as_ref()) {
            return Ok(());
        }
        let embedder = revisions.opened(&main).await?;
        let beside = match &also {
            Some(named) => Some(revisions.opened(named).await?),
            None => None,
        };
        self.worker.set_lanes(&embedder, beside.as_ref()).await;
        if main != before.0 {
            self.turn(&embedder).await;
            self.stores.positions.set(CURRENT, &serde_json::to_string(&main)?).await?;
            if let Some(dir) = &self.dir {
                lock(dir).update(|about| about.model = Some(main.label.clone()))?;
            }
            tracing::info!(model = main.label, "another model's vectors are read from now on");
        }
        *lock(&revisions.lanes) = (main, also.map(|n| n.label));
        Ok(())
    }

    /// Lets requests be answered with a model, where there are any.
    async fn turn(&self, embedder: &Arc<dyn Embedder>) {
        let memory = match self.config.stores.any_shared() {
            // There, what searches found is judged by its age: another model's must not be found.
            true => Arc::new(Memory::new(Freshness::Shared { max_age: SHARED_AGE }, &self.config.serve.items)),
            false => self.memory.clone(),
        };
        let done = Arc::new(Notify::new());
        let turn = Turn { embedder: embedder.clone(), vectors: self.vectors_of(embedder), memory, done: done.clone() };
        let turns = &self.revisions.turns;
        turns.send_replace(Some(turn));
        if turns.receiver_count() > 0 && timeout(TURN_PATIENCE, done.notified()).await.is_err() {
            tracing::warn!("requests are not answered with the other model yet");
        }
    }
}
