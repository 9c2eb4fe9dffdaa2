//! [`TenantMemory`]: everything remembered of one tenant.
//!
//! What was read before a write is told and arrives after it is not kept: whoever reads marks the count of writes before, and
//! keeps only while it has not moved.

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nearcast_domain::{ItemId, UserId, Vector, candidate::Source};
use tokio::time::Instant;

use super::{
    Freshness,
    catalogue::{Card, Catalogue, KnownCard},
    kept::Kept,
    learned::LearnedTable,
    near::{Followed, NearKey, NearKnown},
};
use crate::config::ItemMemoryConfig;

/// An item of someone's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Own {
    /// Its number.
    pub item: u32,
    /// How strongly they engaged with it.
    pub weight: f32,
    /// Whether they liked it: only then does it propose others.
    pub positive: bool,
}

/// Someone's newest edges.
#[derive(Debug, Clone)]
pub struct Edges {
    /// Newest first.
    pub own: Arc<[Own]>,
    /// How many were asked for.
    pub limit: usize,
    pub(super) at: Instant,
}

impl Edges {
    /// Edges that came with the request.
    pub fn given(own: Arc<[Own]>) -> Self {
        Self { limit: usize::MAX, own, at: Instant::now() }
    }

    /// Whether these are all that there are.
    pub fn whole(&self) -> bool {
        self.own.len() < self.limit
    }
}

/// Something about a user that holds until an epoch of theirs ends.
#[derive(Clone)]
struct InEpochs<T> {
    value: T,
    epochs: Option<(u64, u64)>,
    at: Instant,
}

impl<T> InEpochs<T> {
    fn new(value: T, epochs: Option<(u64, u64)>) -> Self {
        Self { value, epochs, at: Instant::now() }
    }

    /// What was kept in the same epochs, not longer ago than `most`.
    fn now(self, epochs: Option<(u64, u64)>, most: Duration) -> Option<T> {
        let good = self.epochs == epochs && Instant::now().saturating_duration_since(self.at) < most;
        good.then_some(self.value)
    }
}

/// A card as it lies in the memory.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// What is known.
    pub card: &'a Card,
    /// It is neither hidden nor does it ever expire.
    pub plain: bool,
    /// It may be given as it is.
    pub fresh: bool,
}

/// Counts of writes that were told.
#[derive(Default)]
pub(super) struct Marks {
    pub users: AtomicU64,
    pub cards: AtomicU64,
    pub lists: AtomicU64,
    pub vectors: AtomicU64,
}

/// See the module.
pub struct TenantMemory {
    freshness: Freshness,
    most_items: usize,
    catalogue: RwLock<Catalogue>,
    pub(super) users: Kept<UserId, Edges>,
    near: Kept<NearKey, NearKnown>,
    followed: Kept<(UserId, Source), Followed>,
    profiles: Kept<UserId, InEpochs<Option<Vector>>>,
    engaged: Kept<UserId, InEpochs<Option<Arc<[u32]>>>>,
    pub(super) marks: Marks,
    learned: RwLock<Option<Arc<LearnedTable>>>,
}

/// What an entry weighs beside its elements, and an element, in bytes.
const ENTRY: usize = 160;
const EDGE: usize = std::mem::size_of::<Own>();
const NEAR: usize = 24;
/// For so many times the age of what is fresh a card is given while it is read anew.
const SERVED: u32 = 10;
/// For so many times that age an epoch that has not ended vouches for a card: what ends epochs may be lost with a process.
const VOUCHED: u32 = 300;
/// After so many times the first age it is asked for again.
const RENEWED: u32 = 3;

impl TenantMemory {
    pub fn new(freshness: Freshness, limits: &ItemMemoryConfig) -> Self {
        let bytes = limits.users_mib << 20;
        Self {
            freshness,
            most_items: limits.entries,
            catalogue: RwLock::default(),
            users: Kept::new(bytes / 2),
            near: Kept::new(bytes / 4),
            followed: Kept::new(bytes / 8),
            profiles: Kept::new(bytes / 8),
            engaged: Kept::new(bytes / 8),
            marks: Marks::default(),
            learned: RwLock::default(),
        }
    }

    /// Whether there is no more room for items.
    pub fn is_full(&self) -> bool {
        self.catalogue().len() >= self.most_items
    }

    /// Whether this process alone writes.
    pub fn exclusive(&self) -> bool {
        self.freshness == Freshness::Exclusive
    }

