//! [`RedisCache`]: answers and epochs that all instances share.
//!
//! Gone Redis costs latency only: calls have a short time, fail at once while there is no connection, and another is made in the
//! background ([`link`]). Whatever the server forgets, no old answer becomes fresh ([`scripts`]). Commands touch one slot each, so a
//! cluster serves as well as one server ([`keys`]).

mod config;
mod connect;
pub(super) mod keys;
mod link;
mod listen;
mod scripts;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
pub use config::{RedisConfig, RedisMode};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use keys::{owner, owner_of};
use link::Link;
pub(super) use listen::{Change, Heard, listen};
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, UserId,
    ports::{CachedAnswer, ResponseCache},
};
use scripts::{BUMP, EPOCH, FORGET, PUT};

/// Commands under way at once for one call, at most.
const AT_ONCE: usize = 64;
/// How often a bump is tried when the base rises in between.
const TURNS: usize = 4;

/// The response cache on Redis. Cheap to clone; clones share their connection.
#[derive(Clone)]
pub struct RedisCache {
    link: Arc<Link>,
}

impl RedisCache {
    /// A cache that connects with its first call, in the background. Whether the server is there does not matter.
    ///
    /// # Errors
    /// `Invalid` where the configuration cannot be.
    pub fn new(config: &RedisConfig) -> StoreResult<Self> {
        config.validate().map_err(|e| StoreError::new(ErrorKind::Invalid, "cache", e))?;
        Ok(Self { link: Arc::new(Link::new(config.clone())) })
    }

    /// Waits until the server is reached.
    ///
    /// # Errors
    /// Why it is not, after the time that connecting has.
    pub async fn setup(&self) -> StoreResult<()> {
        self.link.reached(Duration::from_millis(self.config().connect_ms + self.config().call_ms)).await
    }

    /// Ends the connection and the task that keeps it. Calls fail from then on.
    pub async fn close(&self) {
        self.link.close().await;
    }

    /// How it was configured.
    pub fn config(&self) -> &RedisConfig {
        &self.link.shared.config
    }

    /// A time to keep an answer: one of its own between the least and the most, and no more than was given.
    pub(super) fn time_to_live(&self, given: Duration) -> Duration {
        let c = self.config();
        let ms = fastrand::u64(c.ttl_min_s * 1000..=c.ttl_max_s * 1000);
        given.min(Duration::from_millis(ms)).max(Duration::from_millis(1))
    }

    /// How long an epoch is kept after it was last needed: twice as long as any answer of it.
    fn epoch_ms(&self) -> u64 {
        2000 * self.config().ttl_max_s + 60_000
    }

    /// An answer and how long it still lives.
    pub(super) async fn get_living(&self, key: &str) -> StoreResult<Option<(CachedAnswer, Duration)>> {
        let name = self.link.shared.keys.answer(key);
        let (kept, ms): (Option<Vec<u8>>, i64) =
            self.link.call(async |mut c| redis::pipe().get(&name).pttl(&name).query_async(&mut c).await).await?;
        let Some((epoch, body)) = kept.as_deref().and_then(|k| k.split_first_chunk::<8>()) else { return Ok(None) };
        let answer = CachedAnswer { body: Arc::from(body), epoch: u64::from_le_bytes(*epoch) };
        Ok(u64::try_from(ms).ok().filter(|ms| *ms > 0).map(|ms| (answer, Duration::from_millis(ms))))
    }

    /// Keeps an answer for just so long; nothing where its epoch is over.
    pub(super) async fn put_for(&self, key: &str, answer: &CachedAnswer, ttl: Duration) -> StoreResult<()> {
        let keys = &self.link.shared.keys;
        let owner = owner(key);
        let mut kept = answer.epoch.to_le_bytes().to_vec();
        kept.extend_from_slice(&answer.body);
        let mut script = PUT.key(keys.answer(key));
        script.key(keys.index(owner)).key(keys.epoch(owner)).arg(kept);
        script.arg(ttl.as_millis().max(1) as u64).arg(answer.epoch).arg(self.epoch_ms());
        self.link.call(async |mut c| script.invoke_async::<()>(&mut c).await).await
    }

    /// The epoch of whoever `owner` names.
    pub(super) async fn epoch_of(&self, owner: &str) -> StoreResult<u64> {
        let shared = &self.link.shared;
        let mut script = EPOCH.key(shared.keys.epoch(owner));
        script.arg(self.epoch_ms());
        let (own, base): (u64, u64) = self
            .link
            .call(async |mut c| {
                let mut other = c.clone();
                let base = async { redis::cmd("HGET").arg(shared.keys.base()).arg("base").query_async(&mut other).await };
                futures_util::try_join!(async { script.invoke_async(&mut c).await }, base)
                    .map(|(own, base): (u64, Option<u64>)| (own, base.unwrap_or_default()))
            })
            .await?;
        if base == 0 {
            // The base was lost while the run went on. The task will find that out; until then nothing is sure.
            return Err(StoreError::new(ErrorKind::Corrupt, "cache", "Redis lost the base of all epochs"));
        }
        Ok(shared.saw(own.max(shared.saw_base(base))))
    }

