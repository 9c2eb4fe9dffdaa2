//! Recommending: what a request for recommendations goes through, with or without HTTP.
//!
//! [`pipeline`] is the list of stages; [`formulas`] holds every formula. Nothing here writes to a store, save answers to
//! the response cache.

pub mod answer;
pub mod bits;
pub mod blend;
pub mod budget;
mod cached;
pub mod degraded;
pub mod filters;
mod flights;
pub mod formulas;
pub mod pipeline;
pub mod select;
pub mod shelf;
pub mod snapshot;
pub mod sources;
pub mod tally;
pub mod through;
mod trained;
mod why_not;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use axum::body::Bytes;
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, Timestamp, UserId, candidate::Source, event::hex, ports::Token,
};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub use answer::{Answer, BadToken, CacheState, Query, Reason, Recommendation, RemovalName, Removed, Session};
pub use why_not::{Fate, WhyNot};

use self::{
    budget::{Budget, by},
    cached::{Found, Fresh},
    degraded::{AFTER, CACHE, Degraded},
    flights::{Flights, Turn},
    shelf::{Rising, Shelf},
    snapshot::Remembered,
    sources::{Asker, CandidateSource},
};
use crate::{
    ConfigError, ServeConfig, Stores,
    figures::Figures,
    memory::{Card, Late, Loads, remember_states},
};

/// The share of the budget that the wait for the caller's own events may take.
const AFTER_SHARE: f64 = 0.6;
/// The share that the response cache may take.
const CACHE_SHARE: f64 = 0.15;
/// The share until which somebody else's computation of the same answer is waited for.
const JOIN_SHARE: f64 = 0.6;
/// How often the last resort of every tenant is renewed.
const WARM_EVERY: Duration = Duration::from_secs(5);
/// How often it is written to disk, in times of that.
const WRITE_EVERY: u32 = 12;
/// How long one store may take for that.
const WARM_PATIENCE: Duration = Duration::from_secs(2);
/// Items that are read at once before the first requests.
const PRELOAD_PAGE: usize = 256;
/// The rest between two such pages.
const PRELOAD_PAUSE: Duration = Duration::from_millis(5);
/// For how many tenants a last resort is kept warm.
const WARM_TENANTS: usize = 64;

/// Answers requests for recommendations. One for the whole process: it remembers what requests share.
pub struct Recommender {
    pub(crate) stores: Stores,
    pub(crate) config: ServeConfig,
    pub(crate) shelf: Shelf,
    pub(crate) late: Late,
    pub(crate) figures: Arc<Figures>,
    flights: Flights,
    /// What the asker's own items, and those of others, count by their place from the newest.
    pub(crate) recency: [Vec<f32>; 2],
    sources: Vec<Box<dyn CandidateSource>>,
    /// A digest of the configuration and of the model: answers under another one are not given.
    fingerprint: String,
    /// Of this process.
    nonce: u64,
}

/// An answer, or the bytes of one.
#[derive(Debug, Clone)]
pub enum Given {
    /// To be written out.
    Answer(Box<Answer>),
    /// JSON as it is sent.
    Bytes(Bytes),
}

impl From<Fresh> for Given {
    fn from(fresh: Fresh) -> Self {
        match fresh {
            Fresh::Bytes(b) => Self::Bytes(b),
            Fresh::Answer(a) => Self::Answer(a),
        }
    }
}

