//! One process's stores, model and jobs, put together; and taken apart again in the right order.

mod backend;
mod guards;
mod log;
mod revisions;
mod stores;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use guards::Guards;
use nearcast_domain::ports::{DeadLetters, Embedder, GraphWrite, LedgerRead as _, LedgerWrite, VectorWrite};
use nearcast_ingest::{
    Worker,
    config::{Rules, decided},
};
use nearcast_pipelines::{Trainer, Upkeep, train};
use nearcast_serve::{Freshness, Memory};
use nearcast_stores::{ledger::SqliteLedger, told::Told};
use revisions::Revisions;
pub use revisions::{Named, Phase, Plan};
pub use stores::{Stores, dead_letters};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, LedgerBackend},
    data_dir::DataDir,
    models,
};

/// How much of a user's past is read at once from a ledger that is asked user by user.
const WHOLE_HISTORY: usize = 1_000;
/// How long events gather for a ledger that is a server: a call for each of them would keep it busy with calls.
const LINGER_MS: u64 = 20;
/// How many records it is given at once: while it takes them in, those before them are projected.
const BATCH_RECORDS: usize = 4_096;

/// How old what serving remembers may be where other processes write too.
const SHARED_AGE: Duration = Duration::from_secs(1);

/// Everything of one process, open.
pub struct App {
    pub config: Config,
    pub stores: Stores,
    /// The model that the process began with.
    pub embedder: Arc<dyn Embedder>,
    pub revisions: Revisions,
    guards: Guards,
    memory: Arc<Memory>,
    /// A name for leases that no other process has.
    pub holder: String,
    /// What writes of jobs go through, so that what this process remembers ends with them.
    pub graph_told: Arc<dyn GraphWrite>,
    pub vectors_told: Arc<dyn VectorWrite>,
    pub worker: Worker,
    pub upkeep: Upkeep,
    pub trainer: Trainer,
    // Last: the directory is given back when everything in it is closed. `None` where nothing is embedded.
    pub dir: Option<std::sync::Mutex<DataDir>>,
}

/// What a process does with the stores: whether it can begin while one of them is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It answers: a store that is away is no reason to wait.
    Serve,
    /// It writes or reads everything: it waits for all of them.
    Work,
}

impl App {
    /// Opens everything, with the model that the data was made with, and waits for all stores.
    pub async fn open(config: Config, cancel: &CancellationToken) -> anyhow::Result<Self> {
        Self::open_with(config, Purpose::Work, cancel, |letters| letters).await
    }

    /// The same, with something between the worker and the dead letters.
    pub async fn open_with(
        config: Config,
        purpose: Purpose,
        cancel: &CancellationToken,
        around: impl FnOnce(Arc<dyn DeadLetters>) -> Arc<dyn DeadLetters>,
    ) -> anyhow::Result<Self> {
        let mut dir = if config.stores.any_embedded() { Some(DataDir::open(&config.data_dir)?) } else { None };
        let stores = Stores::open(&config, &config.data_dir).await?;
        if config.stores.setup && purpose == Purpose::Work {
            stores.setup_all(cancel).await?;
        }
        let before = dir.as_ref().and_then(|dir| dir.about().model.clone());
        let revisions = Revisions::open(&config.model, before, &stores, purpose == Purpose::Work).await?;
        let embedder = revisions.main();
        if let Some(dir) = &mut dir {
            dir.update(|about| about.model = Some(models::label(embedder.model())))?;
        }
        // Where this process alone writes, what serving remembers ends with each write; elsewhere it ends by its age.
        let shared = config.stores.any_shared();
        let freshness = if shared { Freshness::Shared { max_age: SHARED_AGE } } else { Freshness::Exclusive };
        let memory = Arc::new(Memory::new(freshness, &config.serve.items));
        let ledger: Arc<dyn LedgerWrite> = Arc::new(Told::<dyn LedgerWrite>::new(stores.ledger.clone(), memory.clone()));
        let vectors: Arc<dyn VectorWrite> = Arc::new(Told::<dyn VectorWrite>::new(stores.vectors.clone(), memory.clone()));
        let graph: Arc<dyn GraphWrite> = Arc::new(Told::<dyn GraphWrite>::new(stores.graph.clone(), memory.clone()));
        let (graph_kept, vectors_told) = (graph.clone(), vectors.clone());
        let ports = nearcast_ingest::Stores {
            ledger,
            vectors,
            graph: graph.clone(),
            engagement: stores.engagement.clone(),
            cache: stores.cache.clone(),
            embedder: embedder.clone(),
            dead_letters: around(stores.dead_letters.clone()),
            log: stores.log.sink(),
        };
        let rules = Rules { taste: config.taste.clone(), profile: config.profile };
        let mut ingest = config.ingest.clone();
        if config.stores.ledger == LedgerBackend::Mongodb {
            ingest.whole_history = decided(ingest.whole_history, WHOLE_HISTORY);
            ingest.batch_records = decided(ingest.batch_records, BATCH_RECORDS);
            ingest.linger_ms = decided(ingest.linger_ms, LINGER_MS);
        }
        let worker = Worker::new(ports, ingest, rules);
        let mut upkeep = Upkeep::new(graph, stores.engagement.clone(), config.upkeep.clone());
        let formulas = train::Rules {
            neighbours: config.upkeep.neighbours.clone(),
            trending: config.upkeep.trending.clone(),
            profile: config.profile,
            ..train::Rules::default()
        };
        // Of the model that requests are answered with when a training begins.
        let (first, turns) = (embedder.model().revision.clone(), revisions.turns());
        let revision = move || turns.borrow().as_ref().map_or_else(|| first.clone(), |t| t.embedder.model().revision.clone());
        let mut trainer = Trainer::new(
            stores.graph.clone(),
            stores.ledger.clone(),
            stores.artefacts.clone(),
            revision,
            config.train.clone(),
            formulas,
        );
        let holder = holder();
        if shared {
            upkeep = upkeep.under(stores.leases.clone(), holder.clone());
            trainer = trainer.under(stores.leases.clone(), holder.clone());
        }
        let guards = Guards::new(&config);
        let app = Self {
            config,
            stores,
            embedder,
            revisions,
            guards,
            memory,
            holder,
            graph_told: graph_kept,
            vectors_told,
            worker,
            upkeep,
            trainer,
            dir: dir.map(std::sync::Mutex::new),
        };
        if purpose == Purpose::Work {
            app.same_model().await?;
            app.follow().await?;
            app.mend_vectors().await?;
            app.worker.forget_erased().await?;
        }
        Ok(app)
    }

