//! The one place where concrete stores are named: which backend stands behind each port.

use std::{path::Path, sync::Arc, time::Duration};

use nearcast_domain::ports::{
    Artefacts, DeadLetters, EngagementJobs, GraphRead, GraphWrite, Leases, LedgerJobs, LedgerRead, Positions, ResponseCache,
    VectorJobs,
};
use nearcast_stores::{
    artefacts::SqliteArtefacts,
    cache::{MokaCache, TieredCache},
    dead_letters::{KafkaDeadLetters, SqliteDeadLetters},
    engagement::{PostgresEngagement, SqliteEngagement},
    graph::{CachedGraph, Neo4jGraph, SqliteGraph},
    ledger::{MongoLedger, SqliteLedger},
    log::{KafkaLog, MongoPositions, SqliteLog, SqlitePositions},
    vectors::{HnswIndex, MilvusConsistency, MilvusIndex},
};
use tokio_util::sync::CancellationToken;

use super::{backend::Backend, log::Log};
use crate::config::{CacheBackend, Config, EngagementBackend, GraphBackend, LedgerBackend, LogBackend, VectorsBackend};

/// Bytes of the graph that are kept in memory for requests.
const GRAPH_MEMORY: u64 = 96 << 20;
/// The longest pause between two attempts to make stores ready.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Every store of one process, open.
pub struct Stores {
    pub ledger: Arc<dyn LedgerJobs>,
    /// The same, as requests read it: from where the configuration says.
    pub ledger_served: Arc<dyn LedgerRead>,
    /// For the worker and jobs: they see what was just written, whoever wrote it.
    pub vectors: Arc<dyn VectorJobs>,
    /// The same, as requests read them: as fresh as is configured.
    pub vectors_served: Arc<dyn VectorJobs>,
    /// For the worker and jobs: read where it is written.
    pub graph: Arc<dyn GraphWrite>,
    /// The same, as requests read it: from replicas where there are any.
    pub graph_served: Arc<dyn GraphRead>,
    pub engagement: Arc<dyn EngagementJobs>,
    pub cache: Arc<dyn ResponseCache>,
    pub log: Log,
    pub dead_letters: Arc<dyn DeadLetters>,
    pub positions: Arc<dyn Positions>,
    pub leases: Arc<dyn Leases>,
    /// Beside the totals.
    pub artefacts: Arc<dyn Artefacts>,
    /// In the order in which they are closed.
    all: Vec<Arc<dyn Backend>>,
}

impl Stores {
    /// Opens what is embedded and prepares connections to what is not: a server that is away is no error here.
    pub async fn open(config: &Config, path: &Path) -> anyhow::Result<Self> {
        let mut all: Vec<Arc<dyn Backend>> = Vec::new();
        let kinds = &config.stores;
        let (vectors, vectors_served): (Arc<dyn VectorJobs>, Arc<dyn VectorJobs>) = match kinds.vectors {
            VectorsBackend::Embedded => {
                let index = keep(&mut all, HnswIndex::open(&path.join("vectors")).await?);
                (index.clone(), index)
            }
            VectorsBackend::Milvus => {
                let index = keep(&mut all, MilvusIndex::new(&config.milvus)?);
                (Arc::new(index.with_consistency(MilvusConsistency::Strong)), index)
            }
        };
        let ledger_served: Arc<dyn LedgerRead>;
        let (ledger, positions, leases): (Arc<dyn LedgerJobs>, Arc<dyn Positions>, Arc<dyn Leases>) = match kinds.ledger {
            LedgerBackend::Embedded => {
                let ledger = keep(&mut all, SqliteLedger::open(&path.join("ledger.db")).await?);
                let positions = keep(&mut all, SqlitePositions::open(&path.join("positions.db")).await?);
                ledger_served = ledger.clone();
                (ledger, positions.clone(), positions)
            }
            LedgerBackend::Mongodb => {
                let ledger = keep(&mut all, MongoLedger::new(&config.mongodb)?);
                ledger_served = Arc::new(ledger.for_requests());
                let positions = keep(&mut all, MongoPositions::new(&config.mongodb)?);
                (ledger, positions.clone(), positions)
            }
        };
        let (graph, graph_served): (Arc<dyn GraphWrite>, Arc<dyn GraphRead>) = match kinds.graph {
            GraphBackend::Embedded => {
                let graph = SqliteGraph::open(&path.join("graph.db")).await?;
                let graph = keep(&mut all, CachedGraph::new(graph, GRAPH_MEMORY));
                (graph.clone(), graph)
            }
            GraphBackend::Neo4j => {
                let graph = keep(&mut all, Neo4jGraph::new(&config.neo4j)?);
                (Arc::new(graph.on_core()), graph)
            }
        };
        let (engagement, artefacts): (Arc<dyn EngagementJobs>, Arc<dyn Artefacts>) = match kinds.engagement {
            EngagementBackend::Embedded => (
                keep(&mut all, SqliteEngagement::open(&path.join("engagement.db")).await?),
                keep(&mut all, SqliteArtefacts::open(&path.join("artefacts.db")).await?),
            ),
            EngagementBackend::Postgres => {
                let store = keep(&mut all, PostgresEngagement::new(&config.postgres)?);
                (store.clone(), store)
            }
        };
        let cache: Arc<dyn ResponseCache> = match kinds.cache {
            CacheBackend::Embedded => keep(&mut all, MokaCache::default()),
            CacheBackend::Redis => keep(&mut all, TieredCache::new(&config.redis)?),
        };
        let (log, dead_letters): (Log, Arc<dyn DeadLetters>) = match kinds.log {
            LogBackend::Embedded => {
                let log = keep(&mut all, SqliteLog::open(&path.join("log.db")).await?);
                (Log::Embedded(log), keep(&mut all, SqliteDeadLetters::open(&path.join("dead_letters.db")).await?))
            }
            LogBackend::Kafka => {
                let log = keep(&mut all, KafkaLog::new(&config.kafka)?);
                (Log::Kafka(log), keep(&mut all, KafkaDeadLetters::new(&config.kafka)?))
            }
        };
        Ok(Self {
            ledger,
            ledger_served,
            vectors,
            vectors_served,
            graph,
            graph_served,
            engagement,
            cache,
            log,
            dead_letters,
            positions,
            leases,
            artefacts,
            all,
        })
    }

