//! What the ledger says that projections should hold, user by user and item by item; and putting right what differs.
//!
//! Mending writes over what is wrong and removes what is too much. It may run beside workers: each reads again what it wrote until
//! both agree, so that a fact that arrives meanwhile is never covered by an older one.

use std::collections::{BTreeMap, BTreeSet};

use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId, Vector,
    ports::{Collection, Edge, History, HistoryLimit, ItemLabels, ItemState, PairEvents, Tally, VectorRow},
};

use super::{Projector, edges, tally};

/// How often the same rows are written before a job gives up: somebody writes something else all the time.
const TURNS: usize = 20;

impl Projector {
    async fn whole(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<History>> {
        let everything = HistoryLimit { engagements: usize::MAX, messages: 0 };
        self.stores.ledger.histories(tenant, users, everything, None).await
    }

    /// The profiles of these users, in the order asked; `None` where nothing speaks.
    pub async fn profiles_of_users(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Option<Vector>>> {
        self.current(tenant, users).await
    }

    /// All edges of these users, in the order asked, each user's by item.
    pub async fn edges_of_users(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Vec<Edge>>> {
        let histories = self.whole(tenant, users).await?;
        let of = |(user, history): (&UserId, History)| {
            let mut items: BTreeMap<ItemId, Vec<_>> = BTreeMap::new();
            // Oldest first.
            for e in history.engagements.into_iter().rev() {
                items.entry(e.item.clone()).or_default().push(e);
            }
            let pairs = items.into_iter().map(|(item, events)| PairEvents { user: user.clone(), item, events });
            pairs.filter_map(|p| edges::edge(&p, &self.rules.taste)).collect()
        };
        Ok(users.iter().zip(histories).map(of).collect())
    }

    /// Everything of these users that totals count, in the order asked.
    pub async fn tallies_of_users(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Vec<Tally>>> {
        let histories = self.whole(tenant, users).await?;
        let of = |(user, history): (&UserId, History)| {
            let mut tallies: Vec<Tally> = history.engagements.iter().map(|e| tally(user, e, &self.rules.taste)).collect();
            tallies.sort_by(|a, b| a.id.cmp(&b.id));
            tallies
        };
        Ok(users.iter().zip(histories).map(of).collect())
    }

    /// What the index should hold of an item, if anything, and its categories.
    pub fn row_of(state: ItemState) -> (Option<VectorRow>, ItemLabels) {
        let labels: Vec<String> = state.item.categories.iter().map(ToString::to_string).collect();
        let id = state.item.item_id.as_str().to_owned();
        let row = state.vector.map(|vector| VectorRow { id, vector, labels: labels.clone() });
        (row, ItemLabels { item: state.item.item_id, categories: labels })
    }

    /// Puts the profiles of these users right.
    pub async fn mend_profiles(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        self.write_stale(tenant, users).await
    }

    /// Puts the vectors of these items right.
    pub async fn mend_items(&self, tenant: &Tenant, items: &[ItemId]) -> StoreResult<()> {
        let mut before = None;
        for _ in 0..TURNS {
            let now = self.stores.ledger.items(tenant, items, Some(self.revision())).await?;
            if before.as_ref() == Some(&now) {
                return Ok(());
            }
            let (mut rows, mut gone) = (Vec::new(), Vec::new());
            for (item, state) in items.iter().zip(now.iter().cloned()) {
                match state.and_then(|s| Self::row_of(s).0) {
                    Some(row) => rows.push(row),
                    None => gone.push(item.as_str().to_owned()),
                }
            }
            self.stores.vectors.upsert(tenant, Collection::Items, self.revision(), &rows).await?;
            if !self.shadow {
                self.stores.vectors.delete(tenant, Collection::Items, &gone).await?;
            }
            before = Some(now);
        }
        Err(busy("vectors"))
    }

    /// Puts the categories of these items right.
    pub async fn mend_labels(&self, tenant: &Tenant, items: &[ItemId]) -> StoreResult<()> {
        let states = self.stores.ledger.items(tenant, items, None).await?;
        let labels: Vec<ItemLabels> = items
            .iter()
            .zip(states)
            .map(|(item, state)| match state {
                Some(state) => Self::row_of(state).1,
                None => ItemLabels { item: item.clone(), categories: Vec::new() },
            })
            .collect();
        self.stores.engagement.set_labels(tenant, &labels).await
    }

    /// Puts the edges of these users right. Of who has an edge too many, all are taken out and written again: there is no way to
    /// remove one.
    pub async fn mend_edges(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        for _ in 0..TURNS {
            let _alone = self.profiles.write().await;
            let expected = self.edges_of_users(tenant, users).await?;
            let there = self.stores.graph.edges_of_users(tenant, users, usize::MAX).await?;
            let (mut wrong, mut surplus) = (Vec::new(), Vec::new());
            for ((user, expected), there) in users.iter().zip(expected).zip(there) {
                let items: BTreeSet<&ItemId> = expected.iter().map(|e| &e.item).collect();
                if there.iter().any(|e| !items.contains(&e.item)) {
                    surplus.push(user);
                    wrong.extend(expected);
                } else {
                    let there: BTreeMap<&ItemId, &Edge> = there.iter().map(|e| (&e.item, e)).collect();
                    wrong.extend(expected.into_iter().filter(|e| there.get(&e.item) != Some(&e)));
                }
            }
            if wrong.is_empty() && surplus.is_empty() {
                return Ok(());
            }
            for user in surplus {
                self.stores.graph.erase(tenant, user).await?;
            }
            self.stores.graph.set_edges(tenant, &wrong).await?;
        }
        Err(busy("graph"))
    }

    /// Counts everything of these users anew. What they add to totals that are wrong stays wrong until those are counted again.
    pub async fn mend_tallies(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        let mut before = None;
        for _ in 0..TURNS {
            let now = self.tallies_of_users(tenant, users).await?;
            if before.as_ref() == Some(&now) {
                return Ok(());
            }
            for user in users {
                self.stores.engagement.erase(tenant, user).await?;
            }
            self.stores.engagement.record(tenant, &now.concat()).await?;
            before = Some(now);
        }
        Err(busy("engagement"))
    }
}

fn busy(store: &'static str) -> StoreError {
    StoreError::new(ErrorKind::Busy, store, "others write the same rows all the time; try again later")
}
