//! What becomes of a batch of events, decided in memory from what the ledger knows: the rules of `LedgerWrite::append`.
//!
//! Reads no store and writes none, so that a preview and the append itself cannot differ.

use std::{collections::HashMap, sync::Arc};

use nearcast_domain::{
    Event, ItemId, Tenant, Timestamp, UserId, Vector,
    event::{ContentHash, Item},
    ports::{Append, Appended},
};

/// No user, or no item.
pub(crate) const NONE: usize = usize::MAX;

/// A batch with its users and items numbered in the order of their first appearance.
pub(crate) struct Batch<'a> {
    pub appends: &'a [Append],
    pub users: Vec<(&'a Tenant, &'a UserId)>,
    pub items: Vec<(&'a Tenant, &'a ItemId)>,
    /// By append: its user and its item.
    pub slots: Vec<(usize, usize)>,
    /// By user: whether the batch erases them.
    pub erases: Vec<bool>,
    /// By item: whether the batch states it.
    pub states: Vec<bool>,
}

impl<'a> Batch<'a> {
    pub fn new(appends: &'a [Append]) -> Self {
        let (mut users, mut items) = (Numbers::default(), Numbers::default());
        let mut slots = Vec::with_capacity(appends.len());
        let (mut erases, mut states) = (Vec::new(), Vec::new());
        for a in appends {
            let tenant = a.event.tenant();
            let (user, item) = match &a.event {
                Event::Message(e) => (Some(&e.user_id), e.item_id.as_ref()),
                Event::Engagement(e) => (Some(&e.user_id), Some(&e.item_id)),
                Event::Item(e) => (None, Some(&e.item_id)),
                Event::Erasure(e) => (Some(&e.user_id), None),
            };
            let slot = (
                user.map_or(NONE, |u| users.number(tenant, u.as_str(), (tenant, u))),
                item.map_or(NONE, |i| items.number(tenant, i.as_str(), (tenant, i))),
            );
            erases.resize(users.list.len(), false);
            states.resize(items.list.len(), false);
            match &a.event {
                Event::Erasure(_) => erases[slot.0] = true,
                Event::Item(_) => states[slot.1] = true,
                _ => {}
            }
            slots.push(slot);
        }
        Self { appends, users: users.list, items: items.list, slots, erases, states }
    }
}

struct Numbers<'a, T> {
    known: HashMap<(&'a str, &'a str), usize>,
    list: Vec<T>,
}

impl<T> Default for Numbers<'_, T> {
    fn default() -> Self {
        Self { known: HashMap::new(), list: Vec::new() }
    }
}

impl<'a, T> Numbers<'a, T> {
    fn number(&mut self, tenant: &'a Tenant, id: &'a str, entry: T) -> usize {
        *self.known.entry((tenant.as_str(), id)).or_insert_with(|| {
            self.list.push(entry);
            self.list.len() - 1
        })
    }
}

/// An event that the ledger has: its hash, and the store's own key where it is a message.
#[derive(Clone, Copy)]
pub(crate) struct KnownEvent {
    pub hash: ContentHash,
    pub message: i64,
}

/// That a user was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Erased {
    /// Nothing up to this time comes back.
    pub until: Timestamp,
    /// The time of the newest erasure itself: an erasure up to it is a repetition. It can be earlier than `until`, as events may be
    /// dated ahead, and a new erasure before `until` must still remove what came after it.
    pub asked: Timestamp,
}

/// A user as the ledger knows them.
#[derive(Default, Clone)]
pub(crate) struct KnownUser {
    /// Whether they were erased, and up to when.
    pub erased: Option<Erased>,
    /// The newest event that was kept or refused as a conflict; needed only of those whom the batch erases.
    pub newest: Option<Timestamp>,
}

