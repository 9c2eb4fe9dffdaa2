//! The connection, and what went wrong on it as the port's kinds.
//!
//! It is made with the first call. The channel beneath takes up again by itself after an outage; one that was never made is tried again
//! by later calls, at most so often that a server that is gone costs the time of one attempt and not of every caller's.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use milvus::v2::{
    ClientV2, ConnectConfig, RetryConfig, TelemetryConfig, error::Error, request::utility::GetServerVersionRequest,
};
use nearcast_domain::{ErrorKind, StoreError, StoreResult};

use super::MilvusConfig;

/// How long an attempt that failed is the answer to every call.
const AGAIN: Duration = Duration::from_millis(250);
/// The oldest server that takes parameters in expressions.
const OLDEST: (u32, u32) = (2, 5);
/// How milvus-lite begins its version.
const LITE: &str = "milvus_lite";

/// A server that was reached.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) client: ClientV2,
    /// Whether it is milvus-lite, which takes no parameters in expressions.
    pub(super) lite: bool,
}

#[derive(Default)]
struct State {
    server: Option<Arc<Server>>,
    failed: Option<(Instant, StoreError)>,
}

/// The connection of an index.
pub(super) struct Link {
    config: MilvusConfig,
    state: Mutex<State>,
    connecting: tokio::sync::Mutex<()>,
}

impl Link {
    pub(super) fn new(config: MilvusConfig) -> Self {
        Self { config, state: Mutex::default(), connecting: tokio::sync::Mutex::default() }
    }

    /// The server; connects where that was not done.
    pub(super) async fn server(&self) -> StoreResult<Arc<Server>> {
        if let Some(known) = self.known() {
            return known;
        }
        let _one = self.connecting.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        let made = self.connect().await;
        let mut state = self.state();
        match &made {
            Ok(server) => *state = State { server: Some(server.clone()), failed: None },
            Err(e) => state.failed = Some((Instant::now(), e.clone())),
        }
        made
    }

    pub(super) fn close(&self) {
        *self.state() = State::default();
    }

    /// A call of the client's, within the time that calls have.
    pub(super) async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> StoreResult<T> {
        within(self.config.call_ms, call).await
    }

    /// A call that makes or loads something, within the longer time that this has.
    pub(super) async fn long<T>(&self, call: impl Future<Output = Result<T, Error>>) -> StoreResult<T> {
        within(self.config.load_ms, call).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Option<StoreResult<Arc<Server>>> {
        let state = self.state();
        if let Some(server) = &state.server {
            return Some(Ok(server.clone()));
        }
        match &state.failed {
            Some((when, e)) if when.elapsed() < AGAIN => Some(Err(e.clone())),
            _ => None,
        }
    }

    async fn connect(&self) -> StoreResult<Arc<Server>> {
        let config = self.client_config()?;
        let client = within(self.config.connect_ms + 500, ClientV2::new(&config))
            .await
            .map_err(|e| StoreError { message: format!("{} cannot be reached: {}", self.config.address, e.message), ..e })?;
        let request = GetServerVersionRequest::builder().build().map_err(from_sdk)?;
        let version = self.call(client.server_version(request)).await?;
        let lite = version.version().starts_with(LITE);
        if !lite && too_old(version.version()) {
            let message = format!(
                "Milvus {} at {} is too old: {}.{} or later is needed",
                version.version(),
                self.config.address,
                OLDEST.0,
                OLDEST.1
            );
            return Err(invalid(message));
        }
        Ok(Arc::new(Server { client, lite }))
    }

    fn client_config(&self) -> StoreResult<ConnectConfig> {
        let c = &self.config;
        let mut config = ConnectConfig::new()
            .uri(c.address.expose())
            .connect_timeout(Duration::from_millis(c.connect_ms))
            .rpc_timeout(Duration::from_millis(c.load_ms))
            // Retries are this module's callers': they know what may be repeated and how long an answer is waited for.
            .retry(RetryConfig::new().max_attempts(1))
            .telemetry(TelemetryConfig::new().enabled(false));
        if !c.database.is_empty() {
            config = config.database(c.database.as_str());
        }
        if !c.token.is_empty() {
            config = config.token(c.token.read("vectors")?);
        } else if !c.user.is_empty() {
            config = config.token(format!("{}:{}", c.user, c.password.read("vectors")?));
        }
        if c.tls.enabled {
            config = config.secure(true);
            let path = |p: &std::path::Path| p.to_string_lossy().into_owned();
            if let Some(ca) = &c.tls.ca_file {
                config = config.ca_certificate(path(ca));
            }
            if let (Some(cert), Some(key)) = (&c.tls.cert_file, &c.tls.key_file) {
                config = config.client_certificate(path(cert)).client_key(path(key));
            }
        }
        Ok(config)
    }
}

async fn within<T>(ms: u64, call: impl Future<Output = Result<T, Error>>) -> StoreResult<T> {
    match tokio::time::timeout(Duration::from_millis(ms), call).await {
        Ok(done) => done.map_err(from_sdk),
        Err(_) => Err(StoreError::new(ErrorKind::Timeout, "vectors", format!("Milvus did not answer within {ms} ms"))),
    }
}

/// Whether a version such as `v2.4.1-rc` is known to be too old. What cannot be read is taken for new.
fn too_old(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split(['.', '-']).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST)
}

