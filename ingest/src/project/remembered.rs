//! Histories that a worker remembers of users whose events come through it alone, so that an event costs no look at all that its user
//! ever did.
//!
//! Read before a batch is taken in and brought up to date by what the ledger says became of it, so that an entry is what the ledger
//! holds. Nothing outlives a change of what the source has ([`nearcast_domain::ports::Claim::turn`]): another worker may have written
//! meanwhile. Nor a write by somebody who owns no partitions ([`LedgerWrite::written_beside`]). Bounded; never the only copy of anything.
//!
//! [`LedgerWrite::written_beside`]: nearcast_domain::ports::LedgerWrite::written_beside

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nearcast_domain::{
    Event, StoreResult, Tenant, UserId,
    ports::{Append, Appended, EngagedEvent, History, HistoryLimit, MessageEvent},
    profile::newest_first,
};

use super::{Projector, engaged};

/// What an engagement and a user take beside their names, about, in bytes.
const OVERHEAD: usize = 128;
/// Users whose histories are read at once.
const PORTION: usize = 256;

#[derive(Default)]
struct Memory {
    turn: u64,
    /// [`LedgerWrite::written_beside`](nearcast_domain::ports::LedgerWrite::written_beside) when the first entry was read.
    beside: Option<u64>,
    /// In two generations: when the younger is full, the older goes.
    young: HashMap<(Tenant, UserId), History>,
    old: HashMap<(Tenant, UserId), History>,
    /// Of the younger.
    bytes: usize,
}

impl Memory {
    fn forget(&mut self) {
        *self = Self { turn: self.turn, ..Self::default() };
    }

    fn get(&self, key: &(Tenant, UserId)) -> Option<&History> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn take(&mut self, key: &(Tenant, UserId)) -> Option<History> {
        let Some(found) = self.young.remove(key) else { return self.old.remove(key) };
        self.bytes = self.bytes.saturating_sub(weight(&found));
        Some(found)
    }

    fn put(&mut self, key: (Tenant, UserId), history: History, room: usize) {
        if self.bytes >= room / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += weight(&history);
        self.young.insert(key, history);
    }
}

fn weight(history: &History) -> usize {
    let engaged: usize = history.engagements.iter().map(|e| OVERHEAD + e.id.as_str().len() + e.item.as_str().len()).sum();
    let wrote = history.messages.iter().map(|m| OVERHEAD + m.text.len() + m.vector.as_ref().map_or(0, |v| 4 * v.len()));
    OVERHEAD + engaged + wrote.sum::<usize>()
}

/// See the module.
#[derive(Default)]
pub(super) struct Remembered(Mutex<Memory>);

impl Remembered {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory in this turn: begun anew where it is of an earlier one, `None` where it is of a later one already.
    fn at(&self, turn: u64) -> Option<MutexGuard<'_, Memory>> {
        let mut memory = self.lock();
        if memory.turn < turn {
            memory.turn = turn;
            memory.forget();
        }
        (memory.turn == turn).then_some(memory)
    }
}

/// Who did or wrote something in a batch.
fn users(appends: &[Append]) -> BTreeSet<(Tenant, UserId)> {
    let speaks = |e: &Event| matches!(e, Event::Message(_) | Event::Engagement(_));
    let events = appends.iter().map(|a| &a.event).filter(|e| speaks(e));
    events.filter_map(|e| Some((e.tenant().clone(), e.user()?.clone()))).collect()
}

impl Projector {
    fn remembers(&self) -> bool {
        self.whole_history > 0 && self.histories_bytes > 0 && !self.shadow
    }

    fn limit(&self) -> HistoryLimit {
        let n = self.rules.profile.events;
        HistoryLimit { engagements: self.whole_history.max(n), messages: n }
    }

    /// Remembers the users of a batch as they are before the ledger takes it in.
    pub async fn recall(&self, appends: &[Append], turn: Option<u64>) -> StoreResult<()> {
        let Some(turn) = turn.filter(|_| self.remembers()) else { return Ok(()) };
        let Some(begun) = self.remembered.at(turn).map(|m| m.beside.is_some()) else { return Ok(()) };
        if !begun {
            let beside = self.stores.ledger.written_beside().await?;
            if let Some(mut memory) = self.remembered.at(turn) {
                memory.forget();
                memory.beside = Some(beside);
            }
        }
        let unknown: Vec<(Tenant, UserId)> = match self.remembered.at(turn) {
            Some(memory) => users(appends).into_iter().filter(|key| memory.get(key).is_none()).collect(),
            None => return Ok(()),
        };
        for of_tenant in unknown.chunk_by(|a, b| a.0 == b.0) {
            for part in of_tenant.chunks(PORTION) {
                let tenant = &part[0].0;
                let ids: Vec<UserId> = part.iter().map(|(_, user)| user.clone()).collect();
                let read = self.stores.ledger.histories(tenant, &ids, self.limit(), Some(self.revision())).await?;
                let Some(mut memory) = self.remembered.at(turn) else { return Ok(()) };
                for (key, history) in part.iter().zip(read) {
                    if history.engagements.len() < self.limit().engagements {
                        memory.put(key.clone(), history, self.histories_bytes);
                    }
                }
            }
        }
        Ok(())
    }