    /// Makes topics, collections, indexes and constraints that are missing, everywhere at once; answers what was made, by
    /// backend, and which of them could not be reached or refused.
    pub async fn setup(&self) -> (Vec<String>, Vec<nearcast_domain::StoreError>) {
        let done = futures_util::future::join_all(self.all.iter().map(|b| async move { (b.name(), b.setup().await) })).await;
        let (mut made, mut failed) = (Vec::new(), Vec::new());
        for (name, outcome) in done {
            match outcome {
                Ok(lines) => made.extend(lines.into_iter().map(|line| format!("{name}: {line}"))),
                Err(e) => failed.push(e),
            }
        }
        (made, failed)
    }

    /// The same, again and again while stores are only away.
    pub async fn setup_all(&self, cancel: &CancellationToken) -> anyhow::Result<Vec<String>> {
        let (mut wait, mut all_made) = (Duration::from_millis(200), Vec::new());
        loop {
            let (made, failed) = self.setup().await;
            all_made.extend(made);
            match failed.into_iter().max_by_key(|e| !e.kind.is_transient()) {
                None => return Ok(all_made),
                Some(e) if e.kind.is_transient() => {
                    tracing::warn!(store = e.store, error = %e, "waiting for a store");
                    tokio::select! {
                        () = cancel.cancelled() => anyhow::bail!("interrupted while waiting for a store: {e}"),
                        () = tokio::time::sleep(wait) => {}
                    }
                    wait = (wait * 2).min(LONGEST_PAUSE);
                }
                Some(e) => return Err(e.into()),
            }
        }
    }

    /// Writes the embedded files anew, so that nothing is left in them of what was deleted.
    pub async fn compact(&self) -> nearcast_domain::StoreResult<()> {
        for backend in &self.all {
            backend.tidy().await?;
        }
        Ok(())
    }

    /// Closes everything, in order.
    pub async fn close(&self) {
        for backend in &self.all {
            backend.end().await;
        }
    }
}

fn keep<B: Backend + 'static>(all: &mut Vec<Arc<dyn Backend>>, backend: B) -> Arc<B> {
    let backend = Arc::new(backend);
    all.push(backend.clone());
    backend
}

/// The dead letters alone.
pub async fn dead_letters(config: &Config, path: &Path) -> anyhow::Result<Arc<dyn DeadLetters>> {
    Ok(match config.stores.log {
        LogBackend::Embedded => Arc::new(SqliteDeadLetters::open(&path.join("dead_letters.db")).await?),
        LogBackend::Kafka => Arc::new(KafkaDeadLetters::new(&config.kafka)?),
    })
}
