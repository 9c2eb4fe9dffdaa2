//! What waits for the model: texts to tokenize, token sequences to encode, in two classes.
//!
//! Guards one invariant: a text is in flight at most once, and everyone who asked for it is answered exactly once (or has
//! gone). Locks are held for moving keys about, never for computing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use nearcast_domain::{StoreError, StoreResult, Vector, ports::Priority};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Which text under which model.
pub(crate) type Key = [u8; 16];

/// Someone who asked. Holds a place in the bounded queue until answered.
pub(crate) struct Waiter {
    pub reply: oneshot::Sender<StoreResult<Vector>>,
    pub _permit: OwnedSemaphorePermit,
}

struct Entry {
    text: Arc<str>,
    tokens: Option<Vec<u32>>,
    class: usize,
    running: bool,
    since: Instant,
    waiters: Vec<Waiter>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Not tokenized yet, by class. May hold keys that have moved on; those are skipped.
    raw: [VecDeque<Key>; 2],
    /// Tokenized, by class. The same.
    ready: [VecDeque<Key>; 2],
    ready_tokens: [usize; 2],
    closed: bool,
    dropped: bool,
}

/// What a thread does next.
pub(crate) enum Work {
    Tokenize(Vec<(Key, Arc<str>)>),
    Encode(Vec<(Key, Vec<u32>)>),
    Stop,
}

/// The queue itself.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Threads that take whatever comes.
    any: Condvar,
    /// The thread that is kept for requests.
    express: Condvar,
}

/// How much one turn of tokenizing takes: so little that a request which comes meanwhile hardly notices.
const TEXTS_A_TURN: usize = 32;
const BYTES_A_TURN: usize = 64 << 10;

const CLASSES: [&str; 2] = ["query", "bulk"];

const fn class_of(priority: Priority) -> usize {
    match priority {
        Priority::Query => 0,
        Priority::Bulk => 1,
    }
}

