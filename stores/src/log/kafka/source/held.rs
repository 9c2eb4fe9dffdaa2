//! What a source holds between the brokers and the worker: records that wait, records that are under way, and whose they are.
//!
//! Shared by the thread that polls, the worker's side, and the calls of the group. It never talks to a broker.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nearcast_domain::{
    ErrorKind, StoreError, StoreResult,
    ports::{Claim, Record, SourceBatch},
};
use tokio::sync::{Notify, futures::Notified};

use super::{
    super::{error::LOG, offsets::Offsets},
    waiting::Waiting,
};

/// About what a record costs beside its bytes.
const OVERHEAD: usize = 256;

/// A record with its place.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub partition: i32,
    pub offset: i64,
    /// When it was produced, in milliseconds.
    pub time: i64,
    pub record: Record,
}

impl Held {
    fn size(&self) -> usize {
        OVERHEAD + self.record.bytes.len() + self.record.key.as_ref().map_or(0, |k| k.len())
    }
}

/// How much a source holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of records that wait for the worker.
    pub waiting_bytes: usize,
    /// Bytes of records that the worker has and that are not committed.
    pub under_way_bytes: usize,
    /// The most bytes of both together so far.
    pub peak_bytes: usize,
    /// The partitions that this source has.
    pub partitions: Vec<i32>,
    /// How many records came again that this process had seen before.
    pub redelivered: u64,
    /// How often batches were taken back from the worker.
    pub withdrawn: u64,
}

/// A partition that this source has.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// The first record that is not done, as far as it is known.
    committed: Option<i64>,
    /// Behind the last record that the worker was given.
    handed: Option<i64>,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    under_way: VecDeque<Held>,
    parts: BTreeMap<i32, Part>,
    /// By partition, behind the newest record that ever came.
    seen: BTreeMap<i32, i64>,
    claim: Claim,
    usage: Usage,
    failure: Option<StoreError>,
    closing: bool,
    /// Partitions came since the reader looked last.
    grown: bool,
}

impl State {
    fn count(&mut self) {
        self.usage.peak_bytes = self.usage.peak_bytes.max(self.usage.waiting_bytes + self.usage.under_way_bytes);
    }

    fn recount(&mut self) {
        self.usage.waiting_bytes = self.waiting.iter().map(Held::size).sum();
        self.usage.under_way_bytes = self.under_way.iter().map(Held::size).sum();
    }
}

/// See the module.
pub(super) struct Shared {
    state: Mutex<State>,
    arrived: Notify,
    settled: Condvar,
    limit: usize,
}

