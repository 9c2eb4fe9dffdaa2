//! The connection and the task that keeps it.
//!
//! Calls never wait for a connection but the very first: while there is none, they fail at once, and the task makes another. A new
//! connection is given to nobody before it is known which run of the server it leads to: a server that came back may have forgotten
//! epochs, so the base rises first ([`super::scripts::ADOPT`]).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use redis::{RedisError, Script, ServerErrorKind};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    RedisConfig,
    connect::{Connection, from_redis},
    keys::Keys,
    scripts::{ADOPT, BUMP, EPOCH, FORGET, PUT},
};

/// The oldest server whose scripts may read the clock before they write.
const OLDEST: u32 = 5;
/// The longest wait between two attempts to connect.
const LONGEST: Duration = Duration::from_secs(2);

/// What the task shares with calls.
pub(super) struct Shared {
    pub(super) config: RedisConfig,
    pub(super) keys: Keys,
    connection: watch::Sender<Option<Connection>>,
    /// Why there is no connection.
    reason: Mutex<StoreError>,
    /// Set when a call found the connection broken.
    broken: Notify,
    /// The greatest epoch seen, so that none below is ever given out by a server whose clock went back.
    seen: AtomicU64,
    /// The base that was read last.
    base: AtomicU64,
}

/// The connection. Dropping it ends the task.
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
    begun: AtomicBool,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Link {
    pub(super) fn new(config: RedisConfig) -> Self {
        let stop = CancellationToken::new();
        let shared = Shared {
            keys: Keys::new(&config.prefix),
            connection: watch::Sender::new(None),
            reason: Mutex::new(StoreError::new(ErrorKind::Unavailable, "cache", "Redis was not reached yet")),
            broken: Notify::new(),
            seen: AtomicU64::new(0),
            base: AtomicU64::new(0),
            config,
        };
        Self {
            shared: Arc::new(shared),
            task: Mutex::default(),
            begun: AtomicBool::new(false),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Begins to connect, where that was not begun. True for the caller that began it.
    fn begin(&self) -> bool {
        if self.begun.load(Ordering::Acquire) || self.stop.is_cancelled() {
            return false;
        }
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_some() {
            return false;
        }
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        *task = Some(tokio::spawn(async move {
            let keep = shared.keep();
            tokio::select! {
                () = stop.cancelled() => {}
                () = keep => {}
            }
            shared.connection.send_replace(None);
        }));
        self.begun.store(true, Ordering::Release);
        true
    }

    /// Waits for a connection, at most so long.
    pub(super) async fn reached(&self, most: Duration) -> StoreResult<()> {
        self.begin();
        let mut state = self.shared.connection.subscribe();
        match timeout(most, state.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(self.shared.reason()),
        }
    }

    /// A call, within the time that calls have. The first of all calls waits as long for the connection.
    pub(super) async fn call<T, F>(&self, call: impl FnOnce(Connection) -> F) -> StoreResult<T>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        if self.begin() {
            self.reached(Duration::from_millis(self.shared.config.call_ms)).await?;
        }
        self.shared.call(call).await
    }

    /// Ends the task and waits for it.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A task that panicked has ended too.
            let _ = task.await;
        }
    }
}