    /// The items, for reading. Not to be held while waiting for anything.
    pub fn catalogue(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn catalogue_mut(&self) -> RwLockWriteGuard<'_, Catalogue> {
        self.catalogue.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a card that is no longer fresh may be given once more, while it is read anew: where others write, and not for long.
    fn serves(&self, known: &KnownCard, now: Instant) -> bool {
        match self.freshness {
            Freshness::Exclusive => false,
            Freshness::Shared { max_age } => known.at.is_some_and(|at| now.saturating_duration_since(at) < SERVED * max_age),
        }
    }

    /// Of these items, those whose cards are given though they are no longer fresh, and are not being read anew already. They count
    /// as being read from now on.
    pub fn to_renew(&self, items: &[u32]) -> Vec<u32> {
        let Freshness::Shared { max_age } = self.freshness else { return Vec::new() };
        let now = Instant::now();
        let due = |known: &KnownCard| {
            let asked = known.asked.is_some_and(|at| now.saturating_duration_since(at) < RENEWED * max_age);
            !asked && known.at.is_some_and(|at| !self.is_fresh(at, now))
        };
        let due: Vec<u32> = {
            let catalogue = self.catalogue();
            items.iter().copied().filter(|n| catalogue.card(*n).is_some_and(due)).collect()
        };
        if !due.is_empty() {
            let mut catalogue = self.catalogue_mut();
            due.iter().for_each(|n| catalogue.ask_card(*n, now));
        }
        due
    }

    /// Of these items, those whose cards are no longer fresh, with when they were read and in which epochs of the items.
    pub(super) fn aged(&self, items: &[u32]) -> Vec<(u32, ItemId, (Instant, u64))> {
        let Freshness::Shared { max_age } = self.freshness else { return Vec::new() };
        let now = Instant::now();
        let catalogue = self.catalogue();
        let aged = |known: &KnownCard| {
            let read = known.read.filter(|(at, _)| now.saturating_duration_since(*at) < VOUCHED * max_age)?;
            (!known.at.is_some_and(|at| self.is_fresh(at, now))).then_some(read)
        };
        items.iter().filter_map(|n| Some((*n, catalogue.id(*n).clone(), catalogue.card(*n).and_then(aged)?))).collect()
    }

    /// Whether what was read at `at` may be given at `now`.
    pub fn is_fresh(&self, at: Instant, now: Instant) -> bool {
        match self.freshness {
            Freshness::Exclusive => true,
            Freshness::Shared { max_age } => now.saturating_duration_since(at) < max_age,
        }
    }

    /// The numbers of items, in the order given.
    pub fn numbers<'a>(&self, items: impl Iterator<Item = &'a ItemId> + Clone) -> Vec<u32> {
        {
            let known = self.catalogue();
            let found: Option<Vec<u32>> = items.clone().map(|i| known.find(i)).collect();
            if let Some(found) = found {
                return found;
            }
        }
        let mut catalogue = self.catalogue_mut();
        items.map(|i| catalogue.number(i)).collect()
    }