    /// Brings what is remembered up to date with a batch that the ledger has taken in.
    pub fn learn(&self, appends: &[Append], outcomes: &[Appended], turn: Option<u64>) {
        let Some(mut memory) = turn.filter(|_| self.remembers()).and_then(|turn| self.remembered.at(turn)) else { return };
        let limit = self.limit();
        let mut changed: HashMap<(Tenant, UserId), Option<History>> = HashMap::new();
        for (append, outcome) in appends.iter().zip(outcomes) {
            let Some(user) = append.event.user() else { continue };
            let key = (append.event.tenant().clone(), user.clone());
            let history = changed.entry(key).or_insert_with_key(|key| memory.take(key));
            let good = history.as_mut().is_some_and(|history| match outcome {
                Appended::New | Appended::Duplicate => told(history, append, *outcome == Appended::New),
                Appended::Conflict | Appended::Erased => true,
            });
            if !good {
                *history = None;
            }
        }
        for (key, history) in changed {
            if let Some(mut history) = history {
                history.messages.truncate(limit.messages);
                if history.engagements.len() < limit.engagements {
                    memory.put(key, history, self.histories_bytes);
                }
            }
        }
    }

    /// The histories of a batch's own users, in the order asked, remembered or read.
    pub(super) async fn histories(&self, tenant: &Tenant, users: &[UserId], turn: Option<u64>) -> StoreResult<Vec<History>> {
        let mut found: Vec<Option<History>> = vec![None; users.len()];
        if let Some(turn) = turn.filter(|_| self.remembers()) {
            // Behind the batch's own writes: a change that comes later is projected by who made it, with these among what they read.
            let beside = self.stores.ledger.written_beside().await?;
            if let Some(mut memory) = self.remembered.at(turn) {
                if memory.beside == Some(beside) {
                    let known = |user: &UserId| memory.get(&(tenant.clone(), user.clone())).cloned();
                    found = users.iter().map(known).collect();
                } else {
                    memory.forget();
                }
            }
        }
        let unknown: Vec<UserId> = users.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(u, _)| u.clone()).collect();
        metrics::counter!("nearcast_ingest_histories_total", "from" => "memory")
            .increment((users.len() - unknown.len()) as u64);
        metrics::counter!("nearcast_ingest_histories_total", "from" => "ledger").increment(unknown.len() as u64);
        if !unknown.is_empty() {
            let read = self.stores.ledger.histories(tenant, &unknown, self.limit(), Some(self.revision())).await?;
            for (slot, history) in found.iter_mut().filter(|f| f.is_none()).zip(read) {
                *slot = Some(history);
            }
        }
        Ok(found.into_iter().map(Option::unwrap_or_default).collect())
    }
}

/// Adds an event of the ledger to a history that may hold it already; `false`: what the history would be is not known here.
fn told(history: &mut History, append: &Append, new: bool) -> bool {
    match &append.event {
        Event::Message(m) if new => {
            let (id, item, timestamp) = (m.message_id.clone(), m.item_id.clone(), m.timestamp);
            let message = MessageEvent { id, text: m.text.clone(), item, timestamp, vector: append.vector.clone() };
            let newer = |known: &MessageEvent| {
                newest_first((known.timestamp, &known.id), (message.timestamp, &message.id)) == Ordering::Less
            };
            let place = history.messages.partition_point(newer);
            history.messages.insert(place, message);
        }
        // Its vector, or that there is none, is the ledger's to say.
        Event::Message(m) => return history.messages.iter().any(|known| known.id == m.message_id && known.vector.is_some()),
        Event::Erasure(_) => return false,
        Event::Engagement(_) | Event::Item(_) => {}
    }
    let Some(engaged) = engaged(&append.event) else { return true };
    let same = |known: &EngagedEvent| known.id == engaged.id && known.is_message == engaged.is_message;
    if !new && history.engagements.iter().any(same) {
        return true;
    }
    let newer = |known: &EngagedEvent| {
        let order = newest_first((known.timestamp, &known.id), (engaged.timestamp, &engaged.id));
        order.then(engaged.is_message.cmp(&known.is_message)) == Ordering::Less
    };
    let place = history.engagements.partition_point(newer);
    history.engagements.insert(place, engaged);
    true
}
