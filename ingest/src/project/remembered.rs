//! Histories that a worker remembers of users whose events come through it alone, so that an event costs no look at all that its user
//! ever did.
//!
//! Read when a batch comes, while there is little to read (of newcomers nothing: the ledger says who they are), and brought up to date by what the ledger says became of it and of the batches
//! behind it, so that an entry is what the ledger holds: what the ledger takes in while a history is read is added to it afterwards,
//! where it is not in it already. No batch waits long for such a read on its way into the ledger. Nothing outlives a change of what the
//! source has ([`nearcast_domain::ports::Claim::turn`]): another worker may have written meanwhile. Nor a write by somebody who owns no
//! partitions ([`LedgerWrite::written_beside`]). Bounded; never the only copy of anything.
//!
//! [`LedgerWrite::written_beside`]: nearcast_domain::ports::LedgerWrite::written_beside

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nearcast_domain::{
    Event, StoreResult, Tenant, UserId,
    ports::{Append, Appended, EngagedEvent, History, HistoryLimit, MessageEvent},
};

use super::{Projector, engaged};

/// What an engagement, a message and a user take beside their names, about, in bytes: themselves (72 for an engagement), up to three names with
/// two counts of 8 bytes and the allocator's rounding each, and room to grow by half.
const OVERHEAD: usize = 224;
/// So many events of a user whose history is being read are kept for it; who does more is read again another time.
const MEANWHILE: usize = 1_024;

/// Of which tenant, and who.
pub(super) type Key = (Tenant, UserId);
/// What the ledger took in, and whether it was new.
type Meanwhile = Vec<(Append, bool)>;

#[derive(Default)]
pub(super) struct Memory {
    turn: u64,
    /// [`LedgerWrite::written_beside`](nearcast_domain::ports::LedgerWrite::written_beside) before the first entry was read.
    pub(super) beside: Option<u64>,
    /// Whose histories are being read, by which read (the last that began), and what the ledger took in of theirs since it began.
    reading: HashMap<Key, (u64, Meanwhile)>,
    /// How many reads began.
    reads: u64,
    /// In two generations: when the younger is full, the older goes.
    young: HashMap<Key, History>,
    old: HashMap<Key, History>,
    /// Of the younger.
    bytes: usize,
}

impl Memory {
    fn forget(&mut self) {
        *self = Self { turn: self.turn, reads: self.reads, ..Self::default() };
    }

    fn get(&self, key: &Key) -> Option<&History> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Whether someone's history is neither known nor being read.
    pub(super) fn lacks(&self, key: &Key) -> bool {
        self.get(key).is_none() && !self.reading.contains_key(key)
    }

    /// Notes that the histories of these are about to be read: what the ledger took in before is in them.
    pub(super) fn begin(&mut self, keys: &[Key]) -> u64 {
        self.reads += 1;
        self.reading.extend(keys.iter().map(|key| (key.clone(), (self.reads, Vec::new()))));
        self.reads
    }

    fn take(&mut self, key: &Key) -> Option<History> {
        let Some(found) = self.young.remove(key) else { return self.old.remove(key) };
        self.bytes = self.bytes.saturating_sub(weight(&found));
        Some(found)
    }

    fn put(&mut self, key: Key, history: History, room: usize) {
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
    pub(super) fn at(&self, turn: u64) -> Option<MutexGuard<'_, Memory>> {
        let mut memory = self.lock();
        if memory.turn < turn {
            memory.turn = turn;
            memory.forget();
        }
        (memory.turn == turn).then_some(memory)
    }
}

/// A read under way; takes what it noted back when it ends, however it does.
pub(super) struct Reading {
    pub(super) remembered: Arc<Remembered>,
    pub(super) of: Vec<Key>,
    pub(super) number: u64,
}

impl Reading {
    /// What the ledger took in of someone since it began; `None` where it is not known.
    pub(super) fn meanwhile(&self, memory: &mut Memory, key: &Key) -> Option<Meanwhile> {
        memory.reading.get(key).filter(|(read, _)| *read == self.number)?;
        Some(memory.reading.remove(key)?.1)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut memory = self.remembered.lock();
        for key in &self.of {
            self.meanwhile(&mut memory, key);
        }
    }
}

impl Projector {
    pub(super) fn remembers(&self) -> bool {
        self.whole_history > 0 && self.histories_bytes > 0 && !self.shadow
    }

    fn limit(&self) -> HistoryLimit {
        let n = self.rules.profile.events;
        HistoryLimit { engagements: self.whole_history.max(n), messages: n }
    }

