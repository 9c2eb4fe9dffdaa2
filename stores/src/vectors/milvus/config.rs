//! The section `milvus` of the configuration.

use milvus::v2::ConsistencyLevel;
use serde::{Deserialize, Serialize};

use crate::remote::{Address, Retry, Secret, Tls};

/// What a search sees of what was written just before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MilvusConsistency {
    /// Everything that was acknowledged, by whomever: what `after` and tests need. The slowest.
    Strong,
    /// Everything that this process wrote.
    Session,
    /// Everything but the last moments (seconds, as the server is configured): for answers that need not have the last word.
    #[default]
    Bounded,
    /// Whatever is there.
    Eventually,
}

impl MilvusConsistency {
    pub(super) fn level(self) -> ConsistencyLevel {
        match self {
            Self::Strong => ConsistencyLevel::Strong,
            Self::Session => ConsistencyLevel::Session,
            Self::Bounded => ConsistencyLevel::Bounded,
            Self::Eventually => ConsistencyLevel::Eventually,
        }
    }
}

/// How vectors are indexed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MilvusIndexKind {
    /// A graph; on milvus-lite, whose searches are exact anyway, none.
    #[default]
    Auto,
    /// A graph (HNSW) with `m`, `ef_construction` and `ef`.
    Hnsw,
    /// Every row is compared: exact, and slow with many.
    Flat,
}

/// Where the server is and how it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MilvusConfig {
    /// `http://host:port`; with `tls.enabled`, `https://` is meant.
    pub address: Address,
    /// The user, where the server asks for one.
    pub user: String,
    /// Their password.
    pub password: Secret,
    /// An API key, instead of user and password.
    pub token: Secret,
    /// Encryption.
    pub tls: Tls,
    /// The server's database; none: `default`.
    pub database: String,
    /// What the names of all collections and aliases begin with, so that several installations share a server: a letter, then letters,
    /// digits and `_`, at most 64.
    pub prefix: String,
    /// How vectors are indexed.
    pub index: MilvusIndexKind,
    /// Links of a point in the graph, 2 to 2048 (`M`).
    pub m: u32,
    /// How many candidates an insertion into the graph weighs (`efConstruction`).
    pub ef_construction: u32,
    /// How many candidates a search weighs, at least (`ef`).
    pub ef: u32,
    /// Into how many parts tenants are hashed, 1 to 1024. Counts when collections are made.
    pub partitions: u32,
    /// Into how many streams writes are hashed, 1 to 64. Counts when collections are made.
    pub shards: u32,
    /// How many query nodes hold each row. Counts when collections are loaded.
    pub replicas: u32,
    /// What searches see of what was written just before.
    pub consistency: MilvusConsistency,
    /// How long making a connection may take, in milliseconds.
    pub connect_ms: u64,
    /// How long a call may take, in milliseconds.
    pub call_ms: u64,
    /// How long making or loading a collection may take, in milliseconds.
    pub load_ms: u64,
    /// For how long it is remembered which revision is current, in milliseconds: a switch by another process is seen that late.
    pub current_ms: u64,
    /// How many bytes of rows a call writes, at most. The server takes 64 MiB.
    pub batch_bytes: usize,
    /// How often a write that failed in passing is tried again.
    pub retry: Retry,
}

impl Default for MilvusConfig {
    fn default() -> Self {
        Self {
            address: Address::new("http://127.0.0.1:19530"),
            user: String::new(),
            password: Secret::default(),
            token: Secret::default(),
            tls: Tls::default(),
            database: String::new(),
            prefix: "nearcast_".into(),
            index: MilvusIndexKind::default(),
            m: 24,
            ef_construction: 200,
            ef: 160,
            partitions: 64,
            shards: 1,
            replicas: 1,
            consistency: MilvusConsistency::default(),
            connect_ms: 2_000,
            call_ms: 10_000,
            load_ms: 120_000,
            current_ms: 1_000,
            batch_bytes: 4 << 20,
            retry: Retry::default(),
        }
    }
}

impl MilvusConfig {
    /// Checks all keys together.
    ///
    /// # Errors
    /// The key and the remedy.
    pub fn validate(&self) -> Result<(), String> {
        self.tls.validate("milvus")?;
        let address = self.address.expose();
        if !(address.starts_with("http://") || address.starts_with("https://")) {
            return Err("milvus.address is no address: give `http://host:port`".into());
        }
        if self.tls.enabled && address.starts_with("http://") {
            return Err("milvus.address begins with `http://`, but milvus.tls is enabled: write `https://`".into());
        }
        if address.contains('@') {
            return Err("milvus.address holds a user: give milvus.user and milvus.password instead".into());
        }
        if !self.token.is_empty() && (!self.user.is_empty() || !self.password.is_empty()) {
            return Err("milvus.token stands instead of milvus.user and milvus.password: leave out one or the other".into());
        }
        if self.user.is_empty() != self.password.is_empty() {
            return Err("milvus.user and milvus.password go together: give both or neither".into());
        }
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begins = self.prefix.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins || !self.prefix.chars().all(named) || self.prefix.len() > 64 {
            return Err("milvus.prefix must be a letter or `_`, then letters, digits and `_`, 64 at most".into());
        }
        let ranges: [(&str, u64, u64, u64); 11] = [
            ("m", self.m.into(), 2, 2048),
            ("ef_construction", self.ef_construction.into(), 8, 32_768),
            ("ef", self.ef.into(), 1, 32_768),
            ("partitions", self.partitions.into(), 1, 1024),
            ("shards", self.shards.into(), 1, 64),
            ("replicas", self.replicas.into(), 1, 64),
            ("connect_ms", self.connect_ms, 10, 600_000),
            ("call_ms", self.call_ms, 10, 600_000),
            ("load_ms", self.load_ms, 1_000, 3_600_000),
            ("current_ms", self.current_ms, 0, 10_000),
            ("batch_bytes", self.batch_bytes as u64, 64 << 10, 48 << 20),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("milvus.{key} is {value}: give {least} to {most}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_key_is_wrong() {
        assert_eq!(MilvusConfig::default().validate(), Ok(()));
        type Change = fn(&mut MilvusConfig);
        let wrong: [(&str, Change); 7] = [
            ("address", |c| c.address = Address::new("localhost:19530")),
            ("tls", |c| c.tls.enabled = true),
            ("user", |c| c.user = "root".into()),
            ("token", |c| (c.user, c.password, c.token) = ("u".into(), Secret::new("p"), Secret::new("t"))),
            ("prefix", |c| c.prefix = "near-cast".into()),
            ("ef", |c| c.ef = 0),
            ("batch_bytes", |c| c.batch_bytes = 1),
        ];
        for (key, change) in wrong {
            let mut config = MilvusConfig::default();
            change(&mut config);
            let message = config.validate().unwrap_err();
            assert!(message.contains(&format!("milvus.{key}")), "{key}: {message}");
        }
    }
}