    /// What was learned, where an artefact is in service.
    pub fn learned(&self) -> Option<Arc<LearnedTable>> {
        self.learned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another artefact is in service, or none.
    pub fn set_learned(&self, table: Option<Arc<LearnedTable>>) {
        *self.learned.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    /// Cards by number, those that are fresh, served while they are read anew, or `good_enough` in place, and the places of the
    /// others.
    pub fn look_at_cards(&self, items: &[u32], good_enough: impl Fn(&Card) -> bool) -> (Vec<Option<Arc<Card>>>, Vec<usize>) {
        let now = Instant::now();
        let catalogue = self.catalogue();
        let mut missing = Vec::new();
        let cards = items.iter().enumerate().map(|(place, item)| {
            let known = catalogue.card(*item);
            let usable = |k: &KnownCard| k.at.is_some_and(|at| self.is_fresh(at, now)) || self.serves(k, now);
            if !known.is_some_and(|k| usable(k) || good_enough(&k.card)) {
                missing.push(place);
            }
            known.map(|k| k.card.clone())
        });
        (cards.collect(), missing)
    }

    /// Goes over cards by number without taking them out.
    pub fn each_card(&self, items: impl Iterator<Item = u32>, mut judge: impl FnMut(u32, Option<Seen<'_>>)) {
        let now = Instant::now();
        let catalogue = self.catalogue();
        for item in items {
            let seen = catalogue.card(item).map(|k| Seen {
                card: &k.card,
                plain: k.plain,
                fresh: k.at.is_some_and(|at| self.is_fresh(at, now)),
            });
            judge(item, seen);
        }
    }

    /// Takes down a card from an earlier life of the process: it only protects.
    pub fn recall_card(&self, item: &ItemId, card: Card) {
        let mut catalogue = self.catalogue_mut();
        let n = catalogue.number(item);
        if catalogue.card(n).is_none() {
            catalogue.set_card(n, KnownCard::new(Arc::new(card), None));
        }
    }

    /// Someone's newest edges, as fresh as that, or of any age.
    pub fn edges(&self, user: &UserId, limit: usize, any_age: bool) -> Option<Edges> {
        let known = self.users.get(user)?;
        let enough = known.limit >= limit || known.whole();
        (enough && (any_age || self.is_fresh(known.at, Instant::now()))).then_some(known)
    }

    pub(super) fn keep_edges(&self, user: UserId, edges: Edges, mark: u64) {
        let weight = ENTRY + user.as_str().len() + EDGE * edges.own.len();
        self.users.put(user, edges, weight, || self.marks.users.load(Ordering::SeqCst) == mark);
    }

    /// Someone's vector (or that they have none), as read in the same epochs and not longer ago than `most`.
    pub fn profile(&self, user: &UserId, epochs: Option<(u64, u64)>, most: Duration) -> Option<Option<Vector>> {
        self.profiles.get(user)?.now(epochs, most)
    }

    /// Keeps someone's vector.
    pub fn keep_profile(&self, user: UserId, vector: Option<Vector>, epochs: Option<(u64, u64)>) {
        let weight = ENTRY + vector.as_ref().map_or(0, |v| 4 * v.len());
        self.profiles.put(user, InEpochs::new(vector, epochs), weight, || true);
    }

    /// What someone engaged with, as the ledger said in these epochs; `None` in it: too much to be kept.
    pub fn engaged(&self, user: &UserId, epochs: Option<(u64, u64)>, most: Duration) -> Option<Option<Arc<[u32]>>> {
        self.engaged.get(user)?.now(epochs, most)
    }

    /// Keeps what the ledger said.
    pub fn keep_engaged(&self, user: UserId, items: Option<Arc<[u32]>>, epochs: Option<(u64, u64)>) {
        let weight = ENTRY + items.as_ref().map_or(0, |items| 4 * items.len());
        self.engaged.put(user, InEpochs::new(items, epochs), weight, || true);
    }

    /// How many writes to the vector index were told.
    pub fn searches_mark(&self) -> u64 {
        self.marks.vectors.load(Ordering::SeqCst)
    }

    /// What a search found, for whoever judges its stamp.
    pub fn found(&self, key: &NearKey) -> Option<NearKnown> {
        self.near.get(key)
    }

    /// Keeps what a search found, unless the index was written to since.
    pub fn keep_found(&self, key: NearKey, known: NearKnown) {
        let weight = 2 * ENTRY + NEAR * (known.users.len() + known.items.len());
        let mark = known.stamp.writes;
        self.near.put(key, known, weight, || self.searches_mark() == mark);
    }

    /// What was last proposed to someone out of learned lists, for whoever judges whether it still holds.
    pub fn followed(&self, user: &UserId, source: Source) -> Option<Followed> {
        self.followed.get(&(user.clone(), source))
    }

    /// Keeps what was proposed.
    pub fn keep_followed(&self, user: UserId, source: Source, followed: Followed) {
        let weight = 2 * ENTRY + followed.bytes();
        self.followed.put((user, source), followed, weight, || true);
    }

    pub(super) fn forget_users(&self, users: &[UserId]) {
        self.marks.users.fetch_add(1, Ordering::SeqCst);
        users.iter().for_each(|u| self.users.remove(u));
    }

    /// Forgets all that is kept of users who were erased. What a request that is under way still puts there is judged stale by its marks,
    /// and goes when its time comes.
    pub(super) fn forget_erased(&self, users: &[UserId]) {
        self.forget_users(users);
        self.near.forget(|key| users.contains(key.user()));
        self.followed.forget(|(user, _)| users.contains(user));
        self.profiles.forget(|user| users.contains(user));
        self.engaged.forget(|user| users.contains(user));
    }

    pub(super) fn forget_searches(&self) {
        // Found lists are judged by this count; nothing need be removed.
        self.marks.vectors.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn forget_cards(&self, items: &[ItemId]) {
        let mut catalogue = self.catalogue_mut();
        self.marks.cards.fetch_add(1, Ordering::SeqCst);
        items.iter().for_each(|i| catalogue.age_card(i));
    }

    pub(super) fn forget_lists(&self, items: Option<&[ItemId]>) {
        let mut catalogue = self.catalogue_mut();
        self.marks.lists.fetch_add(1, Ordering::SeqCst);
        match items {
            Some(items) => items.iter().for_each(|i| catalogue.forget_list(i)),
            None => catalogue.forget_lists(),
        }
    }

    /// How often the states of items were told to have changed: cached answers that are younger need no look at their items.
    pub fn cards_mark(&self) -> u64 {
        self.marks.cards.load(Ordering::SeqCst)
    }
}
