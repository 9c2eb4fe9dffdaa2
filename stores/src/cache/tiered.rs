//! [`TieredCache`]: the memory of the process in front of Redis.
//!
//! A hit in memory costs no network: epochs are heard of on a channel as they change. What was heard counts only while it is certain that
//! nothing was missed, which is asked again with every heartbeat; otherwise Redis is asked. So an answer is never given as fresh for
//! longer after an event of its user than two heartbeats (`redis.heartbeat_ms`), even where messages are lost in silence.
//!
//! What cannot be told to Redis because it is gone is remembered and told when it is back: events wait for no cache. A process that
//! ends before loses it; a Redis that was away because it ended begins with a new base, and no answer survives that. What remains
//! is a process that ends while it alone could not reach a Redis that went on: answers of users with events in that time
//! may then be given until they end (`redis.ttl_max_s`).

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Tenant, UserId,
    ports::{CachedAnswer, ResponseCache},
};
use tokio::{sync::Notify, task::JoinHandle, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    MokaCache,
    known::Known,
    redis::{
        Change, Heard, RedisCache, RedisConfig,
        keys::{owner, owner_of},
        listen,
    },
};

/// The wait between two attempts to listen, at least.
const AGAIN: Duration = Duration::from_millis(250);

/// The response cache of one of many instances: in process, and on Redis behind it.
///
/// Listens in the background from its first call on, until [`Self::close`] or until it is dropped.
pub struct TieredCache {
    inner: Arc<Inner>,
    begun: AtomicBool,
    task: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

struct Inner {
    redis: RedisCache,
    local: MokaCache,
    known: Mutex<Known>,
    untold: Mutex<Untold>,
    /// Prefixes of answers to remove from memory: others removed them.
    gone: Mutex<Vec<String>>,
    work: Notify,
}

/// What Redis was not told yet.
#[derive(Debug, Default)]
struct Untold {
    bumped: BTreeSet<String>,
    /// Too many to remember: all answers end.
    all: bool,
    forgotten: BTreeSet<String>,
}

impl Untold {
    fn is_empty(&self) -> bool {
        self.bumped.is_empty() && !self.all && self.forgotten.is_empty()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TieredCache {
    /// Both levels as configured; connects with the first call.
    ///
    /// # Errors
    /// `Invalid` where the configuration cannot be.
    pub fn new(config: &RedisConfig) -> StoreResult<Self> {
        let redis = RedisCache::new(config)?;
        let local = MokaCache::new(config.local_mb << 20, 1);
        let known = Known::new(config.local_users, Duration::from_millis(2 * config.heartbeat_ms));
        let inner = Inner {
            redis,
            local,
            known: Mutex::new(known),
            untold: Mutex::default(),
            gone: Mutex::default(),
            work: Notify::new(),
        };
        let stop = CancellationToken::new();
        Ok(Self {
            inner: Arc::new(inner),
            begun: AtomicBool::new(false),
            task: Mutex::default(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Waits until Redis is reached.
    ///
    /// # Errors
    /// Why it is not, after the time that connecting has.
    pub async fn setup(&self) -> StoreResult<()> {
        self.begin();
        self.inner.redis.setup().await
    }

    /// Tells Redis what it was not told yet, if it is there; then ends what runs in the background and waits for it.
    pub async fn close(&self) {
        if !lock(&self.inner.untold).is_empty() {
            let most = Duration::from_millis(self.inner.redis.config().connect_ms);
            let _ = timeout(most, self.inner.tell()).await;
        }
        self.stop.cancel();
        let task = lock(&self.task).take();
        if let Some(task) = task {
            // A task that panicked has ended too.
            let _ = task.await;
        }
        self.inner.redis.close().await;
    }

    fn begin(&self) {
        if self.begun.load(Ordering::Acquire) || self.stop.is_cancelled() {
            return;
        }
        let mut task = lock(&self.task);
        if task.is_none() {
            let (inner, stop) = (self.inner.clone(), self.stop.clone());
            *task = Some(tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = inner.hear() => {}
                    () = inner.catch_up() => {}
                }
            }));
            self.begun.store(true, Ordering::Release);
        }
    }
}

impl Inner {
    /// Listens, again and again.
    async fn hear(&self) {
        for turn in 0.. {
            let begun = Instant::now();
            // Waits for the connection, as long as that may take: then all is heard from soon after it is there.
            let _ = self.redis.setup().await;
            let error = listen(&self.redis, turn, |heard| self.take(heard)).await;
            lock(&self.known).lost();
            tracing::debug!(store = "cache", %error, "changes by other instances are not heard just now");
            tokio::time::sleep(AGAIN.saturating_sub(begun.elapsed()).max(Duration::from_millis(20))).await;
        }
    }

    fn take(&self, heard: Heard) {
        let mut known = lock(&self.known);
        match heard {
            Heard::Begun(base) => {
                known.heard(Instant::now(), base);
                drop(known);
                // Whoever was erased while nothing was heard must not be found in memory.
                lock(&self.gone).push(String::new());
                self.work.notify_one();
            }
            Heard::UpTo(when, base) => known.heard(when, base),
            Heard::Change(Change::Base(base)) => known.raise(base),
            Heard::Change(Change::Epochs(epochs)) => epochs.iter().for_each(|(owner, epoch)| known.set(owner, *epoch)),
            Heard::Change(Change::Forgotten(prefix, epoch)) => {
                known.set(owner(&prefix), epoch);
                drop(known);
                lock(&self.gone).push(prefix);
                self.work.notify_one();
            }
        }
    }

    /// Removes from memory what others removed, and tells Redis what it was not told.
    async fn catch_up(&self) {
        let beat = Duration::from_millis(self.redis.config().heartbeat_ms);
        loop {
            let _ = timeout(beat, self.work.notified()).await;
            let gone = std::mem::take(&mut *lock(&self.gone));
            for prefix in gone {
                if self.local.forget(&prefix).await.is_err() {
                    lock(&self.gone).push(prefix);
                }
            }
            if let Err(error) = self.tell().await {
                tracing::debug!(store = "cache", %error, "events wait to be told to Redis");
            }
        }
    }

    /// Tells Redis what it was not told yet.
    async fn tell(&self) -> StoreResult<()> {
        let (all, bumped, forgotten) = {
            let untold = lock(&self.untold);
            (untold.all, untold.bumped.iter().cloned().collect::<Vec<_>>(), untold.forgotten.clone())
        };
        if all {
            self.redis.end_all().await?;
            lock(&self.untold).all = false;
        }
        for owners in bumped.chunks(256) {
            let epochs = self.redis.bump_owners(owners).await?;
            self.told(&epochs);
        }
        for prefix in forgotten {
            let (_, epoch) = self.redis.forget_owner(&prefix).await?;
            lock(&self.known).set(owner(&prefix), epoch);
            lock(&self.untold).forgotten.remove(&prefix);
        }
        Ok(())
    }

    fn told(&self, epochs: &[(String, u64)]) {
        let mut untold = lock(&self.untold);
        let mut known = lock(&self.known);
        for (owner, epoch) in epochs {
            untold.bumped.remove(owner);
            known.set(owner, *epoch);
        }
    }

    /// Remembers that these owners' epochs are over although Redis does not know.
    fn remember(&self, owners: Vec<String>) {
        let mut untold = lock(&self.untold);
        let mut known = lock(&self.known);
        for owner in owners {
            known.unset(&owner);
            untold.bumped.insert(owner);
        }
        if untold.bumped.len() > self.redis.config().local_users {
            untold.bumped.clear();
            untold.all = true;
        }
    }

    fn is_untold(&self, owner: &str) -> bool {
        let untold = lock(&self.untold);
        untold.all || untold.bumped.contains(owner) || untold.forgotten.iter().any(|prefix| prefix.starts_with(owner))
    }

    /// The owner's epoch, where it is certain without asking.
    fn certain(&self, owner: &str) -> Option<u64> {
        let epoch = lock(&self.known).epoch(owner)?;
        (!self.is_untold(owner)).then_some(epoch)
    }
}

#[async_trait]
impl ResponseCache for TieredCache {
    async fn get(&self, key: &str) -> StoreResult<Option<CachedAnswer>> {
        self.begin();
        let local = self.inner.local.get(key).await?;
        if local.as_ref().is_some_and(|a| self.inner.certain(owner(key)) == Some(a.epoch)) {
            return Ok(local);
        }
        match self.inner.redis.get_living(key).await {
            Ok(Some((answer, ttl))) => {
                self.inner.local.put(key, answer.clone(), ttl).await?;
                Ok(Some(answer))
            }
            Ok(None) => Ok(local),
            Err(e) => local.map_or(Err(e), |answer| Ok(Some(answer))),
        }
    }

    async fn put(&self, key: &str, answer: CachedAnswer, ttl: Duration) -> StoreResult<()> {
        self.begin();
        let ttl = self.inner.redis.time_to_live(ttl);
        // What is certainly over is kept nowhere: it may be of someone who was erased.
        if self.inner.certain(owner(key)).is_none_or(|epoch| epoch == answer.epoch) {
            self.inner.local.put(key, answer.clone(), ttl).await?;
        }
        self.inner.redis.put_for(key, &answer, ttl).await
    }

    async fn epoch(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        self.begin();
        let owner = owner_of(tenant, user);
        if let Some(epoch) = self.inner.certain(&owner) {
            return Ok(epoch);
        }
        if self.inner.is_untold(&owner) {
            self.inner.tell().await?;
        }
        let before = lock(&self.inner.known).before();
        let epoch = self.inner.redis.epoch_of(&owner).await?;
        lock(&self.inner.known).set_read(&owner, epoch, before);
        Ok(epoch)
    }

    async fn bump(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        self.begin();
        if users.is_empty() {
            return Ok(());
        }
        let owners: Vec<String> = users.iter().map(|u| owner_of(tenant, u)).collect::<BTreeSet<_>>().into_iter().collect();
        match self.inner.redis.bump_owners(&owners).await {
            Ok(epochs) => self.inner.told(&epochs),
            Err(error) => {
                tracing::debug!(store = "cache", %error, users = owners.len(), "epochs wait to be told to Redis");
                self.inner.remember(owners);
            }
        }
        Ok(())
    }

    async fn forget(&self, prefix: &str) -> StoreResult<u64> {
        self.begin();
        let here = self.inner.local.forget(prefix).await?;
        match self.inner.redis.forget_owner(prefix).await {
            Ok((count, epoch)) => {
                lock(&self.inner.known).set(owner(prefix), epoch);
                Ok(count.max(here))
            }
            Err(error) => {
                tracing::warn!(store = "cache", %error, "the answers of an erased user stay in Redis until it is back, or they end");
                lock(&self.inner.known).unset(owner(prefix));
                lock(&self.inner.untold).forgotten.insert(prefix.to_owned());
                Ok(here)
            }
        }
    }
}

impl fmt::Debug for TieredCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredCache")
            .field("redis", &self.inner.redis)
            .field("local", &self.inner.local)
            .finish_non_exhaustive()
    }
}
