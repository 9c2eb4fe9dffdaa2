//! Reading what is not remembered, and remembering it: each a call that goes on when its request no longer waits.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::try_join_all;
use nearcast_domain::{
    ItemId, StoreError, StoreResult, Tenant, UserId,
    ports::{GraphRead, ItemState, LedgerRead, ResponseCache, item_epoch, item_epochs},
};
use tokio::time::Instant;

use super::{
    catalogue::{Card, KnownCard, KnownList, Next},
    late::Late,
    tenant::{Edges, Own, TenantMemory},
};
use crate::recommend::{budget::by, tally::heard};

/// How long epochs are waited for, which mostly are known here: without them a card is good for as long as it is young.
const EPOCHS_PATIENCE: Duration = Duration::from_millis(10);

/// By owner.
pub type Epochs = HashMap<UserId, u64>;

/// What reading goes through.
#[derive(Clone, Copy)]
pub struct Loads<'a> {
    /// Where late calls go on.
    pub late: &'a Late,
    /// Items.
    pub ledger: &'a Arc<dyn LedgerRead>,
    /// Edges and lists.
    pub graph: &'a Arc<dyn GraphRead>,
    /// Epochs of items.
    pub cache: &'a Arc<dyn ResponseCache>,
    /// Whose.
    pub tenant: &'a Tenant,
}