/// An item as the ledger knows it.
#[derive(Clone)]
pub(crate) struct KnownItem {
    pub hash: ContentHash,
    pub timestamp: Option<Timestamp>,
    pub text: Option<Arc<str>>,
    /// Whether its text has a vector under the revision of the batch.
    pub has_vector: bool,
    /// Whether it has one under any revision.
    pub has_any: bool,
}

/// Everything of the ledger that bears on a batch.
pub(crate) struct Known<'a> {
    pub users: Vec<KnownUser>,
    pub items: Vec<Option<KnownItem>>,
    /// By user, whether it is a message, and id.
    pub events: HashMap<(usize, bool, &'a str), KnownEvent>,
}

/// What is to be done to an item.
#[derive(Default, Clone)]
pub(crate) struct ItemChange<'a> {
    /// The version that takes the place of the stored one.
    pub state: Option<&'a Append>,
    /// All stored vectors go: they are of another text.
    pub drop_vectors: bool,
    /// The vector to be stored.
    pub vector: Option<Vector>,
    /// Whoever engaged with it has a profile that may be out of date.
    pub stale: bool,
}

/// What is to be done, and the answers.
pub(crate) struct Plan<'a> {
    pub outcomes: Vec<Appended>,
    /// Events to be written: their place in the batch, and the vector of a message.
    pub events: Vec<(usize, Option<Vector>)>,
    /// Vectors for messages that are there already, by the store's key.
    pub late_vectors: Vec<(i64, Vector)>,
    /// By user: until when they are erased now, where the batch erased them.
    pub erased: Vec<Option<Erased>>,
    /// By user: the newest of their events that was refused as a conflict. A later erasure covers it, or it would be let in when
    /// the log is replayed and the event that it was in conflict with is gone.
    pub refused: Vec<Option<Timestamp>>,
    /// By item.
    pub items: Vec<ItemChange<'a>>,
}

struct Pending {
    index: usize,
    user: usize,
    life: u32,
    vector: Option<Vector>,
}

#[derive(Clone, Copy)]
enum Place {
    Stored(i64),
    Pending(usize),
}

