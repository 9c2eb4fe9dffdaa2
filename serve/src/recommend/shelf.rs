//! What rises and what is new, as this process last saw it: shared by all requests, and the last thing left when every
//! store is away.
//!
//! What rises is read by one at a time, and again in the background once it is a moment old, so that requests need not
//! wait for it. Bounded in lists and in their length.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moka::future::Cache;
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant,
    ports::{EngagementRead, ItemState, LedgerRead, TrendFit, TrendingQuery},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    config::SourceLimits,
    memory::{Late, TenantMemory},
};

/// A tenant and a category.
type Key = (Tenant, Option<Arc<str>>);
/// With a half-life in hours, as bits; `None`: what fits the tenant.
type Paced = (Tenant, Option<Arc<str>>, Option<u32>);

/// Lists at most, of each sort.
const LISTS: u64 = 1_024;
/// How many new items are kept at hand.
pub const NEWEST_DEPTH: usize = 200;
/// How long reading in the background may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// After reading, a list rests for so many times as long as reading took: reading costs a bounded share of the time.
const REST: u32 = 20;

/// What rises.
#[derive(Default)]
pub struct Rising {
    /// The strongest first, each above 0.
    pub items: Vec<(ItemId, f32)>,
    /// How much trending should weigh beside the other sources, 0 to 1: what fits the tenant.
    pub share: f32,
    /// The same by number, and in whose numbers.
    numbered: Mutex<Option<(Weak<TenantMemory>, Numbered)>>,
}

/// Items by number, with scores.
pub type Numbered = Arc<[(u32, f32)]>;

impl Rising {
    /// A list.
    pub fn new(items: Vec<(ItemId, f32)>, share: f32) -> Self {
        Self { items, share, numbered: Mutex::default() }
    }

    /// The list in the numbers of a memory.
    pub fn numbered(&self, mem: &Arc<TenantMemory>) -> Numbered {
        let mut numbered = self.numbered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, list)) = &*numbered
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(mem))
        {
            return list.clone();
        }
        let numbers = mem.numbers(self.items.iter().map(|(i, _)| i));
        let list: Numbered = numbers.into_iter().zip(&self.items).map(|(n, (_, s))| (n, *s)).collect();
        *numbered = Some((Arc::downgrade(mem), list.clone()));
        list
    }
}

/// The lists.
pub struct Shelf {
    reader: Arc<Reader>,
    slots: Cache<Paced, Arc<Slot>>,
    newest: Cache<Key, Arc<Vec<ItemId>>>,
    fresh: Duration,
    tolerated: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
    _ends_tasks: DropGuard,
}

struct Reader {
    engagement: Arc<dyn EngagementRead>,
    depth: usize,
    default_fit: TrendFit,
}

/// One list of what rises.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    refreshing: AtomicBool,
    /// Told when reading has ended, well or not.
    read: Notify,
}

#[derive(Default, Clone)]
struct State {
    last: Option<Known>,
    /// Why the last attempt failed, unless it did not.
    failed: Option<(Instant, StoreError)>,
}

#[derive(Clone)]
struct Known {
    rising: Arc<Rising>,
    /// When it was read; `None`: in an earlier life of the process.
    at: Option<Instant>,
    took: Duration,
}

impl Known {
    fn age(&self) -> Duration {
        self.at.map_or(Duration::MAX, |at| at.elapsed())
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: StoreError) {
        self.state().failed = Some((Instant::now(), error));
    }
}

impl Shelf {
    /// Empty.
    pub fn new(engagement: Arc<dyn EngagementRead>, limits: &SourceLimits) -> Self {
        let default_fit = TrendFit { half_life_hours: Some(limits.half_life_hours), share: f64::from(limits.trending_share) };
        let stop = CancellationToken::new();
        Self {
            reader: Arc::new(Reader { engagement, depth: limits.trending_depth.max(limits.trending), default_fit }),
            slots: Cache::new(LISTS),
            newest: Cache::new(LISTS),
            fresh: Duration::from_millis(limits.trending_fresh_ms),
            tolerated: Duration::from_millis(limits.trending_tolerated_ms),
            tasks: TaskTracker::new(),
            _ends_tasks: stop.clone().drop_guard(),
            stop,
        }
    }

    /// What rises. A list that is no longer fresh is given once more while it is read again; one that is too old, or was
    /// never read, is waited for. Where reading failed just now, that is said at once.
    /// `half_life` in hours; `None`: what fits the tenant.
    pub async fn rising(
        &self,
        tenant: &Tenant,
        category: Option<&Arc<str>>,
        half_life: Option<f32>,
    ) -> StoreResult<Arc<Rising>> {
        let key = (tenant.clone(), category.cloned(), half_life.map(f32::to_bits));
        let slot = self.slots.get_with_by_ref(&key, async { Arc::default() }).await;
        let State { last, failed } = slot.state().clone();
        let age = last.as_ref().map(Known::age);
        if let (Some(known), Some(age)) = (&last, age)
            && age < self.fresh.max(known.took * REST)
        {
            return Ok(known.rising.clone());
        }
        if let Some(known) = last.filter(|_| age.is_some_and(|a| a < self.tolerated)) {
            self.read_in_background(key, &slot);
            return match failed {
                Some((at, e)) if Some(at) > known.at => Err(e),
                _ => Ok(known.rising),
            };
        }
        if let Some((_, e)) = failed.filter(|(at, _)| at.elapsed() < self.fresh) {
            return Err(e);
        }
        // One reads for all, and goes on when nobody waits any more.
        let begun = Instant::now();
        let read = slot.read.notified();
        self.read_in_background(key, &slot);
        read.await;
        let State { last, failed } = slot.state().clone();
        match (last, failed) {
            (Some(known), _) if known.at.is_some_and(|at| at >= begun) || known.age() < self.fresh => Ok(known.rising),
            (_, Some((_, e))) => Err(e),
            _ => Err(StoreError::new(ErrorKind::Unavailable, "engagement", "trending was not read")),
        }
    }