impl Recommender {
    /// Reads nothing yet. Errors: a configuration that cannot work.
    pub fn new(stores: Stores, config: ServeConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let text = serde_json::to_string(&config).unwrap_or_default();
        let mut digest = Sha256::new();
        digest.update(text);
        digest.update(stores.embedder.model().revision.as_bytes());
        Ok(Self {
            shelf: Shelf::new(stores.engagement.clone(), &config.sources),
            late: Late::new(),
            figures: Arc::default(),
            flights: Flights::default(),
            recency: {
                let l = &config.sources;
                let table = |many: usize, exponent| (0..many).map(|r| formulas::recency(r, exponent)).collect();
                [table(l.own_items, l.recency), table(l.items_per_user, l.others_recency)]
            },
            sources: sources::all(),
            fingerprint: hex(&digest.finalize()[..8]),
            nonce: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8),
            stores,
            config,
        })
    }

    /// The same over other stores, counting on.
    pub(crate) fn with(&self, stores: Stores) -> Result<Self, ConfigError> {
        Ok(Self { figures: self.figures.clone(), ..Self::new(stores, self.config.clone())? })
    }

    /// The settings it works with.
    pub const fn config(&self) -> &ServeConfig {
        &self.config
    }

    /// What likings count by their place in the lists of a source.
    pub(crate) fn recency_of(&self, source: Source) -> &[f32] {
        &self.recency[usize::from(source == Source::SimilarUsers)]
    }

    /// Calls to stores that go on although no request waits for them.
    pub fn late_calls(&self) -> usize {
        self.late.under_way() + self.flights.under_way()
    }

    pub(crate) fn loads<'a>(&'a self, tenant: &'a Tenant) -> Loads<'a> {
        Loads { late: &self.late, ledger: &self.stores.ledger, graph: &self.stores.graph, tenant }
    }

    /// What is known of these items, in the order given; see [`Loads::cards`].
    pub(crate) async fn cards(
        &self,
        tenant: &Tenant,
        items: &[ItemId],
        deadline: Instant,
    ) -> (Vec<Option<Arc<Card>>>, Option<StoreError>) {
        let mem = self.stores.memory.tenant(tenant);
        let numbers = mem.numbers(items.iter());
        self.loads(tenant).cards(&mem, &numbers, |_| false, deadline).await
    }

    /// Recommendations for a user, known or not. Fails only for a token that is not one.
    pub async fn recommend(&self, tenant: &Tenant, user: &UserId, query: &Query) -> Result<Answer, BadToken> {
        match self.give(tenant, user, query, Instant::now(), None).await? {
            Given::Answer(answer) => Ok(*answer),
            // Our own bytes.
            Given::Bytes(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|_| self.nothing(user))),
        }
    }

    /// The same for a request that arrived at a given time, its answer as bytes where there are any.
    pub async fn respond(
        self: &Arc<Self>,
        tenant: &Tenant,
        user: &UserId,
        query: &Query,
        arrived: Instant,
    ) -> Result<Given, BadToken> {
        self.give(tenant, user, query, arrived, Some(self)).await
    }

    async fn give(
        &self,
        tenant: &Tenant,
        user: &UserId,
        query: &Query,
        arrived: Instant,
        shared: Option<&Arc<Self>>,
    ) -> Result<Given, BadToken> {
        let budget = Budget::since(arrived, query.budget.unwrap_or_else(|| self.config.budget()));
        let mut degraded = self.await_own_events(query, &budget).await?;
        let budget = budget.rest();
        if !(query.cache && self.config.cache.ttl_ms > 0) {
            let epochs = match self.stores.memory.tenant(tenant).exclusive() {
                true => None,
                false => cached::epochs(self, tenant, user, budget.at(CACHE_SHARE)).await.ok(),
            };
            let outcome = pipeline::run(self, tenant, Asker::User(user), query, epochs, budget.rest()).await;
            degraded.merge(&outcome.degraded);
            self.figures.miss();
            return Ok(Given::Answer(Box::new(self.answer(Some(user), query, outcome, &degraded))));
        }
        let mut found = cached::look_up(self, tenant, user, query, budget.at(CACHE_SHARE)).await;
        if let Some(e) = &found.error {
            degraded.add(CACHE, e);
        }
        if let Some(fresh) = found.fresh.take() {
            if found.aging {
                self.renew(shared, tenant, user, query, &found);
                self.figures.stale();
            } else {
                self.figures.hit();
            }
            return Ok(self.with_degraded(fresh.into(), user, &degraded));
        }
        // Only who asks exactly the same in the same epoch shares an answer.
        let flight = found.epochs.map(|(epoch, erasures)| format!("{}@{epoch}/{erasures}", found.key));
        let mut leader = None;
        if let Some(flight) = &flight {
            match self.flights.join(flight, budget.at(JOIN_SHARE)).await {
                Turn::Mine(mine) => leader = Some(mine),
                Turn::Theirs(bytes) => {
                    self.figures.hit();
                    return Ok(self.with_degraded(Given::Bytes(bytes), user, &degraded));
                }
                Turn::Alone => {}
            }
        }
        let answer = self.compute(tenant, user, query, found, degraded, &budget).await;
        if let Some(leader) = leader
            && let Ok(bytes) = serde_json::to_vec(&answer)
        {
            let bytes = Bytes::from(bytes);
            leader.tell(bytes.clone());
            return Ok(Given::Bytes(bytes));
        }
        Ok(Given::Answer(Box::new(answer)))
    }

    /// The names of what did not answer, in an answer that was made before.
    fn with_degraded(&self, given: Given, user: &UserId, degraded: &Degraded) -> Given {
        if degraded.is_empty() {
            return given;
        }
        let mut answer = match given {
            Given::Answer(answer) => answer,
            Given::Bytes(b) => Box::new(serde_json::from_slice(&b).unwrap_or_else(|_| self.nothing(user))),
        };
        answer.degraded = degraded.names();
        Given::Answer(answer)
    }

    /// Makes an answer, and keeps it where nothing is missing.
    async fn compute(
        &self,
        tenant: &Tenant,
        user: &UserId,
        query: &Query,
        mut found: Found,
        mut degraded: Degraded,
        budget: &Budget,
    ) -> Answer {
        let changes = self.stores.memory.tenant(tenant).cards_mark();
        let outcome = pipeline::run(self, tenant, Asker::User(user), query, found.epochs, budget.rest()).await;
        degraded.merge(&outcome.degraded);
        if degraded.impersonal()
            && let Some(stale) = found.stale.take()
        {
            let answer = cached::last_resort(self, tenant, user, query, stale, budget.at(1.0)).await;
            if !answer.recommendations.is_empty() {
                self.figures.stale();
                return Answer { degraded: degraded.names(), ..answer };
            }
        }
        self.figures.miss();
        let mut answer = self.answer(Some(user), query, outcome, &degraded);
        if degraded.is_empty()
            && let Some(kept) = cached::keepable(self, tenant, &found, &answer, changes)
            && let Err(e) = cached::keep(self, &found.key, kept, budget.at(1.0)).await
        {
            degraded.add(CACHE, &e);
            answer.degraded = degraded.names();
        }
        answer
    }

    /// Makes an answer anew in the background, once at a time for each key.
    fn renew(&self, shared: Option<&Arc<Self>>, tenant: &Tenant, user: &UserId, query: &Query, found: &Found) {
        let (Some(me), Some(epochs)) = (shared.cloned(), found.epochs) else { return };
        let flight = format!("{}@{}/{}", found.key, epochs.0, epochs.1);
        let (tenant, user, query, key) = (tenant.clone(), user.clone(), query.clone(), found.key.clone());
        self.late.begin(async move {
            let budget = Budget::begin(me.config.budget().max(WARM_PATIENCE));
            let Turn::Mine(_leader) = me.flights.join(&flight, Instant::now()).await else { return };
            let found = Found { key, epochs: Some(epochs), fresh: None, aging: false, stale: None, error: None };
            me.compute(&tenant, &user, &query, found, Degraded::default(), &budget).await;
        });
    }

    /// Recommendations for someone never seen. Never cached: no two sessions are the same.
    pub async fn recommend_session(&self, tenant: &Tenant, session: &Session, query: &Query) -> Result<Answer, BadToken> {
        self.respond_session(tenant, session, query, Instant::now()).await
    }

    /// The same for a request that arrived at a given time.
    pub async fn respond_session(
        &self,
        tenant: &Tenant,
        session: &Session,
        query: &Query,
        arrived: Instant,
    ) -> Result<Answer, BadToken> {
        let budget = Budget::since(arrived, query.budget.unwrap_or_else(|| self.config.budget()));
        let mut degraded = self.await_own_events(query, &budget).await?;
        let outcome = pipeline::run(self, tenant, Asker::Session(session), query, None, budget.rest()).await;
        degraded.merge(&outcome.degraded);
        Ok(self.answer(None, query, outcome, &degraded))
    }

    fn answer(&self, user: Option<&UserId>, query: &Query, outcome: pipeline::Outcome, degraded: &Degraded) -> Answer {
        Answer {
            user_id: user.cloned(),
            recommendations: outcome.recommendations,
            degraded: degraded.names(),
            cache: CacheState::Miss,
            generated_at: Timestamp::now(),
            model: self.stores.embedder.model().label(),
            removed: query.explain.then_some(outcome.removed),
        }
    }

    fn nothing(&self, user: &UserId) -> Answer {
        let outcome = pipeline::Outcome::default();
        self.answer(Some(user), &Query::default(), outcome, &Degraded::default())
    }

    /// Waits until the caller's own events have had their effect, within a share of the budget.
    async fn await_own_events(&self, query: &Query, budget: &Budget) -> Result<Degraded, BadToken> {
        let mut degraded = Degraded::default();
        if let Some(token) = &query.after {
            self.reached(token, budget.at(AFTER_SHARE), &mut degraded).await?;
        }
        Ok(degraded)
    }

    async fn reached(&self, token: &Token, deadline: Instant, degraded: &mut Degraded) -> Result<(), BadToken> {
        match by(deadline, "log", self.stores.progress.reached(token)).await {
            Ok(()) => Ok(()),
            Err(e) if e.kind == ErrorKind::Invalid => Err(BadToken),
            Err(e) => {
                degraded.add(AFTER, &e);
                Ok(())
            }
        }
    }

    /// Reads what is given when everything else is away, for every tenant, once. Answers what was read.
    pub async fn warm(&self) -> BTreeMap<Tenant, Remembered> {
        let mut all = BTreeMap::new();
        let tenants = self.patiently(self.stores.ledger.tenants()).await.unwrap_or_default();
        for tenant in tenants.iter().take(WARM_TENANTS) {
            let mem = self.stores.memory.tenant(tenant);
            let mut last = Remembered::default();
            let rising = self.patiently(self.shelf.rising(tenant, None)).await;
            let mark = mem.cards_mark();
            let soon = || Instant::now() + WARM_PATIENCE;
            if let Ok(newest) = self.shelf.newest(&self.late, &self.stores.ledger, tenant, None, soon()).await {
                remember_states(&mem, &newest, mark);
                for state in newest {
                    last.cards.insert(state.item.item_id.clone(), Card::of(&state));
                    last.newest.push(state.item.item_id);
                }
            }
            if let Some(rising) = rising {
                let ids: Vec<_> = rising.items.iter().map(|(i, _)| i.clone()).collect();
                let (cards, _) = self.cards(tenant, &ids, soon()).await;
                let known = ids.into_iter().zip(cards).filter_map(|(i, card)| Some((i, card?.as_ref().clone())));
                last.cards.extend(known);
                (last.rising, last.share) = (rising.items.clone(), rising.share);
            }
            all.insert(tenant.clone(), last);
        }
        all
    }

    /// Reads what requests will need of the catalogue, page by page, where it is remembered until it changes: so that the first request
    /// of each user finds it. Gives way to requests: a page takes a few milliseconds.
    async fn preload(&self, stop: &CancellationToken) {
        let tenants = self.patiently(self.stores.ledger.tenants()).await.unwrap_or_default();
        for tenant in tenants.iter().take(WARM_TENANTS) {
            let mem = self.stores.memory.tenant(tenant);
            let (mut after, mut read) = (None, 0);
            while mem.exclusive() && read + PRELOAD_PAGE <= self.config.items.entries / 2 && !stop.is_cancelled() {
                let mark = mem.cards_mark();
                let page = self.stores.ledger.catalogue(tenant, after.as_ref(), PRELOAD_PAGE, None);
                let Some(states) = self.patiently(page).await else { break };
                remember_states(&mem, &states, mark);
                let numbers = mem.numbers(states.iter().map(|s| &s.item.item_id));
                let soon = Instant::now() + WARM_PATIENCE;
                let neighbours = self.config.sources.neighbours;
                if self.loads(tenant).lists(&mem, numbers.into_iter(), neighbours, soon).await.is_err() {
                    break;
                }
                read += states.len();
                match states.last() {
                    Some(last) if states.len() == PRELOAD_PAGE => after = Some(last.item.item_id.clone()),
                    _ => break,
                }
                tokio::time::sleep(PRELOAD_PAUSE).await;
            }
        }
    }

    /// Keeps that warm until told to stop, and writes it down from time to time where a file is configured.
    pub async fn keep_warm(&self, stop: CancellationToken) {
        let file = self.config.snapshot_file.clone();
        if let Some(path) = &file {
            self.recall(path).await;
        }
        for turn in 0_u32.. {
            if let Err(e) = self.notice_trained().await {
                tracing::debug!(error = %e, "what is in service is looked at again in a moment");
            }
            let last = self.warm().await;
            if turn == 0 {
                self.preload(&stop).await;
            }
            if let Some(path) = file.clone().filter(|_| turn % WRITE_EVERY == 0 && last.values().any(|r| !r.cards.is_empty())) {
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
