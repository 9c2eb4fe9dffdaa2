//! Profiles: a user's vector, out of their latest messages and the items that they liked latest.
//!
//! Read from the ledger each time, so that it does not matter in which order the events came.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId, Vector,
    ports::{Collection, EngagedEvent, History, HistoryLimit, VectorRow},
    profile::Trace,
    taste::MESSAGE_KIND,
};

use super::{Projector, edges};
use crate::{stage::timed, tenants::by_tenant};

/// How many users are computed at a time: bounds memory.
const PORTION: usize = 256;

impl Projector {
    pub(super) async fn write_profiles(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        for users in users.chunks(PORTION) {
            let profiles = self.current(tenant, users).await?;
            self.upsert(tenant, users, &profiles).await?;
        }
        Ok(())
    }

    /// Edges and profiles out of one read of each user: their latest engagements, which for most are all there are. Of those who have
    /// more, the edges are read by pairs.
    pub(super) async fn write_users(
        &self,
        tenant: &Tenant,
        users: &[UserId],
        pairs: &BTreeSet<(UserId, ItemId)>,
        turn: Option<u64>,
    ) -> StoreResult<()> {
        let n = self.rules.profile.events;
        let whole = self.whole_history.max(n);
        for users in users.chunks(PORTION) {
            let mut histories = timed("histories", self.histories(tenant, users, turn)).await?;
            let (mut rows, mut long) = (Vec::new(), BTreeSet::new());
            for (user, history) in users.iter().zip(&mut histories) {
                let own = pairs.range((user.clone(), ItemId::trusted(""))..).take_while(|(u, _)| u == user);
                if history.engagements.len() < whole {
                    rows.extend(edges::of_history(own, history, &self.rules.taste));
                } else {
                    long.extend(own.cloned());
                }
                history.engagements.truncate(n);
            }
            let (set, read, written) = tokio::join!(
                timed("graph", async {
                    if rows.is_empty() { Ok(()) } else { self.stores.graph.set_edges(tenant, &rows).await }
                }),
                timed("long histories", self.write_edges(tenant, &long)),
                async {
                    let profiles = timed("profiles", self.profiles_of(tenant, histories)).await?;
                    timed("users", self.upsert(tenant, users, &profiles)).await
                },
            );
            set.and(read).and(written)?;
        }
        Ok(())
    }

    async fn upsert(&self, tenant: &Tenant, users: &[UserId], profiles: &[Option<Vector>]) -> StoreResult<()> {
        let (mut rows, mut gone) = (Vec::new(), Vec::new());
        for (user, vector) in users.iter().zip(profiles) {
            let id = user.as_str().to_owned();
            match vector {
                Some(vector) => rows.push(VectorRow { id, vector: vector.clone(), labels: Vec::new() }),
                None => gone.push(id),
            }
        }
        let revision = &self.stores.embedder.model().revision;
        if !rows.is_empty() {
            self.stores.vectors.upsert(tenant, Collection::Users, revision, &rows).await?;
        }
        if !gone.is_empty() && !self.shadow {
            self.stores.vectors.delete(tenant, Collection::Users, &gone).await?;
        }
        Ok(())
    }

    /// The profiles out of these histories.
    async fn profiles_of(&self, tenant: &Tenant, histories: Vec<History>) -> StoreResult<Vec<Option<Vector>>> {
        let revision = &self.stores.embedder.model().revision;
        let speaks = |e: &&EngagedEvent| !e.is_message && self.rules.taste.strength(&e.kind, e.value).positive;
        let wanted: BTreeSet<ItemId> =
            histories.iter().flat_map(|h| &h.engagements).filter(speaks).map(|e| e.item.clone()).collect();
        let wanted: Vec<ItemId> = wanted.into_iter().collect();
        let found =
            if wanted.is_empty() { Vec::new() } else { self.stores.ledger.item_vectors(tenant, &wanted, revision).await? };
        let vectors: BTreeMap<ItemId, Vector> = wanted.into_iter().zip(found).filter_map(|(i, v)| Some((i, v?))).collect();
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

    /// Writes the profiles of users who may be another worker's. What that one appends and writes in between is read again: it is
    /// done when what was written is what the ledger says afterwards.
    pub(super) async fn write_stale(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        let _alone = self.profiles.write().await;
        let mut users = users.to_vec();
        loop {
            let written = self.current(tenant, &users).await?;
            self.upsert(tenant, &users, &written).await?;
            if !self.shared.load(Ordering::Relaxed) {
                return Ok(());
            }
            let now = self.current(tenant, &users).await?;
            let moved = users.iter().zip(written.iter().zip(&now)).filter(|(_, (w, n))| w != n).map(|(u, _)| u.clone());
            users = moved.collect();
            if users.is_empty() {
                return Ok(());
            }
        }
    }

    /// The profiles of these users as the ledger has them now.
    pub(super) async fn current(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Option<Vector>>> {
        let n = self.rules.profile.events;
        let revision = &self.stores.embedder.model().revision;
        let limit = HistoryLimit { engagements: n, messages: n };
        let histories = self.stores.ledger.histories(tenant, users, limit, Some(revision)).await?;
        self.profiles_of(tenant, histories).await
    }

    /// Brings up to date a portion of the profiles that were marked stale, in the revision beside this one too where there is one;
    /// answers how many.
    pub async fn refresh_stale(&self, also: Option<&Self>) -> StoreResult<usize> {
        let marks = self.stores.ledger.stale_users(PORTION).await?;
        for (tenant, users) in by_tenant(marks.iter().map(|(tenant, user, _)| (tenant, user))) {
            self.write_stale(&tenant, &users).await?;
            if let Some(also) = also {
                also.write_stale(&tenant, &users).await?;
            }
            self.stores.cache.bump(&tenant, &users).await?;
        }
        self.stores.ledger.clear_stale(&marks).await?;
        Ok(marks.len())
    }
}
