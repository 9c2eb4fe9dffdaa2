//! The section `redis` of the configuration.

use serde::{Deserialize, Serialize};

use crate::remote::{Address, Secret, Tls};

/// What stands behind the addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisMode {
    /// One server: `uri`.
    #[default]
    Single,
    /// A cluster: some of its `nodes`.
    Cluster,
    /// A server and its replicas watched by sentinels: the sentinels are `nodes`, `master` is its name.
    Sentinel,
}

/// Where the servers are and how they are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// One server, a cluster, or sentinels.
    pub mode: RedisMode,
    /// `redis://host:port/database`, for one server; `rediss://` with encryption.
    pub uri: Address,
    /// `redis://host:port` of nodes of a cluster, or of sentinels.
    pub nodes: Vec<Address>,
    /// What the sentinels call the server.
    pub master: String,
    /// The user, where the server asks for one.
    pub user: String,
    /// Their password.
    pub password: Secret,
    /// The password of the sentinels.
    pub sentinel_password: Secret,
    /// Encryption.
    pub tls: Tls,
    /// What all keys begin with, so that several installations share a server. No braces.
    pub prefix: String,
    /// How long making a connection may take, in milliseconds. Nobody waits for it but the first call.
    pub connect_ms: u64,
    /// How long a call may take, in milliseconds.
    pub call_ms: u64,
    /// The least time that an answer is kept, in seconds, where it was not given less. Each gets a time of its own between the least
    /// and the most, so that answers made together do not end together.
    pub ttl_min_s: u64,
    /// The most time that an answer is kept, in seconds.
    pub ttl_max_s: u64,
    /// How often it is asked whether the server is the same and messages still arrive, in milliseconds. An answer in the memory of a
    /// process may be given after an event of its user for at most twice as long, and then only where messages are lost in silence.
    pub heartbeat_ms: u64,
    /// How many megabytes of answers a process keeps in its own memory.
    pub local_mb: u64,
    /// Of how many users a process remembers the epoch.
    pub local_users: usize,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            mode: RedisMode::default(),
            uri: Address::new("redis://127.0.0.1:6379/"),
            nodes: Vec::new(),
            master: String::new(),
            user: String::new(),
            password: Secret::default(),
            sentinel_password: Secret::default(),
            tls: Tls::default(),
            prefix: "nearcast:".into(),
            connect_ms: 1_000,
            call_ms: 50,
            ttl_min_s: 300,
            ttl_max_s: 900,
            heartbeat_ms: 500,
            local_mb: 32,
            local_users: 100_000,
        }
    }
}

impl RedisConfig {
    /// Checks all keys together.
    ///
    /// # Errors
    /// The key and the remedy.
    pub fn validate(&self) -> Result<(), String> {
        self.tls.validate("redis")?;
        let wrong = |a: &Address| !(a.expose().starts_with("redis://") || a.expose().starts_with("rediss://"));
        match self.mode {
            RedisMode::Single if wrong(&self.uri) => return Err("redis.uri is no address: give `redis://host:port/`".into()),
            RedisMode::Single if !self.nodes.is_empty() => {
                return Err("redis.nodes is for a cluster or sentinels: set redis.mode, or leave it out".into());
            }
            RedisMode::Cluster | RedisMode::Sentinel if self.nodes.is_empty() || self.nodes.iter().any(wrong) => {
                return Err("redis.nodes must hold addresses: give `redis://host:port` of at least one".into());
            }
            RedisMode::Sentinel if self.master.is_empty() => {
                return Err("redis.master is missing: give the name that the sentinels know the server by".into());
            }
            _ => {}
        }
        if self.prefix.contains(['{', '}']) || self.prefix.len() > 100 {
            return Err("redis.prefix must hold no braces, and 100 bytes at most".into());
        }
        if self.ttl_min_s > self.ttl_max_s {
            return Err("redis.ttl_min_s is more than redis.ttl_max_s: exchange them".into());
        }
        let ranges: [(&str, u64, u64, u64); 7] = [
            ("connect_ms", self.connect_ms, 1, 60_000),
            ("call_ms", self.call_ms, 1, 60_000),
            ("ttl_min_s", self.ttl_min_s, 1, 86_400),
            ("ttl_max_s", self.ttl_max_s, 1, 86_400),
            ("heartbeat_ms", self.heartbeat_ms, 10, 60_000),
            ("local_mb", self.local_mb, 1, 1 << 20),
            ("local_users", self.local_users as u64, 1, 1 << 30),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("redis.{key} is {value}: give {least} to {most}"));
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
        assert_eq!(RedisConfig::default().validate(), Ok(()));
        type Change = fn(&mut RedisConfig);
        let wrong: [(&str, Change); 6] = [
            ("uri", |c| c.uri = Address::new("127.0.0.1:6379")),
            ("nodes", |c| c.mode = RedisMode::Cluster),
            ("master", |c| (c.mode, c.nodes) = (RedisMode::Sentinel, vec![Address::new("redis://h:1")])),
            ("prefix", |c| c.prefix = "{x}".into()),
            ("ttl_min_s", |c| c.ttl_min_s = 901),
            ("call_ms", |c| c.call_ms = 0),
        ];
        for (key, change) in wrong {
            let mut config = RedisConfig::default();
            change(&mut config);
            let message = config.validate().unwrap_err();
            assert!(message.contains(&format!("redis.{key}")), "{key}: {message}");
        }
    }
}
