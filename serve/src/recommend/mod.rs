//! Recommending: what a request for recommendations goes through, with or without HTTP.
//!
//! [`pipeline`] is the list of stages; [`formulas`] holds every formula. Nothing here writes to a store, save answers to
//! the response cache.

pub mod answer;
pub mod blend;
pub mod budget;
mod cached;
pub mod degraded;
pub mod filters;
pub mod formulas;
pub mod items;
pub mod pipeline;
pub mod select;
pub mod shelf;
pub mod sources;

use std::time::Duration;

use nearcast_domain::{ErrorKind, StoreResult, Tenant, Timestamp, UserId, event::hex, ports::Token};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub use answer::{Answer, BadToken, CacheState, Query, Reason, Recommendation, RemovalName, Removed, Session};

use self::{
    budget::{Budget, by},
    degraded::{AFTER, CACHE, Degraded},
    items::ItemMemory,
    shelf::Shelf,
    sources::{Asker, CandidateSource},
};
use crate::{ConfigError, ServeConfig, Stores};

/// The share of the budget that the wait for the caller's own events may take.
const AFTER_SHARE: f64 = 0.6;
/// The share that the response cache may take.
const CACHE_SHARE: f64 = 0.15;
/// How often the last resort of every tenant is renewed.
const WARM_EVERY: Duration = Duration::from_secs(5);
/// How long one store may take for that.
const WARM_PATIENCE: Duration = Duration::from_secs(2);
/// For how many tenants a last resort is kept warm.
const WARM_TENANTS: usize = 64;

/// Answers requests for recommendations. One for the whole process: it remembers what requests share.
pub struct Recommender {
    pub(crate) stores: Stores,
    pub(crate) config: ServeConfig,
    pub(crate) items: ItemMemory,
    pub(crate) shelf: Shelf,
    sources: Vec<Box<dyn CandidateSource>>,
    /// A digest of the configuration: answers under another one are not given.
    fingerprint: String,
}

impl Recommender {
    /// Reads nothing yet. Errors: a configuration that cannot work.
    pub fn new(stores: Stores, config: ServeConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let text = serde_json::to_string(&config).unwrap_or_default();
        Ok(Self {
            items: ItemMemory::new(&config.items),
            shelf: Shelf::new(stores.engagement.clone(), &config.sources),
            sources: sources::all(),
            fingerprint: hex(&Sha256::digest(text)[..8]),
            stores,
            config,
        })
    }

    /// The settings it works with.
    pub const fn config(&self) -> &ServeConfig {
        &self.config
    }

    /// Recommendations for a user, known or not. Fails only for a token that is not one.
    pub async fn recommend(&self, tenant: &Tenant, user: &UserId, query: &Query) -> Result<Answer, BadToken> {
        let budget = Budget::begin(query.budget.unwrap_or_else(|| self.config.budget()));
        let mut degraded = self.await_own_events(query, &budget).await?;
        let budget = budget.rest();
        let found = if query.cache && self.config.cache.ttl_ms > 0 {
            let found = cached::look_up(self, tenant, user, query, budget.at(CACHE_SHARE)).await;
            if let Some(e) = &found.error {
                degraded.add(CACHE, e);
            }
            Some(found)
        } else {
            None
        };
        if let Some(mut answer) = found.as_ref().and_then(|f| f.fresh.clone()) {
            count("hit");
            answer.degraded = degraded.names();
            return Ok(answer);
        }
        let outcome = pipeline::run(self, tenant, Asker::User(user), query, budget.rest()).await;
        degraded.merge(&outcome.degraded);
        if degraded.impersonal()
            && let Some(stale) = found.as_ref().and_then(|f| f.stale.clone())
        {
            let answer = cached::last_resort(self, tenant, query, stale, Instant::now()).await;
            if !answer.recommendations.is_empty() {
                count("stale");
                return Ok(Answer { degraded: degraded.names(), ..answer });
            }
        }
        count("miss");
        let mut answer = self.answer(Some(user), query, outcome, &degraded);
        if let Some(found) = found.filter(|_| degraded.is_empty())
            && let Err(e) = cached::keep(self, &found, &answer, budget.at(1.0)).await
        {
            degraded.add(CACHE, &e);
            answer.degraded = degraded.names();
        }
        Ok(answer)
    }

    /// Recommendations for someone never seen. Never cached: no two sessions are the same.
    pub async fn recommend_session(&self, tenant: &Tenant, session: &Session, query: &Query) -> Result<Answer, BadToken> {
        let budget = Budget::begin(query.budget.unwrap_or_else(|| self.config.budget()));
        let mut degraded = self.await_own_events(query, &budget).await?;
        let outcome = pipeline::run(self, tenant, Asker::Session(session), query, budget.rest()).await;
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

    /// Reads what is given when everything else is away, for every tenant, once.
    pub async fn warm(&self) {
        let tenants = self.patiently(self.stores.ledger.tenants()).await.unwrap_or_default();
        for tenant in tenants.iter().take(WARM_TENANTS) {
            let rising = self.patiently(self.shelf.rising(tenant, None)).await;
            if let Some(newest) = self.patiently(self.shelf.newest(&*self.stores.ledger, tenant, None)).await {
                self.items.remember_all(tenant, &newest);
            }
            if let Some(rising) = rising {
                let ids: Vec<_> = rising.items.iter().map(|(i, _)| i.clone()).collect();
                self.items.cards(&*self.stores.ledger, tenant, &ids, |_| false, Instant::now() + WARM_PATIENCE).await;
            }
        }
    }

    /// Keeps that warm until told to stop.
    pub async fn keep_warm(&self, stop: CancellationToken) {
        loop {
            self.warm().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WARM_EVERY) => {}
            }
        }
    }

    async fn patiently<T>(&self, call: impl Future<Output = StoreResult<T>>) -> Option<T> {
        timeout(WARM_PATIENCE, call).await.ok()?.ok()
    }
}

fn count(state: &'static str) {
    metrics::counter!("nearcast_response_cache_total", "result" => state).increment(1);
}
