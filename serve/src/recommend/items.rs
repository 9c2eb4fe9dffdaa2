//! What this process remembers of items, so that filters need no store for items that were looked at a moment ago.
//!
//! An entry is trusted for a fraction of a second; older ones only protect (hidden stays hidden) while the ledger is
//! away. Bounded: two generations, the older of which is dropped when the younger is full.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use nearcast_domain::{
    ItemId, StoreError, Tenant, Timestamp,
    ports::{ItemState, LedgerRead},
};
use tokio::time::Instant as Deadline;

use super::budget::by;
use crate::config::ItemMemoryConfig;

/// The longest text that answers carry, in characters.
const SHORT_TEXT: usize = 160;
const SHARDS: usize = 16;

/// What filters and answers need of an item.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Card {
    /// Whether the ledger has a state of it; items that were only ever engaged with have none.
    pub listed: bool,
    /// Whether its producer keeps it from everyone.
    pub hidden: bool,
    /// From when on it is no longer recommended.
    pub expires_at: Option<Timestamp>,
    /// Sorted.
    pub categories: Vec<Arc<str>>,
    /// The beginning of its text.
    pub text: Option<Arc<str>>,
}

impl Card {
    /// What is to be remembered of a state.
    pub fn of(state: &ItemState) -> Self {
        let i = &state.item;
        Self {
            listed: true,
            hidden: i.hidden,
            expires_at: i.expires_at,
            categories: i.categories.clone(),
            text: i.text.as_ref().map(shortened),
        }
    }
}

/// The beginning of a text, as answers show it.
pub fn shortened(text: &Arc<str>) -> Arc<str> {
    match text.char_indices().nth(SHORT_TEXT) {
        None => text.clone(),
        Some((end, _)) => format!("{}…", text[..end].trim_end()).into(),
    }
}

type Key = (Tenant, ItemId);

struct Known {
    card: Arc<Card>,
    at: Instant,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Key, Known>,
    old: HashMap<Key, Known>,
}

/// Cards by tenant and item.
pub struct ItemMemory {
    shards: Vec<RwLock<Generations>>,
    hasher: RandomState,
    fresh: Duration,
    per_generation: usize,
}

impl ItemMemory {
    /// An empty memory.
    pub fn new(config: &ItemMemoryConfig) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            fresh: Duration::from_millis(config.fresh_ms),
            per_generation: (config.entries / SHARDS / 2).max(1),
        }
    }

    fn shard(&self, key: &Key) -> &RwLock<Generations> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// What is remembered, and whether it is fresh.
    fn recall(&self, tenant: &Tenant, item: &ItemId, now: Instant) -> Option<(Arc<Card>, bool)> {
        let key = (tenant.clone(), item.clone());
        let shard = self.shard(&key).read().unwrap_or_else(PoisonError::into_inner);
        let known = shard.young.get(&key).or_else(|| shard.old.get(&key))?;
        Some((known.card.clone(), now.saturating_duration_since(known.at) < self.fresh))
    }

    /// Takes down what was read at `at`.
    pub fn remember(&self, tenant: &Tenant, item: &ItemId, card: Arc<Card>, at: Instant) {
        let key = (tenant.clone(), item.clone());
        let mut shard = self.shard(&key).write().unwrap_or_else(PoisonError::into_inner);
        if shard.young.len() >= self.per_generation && !shard.young.contains_key(&key) {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, Known { card, at });
    }

    /// Takes down what was read just now.
    pub fn remember_all(&self, tenant: &Tenant, states: &[ItemState]) {
        let now = Instant::now();
        for s in states {
            self.remember(tenant, &s.item.item_id, Arc::new(Card::of(s)), now);
        }
    }

    /// The cards of these items, in the order asked, reading in one call what is neither fresh nor good enough as it is. When that call fails, what is
    /// remembered from earlier stands in; `None` for items never seen. The error is handed out beside.
    pub async fn cards(
        &self,
        ledger: &dyn LedgerRead,
        tenant: &Tenant,
        items: &[ItemId],
        good_enough: impl Fn(&Card) -> bool,
        deadline: Deadline,
    ) -> (Vec<Option<Arc<Card>>>, Option<StoreError>) {
        let now = Instant::now();
        let mut cards: Vec<Option<Arc<Card>>> = Vec::with_capacity(items.len());
        let (mut missing, mut places) = (Vec::new(), Vec::new());
        for (place, item) in items.iter().enumerate() {
            let known = self.recall(tenant, item, now);
            if !known.as_ref().is_some_and(|(card, fresh)| *fresh || good_enough(card)) {
                missing.push(item.clone());
                places.push(place);
            }
            cards.push(known.map(|(card, _)| card));
        }
        if missing.is_empty() {
            return (cards, None);
        }
        match by(deadline, "ledger", ledger.items(tenant, &missing, None)).await {
            Ok(states) => {
                for ((place, item), state) in places.into_iter().zip(&missing).zip(states) {
                    let card = Arc::new(state.as_ref().map(Card::of).unwrap_or_default());
                    self.remember(tenant, item, card.clone(), now);
                    cards[place] = Some(card);
                }
                (cards, None)
            }
            Err(e) => (cards, Some(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_knows_what_is_fresh() {
        let memory = ItemMemory::new(&ItemMemoryConfig { entries: 1_000, fresh_ms: 60_000 });
        let (tenant, start) = (Tenant::default(), Instant::now());
        for n in 0..20_000 {
            memory.remember(&tenant, &ItemId::trusted(n.to_string()), Arc::default(), start);
        }
        let held: usize = memory.shards.iter().map(|s| s.read().unwrap()).map(|s| s.young.len() + s.old.len()).sum();
        assert!((400..=1_100).contains(&held), "{held}");
        let last = ItemId::trusted("19999");
        assert!(memory.recall(&tenant, &last, start).unwrap().1);
        assert!(!memory.recall(&tenant, &last, start + Duration::from_secs(61)).unwrap().1);
        assert!(memory.recall(&Tenant::trusted("other"), &last, start).is_none());
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let long: Arc<str> = "жук ".repeat(100).into();
        assert!(shortened(&long).chars().count() <= SHORT_TEXT + 1);
        let short: Arc<str> = "short".into();
        assert_eq!(shortened(&short), short);
    }
}