impl Loads<'_> {
    /// The cards of these items, in the order given, reading in one call what is neither fresh nor good enough as it is. When that call
    /// fails, what is remembered from earlier stands in; `None` for items never seen. The error is handed out beside.
    pub async fn cards(
        &self,
        mem: &Arc<TenantMemory>,
        items: &[u32],
        good_enough: impl Fn(&Card) -> bool,
        deadline: Instant,
    ) -> (Vec<Option<Arc<Card>>>, Option<StoreError>) {
        self.vouch(mem, items).await;
        let (mut cards, missing) = mem.look_at_cards(items, good_enough);
        let renewed: Vec<u32> = {
            let mut waited: Vec<u32> = missing.iter().map(|p| items[*p]).collect();
            waited.sort_unstable();
            mem.to_renew(items).into_iter().filter(|n| waited.binary_search(n).is_err()).collect()
        };
        if !renewed.is_empty() {
            let reading = self.reading(mem, renewed);
            self.late.begin(async move {
                // What is served meanwhile has its own bound: a store that is away shows when that is reached.
                let _ = reading.await;
            });
        }
        if missing.is_empty() {
            return (cards, None);
        }
        let wanted: Vec<u32> = missing.iter().map(|p| items[*p]).collect();
        match self.read_cards(mem, wanted, deadline).await {
            Ok(read) => {
                for (place, card) in missing.into_iter().zip(read) {
                    cards[place] = Some(card);
                }
                (cards, None)
            }
            Err(e) => (cards, Some(e)),
        }
    }

    /// Makes cards fresh again of whose items the epochs say that nothing has changed since they were read; those that may have changed
    /// only protect from now on.
    pub async fn vouch(&self, mem: &Arc<TenantMemory>, items: &[u32]) {
        let aged = mem.aged(items);
        if aged.is_empty() {
            return;
        }
        let now = Instant::now();
        let owners: Vec<UserId> = aged.iter().map(|(_, item, _)| item_epoch(item)).collect();
        let asked = epochs(self.cache.clone(), self.tenant.clone(), owners.clone());
        let Ok(current) = self.late.run(now + EPOCHS_PATIENCE, "cache", asked).await else { return };
        let mut catalogue = mem.catalogue_mut();
        for ((number, _, read), owner) in aged.into_iter().zip(&owners) {
            let same = current.get(owner) == Some(&read.1);
            catalogue.judge_card(number, read, same.then_some(now));
        }
    }

    /// The epochs of all items, where others change them; to be read before the items.
    pub async fn item_epochs(&self, mem: &TenantMemory) -> Epochs {
        if mem.exclusive() {
            return Epochs::new();
        }
        epochs(self.cache.clone(), self.tenant.clone(), item_epochs().collect()).await.unwrap_or_default()
    }

    /// Reads cards, in the order given.
    pub async fn read_cards(&self, mem: &Arc<TenantMemory>, items: Vec<u32>, deadline: Instant) -> StoreResult<Vec<Arc<Card>>> {
        self.late.run(deadline, "ledger", self.reading(mem, items)).await
    }

    fn reading(
        &self,
        mem: &Arc<TenantMemory>,
        items: Vec<u32>,
    ) -> impl Future<Output = StoreResult<Vec<Arc<Card>>>> + Send + use<> {
        let (mem, ledger, tenant) = (mem.clone(), self.ledger.clone(), self.tenant.clone());
        let cache = (!mem.exclusive()).then(|| self.cache.clone());
        async move {
            let ids: Vec<ItemId> = {
                let catalogue = mem.catalogue();
                items.iter().map(|i| catalogue.id(*i).clone()).collect()
            };
            let mark = mem.cards_mark();
            // Before the cards: a change in between ends the epoch that they are taken to be of.
            let current = match cache {
                Some(cache) => {
                    let asked = epochs(cache, tenant.clone(), ids.iter().map(item_epoch).collect());
                    by(Instant::now() + EPOCHS_PATIENCE, "cache", asked).await.unwrap_or_default()
                }
                None => Epochs::new(),
            };
            let states = ledger.items(&tenant, &ids, None).await?;
            let cards: Vec<Arc<Card>> = states.iter().map(|s| Arc::new(s.as_ref().map(Card::of).unwrap_or_default())).collect();
            let mut catalogue = mem.catalogue_mut();
            let at = (mem.cards_mark() == mark).then(Instant::now);
            for ((item, id), card) in items.iter().zip(&ids).zip(&cards) {
                if at.is_none() && catalogue.card(*item).is_some() {
                    continue;
                }
                catalogue.set_card(*item, KnownCard::new(card.clone(), at).in_epoch(epoch_in(&current, id)));
            }
            drop(catalogue);
            Ok(cards)
        }
    }

    /// Someone's newest edges, read now.
    pub async fn edges(&self, mem: &Arc<TenantMemory>, user: &UserId, limit: usize, deadline: Instant) -> StoreResult<Edges> {
        let mut read = self.edges_of(mem, vec![user.clone()], limit, deadline).await?;
        read.pop().ok_or_else(|| StoreError::new(nearcast_domain::ErrorKind::Corrupt, "graph", "gave no edges"))
    }

    /// The newest edges of these users, read now, in the order given.
    pub async fn edges_of(
        &self,
        mem: &Arc<TenantMemory>,
        users: Vec<UserId>,
        limit: usize,
        deadline: Instant,
    ) -> StoreResult<Vec<Edges>> {
        let (mem, graph, tenant) = (mem.clone(), self.graph.clone(), self.tenant.clone());
        let work = async move {
            let mark = mem.marks.users.load(Ordering::SeqCst);
            let read = graph.edges_of_users(&tenant, &users, limit).await?;
            let numbers = mem.numbers(read.iter().flatten().map(|e| &e.item));
            let mut numbers = numbers.into_iter();
            let mut out = Vec::with_capacity(users.len());
            for (user, edges) in users.into_iter().zip(read) {
                let own: Arc<[Own]> = edges
                    .iter()
                    .zip(numbers.by_ref())
                    .map(|(e, item)| Own { item, weight: e.weight, positive: e.positive })
                    .collect();
                let edges = Edges { own, limit, at: Instant::now() };
                mem.keep_edges(user, edges.clone(), mark);
                out.push(edges);
            }
            Ok(out)
        };
        self.late.run(deadline, "graph", work).await
    }

    /// The newest edges of these users, in the order given: what is fresh from memory, the rest read in one call.
    pub async fn known_edges_of(
        &self,
        mem: &Arc<TenantMemory>,
        users: impl Iterator<Item = &UserId>,
        limit: usize,
        deadline: Instant,
    ) -> StoreResult<Vec<Edges>> {
        let (mut places, mut missing) = (Vec::new(), Vec::new());
        let mut out: Vec<Option<Edges>> = Vec::new();
        for user in users {
            let known = mem.edges(user, limit, false);
            if known.is_none() {
                places.push(out.len());
                missing.push(user.clone());
            }
            out.push(known);
        }
        if !missing.is_empty() {
            let read = self.edges_of(mem, missing, limit, deadline).await?;
            for (place, edges) in places.into_iter().zip(read) {
                out[place] = Some(edges);
            }
        }
        Ok(out.into_iter().flatten().collect())
    }

    /// The neighbour lists of these items, in the order given, at least `limit` of each where there are so many.
    pub async fn lists(
        &self,
        mem: &Arc<TenantMemory>,
        items: impl Iterator<Item = u32>,
        limit: usize,
        deadline: Instant,
    ) -> StoreResult<Vec<Arc<[Next]>>> {
        let (mut places, mut missing) = (Vec::new(), Vec::new());
        let mut out: Vec<Option<Arc<[Next]>>> = Vec::new();
        {
            let now = Instant::now();
            let catalogue = mem.catalogue();
            for item in items {
                let known =
                    catalogue.list(item).filter(|k| mem.is_fresh(k.at, now) && (k.limit >= limit || k.list.len() < k.limit));
                if known.is_none() {
                    places.push(out.len());
                    missing.push(item);
                }
                out.push(known.map(|k| k.list.clone()));
            }
        }
        if !missing.is_empty() {
            let read = self.read_lists(mem, missing, limit, deadline).await?;
            for (place, list) in places.into_iter().zip(read) {
                out[place] = Some(list);
            }
        }
        Ok(out.into_iter().flatten().collect())
    }

    async fn read_lists(
        &self,
        mem: &Arc<TenantMemory>,
        items: Vec<u32>,
        limit: usize,
        deadline: Instant,
    ) -> StoreResult<Vec<Arc<[Next]>>> {
        let (mem, graph, tenant) = (mem.clone(), self.graph.clone(), self.tenant.clone());
        let work = async move {
            let ids: Vec<ItemId> = {
                let catalogue = mem.catalogue();
                items.iter().map(|i| catalogue.id(*i).clone()).collect()
            };
            let mark = mem.marks.lists.load(Ordering::SeqCst);
            let read = graph.neighbours(&tenant, &ids, limit).await?;
            let numbers = mem.numbers(read.iter().flatten().map(|n| &n.item));
            let mut numbers = numbers.into_iter();
            let lists: Vec<Arc<[Next]>> = read
                .iter()
                .map(|list| {
                    let next = list.iter().zip(numbers.by_ref()).map(|(n, item)| Next { item, weight: n.weight });
                    next.filter(|n| heard(n.weight)).collect()
                })
                .collect();
            let at = Instant::now();
            let mut catalogue = mem.catalogue_mut();
            if mem.marks.lists.load(Ordering::SeqCst) == mark {
                for (item, list) in items.iter().zip(&lists) {
                    catalogue.set_list(*item, KnownList { list: list.clone(), limit, at });
                }
            }
            drop(catalogue);
            Ok(lists)
        };
        self.late.run(deadline, "graph", work).await
    }
}

