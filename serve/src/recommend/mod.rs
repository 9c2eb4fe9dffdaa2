//! Recommending: what a request for recommendations goes through, with or without HTTP.
//!
//! [`pipeline`] is the list of stages; [`formulas`] holds every formula. Nothing here writes to a store, save answers to
//! the response cache.

pub mod alike;
mod answer;
pub mod bits;
pub mod blend;
pub mod budget;
mod cached;
pub mod degraded;
mod engaged;
pub mod explore;
mod filling;
mod filters;
mod flights;
pub mod formulas;
pub mod judging;
mod pipeline;
mod reasons;
pub mod select;
pub mod shelf;
pub mod snapshot;
pub mod sources;
pub mod stages;
pub mod tally;
pub mod through;
mod trained;
mod warm;
mod why_not;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::body::Bytes;
use nearcast_domain::{ErrorKind, ItemId, StoreError, Tenant, Timestamp, UserId, candidate::Source, event::hex, ports::Token};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

pub(crate) use alike::words;
pub use answer::{Answer, BadToken, CacheState, Query, Reason, Recommendation, RemovalName, Removed, Session};
pub use explore::ExploreConfig;
pub use why_not::{Fate, WhyNot};

use self::{
    budget::{Budget, by},
    cached::{Found, Fresh},
    degraded::{AFTER, CACHE, Degraded, LEDGER},
    flights::{Flights, Turn},
    shelf::Shelf,
    sources::{Asker, CandidateSource},
    stages::Stage,
    warm::WARM_PATIENCE,
};
use crate::{
    ConfigError, ServeConfig, Stores,
    figures::Figures,
    memory::{Card, Late, Loads},
};

/// The share of the budget that the wait for the caller's own events may take.
const AFTER_SHARE: f64 = 0.6;
/// The share that the response cache may take.
const CACHE_SHARE: f64 = 0.15;
/// The share until which somebody else's computation of the same answer is waited for.
const JOIN_SHARE: f64 = 0.6;
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
    draws: explore::Draws,
    /// A digest of the configuration and of the model: answers under another one are not given.
    fingerprint: String,
    /// Of this process.
    nonce: u64,
    /// Whether what it reads from is warming up: requests are answered, and would be better sent elsewhere.
    warming: AtomicBool,
    /// Since when it exists.
    begun: Instant,
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
        let mut digest = Sha256::new();
        digest.update(config.answering());
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
            draws: explore::Draws::default(),
            fingerprint: hex(&digest.finalize()[..8]),
            nonce: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8),
            warming: AtomicBool::new(false),
            begun: Instant::now(),
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

    /// A stage that began then is over now, which is the beginning of the next.
    pub(crate) fn over(&self, query: &Query, stage: Stage, began: Instant) -> Instant {
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        self.figures.stage(stage, took);
        if let Some(parts) = &query.parts {
            parts.add(stage.name(), false, began, took, true);
        }
        now
    }

    /// Calls to stores that go on although no request waits for them.
    pub fn late_calls(&self) -> usize {
        self.late.under_way() + self.flights.under_way()
    }

    pub(crate) fn loads<'a>(&'a self, tenant: &'a Tenant) -> Loads<'a> {
        let Stores { ledger, graph, cache, .. } = &self.stores;
        Loads { late: &self.late, ledger, graph, cache, tenant }
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
        let drawn = self.draws.drawn(&self.config.explore, self.nonce, query);
        let query = drawn.as_ref().unwrap_or(query);
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
        let began = Instant::now();
        let mut found = cached::look_up(self, tenant, user, query, budget.at(CACHE_SHARE)).await;
        self.over(query, Stage::Cache, began);
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
            match self.may_repeat(tenant, &answer) {
                true => leader.tell_for(bytes.clone(), Duration::from_millis(self.config.cache.partial_ms)),
                false => leader.tell(bytes.clone()),
            }
            return Ok(Given::Bytes(bytes));
        }
        Ok(Given::Answer(Box::new(answer)))
    }

    /// Whether an answer that lacks something may be given again for a moment, in the same epochs: its filters were asked, and the
    /// stores are others' too, so that the next try is no better than the last until they follow.
    fn may_repeat(&self, tenant: &Tenant, answer: &Answer) -> bool {
        let protects = |name: &&str| [LEDGER, CACHE, AFTER].contains(name);
        answer.cache == CacheState::Miss
            && !answer.degraded.is_empty()
            && !answer.degraded.iter().any(|name| protects(&name.as_ref()))
            && !self.stores.memory.tenant(tenant).exclusive()
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
            let began = Instant::now();
            self.reached(token, budget.at(AFTER_SHARE), &mut degraded).await?;
            self.over(query, Stage::After, began);
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
}
