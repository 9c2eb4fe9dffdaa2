//! [`Guard`]: what one call to one replica goes through.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::{Either, select};
use nearcast_domain::{ErrorKind, StoreError, StoreResult, ports::StoreState};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    breaker::{Gate, Pass, Verdict},
    bulkhead::Bulkhead,
    config::{GuardConfig, Limits},
    figures::{Figures, Outcome},
    hedge::Hedge,
    states::GuardStates,
};

/// How many deadlines a survey has.
const SURVEY: u32 = 10;

/// What a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A read of a request: has a deadline, and may be made twice.
    Read,
    /// A read of many rows, asked for beside requests: has ten times the deadline, is made once, and that it is slow says nothing about
    /// the store.
    Survey,
    /// A write: has a deadline, and is made once.
    Write,
    /// A wait for something to happen: the caller bounds it, and how long it takes says nothing about the store.
    Wait,
    /// A read of everything, for jobs: as long as it takes.
    Bulk,
}

/// One replica's deadline, breaker, bulkhead, hedging and figures.
pub struct Guard {
    store: &'static str,
    replica: String,
    limits: Limits,
    slow: Duration,
    gate: Gate,
    bulkhead: Bulkhead,
    hedge: Option<Hedge>,
    figures: Figures,
}

/// A call that was let through. Whatever becomes of it is taken down, also when its caller goes away.
struct Ticket<'a> {
    guard: &'a Guard,
    op: Op,
    pass: Pass,
    begun: Instant,
    open: bool,
}

impl Guard {
    /// A guard for a store, or for one replica of it (`replica` is empty where there is one only), known to `states`.
    pub fn new(store: &'static str, replica: &str, config: &GuardConfig, states: &GuardStates) -> Arc<Self> {
        let limits = config.limits(store);
        let guard = Arc::new(Self {
            store,
            replica: replica.to_owned(),
            slow: Duration::from_millis(limits.breaker.slow_ms),
            gate: Gate::new(limits.breaker),
            bulkhead: Bulkhead::new(limits.in_flight, limits.queue),
            hedge: Hedge::new(limits.hedge),
            figures: Figures::default(),
            limits,
        });
        states.add(guard.clone());
        guard
    }

