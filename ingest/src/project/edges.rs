//! Edges: one user's whole relation to one item, out of all their engagements with it.

use std::collections::BTreeSet;

use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId,
    ports::{Edge, PairEvents},
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
