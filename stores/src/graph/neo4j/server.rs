//! One Neo4j server: its connections, and statements run on them within a time.
//!
//! The driver's own pool hands out connections that a cancelled call left in the middle of an exchange. So every connection is
//! a driver of its own with one place in its pool, and is thrown away unless its exchange came to an end. And it tries refused
//! logins and lost servers again for a minute where no transaction was asked for: so everything runs in one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use neo4rs::{ConfigBuilder, Graph, Query, Row};
use tokio::time::timeout;

use super::{STORE, config::Neo4jConfig, error};
use crate::remote::{Address, Lease, Pool, with_retries};

/// Rows that the server sends before it is asked for more.
const FETCH_ROWS: usize = 2_000;

/// One server.
pub(super) struct Server {
    config: Arc<Neo4jConfig>,
    address: Address,
    pool: Pool<Graph>,
}

impl Server {
    pub(super) fn new(config: &Arc<Neo4jConfig>, address: &Address) -> Self {
        let pool = Pool::new(STORE, config.connections, config.connect_timeout());
        Self { config: config.clone(), address: address.clone(), pool }
    }

    pub(super) fn close(&self) {
        drop(self.pool.close());
    }

    /// Reads in a transaction of its own. Tried again after passing failures; never longer than `limit`.
    pub(super) async fn read(&self, limit: Duration, make: impl Fn() -> Query) -> StoreResult<Vec<Row>> {
        self.within(limit, with_retries(self.config.retry, || self.transaction(vec![make()]))).await
    }

    /// Writes in one transaction: the statements in their order, then the commit. Answers the rows of the last. Tried again after
    /// passing failures; never longer than the configured time.
    pub(super) async fn write(&self, make: impl Fn() -> Vec<Query>) -> StoreResult<Vec<Row>> {
        self.write_within(self.config.call_timeout(), make).await
    }

    /// As [`Self::write`], within a time of its own.
    pub(super) async fn write_within(&self, limit: Duration, make: impl Fn() -> Vec<Query>) -> StoreResult<Vec<Row>> {
        self.within(limit, with_retries(self.config.retry, || self.transaction(make()))).await
    }

    /// Reads row by row, however many there are: each must come within the configured time. Not tried again.
    pub(super) async fn stream(&self, query: Query, mut each: impl FnMut(Row) -> StoreResult<()>) -> StoreResult<()> {
        let step = self.config.call_timeout();
        let mut lease = self.lease().await?;
        let graph = lease.get()?.clone();
        let begin = async {
            let mut transaction = graph.start_txn().await?;
            let rows = transaction.execute(query).await?;
            Ok((transaction, rows))
        };
        let begun = self.within(step, async { Ok(begin.await) }).await?;
        let (mut transaction, mut rows) = match begun {
            Ok(begun) => begun,
            Err(e) => return self.settle(lease, Err(e)),
        };
        let mut since = 0_u32;
        loop {
            let next = async { rows.next(&mut transaction).await.map_err(|e| self.failed(&e)) };
            let Some(row) = self.within(step, next).await? else { break };
            each(row)?;
            since += 1;
            if since.is_multiple_of(256) {
                tokio::task::yield_now().await;
            }
        }
        let ended = self.within(step, async { Ok(transaction.commit().await) }).await?;
        self.settle(lease, ended)
    }

    async fn transaction(&self, queries: Vec<Query>) -> StoreResult<Vec<Row>> {
        let mut lease = self.lease().await?;
        let graph = lease.get()?.clone();
        let run = async {
            let mut transaction = graph.start_txn().await?;
            let mut all = Vec::new();
            for query in queries {
                all.clear();
                let mut rows = transaction.execute(query).await?;
                while let Some(row) = rows.next(&mut transaction).await? {
                    all.push(row);
                }
            }
            transaction.commit().await?;
            Ok(all)
        };
        let done = run.await;
        self.settle(lease, done)
    }

    /// Gives the connection back where it is clean.
    fn settle<T>(&self, lease: Lease<'_, Graph>, result: Result<T, neo4rs::Error>) -> StoreResult<T> {
        match &result {
            Ok(_) => lease.clean(),
            Err(e) if error::is_refusal(e) => lease.clean(),
            Err(_) => {}
        }
        result.map_err(|e| self.failed(&e))
    }

    fn failed(&self, e: &neo4rs::Error) -> StoreError {
        let e = error::of(&self.address.to_string(), e);
        if e.kind == ErrorKind::Unavailable {
            self.pool.distrust();
        }
        e
    }

    async fn within<T>(&self, limit: Duration, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        match timeout(limit, call).await {
            Ok(result) => result,
            Err(_) => {
                self.pool.distrust();
                let message = format!("neo4j {}: no answer within {} ms", self.address, limit.as_millis());
                Err(StoreError::new(ErrorKind::Timeout, STORE, message))
            }
        }
    }

    async fn lease(&self) -> StoreResult<Lease<'_, Graph>> {
        self.pool.take(|| self.connect()).await
    }

    /// Opens a connection, logs in and sees that the database answers.
    async fn connect(&self) -> StoreResult<Graph> {
        let c = &self.config;
        let plain = self.address.expose();
        let uri = if c.tls.enabled { plain.replacen("://", "+s://", 1) } else { plain.to_owned() };
        let mut config = ConfigBuilder::new()
            .uri(uri)
            .user(&*c.user)
            .password(c.password.read(STORE)?)
            .db(&*c.database)
            .fetch_size(FETCH_ROWS)
            .max_connections(1);
        if let Some(authority) = &c.tls.ca_file {
            config = config.with_client_certificate(authority);
        }
        let config = config.build().map_err(|e| error::of(&self.address.to_string(), &e))?;
        self.within(c.connect_timeout(), async {
            let graph = Graph::connect(config).await.map_err(|e| self.failed(&e))?;
            let greeted = graph.start_txn().await.map_err(|e| self.failed(&e))?;
            greeted.rollback().await.map_err(|e| self.failed(&e))?;
            Ok(graph)
        })
        .await
    }
}

/// How long a server that did not answer is left out.
const LEFT_OUT: Duration = Duration::from_secs(5);

/// A server that requests read from, and since when it did not answer.
pub(super) struct Replica {
    pub(super) server: Server,
    failed: std::sync::Mutex<Option<Instant>>,
}

impl Replica {
    pub(super) fn new(server: Server) -> Self {
        Self { server, failed: std::sync::Mutex::new(None) }
    }

    pub(super) fn is_in(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failed.is_none_or(|at| at.elapsed() > LEFT_OUT)
    }

    pub(super) fn answered(&self, well: bool) {
        *self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = (!well).then(Instant::now);
    }
}
