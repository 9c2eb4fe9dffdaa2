//! What is read before anyone asks: the last resort of every tenant, the catalogue, and a rehearsal of real answers.
//!
//! Gives way to requests, and never keeps the process from answering: only from saying that it is ready, and that for a bounded time.

use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering::Relaxed, time::Duration};

use nearcast_domain::{StoreResult, Tenant};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Query, Recommender,
    shelf::Rising,
    snapshot::{self, Remembered},
};
use crate::memory::{Card, Epochs, Freshness, remember_states};

/// How often the last resort of every tenant is renewed.
const WARM_EVERY: Duration = Duration::from_secs(5);
/// How often it is written to disk, in times of that.
const WRITE_EVERY: u32 = 12;
/// How long one store may take for that.
pub(super) const WARM_PATIENCE: Duration = Duration::from_secs(2);
/// How long one store may take for a read of many rows, which keeps no request waiting.
const SURVEY_PATIENCE: Duration = Duration::from_secs(10);
/// For so many times as long as the last resort took to read it is not read again: a slow store is not kept busy by it.
const WARM_REST: u32 = 100;
/// But it is read again after this, whatever it took.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// Cards of what rises that are read at once.
const CARDS_AT_ONCE: usize = 64;
/// Items that are read at once before the first requests.
const PRELOAD_PAGE: usize = 256;
/// The same where each page is a call to a server, which may have to read everything for it.
const PRELOAD_REMOTE: usize = 16_384;
/// Of a catalogue on a server so many items are read before anyone asks.
const MOST_REMOTE: usize = 4 * PRELOAD_REMOTE;
/// The rest between two such pages.
const PRELOAD_PAUSE: Duration = Duration::from_millis(5);
/// How long answers are rehearsed before the process is ready without it.
const REHEARSAL: Duration = Duration::from_secs(4);
/// The pause after one in which something was missing.
const REHEARSAL_PAUSE: Duration = Duration::from_millis(50);
/// Of so many tenants,
const REHEARSED_TENANTS: usize = 2;
/// for so many people each.
const REHEARSED_USERS: usize = 8;
/// For how many tenants a last resort is kept warm.
const WARM_TENANTS: usize = 64;
/// After this it is ready, however warm it is.
const LONGEST_WARMING: Duration = Duration::from_secs(6);

impl Recommender {
    /// Reads what is given when everything else is away, for every tenant, once. Answers what was read.
    pub async fn warm(&self) -> BTreeMap<Tenant, Remembered> {
        let mut all = BTreeMap::new();
        let tenants = self.patiently(self.stores.ledger.tenants()).await.unwrap_or_default();
        for tenant in tenants.iter().take(WARM_TENANTS) {
            let mem = self.stores.memory.tenant(tenant);
            let mut last = Remembered::default();
            let rising = self.patiently(self.shelf.rising(tenant, None, None)).await;
            let mark = mem.cards_mark();
            let soon = || Instant::now() + WARM_PATIENCE;
            let newest = self.shelf.read_newest(&self.stores.ledger, tenant, None);
            if let Ok(Ok(newest)) = timeout(SURVEY_PATIENCE, newest).await {
                remember_states(&mem, &newest, mark, &Epochs::new());
                for state in newest {
                    last.cards.insert(state.item.item_id.clone(), Card::of(&state));
                    last.newest.push(state.item.item_id);
                }
            }
            if let Some(rising) = rising {
                let ids: Vec<_> = rising.items.iter().map(|(i, _)| i.clone()).collect();
                // Portion by portion: a server that finds cards one by one is not kept busy past what its guard takes for sick.
                for ids in ids.chunks(CARDS_AT_ONCE) {
                    let (cards, failed) = self.cards(tenant, ids, soon()).await;
                    let known = ids.iter().zip(cards).filter_map(|(i, card)| Some((i.clone(), card?.as_ref().clone())));
                    last.cards.extend(known);
                    if failed.is_some() {
                        break;
                    }
                }
                (last.rising, last.share) = (rising.items.clone(), rising.share);
            }
            all.insert(tenant.clone(), last);
        }
        all
    }