/// Texts that wait or are being computed, in the metrics.
fn depth(state: &State) {
    metrics::gauge!("nearcast_embed_queue_depth").set(state.entries.len() as f64);
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything can panic, so a poisoned lock guards sound data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a text, or joins those who wait for it already; true where the text is new.
    pub fn submit(&self, key: Key, text: &Arc<str>, priority: Priority, waiter: Waiter) -> StoreResult<bool> {
        let class = class_of(priority);
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return Err(super::gone());
        }
        let first = match state.entries.get_mut(&key) {
            Some(entry) => {
                entry.waiters.push(waiter);
                metrics::counter!("nearcast_embed_joined_total").increment(1);
                if class < entry.class && entry.running {
                    // Should it only be tokenized just now, it comes back into the better class.
                    entry.class = class;
                } else if class < entry.class {
                    // A request asks for what was only wanted in bulk: it moves up.
                    let queues = match &entry.tokens {
                        Some(tokens) => {
                            state.ready_tokens[entry.class] -= tokens.len();
                            state.ready_tokens[class] += tokens.len();
                            &mut state.ready
                        }
                        None => &mut state.raw,
                    };
                    entry.class = class;
                    queues[class].push_back(key);
                }
                false
            }
            None => {
                let entry = Entry {
                    text: Arc::clone(text),
                    tokens: None,
                    class,
                    running: false,
                    since: Instant::now(),
                    waiters: vec![waiter],
                };
                state.entries.insert(key, entry);
                state.raw[class].push_back(key);
                true
            }
        };
        depth(state);
        drop(guard);
        if class == 0 {
            self.express.notify_one();
        }
        self.any.notify_one();
        Ok(first)
    }

    /// Waits until there is something to do. Requests come before everything in bulk; an express thread takes nothing else.
    pub fn next(&self, budget: usize, express: bool) -> Work {
        let mut guard = self.lock();
        loop {
            let state = &mut *guard;
            if state.dropped {
                return Work::Stop;
            }
            for class in 0..if express { 1 } else { CLASSES.len() } {
                if state.ready_tokens[class] < budget {
                    let texts = state.take_raw(class);
                    if !texts.is_empty() {
                        return Work::Tokenize(texts);
                    }
                }
                let batch = state.take_ready(class, budget);
                if !batch.is_empty() {
                    return Work::Encode(batch);
                }
            }
            if state.closed {
                return Work::Stop;
            }
            let wake = if express { &self.express } else { &self.any };
            guard = wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes tokenized texts back in.
    pub fn tokenized(&self, sequences: Vec<(Key, Vec<u32>)>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for (key, tokens) in sequences {
            if let Some(entry) = state.entries.get_mut(&key) {
                state.ready_tokens[entry.class] += tokens.len();
                state.ready[entry.class].push_back(key);
                entry.tokens = Some(tokens);
                entry.running = false;
            }
        }
        drop(guard);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.any.notify_all();
        self.express.notify_all();
    }

    /// Answers everyone who waits for this text.
    pub fn answer(&self, key: &Key, result: &StoreResult<Vector>) {
        let entry = {
            let mut state = self.lock();
            let entry = state.entries.remove(key);
            depth(&state);
            entry
        };
        let Some(entry) = entry else { return };
        for waiter in entry.waiters {
            // One who has gone meanwhile needs no answer.
            let _ = waiter.reply.send(result.clone());
        }
    }

    /// Answers everyone who waits for anything with this error.
    pub fn fail_all(&self, error: &StoreError) {
        let entries = {
            let mut state = self.lock();
            let closed = state.closed;
            let dropped = state.dropped;
            let entries = std::mem::replace(&mut *state, State { closed, dropped, ..State::default() }).entries;
            depth(&state);
            entries
        };
        for waiter in entries.into_values().flat_map(|e| e.waiters) {
            let _ = waiter.reply.send(Err(error.clone()));
        }
    }

    /// Takes no more; `at_once` also forgets what waits.
    pub fn close(&self, at_once: bool) {
        let mut state = self.lock();
        state.closed = true;
        state.dropped |= at_once;
        drop(state);
        self.wake_all();
    }
}

impl State {
    /// Whether this key stands for something that someone still waits for. Forgets it where nobody does.
    fn wanted(&mut self, key: &Key, class: usize, tokenized: bool) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if entry.running || entry.class != class || entry.tokens.is_some() != tokenized {
            return false;
        }
        entry.waiters.retain(|w| !w.reply.is_closed());
        if entry.waiters.is_empty() {
            if let Some(tokens) = &entry.tokens {
                self.ready_tokens[class] -= tokens.len();
            }
            self.entries.remove(key);
            depth(self);
            metrics::counter!("nearcast_embed_cancelled_total").increment(1);
            return false;
        }
        true
    }

    fn take_raw(&mut self, class: usize) -> Vec<(Key, Arc<str>)> {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        while texts.len() < TEXTS_A_TURN && bytes < BYTES_A_TURN {
            let Some(key) = self.raw[class].pop_front() else { break };
            if self.wanted(&key, class, false)
                && let Some(entry) = self.entries.get_mut(&key)
            {
                entry.running = true;
                bytes += entry.text.len();
                texts.push((key, Arc::clone(&entry.text)));
            }
        }
        texts
    }

    fn take_ready(&mut self, class: usize, budget: usize) -> Vec<(Key, Vec<u32>)> {
        let (mut batch, mut sum) = (Vec::new(), 0);
        while let Some(key) = self.ready[class].front().copied() {
            if self.wanted(&key, class, true)
                && let Some(entry) = self.entries.get_mut(&key)
                && let Some(tokens) = entry.tokens.take_if(|t| batch.is_empty() || sum + t.len() <= budget)
            {
                sum += tokens.len();
                self.ready_tokens[class] -= tokens.len();
                entry.running = true;
                metrics::histogram!("nearcast_embed_wait_seconds", "class" => CLASSES[class])
                    .record(entry.since.elapsed().as_secs_f64());
                batch.push((key, tokens));
            } else if self.entries.get(&key).is_some_and(|e| !e.running && e.class == class && e.tokens.is_some()) {
                // Wanted, but it does not fit any more: it is the first of the next batch.
                break;
            }
            self.ready[class].pop_front();
        }
        if !batch.is_empty() {
            metrics::histogram!("nearcast_embed_batch_tokens").record(sum as f64);
        }
        batch
    }
}
