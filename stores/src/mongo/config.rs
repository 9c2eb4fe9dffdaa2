//! The section `mongodb` of the configuration, and the driver's options made from it.
//!
//! Never prints a password, and asks no server.

use std::time::Duration;

use mongodb::options::{
    Acknowledgment, ClientOptions, ConnectionString, Credential, ReadConcern, ReadPreference, SelectionCriteria,
    Tls as DriverTls, TlsOptions, WriteConcern,
};
use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use serde::{Deserialize, Serialize};

use crate::remote::{Address, Secret, Tls};

/// Where reads for requests may go. What the worker reads always comes from the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadFrom {
    /// The primary alone.
    Primary,
    /// The primary, and a secondary while there is none.
    #[default]
    PrimaryPreferred,
    /// Secondaries alone.
    Secondary,
    /// Secondaries, and the primary while there is none.
    SecondaryPreferred,
    /// Whoever answers fastest.
    Nearest,
}

impl ReadFrom {
    pub(crate) fn criteria(self) -> SelectionCriteria {
        let options = None;
        SelectionCriteria::ReadPreference(match self {
            Self::Primary => ReadPreference::Primary,
            Self::PrimaryPreferred => ReadPreference::PrimaryPreferred { options },
            Self::Secondary => ReadPreference::Secondary { options },
            Self::SecondaryPreferred => ReadPreference::SecondaryPreferred { options },
            Self::Nearest => ReadPreference::Nearest { options },
        })
    }
}

/// How MongoDB is reached and used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MongoConfig {
    /// `mongodb://host:port,host:port/?replicaSet=…` or `mongodb+srv://…`. It may carry user and password.
    pub uri: Address,
    /// The database that everything is kept in.
    pub database: String,
    /// The user, where the address names none.
    pub user: Option<String>,
    /// Their password, or `file:/path`.
    pub password: Secret,
    /// The database that knows the user; `admin` where nothing is given.
    pub auth_source: Option<String>,
    /// Encryption.
    pub tls: Tls,
    /// Connections to each server, at most.
    pub pool: u32,
    /// For a connection to be made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// For a server that can take the call to be found, in milliseconds: how soon a call fails while all are away.
    pub selection_timeout_ms: u64,
    /// For one call to be answered, in milliseconds. Also the longest wait for a majority to acknowledge a write.
    pub call_timeout_ms: u64,
    /// Where reads for requests go.
    pub read_from: ReadFrom,
    /// Calls of one batch or request that run at once.
    pub concurrency: usize,
    /// Documents in one bulk write, at most.
    pub batch_documents: usize,
    /// Bytes in one bulk write, about. Servers take 48 MB.
    pub batch_bytes: usize,
    /// For how long a worker may be at writing items before another finishes what it seems to have left, in seconds.
    pub left_after_s: u64,
    /// How old counts of users, items and events may be, in seconds; 0 counts anew each time.
    pub counts_max_age_s: u64,
}

impl Default for MongoConfig {
    fn default() -> Self {
        Self {
            uri: Address::default(),
            database: "nearcast".into(),
            user: None,
            password: Secret::default(),
            auth_source: None,
            tls: Tls::default(),
            pool: 32,
            connect_timeout_ms: 2_000,
            selection_timeout_ms: 2_000,
            call_timeout_ms: 30_000,
            read_from: ReadFrom::default(),
            concurrency: 16,
            batch_documents: 1_000,
            batch_bytes: 8 << 20,
            left_after_s: 600,
            counts_max_age_s: 30,
        }
    }
}