impl Shared {
    pub(super) async fn call<T, F>(&self, call: impl FnOnce(Connection) -> F) -> StoreResult<T>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let Some(connection) = self.connection.borrow().clone() else { return Err(self.reason()) };
        let most = self.config.call_ms;
        match timeout(Duration::from_millis(most), call(connection)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(e)) => {
                if e.is_io_error()
                    || e.is_connection_dropped()
                    || e.is_timeout()
                    || e.kind() == ServerErrorKind::ReadOnly.into()
                {
                    self.broken.notify_one();
                }
                Err(from_redis(e))
            }
            Err(_) => {
                self.broken.notify_one();
                Err(StoreError::new(ErrorKind::Timeout, "cache", format!("Redis did not answer within {most} ms")))
            }
        }
    }

    /// Remembers an epoch that was given out.
    pub(super) fn saw(&self, epoch: u64) -> u64 {
        self.seen.fetch_max(epoch, Ordering::Relaxed);
        epoch
    }

    /// The base that was read last.
    pub(super) fn base(&self) -> u64 {
        self.base.load(Ordering::Acquire)
    }

    /// Remembers a base that was read. It never falls.
    pub(super) fn saw_base(&self, base: u64) -> u64 {
        self.base.fetch_max(self.saw(base), Ordering::AcqRel).max(base)
    }

    fn reason(&self) -> StoreError {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connects, watches, connects again, until it is dropped.
    async fn keep(&self) {
        let mut wait = Duration::from_millis(20);
        loop {
            let made = timeout(Duration::from_millis(self.config.connect_ms), self.connect()).await;
            let error = match made {
                Ok(Ok(connection)) => {
                    wait = Duration::from_millis(20);
                    self.connection.send_replace(Some(connection));
                    let error = self.watch().await;
                    self.connection.send_replace(None);
                    tracing::warn!(store = "cache", %error, "the connection to Redis is lost");
                    error
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    let message = format!("Redis could not be reached within {} ms", self.config.connect_ms);
                    StoreError::new(ErrorKind::Unavailable, "cache", message)
                }
            };
            *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = error;
            sleep(wait / 2 + wait.mul_f64(fastrand::f64() / 2.0)).await;
            wait = (wait * 2).min(LONGEST);
        }
    }

    async fn connect(&self) -> StoreResult<Connection> {
        let mut connection = Connection::open(&self.config).await?;
        self.adopt(&mut connection, false).await?;
        for script in [&*EPOCH, &*BUMP, &*PUT, &*FORGET, &*ADOPT] {
            load(script, &mut connection).await?;
        }
        Ok(connection)
    }

    /// Makes sure that the base belongs to this run of the server. `raise` ends every answer that there is.
    async fn adopt(&self, connection: &mut Connection, raise: bool) -> StoreResult<()> {
        let (run, version) = connection.run().await?;
        if version.is_some_and(|v| v < OLDEST) {
            let message = format!("this Redis is too old: {OLDEST}.0 or later is needed");
            return Err(StoreError::new(ErrorKind::Invalid, "cache", message));
        }
        let base: u64 = ADOPT
            .key(self.keys.base())
            .arg(run)
            .arg(self.seen.load(Ordering::Relaxed))
            .arg(i32::from(raise))
            .invoke_async(connection)
            .await
            .map_err(from_redis)?;
        if self.saw_base(base) > base {
            // The key was lost while the run went on: what this process knows is later.
            return Err(StoreError::new(ErrorKind::Corrupt, "cache", "the base of all epochs went back"));
        }
        Ok(())
    }

    /// Raises the base: no answer that there is stays fresh.
    pub(super) async fn end_all(&self) -> StoreResult<()> {
        let Some(mut connection) = self.connection.borrow().clone() else { return Err(self.reason()) };
        let most = Duration::from_millis(self.config.connect_ms);
        match timeout(most, self.adopt(&mut connection, true)).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::new(ErrorKind::Timeout, "cache", "Redis did not answer in time")),
        }
    }

    /// Asks now and then, and when a call failed, whether the server is there and the same. Returns when it is not.
    async fn watch(&self) -> StoreError {
        loop {
            let _ = timeout(Duration::from_millis(self.config.heartbeat_ms), self.broken.notified()).await;
            let Some(mut connection) = self.connection.borrow().clone() else { return self.reason() };
            match timeout(Duration::from_millis(self.config.connect_ms), self.adopt(&mut connection, false)).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return e,
                Err(_) => {
                    let message = format!("Redis did not answer within {} ms", self.config.connect_ms);
                    return StoreError::new(ErrorKind::Timeout, "cache", message);
                }
            }
        }
    }
}

/// Gives the server a script.
pub(super) async fn load(script: &Script, connection: &mut Connection) -> StoreResult<()> {
    let loaded: Result<String, RedisError> = script.load_async(connection).await;
    loaded.map(drop).map_err(from_redis)
}
