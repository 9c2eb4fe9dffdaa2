//! The server: connections, and transactions within a time.
//!
//! Every statement stands in a transaction of its own making, reads as well: behind pgbouncer in transaction mode a statement is
//! prepared and run on the same server only there. Nothing is set that outlives a transaction.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::timeout;

use super::{STORE, config::PostgresConfig, error};
use crate::remote::{Lease, Pool, with_retries};

/// The server and its connections.
pub(super) struct Server {
    pub(super) config: PostgresConfig,
    pool: Pool<PgConnection>,
}

/// What a transaction may do.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    /// One snapshot, nothing written.
    Read,
    /// As [`Mode::Read`], for as long as it takes.
    LongRead,
    /// Each statement sees what is committed.
    Write,
}

/// A transaction. Dropped before its end, its connection is closed and nothing is written.
pub(super) struct Tx<'s> {
    server: &'s Server,
    lease: Option<Lease<'s, PgConnection>>,
}

/// A statement of our own. Ids and numbers are bound to it, never written into it.
pub(super) fn sql<'q>(text: &Arc<str>) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(AssertSqlSafe(text.clone())).persistent(false)
}

impl Server {
    pub(super) fn new(config: &PostgresConfig) -> Self {
        let pool = Pool::new(STORE, config.connections, config.connect_timeout());
        Self { config: config.clone(), pool }
    }

    /// Says goodbye on what is idle.
    pub(super) async fn close(&self) {
        for connection in self.pool.close() {
            let _ = timeout(Duration::from_secs(1), connection.close()).await;
        }
    }

    /// Calls until it succeeds or fails for good, never longer than the configured time.
    pub(super) async fn attempts<T, F>(&self, call: impl FnMut() -> F) -> StoreResult<T>
    where
        F: Future<Output = StoreResult<T>>,
    {
        self.within(self.config.call_timeout(), with_retries(self.config.retry, call)).await
    }

    pub(super) async fn begin(&self, mode: Mode) -> StoreResult<Tx<'_>> {
        let limit = self.config.call_timeout_ms;
        let begin = match mode {
            Mode::Read => format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {limit}"),
            Mode::LongRead => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0".to_owned(),
            // A writer that went away must not keep its locks.
            Mode::Write => format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {limit}; \
                 SET LOCAL idle_in_transaction_session_timeout = {limit}"
            ),
        };
        let lease = self.pool.take(|| self.connect()).await?;
        let mut tx = Tx { server: self, lease: Some(lease) };
        tx.simple(begin).await?;
        Ok(tx)
    }

    async fn connect(&self) -> StoreResult<PgConnection> {
        let options = self.config.options()?;
        let connect = async { options.connect().await.map_err(|e| self.failed(&e)) };
        self.within(self.config.connect_timeout(), connect).await
    }

    fn failed(&self, e: &sqlx::Error) -> StoreError {
        let e = error::of(&self.config.uri.to_string(), e);
        if e.kind == ErrorKind::Unavailable {
            self.pool.distrust();
        }
        e
    }

    pub(super) async fn within<T>(&self, limit: Duration, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        match timeout(limit, call).await {
            Ok(result) => result,
            Err(_) => {
                self.pool.distrust();
                let message = format!("{}: no answer within {} ms", self.config.uri, limit.as_millis());
                Err(StoreError::new(ErrorKind::Timeout, STORE, message))
            }
        }
    }
}

impl Tx<'_> {
    /// Statements without parameters.
    pub(super) async fn simple(&mut self, text: String) -> StoreResult<()> {
        let connection = self.connection()?;
        let done = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await;
        self.settle(done).await.map(|_| ())
    }

    /// All rows of a statement.
    pub(super) async fn rows(&mut self, query: Query<'_, Postgres, PgArguments>) -> StoreResult<Vec<PgRow>> {
        let connection = self.connection()?;
        let done = query.fetch_all(&mut *connection).await;
        self.settle(done).await
    }

    /// How many rows a statement changed.
    pub(super) async fn run(&mut self, query: Query<'_, Postgres, PgArguments>) -> StoreResult<u64> {
        let connection = self.connection()?;
        let done = query.execute(&mut *connection).await;
        self.settle(done).await.map(|done| done.rows_affected())
    }

    /// Row by row, however many there are: each must come within the configured time.
    pub(super) async fn stream(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
        mut each: impl FnMut(&PgRow) -> sqlx::Result<()>,
    ) -> StoreResult<()> {
        let server = self.server;
        let connection = self.connection()?;
        let mut rows = query.fetch(&mut *connection);
        let mut since = 0_u32;
        let step = server.config.call_timeout();
        while let Some(row) = server.within(step, async { rows.try_next().await.map_err(|e| server.failed(&e)) }).await? {
            each(&row).map_err(|e| server.failed(&e))?;
            since += 1;
            if since.is_multiple_of(1024) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    pub(super) async fn commit(mut self) -> StoreResult<()> {
        self.simple("COMMIT".into()).await?;
        if let Some(lease) = self.lease.take() {
            lease.clean();
        }
        Ok(())
    }

    fn connection(&mut self) -> StoreResult<&mut PgConnection> {
        let ended = || StoreError::new(ErrorKind::Unavailable, STORE, "the transaction ended with an error");
        self.lease.as_mut().ok_or_else(ended)?.get()
    }

    /// After a refusal the transaction ends here and the connection is kept; after anything else the connection is closed.
    async fn settle<T>(&mut self, done: sqlx::Result<T>) -> StoreResult<T> {
        let e = match done {
            Ok(value) => return Ok(value),
            Err(e) => e,
        };
        if let Some(mut lease) = self.lease.take()
            && matches!(e, sqlx::Error::Database(_))
            && sqlx::raw_sql("ROLLBACK").execute(&mut *lease.get()?).await.is_ok()
        {
            lease.clean();
        }
        Err(self.server.failed(&e))
    }
}

/// A column of a row.
pub(super) fn get<'r, T>(row: &'r PgRow, column: usize) -> StoreResult<T>
where
    T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    sqlx::Row::try_get(row, column).map_err(|e| error::of("postgres", &e))
}