    /// Reads what requests will need of the catalogue, page by page, where it is remembered until it changes: so that the first request
    /// of each user finds it. Gives way to requests: a page takes a few milliseconds.
    /// Answers whether all that is to be read could be.
    async fn preload(&self, stop: &CancellationToken) -> bool {
        let Some(tenants) = self.patiently(self.stores.ledger.tenants()).await else { return false };
        for tenant in tenants.iter().take(WARM_TENANTS) {
            let mem = self.stores.memory.tenant(tenant);
            let (mut after, mut read) = (None, 0);
            let many = if mem.exclusive() { PRELOAD_PAGE } else { PRELOAD_REMOTE };
            let most =
                if mem.exclusive() { self.config.items.entries / 2 } else { MOST_REMOTE.min(self.config.items.entries / 2) };
            while read + many <= most && !stop.is_cancelled() {
                let mark = mem.cards_mark();
                let epochs = self.patiently(async { Ok(self.loads(tenant).item_epochs(&mem).await) }).await.unwrap_or_default();
                let page = self.stores.ledger.catalogue(tenant, after.as_ref(), many, None);
                let Ok(Ok(states)) = timeout(SURVEY_PATIENCE, page).await else { return false };
                remember_states(&mem, &states, mark, &epochs);
                // Lists age too soon where others write them.
                if mem.exclusive() {
                    let numbers = mem.numbers(states.iter().map(|s| &s.item.item_id));
                    let soon = Instant::now() + WARM_PATIENCE;
                    let neighbours = self.config.sources.neighbours;
                    if self.loads(tenant).lists(&mem, numbers.into_iter(), neighbours, soon).await.is_err() {
                        break;
                    }
                }
                read += states.len();
                match states.last() {
                    Some(last) if states.len() == many => after = Some(last.item.item_id.clone()),
                    _ => break,
                }
                tokio::time::sleep(PRELOAD_PAUSE).await;
            }
        }
        true
    }

    /// Whether it is warming up: then it is not ready yet.
    pub fn is_warming(&self) -> bool {
        self.warming.load(Relaxed) && self.begun.elapsed() < LONGEST_WARMING
    }

    /// Says that it is about to warm up, which [`Self::keep_warm`] ends.
    pub fn begin_warming(&self) {
        self.warming.store(true, Relaxed);
    }

    /// Answers for a few people before anyone asks, until nothing is missing or the patience is over: connections are opened, statements
    /// are planned and caches filled where the first caller would otherwise wait for it. One at a time: many at once on a cold store are
    /// what its guard takes for a sick one.
    pub async fn rehearse(&self, stop: &CancellationToken) {
        let until = Instant::now() + REHEARSAL;
        let query = Query { cache: false, budget: Some(WARM_PATIENCE), ..Query::default() };
        let tenants = self.patiently(self.stores.ledger.tenants()).await.unwrap_or_default();
        for tenant in tenants.iter().take(REHEARSED_TENANTS) {
            let users = self.patiently(self.stores.ledger.users(tenant, "", None, REHEARSED_USERS)).await.unwrap_or_default();
            for user in &users {
                while Instant::now() < until && !stop.is_cancelled() {
                    match self.recommend(tenant, user, &query).await {
                        Ok(answer) if !answer.degraded.is_empty() => tokio::time::sleep(REHEARSAL_PAUSE).await,
                        _ => break,
                    }
                }
            }
        }
    }

    /// Keeps that warm until told to stop, and writes it down from time to time where a file is configured.
    pub async fn keep_warm(&self, stop: CancellationToken) {
        let file = self.config.snapshot_file.clone();
        if let Some(path) = &file {
            self.recall(path).await;
        }
        let (mut last, mut rested, mut preloaded) = (BTreeMap::new(), Instant::now(), false);
        for turn in 0_u32.. {
            if let Err(e) = self.notice_trained().await {
                tracing::debug!(error = %e, "what is in service is looked at again in a moment");
            }
            // Where each card is a call of its own, the rest of warming up would not end without them.
            let first = turn == 0 && self.stores.memory.freshness == Freshness::Exclusive;
            if !preloaded && !first {
                preloaded = self.preload(&stop).await;
            }
            let begun = Instant::now();
            if begun >= rested {
                last = self.warm().await;
                rested = Instant::now() + (WARM_REST * begun.elapsed()).min(LONGEST_REST);
            }
            if turn == 0 {
                self.rehearse(&stop).await;
                self.warming.store(false, Relaxed);
                if !preloaded {
                    preloaded = self.preload(&stop).await;
                }
            }
            if let Some(path) = file.clone().filter(|_| turn % WRITE_EVERY == 0 && last.values().any(|r| !r.cards.is_empty())) {
                let last = last.clone();
                let written = tokio::task::spawn_blocking(move || snapshot::write(&path, last)).await;
                if let Ok(Err(e)) = written {
                    tracing::warn!("the last resort could not be written to disk: {e}");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WARM_EVERY) => {}
            }
        }
    }

    /// Takes up what an earlier life of the process last knew.
    pub async fn recall(&self, path: &Path) {
        let path = path.to_owned();
        match tokio::task::spawn_blocking(move || snapshot::read(&path)).await {
            Ok(Ok(all)) => {
                for (tenant, last) in all {
                    let mem = self.stores.memory.tenant(&tenant);
                    for (item, card) in last.cards {
                        mem.recall_card(&item, card);
                    }
                    self.shelf.recall(&tenant, Rising::new(last.rising, last.share), last.newest).await;
                }
            }
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => {}
            Ok(Err(e)) => tracing::warn!("the last resort on disk cannot be read, so there is none: {e}"),
            Err(e) => tracing::warn!("the last resort on disk was not read: {e}"),
        }
    }

    async fn patiently<T>(&self, call: impl Future<Output = StoreResult<T>>) -> Option<T> {
        timeout(WARM_PATIENCE, call).await.ok()?.ok()
    }
}
