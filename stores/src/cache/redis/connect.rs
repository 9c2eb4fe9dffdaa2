//! Connections to one server, a cluster, or whatever server the sentinels name.
//!
//! The check of certificates cannot be turned off here, not even by an address.

use std::{fs, path::Path, time::Duration};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    RedisError, RedisFuture, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo},
    sentinel::{SentinelClientBuilder, SentinelServerType},
};

use super::{RedisConfig, RedisMode};
use crate::remote::Address;

/// A connection, shared by whoever clones it.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Makes one.
    pub(super) async fn open(config: &RedisConfig) -> StoreResult<Self> {
        let (connect, call) = (Duration::from_millis(config.connect_ms), Duration::from_millis(config.call_ms));
        if config.mode == RedisMode::Cluster {
            let nodes = config.nodes.iter().map(|n| info(config, n)).collect::<StoreResult<Vec<_>>>()?;
            let mut builder = ClusterClientBuilder::new(nodes).connection_timeout(connect).response_timeout(call).retries(2);
            if let Some(certificates) = certificates(config)? {
                builder = builder.tls(TlsMode::Secure).certs(certificates);
            }
            let client = builder.build().map_err(from_redis)?;
            return client.get_async_connection().await.map(Self::Cluster).map_err(from_redis);
        }
        let settings = AsyncConnectionConfig::new().set_connection_timeout(Some(connect)).set_response_timeout(Some(call));
        let client = client(config).await?;
        client.get_multiplexed_async_connection_with_config(&settings).await.map(Self::Single).map_err(from_redis)
    }

    /// Which run of which servers this is, and the oldest version among them.
    pub(super) async fn run(&mut self) -> StoreResult<(String, Option<u32>)> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let texts: Vec<String> = match self {
            Self::Single(c) => vec![info.query_async(c).await.map_err(from_redis)?],
            Self::Cluster(c) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::Special)));
                let value = c.route_command(info, all).await.map_err(from_redis)?;
                let by_node: Vec<(String, String)> = match value {
                    Value::Map(pairs) => pairs
                        .into_iter()
                        .filter_map(|(k, v)| Some((redis::from_redis_value(k).ok()?, redis::from_redis_value(v).ok()?)))
                        .collect(),
                    other => redis::from_redis_value(other).map_err(|e| from_redis(e.into()))?,
                };
                by_node.into_iter().map(|(_, text)| text).collect()
            }
        };
        let value = |text: &str, key: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(key))
                .map(|v| v.trim_start_matches(':').trim().to_owned())
                .unwrap_or_default()
        };
        let mut runs: Vec<String> = texts.iter().map(|t| value(t, "run_id")).collect();
        runs.sort_unstable();
        let oldest = texts.iter().filter_map(|t| value(t, "redis_version").split('.').next()?.parse().ok()).min();
        Ok((runs.join(","), oldest))
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(c) => c.req_packed_command(cmd),
            Self::Cluster(c) => c.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(&'a mut self, pipe: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(c) => c.req_packed_commands(pipe, offset, count),
            Self::Cluster(c) => c.req_packed_commands(pipe, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(c) => c.get_db(),
            Self::Cluster(c) => c.get_db(),
        }
    }
}

/// A connection that messages come on. Any node of a cluster gives the messages of all; `turn` says which is asked first.
pub(super) async fn subscription(config: &RedisConfig, turn: usize) -> StoreResult<PubSub> {
    let client = match config.mode {
        RedisMode::Cluster => {
            let node = &config.nodes[turn % config.nodes.len().max(1)];
            open(config, info(config, node)?)?
        }
        _ => client(config).await?,
    };
    client.get_async_pubsub().await.map_err(from_redis)
}

async fn client(config: &RedisConfig) -> StoreResult<Client> {
    if config.mode != RedisMode::Sentinel {
        return open(config, info(config, &config.uri)?);
    }
    let sentinels =
        config.nodes.iter().map(|n| info(config, n).map(|i| i.addr().clone())).collect::<StoreResult<Vec<ConnectionAddr>>>()?;
    let mut builder = SentinelClientBuilder::new(sentinels, &config.master, SentinelServerType::Master).map_err(from_redis)?;
    if !config.user.is_empty() {
        builder = builder.set_client_to_redis_username(&config.user);
    }
    if !config.password.is_empty() {
        builder = builder.set_client_to_redis_password(config.password.read("cache")?);
    }
    if !config.sentinel_password.is_empty() {
        builder = builder.set_client_to_sentinel_password(config.sentinel_password.read("cache")?);
    }
    if let Some(certificates) = certificates(config)? {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder.build().map_err(from_redis)?.async_get_client().await.map_err(from_redis)
}

fn open(config: &RedisConfig, info: ConnectionInfo) -> StoreResult<Client> {
    let client = match certificates(config)? {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    };
    client.map_err(from_redis)
}

/// What an address says, with user, password and encryption from the configuration where they are there.
fn info(config: &RedisConfig, address: &Address) -> StoreResult<ConnectionInfo> {
    // The driver's error could repeat the address, and with it a password.
    let unreadable = |_| StoreError::new(ErrorKind::Invalid, "cache", format!("{address} is no address of a Redis server"));
    let mut info = address.expose().into_connection_info().map_err(unreadable)?;
    let mut login = info.redis_settings().clone();
    if !config.user.is_empty() {
        login = login.set_username(&config.user);
    }
    if !config.password.is_empty() && config.mode != RedisMode::Sentinel {
        login = login.set_password(config.password.read("cache")?);
    }
    info = info.set_redis_settings(login);
    let secured = match info.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            let message =
                format!("{address} turns the check of certificates off: name the authority in redis.tls.ca_file instead");
            return Err(StoreError::new(ErrorKind::Invalid, "cache", message));
        }
        ConnectionAddr::Tcp(host, port) if config.tls.enabled => {
            Some(ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None })
        }
        _ => None,
    };
    Ok(match secured {
        Some(addr) => info.set_addr(addr),
        None => info,
    })
}

fn certificates(config: &RedisConfig) -> StoreResult<Option<TlsCertificates>> {
    let tls = &config.tls;
    if !tls.enabled {
        return Ok(None);
    }
    let client_tls = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        _ => None,
    };
    Ok(Some(TlsCertificates { client_tls, root_cert: tls.ca_file.as_deref().map(read).transpose()? }))
}

fn read(path: &Path) -> StoreResult<Vec<u8>> {
    fs::read(path).map_err(|e| StoreError::new(ErrorKind::Invalid, "cache", format!("{} cannot be read: {e}", path.display())))
}

/// An error of the driver's as the port's.
pub(super) fn from_redis(error: RedisError) -> StoreError {
    use redis::{ErrorKind as K, ServerErrorKind as S};
    let kind = match error.kind() {
        _ if error.is_timeout() => ErrorKind::Timeout,
        K::AuthenticationFailed | K::InvalidClientConfig | K::MasterNameNotFoundBySentinel => ErrorKind::Invalid,
        K::Server(S::NoPerm | S::CrossSlot) => ErrorKind::Invalid,
        K::Server(S::ReadOnly) => ErrorKind::ReadOnly,
        K::Server(S::BusyLoading | S::TryAgain) => ErrorKind::Busy,
        _ => match error.code() {
            Some("OOM") => ErrorKind::Full,
            Some("BUSY") => ErrorKind::Busy,
            Some("NOAUTH" | "WRONGPASS") => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        },
    };
    StoreError::new(kind, "cache", error)
}