    /// Makes a call: within the deadline, if the breaker lets it through and there is room. `make` is called once, and once
    /// more where a read takes long and the share of second attempts allows it; `name` stands in errors.
    pub async fn call<T, F>(&self, name: &'static str, op: Op, make: impl Fn() -> F) -> StoreResult<T>
    where
        F: Future<Output = StoreResult<T>>,
    {
        self.call_or(name, op, &make, &make).await
    }

    /// The same, with something else to try second: another replica.
    pub(super) async fn call_or<T, F, G>(
        &self,
        name: &'static str,
        op: Op,
        first: impl Fn() -> F,
        second: impl Fn() -> G,
    ) -> StoreResult<T>
    where
        F: Future<Output = StoreResult<T>>,
        G: Future<Output = StoreResult<T>>,
    {
        let begun = Instant::now();
        let Some(pass) = self.gate.admit(begun) else {
            self.figures.count(Outcome::Refused);
            return Err(self.error(ErrorKind::Unavailable, name, "not tried: the store failed too often a moment ago"));
        };
        let mut ticket = Ticket { guard: self, op, pass, begun, open: true };
        let deadline = begun + self.limits.deadline;
        let _room = match self.bulkhead.try_enter() {
            Some(room) => room,
            None => match timeout_at(deadline, self.bulkhead.enter()).await {
                Ok(Some(room)) => room,
                _ => {
                    ticket.close(Outcome::Full, Verdict::Nothing);
                    return Err(self.error(ErrorKind::Busy, name, "too many calls are under way"));
                }
            },
        };
        let result = match op {
            Op::Wait | Op::Bulk => Ok(first().await),
            Op::Survey => timeout_at(begun + SURVEY * self.limits.deadline, first()).await,
            Op::Write => timeout_at(deadline, first()).await,
            Op::Read => timeout_at(deadline, self.twice(first, second)).await,
        };
        let result = result.unwrap_or_else(|_| Err(self.error(ErrorKind::Timeout, name, "no answer within the deadline")));
        ticket.end(&result);
        result
    }

    /// The first answer of a call and, where that takes long, of another.
    async fn twice<T, F, G>(&self, first: impl Fn() -> F, second: impl Fn() -> G) -> StoreResult<T>
    where
        F: Future<Output = StoreResult<T>>,
        G: Future<Output = StoreResult<T>>,
    {
        let mut one = pin!(first());
        let Some((hedge, after)) = self.hedge.as_ref().and_then(|h| Some((h, h.after()?))) else { return one.await };
        match select(one.as_mut(), pin!(sleep(after))).await {
            Either::Left((result, _)) => return result,
            Either::Right(_) if !hedge.take() => return one.await,
            Either::Right(_) => {}
        }
        self.figures.hedged.fetch_add(1, Ordering::Relaxed);
        match select(one, pin!(second())).await {
            Either::Left((Ok(answer), _)) | Either::Right((Ok(answer), _)) => Ok(answer),
            Either::Left((Err(_), other)) => other.await,
            Either::Right((Err(_), other)) => other.await,
        }
    }

    /// Whether a call would be tried now.
    pub(super) fn would_try(&self) -> bool {
        self.gate.would_pass(Instant::now())
    }

    fn error(&self, kind: ErrorKind, name: &str, what: &str) -> StoreError {
        StoreError::new(kind, self.store, format_args!("{name}: {what}"))
    }

    /// How it fares.
    pub fn state(&self) -> StoreState {
        let (breaker, since, last_error) = self.gate.state();
        StoreState {
            store: self.store,
            replica: self.replica.clone(),
            breaker,
            since,
            last_error,
            in_flight: self.bulkhead.in_flight() as u64,
            calls: self.figures.calls(),
            hedged: self.figures.hedged.load(Ordering::Relaxed),
            latency: self.figures.latency(),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("store", &self.store).field("replica", &self.replica).finish_non_exhaustive()
    }
}

impl Ticket<'_> {
    fn end<T>(&mut self, result: &StoreResult<T>) {
        let (outcome, verdict) = match result {
            Ok(_) => (Outcome::Ok, self.pace()),
            Err(e) if e.kind == ErrorKind::Timeout => (Outcome::Timeout, Verdict::Failed(e.kind)),
            Err(e) if e.kind.is_transient() || e.kind == ErrorKind::Corrupt => (Outcome::Error, Verdict::Failed(e.kind)),
            // The store answered, and said no.
            Err(_) => (Outcome::Error, self.pace()),
        };
        self.close(outcome, verdict);
    }

    fn pace(&self) -> Verdict {
        let judged = matches!(self.op, Op::Read | Op::Write);
        if judged && self.begun.elapsed() >= self.guard.slow { Verdict::Slow } else { Verdict::Good }
    }

    fn close(&mut self, outcome: Outcome, verdict: Verdict) {
        self.open = false;
        let (guard, now) = (self.guard, Instant::now());
        let took = now.saturating_duration_since(self.begun);
        guard.figures.count(outcome);
        if verdict != Verdict::Nothing {
            guard.figures.took(took);
        }
        if let Some(hedge) = guard.hedge.as_ref().filter(|_| self.op == Op::Read && verdict != Verdict::Nothing) {
            hedge.record(took);
        }
        guard.gate.record(now, self.pass, verdict);
    }
}

impl Drop for Ticket<'_> {
    /// The caller went away. Having waited long for nothing says that the store is slow; having waited for a moment says nothing.
    fn drop(&mut self) {
        if self.open {
            let verdict = if self.pace() == Verdict::Slow { Verdict::Slow } else { Verdict::Nothing };
            self.close(Outcome::GivenUp, verdict);
        }
    }
}