    fn read_in_background(&self, key: Paced, slot: &Arc<Slot>) {
        if slot.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (reader, slot, stop) = (self.reader.clone(), slot.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let read = timeout(PATIENCE, reader.read(&key, &slot));
            tokio::select! {
                () = stop.cancelled() => {}
                read = read => if read.is_err() {
                    slot.fail(StoreError::new(ErrorKind::Timeout, "engagement", "trending was not read in time"));
                },
            }
            slot.refreshing.store(false, Ordering::Release);
            slot.read.notify_waiters();
        });
    }

    /// What rose when it could last be read. Of the whole catalogue where the category's own list was never read.
    pub async fn last_rising(&self, tenant: &Tenant, category: Option<&Arc<str>>) -> Arc<Rising> {
        for category in [category.cloned(), None] {
            if let Some(slot) = self.slots.get(&(tenant.clone(), category, None)).await
                && let Some(known) = &slot.state().last
            {
                return known.rising.clone();
            }
        }
        Arc::default()
    }

    /// The newest items, read now; remembered also when the request no longer waits for them.
    pub async fn newest(
        &self,
        late: &Late,
        ledger: &Arc<dyn LedgerRead>,
        tenant: &Tenant,
        category: Option<&Arc<str>>,
        deadline: Instant,
    ) -> StoreResult<Vec<ItemState>> {
        late.run(deadline, "ledger", self.read_newest(ledger, tenant, category)).await
    }

    /// The same for whoever has time.
    pub fn read_newest(
        &self,
        ledger: &Arc<dyn LedgerRead>,
        tenant: &Tenant,
        category: Option<&Arc<str>>,
    ) -> impl Future<Output = StoreResult<Vec<ItemState>>> + Send + use<> {
        let (ledger, kept) = (ledger.clone(), self.newest.clone());
        let (tenant, category) = (tenant.clone(), category.cloned());
        async move {
            let states = ledger.newest_items(&tenant, category.as_deref(), NEWEST_DEPTH).await?;
            let ids = Arc::new(states.iter().map(|s| s.item.item_id.clone()).collect());
            kept.insert((tenant, category), ids).await;
            Ok(states)
        }
    }

    /// Takes down what an earlier life of the process last knew.
    pub async fn recall(&self, tenant: &Tenant, rising: Rising, newest: Vec<ItemId>) {
        let slot: Arc<Slot> = self.slots.get_with((tenant.clone(), None, None), async { Arc::default() }).await;
        {
            let mut state = slot.state();
            if state.last.is_none() {
                state.last = Some(Known { rising: Arc::new(rising), at: None, took: Duration::ZERO });
            }
        }
        let key = (tenant.clone(), None);
        if self.newest.get(&key).await.is_none() {
            self.newest.insert(key, Arc::new(newest)).await;
        }
    }

    /// The newest items when they could last be read.
    pub async fn last_newest(&self, tenant: &Tenant, category: Option<&Arc<str>>) -> Arc<Vec<ItemId>> {
        match self.newest.get(&(tenant.clone(), category.cloned())).await {
            Some(list) => list,
            None => self.newest.get(&(tenant.clone(), None)).await.unwrap_or_default(),
        }
    }
}

impl Reader {
    async fn read(&self, (tenant, category, half_life): &Paced, slot: &Slot) -> StoreResult<Arc<Rising>> {
        let begun = Instant::now();
        match self.fetch(tenant, category.as_ref(), half_life.map(f32::from_bits)).await {
            Ok(rising) => {
                let rising = Arc::new(rising);
                let known = Known { rising: rising.clone(), at: Some(Instant::now()), took: begun.elapsed() };
                *slot.state() = State { last: Some(known), failed: None };
                Ok(rising)
            }
            Err(e) => {
                slot.fail(e.clone());
                Err(e)
            }
        }
    }

    async fn fetch(&self, tenant: &Tenant, category: Option<&Arc<str>>, half_life: Option<f32>) -> StoreResult<Rising> {
        let fit = self.engagement.trend_fit(tenant).await?.unwrap_or(self.default_fit);
        let query = TrendingQuery {
            category: category.map(|c| c.as_ref().to_owned()),
            half_life_hours: half_life.map(f64::from).or(fit.half_life_hours),
            limit: self.depth,
        };
        let found = self.engagement.trending(tenant, query).await?;
        let items = found.into_iter().map(|(i, s)| (i, s as f32)).filter(|(_, s)| s.is_finite() && *s > 0.0).collect();
        Ok(Rising::new(items, (fit.share as f32).clamp(0.0, 1.0)))
    }
}
