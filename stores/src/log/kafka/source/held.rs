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
/// Where so many records wait and more are coming, the worker gets them when they are there: what was fetched is read partition by
/// partition, and what was produced first is to be handed out first. One that has nothing else to do gets so many at once.
const BURST: usize = 1_000;
/// They are there when nothing has come for so long,
const LULL: Duration = Duration::from_millis(50);
/// and at the latest after this, once in a burst.
const MOMENT: Duration = Duration::from_millis(500);
/// How often it is looked at whether they have come.
const LOOK: Duration = Duration::from_millis(5);

/// Below so many bytes there is room for more again.
fn roomy_below(limit: usize) -> usize {
    limit / 4 * 3
}

/// What there is for the worker.
pub(super) enum Taken {
    /// A batch.
    Batch(SourceBatch),
    /// More is coming: to be asked for again then.
    Later(Instant),
    /// Nothing, until something arrives.
    Nothing,
}

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
    /// When the newest record came.
    last_came: Option<Instant>,
    /// Since when the worker has been waiting for a burst to come whole.
    held_back: Option<Instant>,
}

impl State {
    fn count(&mut self) {
        self.usage.peak_bytes = self.usage.peak_bytes.max(self.held());
    }

    /// Until when the rest of a burst is still to be waited for, if at all.
    fn burst_until(&mut self, limit: usize, now: Instant) -> Option<Instant> {
        if self.waiting.len() < BURST {
            self.held_back = None;
            return None;
        }
        if self.held() >= roomy_below(limit) {
            return None;
        }
        let until = (self.last_came? + LULL).min(*self.held_back.get_or_insert(now) + MOMENT);
        (now < until).then_some(until)
    }

    /// Bytes of all records.
    fn held(&self) -> usize {
        self.usage.waiting_bytes + self.usage.under_way_bytes
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
        state.last_came = Some(Instant::now());
        state.count();
        state.waiting.push(held);
        drop(state);
        self.arrived.notify_one();
    }

    /// Whether nothing more is to be read for now; `None`: go on as before.
    pub fn full(&self) -> Option<bool> {
        let held = self.lock().held();
        if held >= self.limit {
            Some(true)
        } else if held < roomy_below(self.limit) {
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
    pub fn take(&self, max_records: usize, max_bytes: usize) -> StoreResult<Taken> {
        let mut state = self.lock();
        if let Some(e) = state.failure.take() {
            return Err(e);
        }
        let (mut max_records, now) = (max_records.max(1), Instant::now());
        match state.burst_until(self.limit, now) {
            Some(_) if state.under_way.is_empty() => max_records = max_records.min(BURST),
            Some(until) => return Ok(Taken::Later(until.min(now + LOOK))),
            None => {}
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < max_records && (bytes < max_bytes || records.is_empty()) {
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
            return Ok(Taken::Nothing);
        }
        let offsets = state.parts.iter().filter_map(|(p, part)| Some((*p, part.handed?))).collect();
        Ok(Taken::Batch(SourceBatch { records, position: Offsets(offsets).to_string(), claim: state.claim.clone() }))
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 30;

    fn came(state: &mut State, partition: i32, number: usize, at: Instant) {
        for offset in 0..number {
            state.waiting.push(Held { partition, offset: offset as i64, time: 0, record: Record::default() });
        }
        state.last_came = Some(at);
    }

    #[test]
    fn a_burst_is_waited_for_until_it_is_there() {
        let mut state = State::default();
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        came(&mut state, 0, BURST - 1, begun);
        assert_eq!(state.burst_until(LIMIT, after(1)), None, "few never wait");
        came(&mut state, 1, 1, after(10));
        assert_eq!(state.burst_until(LIMIT, after(20)), Some(after(60)));
        assert_eq!(state.burst_until(LIMIT, after(60)), None, "nothing more comes");
        for ms in (30..520).step_by(30) {
            state.last_came = Some(after(ms));
            assert_eq!(state.burst_until(LIMIT, after(ms)), Some(after((ms + 50).min(520))));
        }
        for ms in [520, 800, 5_000] {
            state.last_came = Some(after(ms));
            assert_eq!(state.burst_until(LIMIT, after(ms)), None, "once in a burst");
        }
        state.waiting.retain(|h| h.partition == 1);
        assert_eq!(state.burst_until(LIMIT, after(5_000)), None);
        came(&mut state, 0, BURST, after(6_000));
        assert!(state.burst_until(LIMIT, after(6_000)).is_some(), "another one");
        state.usage.under_way_bytes = LIMIT;
        assert_eq!(state.burst_until(LIMIT, after(6_000)), None, "there is no room for more");
    }

    #[test]
    fn who_has_nothing_to_do_gets_the_first_at_once() {
        let shared = Shared::new(LIMIT);
        shared.assigned(&BTreeMap::from([(0, None), (1, None)]));
        for offset in 0..2_000 {
            shared.arrive(Held { partition: 0, offset, time: offset, record: Record::default() });
        }
        let Taken::Batch(batch) = shared.take(5_000, usize::MAX).unwrap() else { panic!("idle") };
        assert!(batch.records.len() >= BURST);
        shared.arrive(Held { partition: 1, offset: 0, time: 0, record: Record::default() });
        shared.lock().last_came = None;
        let Taken::Batch(batch) = shared.take(1, usize::MAX).unwrap() else { panic!("nothing more comes") };
        assert!(batch.position.contains("1@1"), "the oldest first: {}", batch.position);
    }
}
