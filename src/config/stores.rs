//! Which backend stands behind each port. Any mix is allowed.

use serde::{Deserialize, Serialize};

use super::Config;

/// The section `[stores]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoresConfig {
    /// Where events wait for the worker: `embedded` or `kafka`. Dead letters are kept beside them.
    pub log: LogBackend,
    /// The source of truth: `embedded` or `mongodb`.
    pub ledger: LedgerBackend,
    /// Profiles and texts as vectors: `embedded` or `milvus`.
    pub vectors: VectorsBackend,
    /// Who engaged with what: `embedded` or `neo4j`.
    pub graph: GraphBackend,
    /// Totals: `embedded` or `postgres`.
    pub engagement: EngagementBackend,
    /// Answers given before: `embedded` (in process) or `redis` (behind the one in process).
    pub cache: CacheBackend,
    /// Whether a start makes what is missing in them (topics, collections, indexes, constraints), as `nearcast setup` does.
    pub setup: bool,
}

/// Backends of the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogBackend {
    /// A table in the data directory.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

/// Backends of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerBackend {
    /// SQLite in the data directory.
    Embedded,
    /// MongoDB.
    Mongodb,
}

/// Backends of the vector index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorsBackend {
    /// In process, kept in the data directory.
    Embedded,
    /// Milvus.
    Milvus,
}

/// Backends of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GraphBackend {
    /// SQLite in the data directory.
    Embedded,
    /// Neo4j.
    Neo4j,
}

/// Backends of the engagement store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngagementBackend {
    /// SQLite in the data directory.
    Embedded,
    /// PostgreSQL.
    Postgres,
}

/// Backends of the response cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheBackend {
    /// In process.
    Embedded,
    /// In process, then Redis.
    Redis,
}

impl Default for StoresConfig {
    fn default() -> Self {
        Self {
            log: LogBackend::Embedded,
            ledger: LedgerBackend::Embedded,
            vectors: VectorsBackend::Embedded,
            graph: GraphBackend::Embedded,
            engagement: EngagementBackend::Embedded,
            cache: CacheBackend::Embedded,
            setup: true,
        }
    }
}

impl StoresConfig {
    /// Whether anything lies in the data directory, which one process has at a time.
    pub fn any_embedded(&self) -> bool {
        self.log == LogBackend::Embedded
            || self.ledger == LedgerBackend::Embedded
            || self.vectors == VectorsBackend::Embedded
            || self.graph == GraphBackend::Embedded
            || self.engagement == EngagementBackend::Embedded
    }

    /// Whether other processes may write what this one reads.
    pub fn any_shared(&self) -> bool {
        self.log != LogBackend::Embedded
            || self.ledger != LedgerBackend::Embedded
            || self.vectors != VectorsBackend::Embedded
            || self.graph != GraphBackend::Embedded
            || self.engagement != EngagementBackend::Embedded
    }

    /// The sections of the backends that are chosen.
    pub(super) fn validate(&self, config: &Config) -> Result<(), String> {
        if self.log == LogBackend::Kafka {
            config.kafka.validate()?;
        }
        if self.ledger == LedgerBackend::Mongodb {
            config.mongodb.validate()?;
        }
        if self.vectors == VectorsBackend::Milvus {
            config.milvus.validate()?;
        }
        if self.graph == GraphBackend::Neo4j {
            config.neo4j.validate()?;
        }
        if self.engagement == EngagementBackend::Postgres {
            config.postgres.validate()?;
        }
        if self.cache == CacheBackend::Redis {
            config.redis.validate()?;
        }
        Ok(())
    }
}