impl MongoConfig {
    /// Checks the keys together; says which one is wrong and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if self.uri.is_empty() {
            return Err("mongodb.uri is missing: give one such as mongodb://127.0.0.1:27017/".into());
        }
        let parsed = ConnectionString::parse(self.uri.expose()).map_err(|e| format!("mongodb.uri: {}", e.kind))?;
        // What the driver takes for names of databases on every system.
        let odd = |c: char| c.is_control() || "/\\. \"$*<>:|?".contains(c);
        if self.database.is_empty() || self.database.len() > 63 || self.database.contains(odd) {
            return Err("mongodb.database must be 1 to 63 bytes long, without spaces and any of /\\.\"$*<>:|?".into());
        }
        let user = self.user.is_some() || parsed.credential.as_ref().is_some_and(|c| c.username.is_some());
        if !self.password.is_empty() && !user {
            return Err("mongodb.password is given without a user: set mongodb.user".into());
        }
        self.tls.validate("mongodb")?;
        if self.tls.cert_file != self.tls.key_file {
            return Err(
                "mongodb.tls.cert_file and mongodb.tls.key_file must name the same PEM file, holding certificate and key"
                    .into(),
            );
        }
        for (key, value) in [
            ("pool", u64::from(self.pool)),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("selection_timeout_ms", self.selection_timeout_ms),
            ("call_timeout_ms", self.call_timeout_ms),
            ("concurrency", self.concurrency as u64),
        ] {
            if value == 0 {
                return Err(format!("mongodb.{key} must be at least 1"));
            }
        }
        if !(1..=100_000).contains(&self.batch_documents) {
            return Err("mongodb.batch_documents must be 1 to 100000".into());
        }
        if !(1 << 16..=40 << 20).contains(&self.batch_bytes) {
            return Err("mongodb.batch_bytes must be 65536 to 41943040".into());
        }
        Ok(())
    }

    pub(super) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    /// The driver's options. Reads the password; resolves `mongodb+srv` names.
    pub(super) async fn options(&self, store: &'static str) -> StoreResult<ClientOptions> {
        let mut o = ClientOptions::parse(self.uri.expose()).await.map_err(|e| super::error::map(store, &e))?;
        o.app_name.get_or_insert_with(|| "nearcast".into());
        o.max_pool_size = Some(self.pool);
        o.connect_timeout = Some(Duration::from_millis(self.connect_timeout_ms));
        o.server_selection_timeout = Some(Duration::from_millis(self.selection_timeout_ms));
        o.max_idle_time.get_or_insert(Duration::from_secs(300));
        // What is acknowledged outlives the loss of a primary, and the primary shows nothing less to the worker.
        o.write_concern =
            Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(self.call_timeout()).build());
        o.read_concern = Some(ReadConcern::local());
        o.selection_criteria = Some(ReadFrom::Primary.criteria());
        if self.user.is_some() || !self.password.is_empty() || self.auth_source.is_some() {
            let mut credential = o.credential.take().unwrap_or_else(|| Credential::builder().build());
            if self.user.is_some() {
                credential.username.clone_from(&self.user);
            }
            if !self.password.is_empty() {
                credential.password = Some(self.password.read(store)?);
            }
            if self.auth_source.is_some() {
                credential.source.clone_from(&self.auth_source);
            }
            o.credential = Some(credential);
        }
        if self.tls.enabled {
            let mut tls = TlsOptions::builder().build();
            tls.ca_file_path.clone_from(&self.tls.ca_file);
            tls.cert_key_file_path.clone_from(&self.tls.cert_file);
            o.tls = Some(DriverTls::Enabled(tls));
        }
        Ok(o)
    }

    pub(super) fn checked(&self, store: &'static str) -> StoreResult<()> {
        self.validate().map_err(|e| StoreError::new(ErrorKind::Invalid, store, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_settings_are_refused_with_the_key() {
        let good = MongoConfig { uri: Address::new("mongodb://127.0.0.1:1/"), ..MongoConfig::default() };
        assert_eq!(good.validate(), Ok(()));
        type Spoil = fn(&mut MongoConfig);
        let refused: [(Spoil, &str); 7] = [
            (|c| c.uri = Address::default(), "mongodb.uri"),
            (|c| c.uri = Address::new("http://x"), "mongodb.uri"),
            (|c| c.database = "a b".into(), "mongodb.database"),
            (|c| c.password = Secret::new("x"), "mongodb.user"),
            (|c| c.tls.ca_file = Some("x".into()), "mongodb.tls"),
            (|c| c.pool = 0, "mongodb.pool"),
            (|c| c.batch_bytes = 1, "mongodb.batch_bytes"),
        ];
        for (change, key) in refused {
            let mut c = good.clone();
            change(&mut c);
            let e = c.validate().unwrap_err();
            assert!(e.contains(key), "{e}");
        }
    }

    #[tokio::test]
    async fn the_password_comes_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let config = MongoConfig {
            uri: Address::new("mongodb://127.0.0.1:1/"),
            user: Some("ann".into()),
            password: Secret::new(format!("file:{}", file.display())),
            ..MongoConfig::default()
        };
        let credential = config.options("ledger").await.unwrap().credential.unwrap();
        assert_eq!((credential.username.as_deref(), credential.password.as_deref()), (Some("ann"), Some("hunter2")));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
