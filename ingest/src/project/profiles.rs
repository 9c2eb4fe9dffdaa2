//! Profiles: a user's vector, out of their latest messages and the items that they liked latest.
//!
//! Read from the ledger each time, so that it does not matter in which order the events came.

use std::collections::{BTreeMap, BTreeSet};

use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId, Vector,
    ports::{Collection, History, HistoryLimit, VectorRow},
    profile::Trace,
    taste::MESSAGE_KIND,
};

use super::Projector;

/// How many users are computed at a time: bounds memory.
const PORTION: usize = 256;

impl Projector {
    pub(super) async fn write_profiles(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        for users in users.chunks(PORTION) {
            let (mut rows, mut gone) = (Vec::new(), Vec::new());
            for (user, vector) in users.iter().zip(self.profiles(tenant, users).await?) {
                let id = user.as_str().to_owned();
                match vector {
                    Some(vector) => rows.push(VectorRow { id, vector, labels: Vec::new() }),
                    None => gone.push(id),
                }
            }
            let revision = &self.stores.embedder.model().revision;
            if !rows.is_empty() {
                self.stores.vectors.upsert(tenant, Collection::Users, revision, &rows).await?;
            }
            if !gone.is_empty() {
                self.stores.vectors.delete(tenant, Collection::Users, &gone).await?;
            }
        }
        Ok(())
    }

    /// The profiles of these users as the ledger has them now.
    async fn profiles(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Option<Vector>>> {
        let n = self.rules.profile.events;
        let revision = &self.stores.embedder.model().revision;
        let limit = HistoryLimit { engagements: n, messages: n };
        let histories = self.stores.ledger.histories(tenant, users, limit, Some(revision)).await?;
        let wanted: BTreeSet<ItemId> = histories.iter().flat_map(|h| &h.engagements).map(|e| e.item.clone()).collect();
        let wanted: Vec<ItemId> = wanted.into_iter().collect();
        let states = self.stores.ledger.items(tenant, &wanted, Some(revision)).await?;
        let vectors: BTreeMap<ItemId, Vector> =
            wanted.into_iter().zip(states).filter_map(|(i, s)| Some((i, s?.vector?))).collect();
        Ok(histories.into_iter().map(|h| self.rules.profile.profile(self.traces(h, &vectors))).collect())
    }

    fn traces(&self, history: History, items: &BTreeMap<ItemId, Vector>) -> Vec<Trace> {
        let taste = &self.rules.taste;
        let mut traces = Vec::with_capacity(history.engagements.len() + history.messages.len());
        let own_words = taste.strength(MESSAGE_KIND, 1.0).weight;
        for m in history.messages {
            if let Some(vector) = m.vector {
                traces.push(Trace { timestamp: m.timestamp, id: m.id, strength: own_words, vector });
            }
        }
        // A message about an item speaks by its own words alone.
        for e in history.engagements.into_iter().filter(|e| !e.is_message) {
            let strength = taste.strength(&e.kind, e.value);
            if let (true, Some(vector)) = (strength.positive, items.get(&e.item)) {
                traces.push(Trace { timestamp: e.timestamp, id: e.id, strength: strength.weight, vector: vector.clone() });
            }
        }
        traces
    }

    /// Brings up to date a portion of the profiles that were marked stale; answers how many.
    pub async fn refresh_stale(&self) -> StoreResult<usize> {
        let marks = self.stores.ledger.stale_users(PORTION).await?;
        let mut tenants: BTreeMap<Tenant, Vec<UserId>> = BTreeMap::new();
        for (tenant, user, _) in &marks {
            tenants.entry(tenant.clone()).or_default().push(user.clone());
        }
        for (tenant, users) in tenants {
            self.write_profiles(&tenant, &users).await?;
            self.stores.cache.bump(&tenant, &users).await?;
        }
        self.stores.ledger.clear_stale(&marks).await?;
        Ok(marks.len())
    }
}
