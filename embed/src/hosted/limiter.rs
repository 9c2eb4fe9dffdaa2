//! Requests and tokens within any window of time, never more.
//!
//! A request counts from before it is sent until a whole window after its answer, so that however the network delays it, no
//! window of the service's own clock holds more than was allowed. It is a log, not a bucket that fills: a bucket lets twice
//! the limit through around its edge.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

pub(crate) struct Limiter {
    requests: u32,
    tokens: u64,
    window: Duration,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    flying: (u32, u64),
    /// When each answered request stops counting, and its tokens; in order.
    ending: VecDeque<(Instant, u64)>,
    ending_tokens: u64,
    /// The service said: nothing before this.
    shut_until: Option<Instant>,
}

/// A request that counts. Counts on for a window once it is dropped.
pub(crate) struct Pass<'a> {
    limiter: &'a Limiter,
    tokens: u64,
}

impl Limiter {
    pub fn new(requests: u32, tokens: u64, window: Duration) -> Self {
        Self { requests, tokens, window, state: Mutex::default(), freed: Notify::new() }
    }

    /// Waits until a request of so many tokens may go.
    pub async fn pass(&self, tokens: u64) -> Pass<'_> {
        let tokens = tokens.min(self.tokens);
        loop {
            let freed = self.freed.notified();
            match self.attempt(tokens) {
                Ok(()) => return Pass { limiter: self, tokens },
                Err(Some(until)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = freed => {}
                    }
                }
                Err(None) => freed.await,
            }
        }
    }

    /// Nothing goes before `until`: the service asked for it.
    pub fn shut(&self, until: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shut_until = Some(state.shut_until.map_or(until, |s| s.max(until)));
    }

    /// Enters the request, or says when to ask again (`None`: when another is answered).
    fn attempt(&self, tokens: u64) -> Result<(), Option<Instant>> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(&(ends, n)) = state.ending.front()
            && ends <= now
        {
            state.ending.pop_front();
            state.ending_tokens -= n;
        }
        if let Some(until) = state.shut_until.filter(|u| *u > now) {
            return Err(Some(until));
        }
        let requests = state.flying.0 as usize + state.ending.len();
        if requests < self.requests as usize && state.flying.1 + state.ending_tokens + tokens <= self.tokens {
            state.flying.0 += 1;
            state.flying.1 += tokens;
            return Ok(());
        }
        Err(state.ending.front().map(|(ends, _)| *ends))
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let ends = Instant::now() + self.limiter.window;
        let mut state = self.limiter.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.flying.0 -= 1;
        state.flying.1 -= self.tokens;
        state.ending.push_back((ends, self.tokens));
        state.ending_tokens += self.tokens;
        drop(state);
        self.limiter.freed.notify_waiters();
    }
}