    /// Brings what is remembered up to date with a batch that the ledger has taken in.
    pub fn learn(&self, appends: &[Append], outcomes: &[Appended], turn: Option<u64>) {
        let Some(mut memory) = turn.filter(|_| self.remembers()).and_then(|turn| self.remembered.at(turn)) else { return };
        let mut changed: HashMap<Key, Option<History>> = HashMap::new();
        for (append, outcome) in appends.iter().zip(outcomes) {
            let Some(user) = append.event.user() else { continue };
            let key = (append.event.tenant().clone(), user.clone());
            if !matches!(outcome, Appended::New | Appended::Duplicate) {
                continue;
            }
            let new = *outcome == Appended::New;
            if let Some((_, meanwhile)) = memory.reading.get_mut(&key) {
                meanwhile.push((append.clone(), new));
                if meanwhile.len() > MEANWHILE {
                    memory.reading.remove(&key);
                }
            }
            let history = changed.entry(key).or_insert_with_key(|key| memory.take(key));
            if !history.as_mut().is_some_and(|history| told(history, append, new)) {
                *history = None;
            }
        }
        for (key, history) in changed {
            if let Some(history) = history {
                self.remember(&mut memory, key, history);
            }
        }
    }

    /// Keeps a history that is whole.
    pub(super) fn remember(&self, memory: &mut Memory, key: Key, mut history: History) {
        let limit = self.limit();
        history.messages.truncate(limit.messages);
        if history.engagements.len() < limit.engagements {
            memory.put(key, history, self.histories_bytes);
        }
    }

    /// The histories of a batch's own users, in the order asked, remembered or read.
    pub(super) async fn histories(&self, tenant: &Tenant, users: &[UserId], turn: Option<u64>) -> StoreResult<Vec<History>> {
        let (histories, read) = self.known_or_read(tenant, users, turn).await?;
        metrics::counter!("nearcast_ingest_histories_total", "from" => "memory").increment((users.len() - read) as u64);
        metrics::counter!("nearcast_ingest_histories_total", "from" => "ledger").increment(read as u64);
        Ok(histories)
    }

    /// The same, and how many were read.
    pub(super) async fn known_or_read(
        &self,
        tenant: &Tenant,
        users: &[UserId],
        turn: Option<u64>,
    ) -> StoreResult<(Vec<History>, usize)> {
        let key = |user: &UserId| (tenant.clone(), user.clone());
        let turn = turn.filter(|_| self.remembers());
        // Behind the batch's own writes: a change that comes later is projected by who made it, with these among what they read.
        let beside = match turn {
            Some(_) => Some(self.stores.ledger.written_beside().await?),
            None => None,
        };
        let mut found: Vec<Option<History>> = vec![None; users.len()];
        let mut reading = Reading { remembered: self.remembered.clone(), of: Vec::new(), number: 0 };
        if let Some(mut memory) = turn.and_then(|turn| self.remembered.at(turn)) {
            if memory.beside != beside {
                memory.forget();
                memory.beside = beside;
            }
            found = users.iter().map(|user| memory.get(&key(user)).cloned()).collect();
            reading.of = users.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(u, _)| key(u)).collect();
            reading.number = memory.begin(&reading.of);
        }
        let unknown: Vec<UserId> = users.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(u, _)| u.clone()).collect();
        if !unknown.is_empty() {
            let read = self.stores.ledger.histories(tenant, &unknown, self.limit(), Some(self.revision())).await?;
            let memory = turn.and_then(|turn| self.remembered.at(turn)).filter(|memory| memory.beside == beside);
            if let Some(mut memory) = memory {
                for (key, history) in reading.of.iter().zip(&read) {
                    let Some(meanwhile) = reading.meanwhile(&mut memory, key) else { continue };
                    let mut history = history.clone();
                    // One that reaches the limit may not be whole.
                    if history.engagements.len() < self.limit().engagements
                        && meanwhile.iter().all(|(append, new)| told(&mut history, append, *new))
                    {
                        self.remember(&mut memory, key.clone(), history);
                    }
                }
            }
            for (slot, history) in found.iter_mut().filter(|f| f.is_none()).zip(read) {
                *slot = Some(history);
            }
        }
        Ok((found.into_iter().map(Option::unwrap_or_default).collect(), unknown.len()))
    }
}

/// Adds an event of the ledger to a history that may hold it already; `false`: what the history would be is not known here.
pub(super) fn told(history: &mut History, append: &Append, new: bool) -> bool {
    match &append.event {
        Event::Message(m) if new => {
            let (id, item, timestamp) = (m.message_id.clone(), m.item_id.clone(), m.timestamp);
            let message = MessageEvent { id, text: m.text.clone(), item, timestamp, vector: append.vector.clone() };
            let place = history.messages.partition_point(|known| MessageEvent::newest_first(known, &message) == Ordering::Less);
            match history.messages.get_mut(place).filter(|known| known.id == message.id) {
                // It was read, perhaps before its vector was written.
                Some(known) => *known = message,
                None => history.messages.insert(place, message),
            }
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
    let place = history.engagements.partition_point(|known| EngagedEvent::newest_first(known, &engaged) == Ordering::Less);
    if !history.engagements.get(place).is_some_and(same) {
        history.engagements.insert(place, engaged);
    }
    true
}
