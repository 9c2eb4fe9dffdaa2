//! Leaves a service alone that has failed several times in a row, and then tries it with one request.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

pub(crate) struct Breaker {
    failures: u32,
    rest: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_a_row: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    pub fn new(failures: u32, rest: Duration) -> Self {
        Self { failures: failures.max(1), rest, state: Mutex::default() }
    }

    /// `Err` with when to come back, while the service is left alone. Whoever is let through after the rest is the trial: the
    /// others wait for its outcome.
    pub fn ask(&self) -> Result<(), Instant> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.open_until {
            Some(until) if until > now => Err(until),
            Some(_) => {
                state.open_until = Some(now + self.rest);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub fn succeeded(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    pub fn failed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_a_row += 1;
        if state.in_a_row >= self.failures {
            state.open_until = Some(Instant::now() + self.rest);
        }
    }
}
