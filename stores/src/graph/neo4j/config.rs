//! How the graph is reached: the section `neo4j`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::remote::{Address, Retry, Secret, Tls};

/// The keys of the section `neo4j`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Neo4jConfig {
    /// The server that takes writes: `bolt://host:port`, or `neo4j://host:port` where the cluster routes by itself
    /// (`dbms.routing.enabled=true`), so that a write reaches whoever leads.
    pub uri: Address,
    /// Servers that requests read from, in turn, as `bolt://host:port` (a `neo4j://` one would send every read to the leader); none:
    /// from `uri`. One that does not answer is left out for a while.
    pub replicas: Vec<Address>,
    /// Who logs in.
    pub user: String,
    /// The password, or `file:/path`.
    pub password: Secret,
    /// The database within the server.
    pub database: String,
    /// Put before every label, index and constraint, so that several installations share one database: letters, digits, `_`.
    pub prefix: String,
    /// Connections to each server, at most.
    pub connections: usize,
    /// How long opening a connection may take, and waiting for a free one.
    pub connect_timeout_ms: u64,
    /// How long one statement may take, all attempts together. A call with many rows makes several statements.
    pub call_timeout_ms: u64,
    /// Rows in one transaction, at most: what bounds the server's memory.
    pub batch_rows: usize,
    /// Trying again.
    pub retry: Retry,
    /// Encryption.
    pub tls: Tls,
}

impl Default for Neo4jConfig {
    fn default() -> Self {
        Self {
            uri: Address::new("bolt://127.0.0.1:7687"),
            replicas: Vec::new(),
            user: "neo4j".into(),
            password: Secret::default(),
            database: "neo4j".into(),
            prefix: String::new(),
            connections: 16,
            connect_timeout_ms: 3_000,
            call_timeout_ms: 15_000,
            batch_rows: 5_000,
            retry: Retry::default(),
            tls: Tls::default(),
        }
    }
}

impl Neo4jConfig {
    /// Checks the keys. The error names the key and the remedy.
    pub fn validate(&self) -> Result<(), String> {
        if self.uri.is_empty() {
            return Err("neo4j.uri is empty: give bolt://host:port".into());
        }
        for (key, address) in
            std::iter::once(("neo4j.uri", &self.uri)).chain(self.replicas.iter().map(|r| ("neo4j.replicas", r)))
        {
            let scheme = address.expose().split_once("://").map(|(scheme, _)| scheme);
            if !matches!(scheme, Some("bolt" | "neo4j")) {
                return Err(format!(
                    "{key} must start with bolt:// or neo4j:// (encryption is neo4j.tls.enabled), not {address}"
                ));
            }
            if key == "neo4j.replicas" && scheme != Some("bolt") {
                return Err(format!("neo4j.replicas are read from directly: give {address} as bolt://"));
            }
            if address.expose().contains('@') {
                return Err(format!("{key} holds a user: give neo4j.user and neo4j.password instead"));
            }
        }
        let first = self.prefix.chars().next();
        let plain = self.prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain || first.is_some_and(|c| !c.is_ascii_alphabetic()) || self.prefix.len() > 100 {
            return Err("neo4j.prefix may hold letters, digits and _, starts with a letter, and has at most 100 of them".into());
        }
        if self.database.is_empty() {
            return Err("neo4j.database is empty: the default is neo4j".into());
        }
        for (key, value, most) in [
            ("connections", self.connections as u64, 10_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 600_000),
            ("call_timeout_ms", self.call_timeout_ms, 3_600_000),
            ("batch_rows", self.batch_rows as u64, 100_000),
        ] {
            if value == 0 || value > most {
                return Err(format!("neo4j.{key} must be 1 to {most}"));
            }
        }
        if self.tls.cert_file.is_some() {
            return Err("neo4j.tls.cert_file: this driver shows no certificate of its own; log in by user and password".into());
        }
        self.tls.validate("neo4j")
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_key() {
        assert_eq!(Neo4jConfig::default().validate(), Ok(()));
        let refused = |change: fn(&mut Neo4jConfig)| {
            let mut config = Neo4jConfig::default();
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert!(refused(|c| c.uri = Address::new("http://x")).contains("neo4j.uri"));
        assert!(refused(|c| c.uri = Address::new("bolt://u:hunter2@x")).contains("neo4j.user"));
        assert!(refused(|c| c.replicas = vec![Address::new("x:1")]).contains("neo4j.replicas"));
        assert!(refused(|c| c.replicas = vec![Address::new("neo4j://x:1")]).contains("neo4j.replicas"));
        assert!(refused(|c| c.prefix = "a`b".into()).contains("neo4j.prefix"));
        assert!(refused(|c| c.prefix = "1a".into()).contains("neo4j.prefix"));
        assert!(refused(|c| c.batch_rows = 0).contains("neo4j.batch_rows"));
        assert!(refused(|c| c.tls.ca_file = Some("x".into())).contains("neo4j.tls"));
    }
}