impl Shared {
    pub fn new(limit: usize) -> Self {
        let state = State { claim: Claim::revocable(), ..State::default() };
        Self { state: Mutex::new(state), arrived: Notify::new(), settled: Condvar::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes when something changed since this call.
    pub fn arrived(&self) -> Notified<'_> {
        self.arrived.notified()
    }

    pub fn usage(&self) -> Usage {
        let state = self.lock();
        Usage { partitions: state.parts.keys().copied().collect(), ..state.usage.clone() }
    }

    pub fn close(&self) {
        self.lock().closing = true;
        self.settled.notify_all();
    }

    pub fn closing(&self) -> bool {
        self.lock().closing
    }

    /// The source is broken for good: the worker hears of it.
    pub fn fail(&self, e: StoreError) {
        self.lock().failure.get_or_insert(e);
        self.arrived.notify_one();
    }

    /// Partitions came to this source, with the group's offsets where there are any.
    pub fn assigned(&self, partitions: &BTreeMap<i32, Option<i64>>) {
        let mut state = self.lock();
        for (partition, committed) in partitions {
            state.parts.insert(*partition, Part { committed: *committed, handed: *committed });
        }
        state.claim = state.claim.next_turn();
        state.grown = true;
    }

    /// A record came. Those of partitions that are not here any more, and those that are done, are passed over.
    pub fn arrive(&self, held: Held) {
        let mut state = self.lock();
        let (partition, offset) = (held.partition, held.offset);
        let Some(part) = state.parts.get(&partition) else { return };
        if part.committed.is_some_and(|c| offset < c) {
            return;
        }
        let seen = state.seen.entry(partition).or_insert(offset);
        if offset < *seen {
            state.usage.redelivered += 1;
            metrics::counter!("nearcast_kafka_redelivered_total").increment(1);
        }
        let seen = state.seen.entry(partition).or_insert(offset);
        *seen = (offset + 1).max(*seen);
        state.usage.waiting_bytes += held.size();
        state.count();
        state.waiting.push(held);
        drop(state);
        self.arrived.notify_one();
    }

    /// Whether nothing more is to be read for now; `None`: go on as before.
    pub fn full(&self) -> Option<bool> {
        let state = self.lock();
        let held = state.usage.waiting_bytes + state.usage.under_way_bytes;
        if held >= self.limit {
            Some(true)
        } else if held < self.limit / 4 * 3 {
            Some(false)
        } else {
            None
        }
    }

    /// Whether partitions came since the last call.
    pub fn grown(&self) -> bool {
        std::mem::take(&mut self.lock().grown)
    }

    /// The next batch for the worker.
    pub fn take(&self, max_records: usize, max_bytes: usize) -> StoreResult<Option<SourceBatch>> {
        let mut state = self.lock();
        if let Some(e) = state.failure.take() {
            return Err(e);
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < max_records.max(1) && (bytes < max_bytes || records.is_empty()) {
            let Some(held) = state.waiting.pop() else { break };
            let size = held.size();
            bytes += held.record.bytes.len();
            state.usage.waiting_bytes -= size;
            state.usage.under_way_bytes += size;
            if let Some(part) = state.parts.get_mut(&held.partition) {
                part.handed = Some(held.offset + 1);
            }
            records.push(held.record.clone());
            state.under_way.push_back(held);
        }
        if records.is_empty() {
            return Ok(None);
        }
        let offsets = state.parts.iter().filter_map(|(p, part)| Some((*p, part.handed?))).collect();
        Ok(Some(SourceBatch { records, position: Offsets(offsets).to_string(), claim: state.claim.clone() }))
    }

    /// What of a position is not committed yet and may be. A position that was never handed out is refused.
    pub fn ahead(&self, offsets: &Offsets) -> StoreResult<BTreeMap<i32, i64>> {
        let state = self.lock();
        let mut ahead = BTreeMap::new();
        for (partition, offset) in &offsets.0 {
            // Not here any more: whoever has it commits what they did.
            let Some(part) = state.parts.get(partition) else { continue };
            if state.seen.get(partition).copied().max(part.handed).is_none_or(|most| *offset > most) {
                let message = format!("position {partition}@{offset} was not read yet");
                return Err(StoreError::new(ErrorKind::Invalid, LOG, message));
            }
            if part.committed.is_none_or(|c| *offset > c) {
                ahead.insert(*partition, *offset);
            }
        }
        Ok(ahead)
    }

    /// These offsets are committed.
    pub fn committed(&self, offsets: &BTreeMap<i32, i64>) {
        let mut state = self.lock();
        for (partition, offset) in offsets {
            if let Some(part) = state.parts.get_mut(partition) {
                part.committed = part.committed.max(Some(*offset));
                part.handed = part.handed.max(Some(*offset));
            }
        }
        let done = |h: &Held| offsets.get(&h.partition).is_some_and(|o| h.offset < *o);
        let mut freed = 0;
        state.under_way.retain(|h| {
            let done = done(h);
            freed += if done { h.size() } else { 0 };
            !done
        });
        state.usage.under_way_bytes -= freed;
        if state.usage.withdrawn > 0 {
            // What was taken back and done all the same.
            state.waiting.retain(|h| !done(h));
            state.usage.waiting_bytes = state.waiting.iter().map(Held::size).sum();
        }
        drop(state);
        self.settled.notify_all();
    }

    /// Partitions go away. Waits up to `patience` for what is under way on them to be committed; what is not by then (or at once,
    /// where they are `lost` already) is taken back from the worker, and when this returns nothing of it is being written, unless a
    /// write takes longer than `patience` again. What is taken back of other partitions is handed out again, in order.
    pub fn revoke(&self, partitions: &BTreeSet<i32>, lost: bool, patience: Duration) {
        let mut state = self.lock();
        state.waiting.retain(|h| !partitions.contains(&h.partition));
        state.recount();
        let until = Instant::now() + patience;
        let under_way = |s: &State| s.under_way.iter().any(|h| partitions.contains(&h.partition));
        while under_way(&state) && !lost && !state.closing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let withdrawn = under_way(&state).then(|| {
            let old = std::mem::replace(&mut state.claim, Claim::revocable());
            let back: VecDeque<Held> =
                std::mem::take(&mut state.under_way).into_iter().filter(|h| !partitions.contains(&h.partition)).collect();
            for held in &back {
                if let Some(part) = state.parts.get_mut(&held.partition) {
                    part.handed = part.committed;
                }
            }
            state.waiting.give_back(back);
            state.usage.withdrawn += 1;
            state.recount();
            old
        });
        for partition in partitions {
            state.parts.remove(partition);
        }
        state.claim = state.claim.next_turn();
        let patience = if state.closing { Duration::ZERO } else { patience };
        drop(state);
        if let Some(claim) = withdrawn {
            metrics::counter!("nearcast_kafka_withdrawn_total").increment(1);
            if !claim.withdraw(patience) {
                tracing::warn!(?partitions, "a write is still under way on partitions that are given away");
            }
            self.arrived.notify_one();
        }
    }
}