    /// What serving is given.
    pub fn serve_stores(&self) -> nearcast_serve::Stores {
        let guards = &self.guards;
        nearcast_serve::Stores {
            ledger: guards.ledger(self.stores.ledger_served.clone()),
            vectors: self.vectors_of(&self.embedder),
            graph: guards.graph(self.stores.graph_served.clone()),
            engagement: guards.engagement(self.stores.engagement.clone()),
            cache: guards.cache(self.stores.cache.clone()),
            embedder: self.embedder.clone(),
            sink: self.stores.log.sink(),
            progress: self.stores.log.progress(),
            dead_letters: self.stores.dead_letters.clone(),
            artefacts: self.stores.artefacts.clone(),
            memory: self.memory.clone(),
            states: guards.states(),
        }
    }

    /// The index as requests read it, in a model's revision: whichever becomes current meanwhile.
    fn vectors_of(&self, embedder: &Arc<dyn Embedder>) -> Arc<dyn nearcast_domain::ports::VectorRead> {
        self.guards.vectors(self.stores.vectors_served.of_revision(&embedder.model().revision))
    }

    /// Turns of the model that requests are answered with.
    pub fn turns(&self) -> watch::Receiver<Option<nearcast_serve::Turn>> {
        self.revisions.turns()
    }

    /// Vectors of two models are never mixed: where the index has a model's already, it must be this one's.
    async fn same_model(&self) -> anyhow::Result<()> {
        let model = self.embedder.model();
        match self.stores.vectors.revision().await? {
            Some(there) if there != model.revision => anyhow::bail!(
                "the vector index holds vectors of the revision {there}, the configured model is {} of the revision {}; set \
                 model.name to the model that the data was made with, or embed the data anew with `nearcast reembed --model NAME`",
                model.name,
                model.revision
            ),
            _ => Ok(()),
        }
    }

    /// A torn vector index is written anew from the ledger.
    async fn mend_vectors(&self) -> anyhow::Result<()> {
        let vectors = &self.stores.vectors;
        if vectors.needs_rebuild().await? {
            tracing::warn!("the vector index could not be read; it is rebuilt from the ledger");
            let rows = self.worker.rebuild_vectors(&CancellationToken::new()).await?;
            vectors.checkpoint().await?;
            tracing::info!(rows, "the vector index is whole again");
        }
        Ok(())
    }

    /// Finishes what waits in the background, until everything that was taken in is served.
    pub async fn settle(&self) -> anyhow::Result<()> {
        while self.worker.refresh_stale().await? > 0 {}
        self.upkeep.pass().await?;
        Ok(())
    }

    /// Closes in order, so that the next start is fast.
    pub async fn close(self) -> anyhow::Result<()> {
        self.revisions.shutdown().await;
        let checkpoint = self.stores.vectors.checkpoint().await.context("closing the vector index");
        self.stores.close().await;
        drop(self.dir);
        checkpoint
    }
}

/// A name for leases that no other process has.
fn holder() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into());
    format!("{host}:{}:{:x}", std::process::id(), fastrand::u64(..))
}

/// Whether the ledger in a data directory has nothing in it. One that lies elsewhere counts as full. Blocks.
pub fn holds_nothing(path: &Path) -> anyhow::Result<bool> {
    let file = path.join("ledger.db");
    if !file.exists() {
        return Ok(false);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let ledger = SqliteLedger::open(&file).await?;
        let tenants = ledger.tenants().await;
        ledger.close().await;
        Ok(tenants?.is_empty())
    })
}