/// The epochs of these owners.
async fn epochs(cache: Arc<dyn ResponseCache>, tenant: Tenant, mut owners: Vec<UserId>) -> StoreResult<Epochs> {
    owners.sort_unstable();
    owners.dedup();
    let current = try_join_all(owners.iter().map(|owner| cache.epoch(&tenant, owner))).await?;
    Ok(owners.into_iter().zip(current).collect())
}

fn epoch_in(current: &Epochs, item: &ItemId) -> Option<u64> {
    if current.is_empty() { None } else { current.get(&item_epoch(item)).copied() }
}

/// Takes down what a read of whole states gave. `current`: epochs that were read before it; where there are none, a card that is as it
/// was stays of its epoch.
pub fn remember_states(mem: &TenantMemory, states: &[ItemState], mark: u64, current: &Epochs) {
    let mut catalogue = mem.catalogue_mut();
    let at = (mem.cards_mark() == mark).then(Instant::now);
    for s in states {
        let n = catalogue.number(&s.item.item_id);
        if at.is_none() && catalogue.card(n).is_some() {
            continue;
        }
        let known = KnownCard::new(Arc::new(Card::of(s)), at).in_epoch(epoch_in(current, &s.item.item_id));
        let read = known.read.or_else(|| catalogue.card(n).filter(|before| before.card == known.card)?.read);
        catalogue.set_card(n, KnownCard { read, ..known });
    }
}
