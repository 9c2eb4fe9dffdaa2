//! What the wiring needs of a backend beside its port: to be made ready, and to be closed.
//!
//! Never asks a store for data.

use async_trait::async_trait;
use nearcast_domain::StoreResult;
use nearcast_stores::{
    artefacts::SqliteArtefacts,
    cache::{MokaCache, TieredCache},
    dead_letters::{KafkaDeadLetters, SqliteDeadLetters},
    engagement::{PostgresEngagement, SqliteEngagement},
    graph::{CachedGraph, Neo4jGraph, SqliteGraph},
    ledger::{MongoLedger, SqliteLedger},
    log::{KafkaLog, MongoPositions, SqliteLog, SqlitePositions},
    vectors::{HnswIndex, MilvusIndex},
};

/// A backend, whatever its port.
#[async_trait]
pub trait Backend: Send + Sync {
    /// What it is called in messages: `kafka`, `mongodb`.
    fn name(&self) -> &'static str {
        "embedded"
    }

    /// Makes topics, collections, indexes, constraints: what is missing of them. Answers what was made. May be repeated.
    async fn setup(&self) -> StoreResult<Vec<String>> {
        Ok(Vec::new())
    }

    /// Writes files of this process anew, so that nothing is left in them of what was deleted. Servers do so in their own time.
    /// (Named unlike the stores' own methods, so that a store without one is an error and not a call to itself.)
    async fn tidy(&self) -> StoreResult<()> {
        Ok(())
    }

    /// Finishes what is in flight and lets go.
    async fn end(&self);
}

/// Backends that are ready once they are open.
macro_rules! embedded {
    ($($backend:ty),*) => {$(
        #[async_trait]
        impl Backend for $backend {
            async fn tidy(&self) -> StoreResult<()> {
                self.compact().await
            }

            async fn end(&self) {
                self.close().await;
            }
        }
    )*};
}

embedded!(SqliteLedger, HnswIndex, SqliteArtefacts, SqliteEngagement, SqliteLog, SqliteDeadLetters, SqlitePositions);

#[async_trait]
impl Backend for CachedGraph<SqliteGraph> {
    async fn tidy(&self) -> StoreResult<()> {
        self.inner().compact().await
    }

    async fn end(&self) {
        self.inner().close().await;
    }
}

#[async_trait]
impl Backend for MokaCache {
    async fn end(&self) {}
}

/// Backends in another process.
macro_rules! remote {
    ($($backend:ty = $name:literal),*) => {$(
        #[async_trait]
        impl Backend for $backend {
            fn name(&self) -> &'static str {
                $name
            }

            async fn setup(&self) -> StoreResult<Vec<String>> {
                Self::setup(self).await
            }

            async fn end(&self) {
                self.close().await;
            }
        }
    )*};
}

remote!(
    KafkaLog = "kafka",
    MongoLedger = "mongodb",
    MongoPositions = "mongodb",
    Neo4jGraph = "neo4j",
    PostgresEngagement = "postgres"
);

#[async_trait]
impl Backend for MilvusIndex {
    fn name(&self) -> &'static str {
        "milvus"
    }

    // Collections are made by the first write of a model's vectors: only then is their dimension known.
    async fn setup(&self) -> StoreResult<Vec<String>> {
        Self::setup(self).await?;
        Ok(Vec::new())
    }

    async fn end(&self) {
        Self::close(self);
    }
}

#[async_trait]
impl Backend for KafkaDeadLetters {
    fn name(&self) -> &'static str {
        "kafka"
    }

    async fn end(&self) {
        Self::close(self).await;
    }
}

#[async_trait]
impl Backend for TieredCache {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn end(&self) {
        Self::close(self).await;
    }
}