    /// Begins a new epoch for each of these owners and tells all instances. Gives the new ones.
    pub(super) async fn bump_owners(&self, owners: &[String]) -> StoreResult<Vec<(String, u64)>> {
        let shared = &self.link.shared;
        for _ in 0..TURNS {
            let least = shared.base() + 1;
            let bumped: Vec<(String, u64)> = stream::iter(owners.to_vec())
                .map(|owner| async move {
                    let mut script = BUMP.key(shared.keys.epoch(&owner));
                    script.arg(self.epoch_ms()).arg(least);
                    let epoch = self.link.call(async |mut c| script.invoke_async(&mut c).await).await?;
                    Ok::<_, StoreError>((owner, shared.saw(epoch)))
                })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            // Another node's clock, or another process, may have put the base above them in between: then they would not count.
            let base = shared.saw_base(self.read_base().await?);
            if bumped.iter().all(|(_, epoch)| *epoch >= base) {
                self.tell(&Change::Epochs(bumped.clone())).await?;
                return Ok(bumped);
            }
        }
        Err(StoreError::new(ErrorKind::Busy, "cache", "the base of all epochs rises again and again"))
    }

    /// Removes what is kept under keys that begin with `prefix`, ends the epoch of whom it names, and tells all instances. Gives how
    /// many answers it was, and the new epoch.
    pub(super) async fn forget_owner(&self, prefix: &str) -> StoreResult<(u64, u64)> {
        let (shared, owner) = (&self.link.shared, owner(prefix));
        let begins = format!("{}{}", shared.keys.answers(owner), &prefix[owner.len()..]);
        let mut script = FORGET.key(shared.keys.index(owner));
        script.key(shared.keys.epoch(owner)).arg(begins).arg(self.epoch_ms()).arg(shared.base() + 1);
        let (count, epoch): (u64, u64) = self.link.call(async |mut c| script.invoke_async(&mut c).await).await?;
        self.tell(&Change::Forgotten(prefix.to_owned(), shared.saw(epoch))).await?;
        Ok((count, epoch))
    }

    /// The least epoch of all users.
    pub(super) async fn read_base(&self) -> StoreResult<u64> {
        let shared = &self.link.shared;
        let base: Option<u64> = self
            .link
            .call(async |mut c| redis::cmd("HGET").arg(shared.keys.base()).arg("base").query_async(&mut c).await)
            .await?;
        base.ok_or_else(|| StoreError::new(ErrorKind::Corrupt, "cache", "Redis lost the base of all epochs"))
    }

    /// Ends every answer that there is, on every instance.
    pub(super) async fn end_all(&self) -> StoreResult<()> {
        self.link.shared.end_all().await?;
        self.tell(&Change::Base(self.link.shared.base())).await
    }

    async fn tell(&self, change: &Change) -> StoreResult<()> {
        let (channel, text) = (self.link.shared.keys.channel(), change.text());
        self.link.call(async |mut c| redis::cmd("PUBLISH").arg(channel).arg(text).query_async::<()>(&mut c).await).await
    }
}

#[async_trait]
impl ResponseCache for RedisCache {
    async fn get(&self, key: &str) -> StoreResult<Option<CachedAnswer>> {
        Ok(self.get_living(key).await?.map(|(answer, _)| answer))
    }

    async fn put(&self, key: &str, answer: CachedAnswer, ttl: Duration) -> StoreResult<()> {
        self.put_for(key, &answer, self.time_to_live(ttl)).await
    }

    async fn epoch(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        self.epoch_of(&owner_of(tenant, user)).await
    }

    async fn bump(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        if users.is_empty() {
            return Ok(());
        }
        let owners: BTreeSet<String> = users.iter().map(|u| owner_of(tenant, u)).collect();
        self.bump_owners(&owners.into_iter().collect::<Vec<_>>()).await.map(drop)
    }

    async fn forget(&self, prefix: &str) -> StoreResult<u64> {
        Ok(self.forget_owner(prefix).await?.0)
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.config();
        f.debug_struct("RedisCache")
            .field("mode", &c.mode)
            .field("uri", &c.uri)
            .field("nodes", &c.nodes)
            .finish_non_exhaustive()
    }
}
