//! The one place where concrete stores are named: which backend stands behind each port.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use nearcast_domain::ports::{DeadLetters, Embedder, GraphWrite, LedgerWrite, Unguarded, VectorWrite};
use nearcast_ingest::{Worker, config::Rules};
use nearcast_pipelines::Upkeep;
use nearcast_serve::{Freshness, Memory, Recommender};
use nearcast_stores::{
    cache::MokaCache,
    dead_letters::SqliteDeadLetters,
    engagement::SqliteEngagement,
    graph::{CachedGraph, SqliteGraph},
    ledger::SqliteLedger,
    log::{SqliteLog, SqlitePositions},
    told::Told,
    vectors::HnswIndex,
};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, data_dir::DataDir, models};

/// Bytes of the graph that are kept in memory for requests.
const GRAPH_MEMORY: u64 = 96 << 20;

/// Every store of one process, open.
pub struct App {
    pub config: Config,
    pub ledger: Arc<SqliteLedger>,
    pub vectors: Arc<HnswIndex>,
    pub graph: Arc<CachedGraph<SqliteGraph>>,
    pub engagement: Arc<SqliteEngagement>,
    pub cache: Arc<MokaCache>,
    pub log: Arc<SqliteLog>,
    pub dead_letters: Arc<SqliteDeadLetters>,
    pub positions: Arc<SqlitePositions>,
    pub embedder: Arc<dyn Embedder>,
    model: models::Opened,
    memory: Arc<Memory>,
    pub worker: Worker,
    pub upkeep: Upkeep,
    // Last: the directory is given back when everything in it is closed.
    pub dir: DataDir,
}

impl App {
    /// Opens everything in the data directory, with the model that its data was made with.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        Self::open_with(config, |letters| letters).await
    }

    /// The same, with something between the worker and the dead letters.
    pub async fn open_with(
        config: Config,
        around: impl FnOnce(Arc<dyn DeadLetters>) -> Arc<dyn DeadLetters>,
    ) -> anyhow::Result<Self> {
        let mut dir = DataDir::open(&config.data_dir)?;
        let model = config.model.clone();
        let before = dir.about().model.clone();
        let model = tokio::task::spawn_blocking(move || models::open(&model, before.as_deref())).await??;
        let embedder = model.embedder.clone();
        dir.update(|about| about.model = Some(models::label(embedder.model())))?;
        let path = dir.path().to_owned();
        let ledger = Arc::new(SqliteLedger::open(&path.join("ledger.db")).await?);
        let vectors = Arc::new(open_vectors(&path).await?);
        let graph = Arc::new(CachedGraph::new(SqliteGraph::open(&path.join("graph.db")).await?, GRAPH_MEMORY));
        let engagement = Arc::new(SqliteEngagement::open(&path.join("engagement.db")).await?);
        let log = Arc::new(SqliteLog::open(&path.join("log.db")).await?);
        let dead_letters = dead_letters(&path).await?;
        let positions = Arc::new(SqlitePositions::open(&path.join("positions.db")).await?);
        let cache = Arc::new(MokaCache::default());
        // This process alone writes: what serving remembers ends with each write.
        let memory = Arc::new(Memory::new(Freshness::Exclusive, &config.serve.items));
        let told_ledger: Arc<dyn LedgerWrite> = Arc::new(Told::<dyn LedgerWrite>::new(ledger.clone(), memory.clone()));
        let told_vectors: Arc<dyn VectorWrite> = Arc::new(Told::<dyn VectorWrite>::new(vectors.clone(), memory.clone()));
        let told_graph: Arc<dyn GraphWrite> = Arc::new(Told::<dyn GraphWrite>::new(graph.clone(), memory.clone()));
        let stores = nearcast_ingest::Stores {
            ledger: told_ledger,
            vectors: told_vectors,
            graph: told_graph.clone(),
            engagement: engagement.clone(),
            cache: cache.clone(),
            embedder: embedder.clone(),
            dead_letters: around(dead_letters.clone()),
            log: log.clone(),
        };
        let rules = Rules { taste: config.taste.clone(), profile: config.profile };
        let worker = Worker::new(stores, config.ingest.clone(), rules);
        let upkeep = Upkeep::new(told_graph, engagement.clone(), config.upkeep.clone());
        let app = Self {
            config,
            ledger,
            vectors,
            graph,
            engagement,
            cache,
            log,
            dead_letters,
            positions,
            embedder,
            model,
            memory,
            worker,
            upkeep,
            dir,
        };
        app.mend_vectors().await?;
        app.worker.forget_erased().await?;
        Ok(app)
    }

    /// What serving is given.
    pub fn serve_stores(&self) -> nearcast_serve::Stores {
        nearcast_serve::Stores {
            ledger: self.ledger.clone(),
            vectors: self.vectors.clone(),
            graph: self.graph.clone(),
            engagement: self.engagement.clone(),
            cache: self.cache.clone(),
            embedder: self.embedder.clone(),
            sink: self.log.clone(),
            progress: self.log.clone(),
            dead_letters: self.dead_letters.clone(),
            memory: self.memory.clone(),
            states: Arc::new(Unguarded),
        }
    }

    /// Recommendations without HTTP.
    pub fn recommender(&self) -> anyhow::Result<Recommender> {
        Ok(Recommender::new(self.serve_stores(), self.config.serve.clone())?)
    }

    /// A torn vector index is written anew from the ledger.
    async fn mend_vectors(&self) -> anyhow::Result<()> {
        if self.vectors.needs_rebuild().await? {
            tracing::warn!("the vector index could not be read; it is rebuilt from the ledger");
            let rows = self.worker.rebuild_vectors(&CancellationToken::new()).await?;
            self.vectors.checkpoint().await?;
            tracing::info!(rows, "the vector index is whole again");
        }
        Ok(())
    }

    /// Finishes what waits in the log and in the background, until everything that was taken in is served.
    pub async fn settle(&self) -> anyhow::Result<()> {
        while self.worker.refresh_stale().await? > 0 {}
        self.upkeep.pass().await?;
        Ok(())
    }

    /// Closes in order, so that the next start is fast.
    pub async fn close(self) -> anyhow::Result<()> {
        self.model.shutdown().await;
        self.vectors.checkpoint().await.context("closing the vector index")?;
        self.vectors.close().await;
        self.ledger.close().await;
        self.graph.inner().close().await;
        self.engagement.close().await;
        self.log.close().await;
        self.dead_letters.close().await;
        self.positions.close().await;
        drop(self.dir);
        Ok(())
    }
}

/// The dead letters alone.
pub async fn dead_letters(path: &Path) -> anyhow::Result<Arc<SqliteDeadLetters>> {
    Ok(Arc::new(SqliteDeadLetters::open(&path.join("dead_letters.db")).await?))
}

async fn open_vectors(path: &Path) -> anyhow::Result<HnswIndex> {
    Ok(HnswIndex::open(&path.join("vectors")).await?)
}
