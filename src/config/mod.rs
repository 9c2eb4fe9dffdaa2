//! The configuration: sections, defaults and the checks that reach over several keys.
//!
//! Unknown keys and impossible combinations are refused before anything is opened. Secrets are never printed.

mod load;
mod model;
mod schedule;
mod stores;

use std::{net::SocketAddr, path::PathBuf};

pub use load::load;
pub use model::ModelConfig;
use nearcast_domain::{profile::ProfileRule, taste::Taste};
use nearcast_ingest::IngestConfig;
use nearcast_pipelines::{TrainConfig, UpkeepConfig};
use nearcast_serve::ServeConfig;
use nearcast_stores::{
    cache::RedisConfig, engagement::PostgresConfig, graph::Neo4jConfig, guard::GuardConfig, log::KafkaConfig,
    mongo::MongoConfig, vectors::MilvusConfig,
};
pub use schedule::ScheduleConfig;
use serde::{Deserialize, Serialize};
pub use stores::{CacheBackend, EngagementBackend, GraphBackend, LedgerBackend, LogBackend, StoresConfig, VectorsBackend};

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where data lies.
    pub data_dir: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Logging.
    pub log: LogConfig,
    /// Which backend stands behind each port.
    pub stores: StoresConfig,
    /// Kafka, where `stores.log` names it.
    pub kafka: KafkaConfig,
    /// MongoDB, where `stores.ledger` names it.
    pub mongodb: MongoConfig,
    /// Milvus, where `stores.vectors` names it.
    pub milvus: MilvusConfig,
    /// Neo4j, where `stores.graph` names it.
    pub neo4j: Neo4jConfig,
    /// PostgreSQL, where `stores.engagement` names it.
    pub postgres: PostgresConfig,
    /// Redis, where `stores.cache` names it.
    pub redis: RedisConfig,
    /// How stores are guarded from the point of view of a request.
    pub guard: GuardConfig,
    /// The embedding model.
    pub model: ModelConfig,
    /// The worker.
    pub ingest: IngestConfig,
    /// What engagements are worth.
    pub taste: Taste,
    /// How profiles are made.
    pub profile: ProfileRule,
    /// The API and the way it recommends.
    pub serve: ServeConfig,
    /// Item neighbours and trending.
    pub upkeep: UpkeepConfig,
    /// Learning from the history.
    pub train: TrainConfig,
    /// Jobs at their times.
    pub schedule: ScheduleConfig,
}

/// The section `[log]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A level, or a filter such as `warn,nearcast=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "nearcast-data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            log: LogConfig::default(),
            stores: StoresConfig::default(),
            kafka: KafkaConfig::default(),
            mongodb: MongoConfig::default(),
            milvus: MilvusConfig::default(),
            neo4j: Neo4jConfig::default(),
            postgres: PostgresConfig::default(),
            redis: RedisConfig::default(),
            guard: GuardConfig::default(),
            model: ModelConfig::default(),
            ingest: IngestConfig::default(),
            taste: Taste::default(),
            profile: ProfileRule::default(),
            serve: ServeConfig::default(),
            upkeep: UpkeepConfig::default(),
            train: TrainConfig::default(),
            schedule: ScheduleConfig::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Pretty }
    }
}

impl Config {
    /// The checks of every section, and those between them.
    fn validate(&self) -> Result<(), String> {
        self.ingest.validate()?;
        self.taste.validate()?;
        self.profile.validate()?;
        self.serve.validate().map_err(|e| e.to_string())?;
        self.upkeep.validate()?;
        self.train.validate()?;
        self.schedule.validate()?;
        self.stores.validate(self)?;
        self.guard.validate()?;
        self.model.validate()
    }
}
