//! How the engagement totals are reached: the section `postgres`.

use std::{str::FromStr as _, time::Duration};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use serde::{Deserialize, Serialize};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::STORE;
use crate::remote::{Address, Retry, Secret, Tls};

/// The keys of the section `postgres`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`. It may point to pgbouncer in transaction mode.
    pub uri: Address,
    /// Who logs in; none: who stands in `uri`.
    pub user: String,
    /// The password, or `file:/path`; none: what stands in `uri`.
    pub password: Secret,
    /// The schema that holds the tables, so that several installations share one database: small letters, digits, `_`.
    pub schema: String,
    /// Connections, at most.
    pub connections: usize,
    /// How long opening a connection may take, and waiting for a free one.
    pub connect_timeout_ms: u64,
    /// How long one transaction may take, all attempts together. A call with many rows makes several.
    pub call_timeout_ms: u64,
    /// Rows in one transaction, at most.
    pub batch_rows: usize,
    /// Trying again.
    pub retry: Retry,
    /// Encryption. Where it is off, the `sslmode` of `uri` counts, and without one nothing is encrypted.
    pub tls: Tls,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            uri: Address::new("postgres://127.0.0.1:5432/nearcast"),
            user: String::new(),
            password: Secret::default(),
            schema: "nearcast".into(),
            connections: 16,
            connect_timeout_ms: 3_000,
            call_timeout_ms: 15_000,
            batch_rows: 5_000,
            retry: Retry::default(),
            tls: Tls::default(),
        }
    }
}

impl PostgresConfig {
    /// Checks the keys. The error names the key and the remedy, never the password.
    pub fn validate(&self) -> Result<(), String> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| self.uri.expose().starts_with(scheme)) {
            return Err(format!("postgres.uri must be postgres://user:password@host:port/database, not {}", self.uri));
        }
        if PgConnectOptions::from_str(self.uri.expose()).is_err() {
            return Err(format!(
                "postgres.uri cannot be read: {} (special characters in a password are written as %XX)",
                self.uri
            ));
        }
        let plain = self.schema.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        let first = self.schema.bytes().next().is_some_and(|c| c.is_ascii_lowercase());
        if !plain || !first || self.schema.len() > 60 || self.schema.starts_with("pg_") {
            return Err("postgres.schema may hold small letters, digits and _, starts with a letter but not with pg_, \
                        and has at most 60 of them"
                .into());
        }
        for (key, value, most) in [
            ("connections", self.connections as u64, 10_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 600_000),
            ("call_timeout_ms", self.call_timeout_ms, 3_600_000),
            ("batch_rows", self.batch_rows as u64, 100_000),
        ] {
            if value == 0 || value > most {
                return Err(format!("postgres.{key} must be 1 to {most}"));
            }
        }
        self.tls.validate("postgres")
    }

    /// What the driver connects with, the password as it stands now.
    pub(super) fn options(&self) -> StoreResult<PgConnectOptions> {
        let unreadable = |_| StoreError::new(ErrorKind::Invalid, STORE, format!("postgres.uri cannot be read: {}", self.uri));
        let uri = self.uri.expose();
        let mut options = PgConnectOptions::from_str(uri).map_err(unreadable)?;
        if !self.user.is_empty() {
            options = options.username(&self.user);
        }
        if !self.password.is_empty() {
            options = options.password(&self.password.read(STORE)?);
        }
        if self.tls.enabled {
            options = options.ssl_mode(PgSslMode::VerifyFull);
            if let Some(file) = &self.tls.ca_file {
                options = options.ssl_root_cert(file);
            }
            if let (Some(cert), Some(key)) = (&self.tls.cert_file, &self.tls.key_file) {
                options = options.ssl_client_cert(cert).ssl_client_key(key);
            }
        } else if !uri.contains("sslmode") && !uri.contains("ssl-mode") {
            options = options.ssl_mode(PgSslMode::Disable);
        }
        // pgbouncer hands a connection to someone else after each transaction: no named statements, and no settings at the
        // start that it does not know.
        let options = options.statement_cache_capacity(0).extra_float_digits(None).application_name("nearcast");
        Ok(options.disable_statement_logging())
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
    fn refusals_name_the_key_and_no_password() {
        assert_eq!(PostgresConfig::default().validate(), Ok(()));
        let refused = |change: fn(&mut PostgresConfig)| {
            let mut config = PostgresConfig::default();
            change(&mut config);
            config.validate().unwrap_err()
        };
        let e = refused(|c| c.uri = Address::new("mysql://u:hunter2@h/x"));
        assert!(e.contains("postgres.uri") && !e.contains("hunter2"), "{e}");
        let e = refused(|c| c.uri = Address::new("postgres://u:hun/ter2@h:x/x"));
        assert!(e.contains("postgres.uri") && !e.contains("ter2"), "{e}");
        for schema in ["", "A", "1a", "a\"b", "pg_x", "a-b"] {
            let config = PostgresConfig { schema: schema.into(), ..PostgresConfig::default() };
            assert!(config.validate().unwrap_err().contains("postgres.schema"));
        }
        assert!(refused(|c| c.call_timeout_ms = 0).contains("postgres.call_timeout_ms"));
        assert!(refused(|c| c.tls.key_file = Some("x".into())).contains("postgres.tls"));
    }
}
