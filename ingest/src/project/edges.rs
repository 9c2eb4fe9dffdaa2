//! Edges: one user's whole relation to one item, out of all their engagements with it.

use std::collections::{BTreeSet, HashMap};

use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId,
    ports::{Edge, EngagedEvent, History, PairEvents},
    taste::Taste,
};

use super::Projector;

/// The edge of a pair, or `None` where nothing is left between the two.
pub fn edge(pair: &PairEvents, taste: &Taste) -> Option<Edge> {
    let (first, last) = (pair.events.first()?.timestamp, pair.events.last()?.timestamp);
    let strength = taste.combined(pair.events.iter().map(|e| (&e.kind, e.value)));
    Some(Edge {
        user: pair.user.clone(),
        item: pair.item.clone(),
        weight: strength.weight,
        positive: strength.positive,
        first,
        last,
    })
}

/// The edges of one user's pairs, out of a history that holds all of the user's engagements.
pub(super) fn of_history<'a>(pairs: impl Iterator<Item = &'a (UserId, ItemId)>, history: &History, taste: &Taste) -> Vec<Edge> {
    let mut by_item: HashMap<&ItemId, Vec<EngagedEvent>> = HashMap::new();
    for e in history.engagements.iter().rev() {
        by_item.entry(&e.item).or_default().push(e.clone());
    }
    pairs
        .filter_map(|(user, item)| {
            let events = by_item.remove(item)?;
            edge(&PairEvents { user: user.clone(), item: item.clone(), events }, taste)
        })
        .collect()
}

impl Projector {
    pub(super) async fn write_edges(&self, tenant: &Tenant, pairs: &BTreeSet<(UserId, ItemId)>) -> StoreResult<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let pairs: Vec<_> = pairs.iter().cloned().collect();
        let events = self.stores.ledger.pairs(tenant, &pairs).await?;
        let edges: Vec<Edge> = events.iter().filter_map(|p| edge(p, &self.rules.taste)).collect();
        self.stores.graph.set_edges(tenant, &edges).await
    }
}