/// Decides, one event after the other.
pub(crate) fn plan<'a>(batch: &Batch<'a>, known: Known<'a>) -> Plan<'a> {
    let mut users: Vec<(KnownUser, u32)> = known.users.into_iter().map(|u| (u, 0)).collect();
    let mut items = known.items;
    // A user's life ends with an erasure in the batch: what was known of earlier lives is not found any more.
    let mut seen: HashMap<(usize, u32, bool, &str), (ContentHash, Place)> = known
        .events
        .into_iter()
        .map(|((user, message, id), e)| ((user, 0, message, id), (e.hash, Place::Stored(e.message))))
        .collect();
    seen.reserve(batch.appends.len());
    let mut pending: Vec<Pending> = Vec::with_capacity(batch.appends.len());
    let mut late: Vec<(usize, i64, Vector)> = Vec::new();
    let mut erased = vec![None; users.len()];
    let mut refused: Vec<Option<Timestamp>> = vec![None; users.len()];
    let mut changes = vec![ItemChange::default(); items.len()];
    let mut outcomes = Vec::with_capacity(batch.appends.len());
    for (index, (append, &(user, item))) in batch.appends.iter().zip(&batch.slots).enumerate() {
        let outcome = match &append.event {
            Event::Item(e) => state_item(append, e, &mut items[item], &mut changes[item]),
            Event::Erasure(e) => {
                let (state, life) = &mut users[user];
                if state.erased.is_some_and(|known| e.timestamp <= known.asked) {
                    Appended::Duplicate
                } else {
                    let before = state.erased.map(|known| known.until);
                    let until = [state.newest, before].into_iter().flatten().fold(e.timestamp, Timestamp::max);
                    let now = Some(Erased { until, asked: e.timestamp });
                    (state.erased, state.newest) = (now, None);
                    (erased[user], refused[user]) = (now, None);
                    *life += 1;
                    Appended::New
                }
            }
            Event::Message(_) | Event::Engagement(_) => {
                let (message, id, timestamp) = match &append.event {
                    Event::Message(e) => (true, e.message_id.as_str(), e.timestamp),
                    Event::Engagement(e) => (false, e.event_id.as_str(), e.timestamp),
                    _ => unreachable!("matched above"),
                };
                let (state, life) = &mut users[user];
                if state.erased.is_some_and(|known| timestamp <= known.until) {
                    outcomes.push(Appended::Erased);
                    continue;
                }
                let vector = append.vector.as_ref().filter(|_| message);
                match seen.get(&(user, *life, message, id)) {
                    Some((hash, _)) if *hash != append.hash => {
                        state.newest = state.newest.max(Some(timestamp));
                        refused[user] = refused[user].max(Some(timestamp));
                        Appended::Conflict
                    }
                    Some((_, place)) => {
                        match (place, vector) {
                            (Place::Pending(at), Some(v)) => {
                                pending[*at].vector.get_or_insert_with(|| v.clone());
                            }
                            (Place::Stored(key), Some(v)) => late.push((user, *key, v.clone())),
                            _ => {}
                        }
                        Appended::Duplicate
                    }
                    None => {
                        seen.insert((user, *life, message, id), (append.hash, Place::Pending(pending.len())));
                        state.newest = state.newest.max(Some(timestamp));
                        pending.push(Pending { index, user, life: *life, vector: vector.cloned() });
                        Appended::New
                    }
                }
            }
        };
        outcomes.push(outcome);
    }
    let alive = |p: &Pending| users[p.user].1 == p.life;
    let late_vectors = late.into_iter().filter(|(user, ..)| users[*user].1 == 0).map(|(_, key, v)| (key, v)).collect();
    let events = pending.into_iter().filter(alive).map(|p| (p.index, p.vector)).collect();
    Plan { outcomes, events, late_vectors, erased, refused, items: changes }
}

fn state_item<'a>(append: &'a Append, new: &Item, known: &mut Option<KnownItem>, change: &mut ItemChange<'a>) -> Appended {
    let text = new.embedding_text();
    let vector = append.vector.as_ref().filter(|_| text.is_some());
    let (outcome, same_text, had_any) = match known {
        None => (Appended::New, false, false),
        Some(old) if old.hash == append.hash => (Appended::Duplicate, true, old.has_any),
        Some(old) if !replaces((append.hash, new.timestamp), (old.hash, old.timestamp)) => {
            (Appended::Duplicate, old.text == text, old.has_any)
        }
        Some(old) => (Appended::New, old.text == text, old.has_any),
    };
    let has_vector = known.as_ref().is_some_and(|k| k.has_vector);
    let stored = known.get_or_insert_with(|| KnownItem {
        hash: append.hash,
        timestamp: new.timestamp,
        text: text.clone(),
        has_vector: false,
        has_any: false,
    });
    if outcome == Appended::New {
        (stored.hash, stored.timestamp, stored.text) = (append.hash, new.timestamp, text);
        change.state = Some(append);
        if !same_text {
            change.drop_vectors |= had_any;
            change.stale |= had_any || vector.is_some();
            change.vector = vector.cloned();
            (stored.has_vector, stored.has_any) = (vector.is_some(), vector.is_some());
            return outcome;
        }
    }
    if let Some(v) = vector.filter(|_| same_text && !has_vector) {
        change.vector = Some(v.clone());
        change.stale = true;
        (stored.has_vector, stored.has_any) = (true, true);
    }
    outcome
}

/// Whether a version takes the place of another: by time where both have one, ties by hash; else because it came later.
fn replaces(new: (ContentHash, Option<Timestamp>), old: (ContentHash, Option<Timestamp>)) -> bool {
    match (new.1, old.1) {
        (Some(n), Some(o)) => (n, new.0) > (o, old.0),
        _ => true,
    }
}