/// Something that cannot be, with the remedy.
pub(super) fn invalid(message: impl std::fmt::Display) -> StoreError {
    StoreError::new(ErrorKind::Invalid, "vectors", message)
}

/// An error of the client's as the port's.
pub(super) fn from_sdk(error: Error) -> StoreError {
    StoreError::new(kind(&error), "vectors", error)
}

/// Codes of the server are those of Milvus' `merr` package; gRPC's are those of its specification.
fn kind(error: &Error) -> ErrorKind {
    match error {
        Error::Server(e) => {
            let reason = e.reason().to_ascii_lowercase();
            match e.code() {
                3 | 4 | 8 => ErrorKind::Busy,
                7 => ErrorKind::Full,
                9 if reason.contains("disk") => ErrorKind::Full,
                9 if reason.contains("memory") => ErrorKind::Busy,
                9 => ErrorKind::ReadOnly,
                6 | 1100..1200 | 1400..1500 => ErrorKind::Invalid,
                _ if reason.contains("no space left") => ErrorKind::Full,
                _ if reason.contains("deny to write") => ErrorKind::ReadOnly,
                _ if reason.contains("rate limit") => ErrorKind::Busy,
                _ => ErrorKind::Unavailable,
            }
        }
        Error::Grpc(status) => match i32::from(status.code()) {
            1 | 4 => ErrorKind::Timeout,
            8 => ErrorKind::Busy,
            3 | 7 | 12 | 16 => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        },
        Error::Timeout(_) | Error::Cancelled(_) => ErrorKind::Timeout,
        Error::Validation(_) | Error::Conversion(_) => ErrorKind::Invalid,
        Error::MalformedResponse(_) => ErrorKind::Corrupt,
        Error::RetryExhausted { source, .. } => kind(source),
        _ => ErrorKind::Unavailable,
    }
}

/// Whether the server says that a collection or an alias is not there.
pub(super) fn is_missing(error: &Error) -> bool {
    match error {
        Error::Server(e) => matches!(e.code(), 100 | 1600) || e.legacy_code() == 4,
        Error::RetryExhausted { source, .. } => is_missing(source),
        _ => false,
    }
}

/// `None` where the server says that there is no index.
#[allow(clippy::result_large_err)] // The error is the client's.
pub(super) fn no_index<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::Server(e)) if e.code() == 700 || e.legacy_code() == 11 => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the server says that a collection is not loaded.
pub(super) fn is_not_loaded(error: &Error) -> bool {
    match error {
        Error::Server(e) => matches!(e.code(), 101 | 103) || e.legacy_code() == 101,
        Error::RetryExhausted { source, .. } => is_not_loaded(source),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_known() {
        for (version, old) in [("v2.4.15", true), ("2.3.0", true), ("v2.5.0-beta", false), ("v3.0.1", false), ("dev", false)] {
            assert_eq!(too_old(version), old, "{version}");
        }
    }
}
