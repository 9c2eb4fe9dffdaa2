//! From the ledger to the projections: what a batch touched is computed anew from the ledger and written whole.
//!
//! Never adds to what a projection holds: the same facts written again change nothing, in any order between users.

mod edges;
mod mend;
mod profiles;
mod rebuild;
mod recall;
mod remembered;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{TryStreamExt as _, stream};
use nearcast_domain::{
    Event, EventId, ItemId, StoreResult, Tenant, UserId,
    event::{Engagement, Message},
    ports::{Append, Appended, Collection, EngagedEvent, HistoryLimit, ItemLabels, Tally, VectorRow},
    taste::{MESSAGE_KIND, Taste},
};
use tokio::sync::RwLock;

pub use self::recall::Recalling;
use self::remembered::Remembered;
use crate::{
    config::{IngestConfig, Rules},
    stage::timed,
    worker::Stores,
};

/// Of so many tenants the projections are written at once.
const TENANTS_AT_ONCE: usize = 8;

/// Everything of one tenant that a batch touched, in a fixed order.
#[derive(Default)]
struct Touched {
    pairs: BTreeSet<(UserId, ItemId)>,
    profiles: BTreeSet<UserId>,
    tallies: Vec<Tally>,
    labels: BTreeMap<ItemId, ItemLabels>,
    items: BTreeMap<ItemId, Option<VectorRow>>,
    erased: BTreeSet<UserId>,
}

/// Writes projections.
pub struct Projector {
    stores: Stores,
    rules: Rules,
    /// See [`crate::IngestConfig::whole_history`].
    whole_history: usize,
    /// See [`crate::IngestConfig::histories_mib`].
    histories_bytes: usize,
    remembered: Arc<Remembered>,
    /// Held by many who write profiles of their own users, or by the one who writes profiles that became stale: nobody may read a
    /// history, be overtaken, and write what is old by then.
    profiles: RwLock<()>,
    /// Whether other processes write profiles too, which no lock of this one keeps out.
    shared: AtomicBool,
    /// Whether it writes a revision that nobody reads yet, or any more: then it never removes anything, which the projector of the
    /// revision that is read does for all of them.
    shadow: bool,
}

impl Projector {
    /// A projector over these stores.
    pub fn new(stores: Stores, rules: Rules, config: &IngestConfig) -> Self {
        Self {
            stores,
            rules,
            whole_history: config.whole_history,
            histories_bytes: config.histories_mib << 20,
            remembered: Arc::default(),
            profiles: RwLock::new(()),
            shared: AtomicBool::new(false),
            shadow: false,
        }
    }

    /// A projector of a revision beside the one that is read: of vectors alone.
    pub fn shadow(stores: Stores, rules: Rules) -> Self {
        Self { shadow: true, ..Self::new(stores, rules, &IngestConfig { whole_history: 0, ..IngestConfig::default() }) }
    }

    /// The revision that it writes.
    pub fn revision(&self) -> &str {
        &self.stores.embedder.model().revision
    }

    /// Says that other processes work on the same stores.
    pub fn set_shared(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Projects a batch that the ledger has taken in. Duplicates too: a crash may have come between ledger and projection. `turn`: see
    /// [`nearcast_domain::ports::Claim::turn`].
    pub async fn project(&self, appends: &[Append], outcomes: &[Appended], turn: Option<u64>) -> StoreResult<()> {
        let mut tenants: BTreeMap<Tenant, Touched> = BTreeMap::new();
        for (append, outcome) in appends.iter().zip(outcomes) {
            if matches!(outcome, Appended::New | Appended::Duplicate) {
                let touched = tenants.entry(append.event.tenant().clone()).or_default();
                note(touched, append, &self.rules.taste);
            }
        }
        let tenants = stream::iter(tenants.into_iter().map(Ok));
        tenants.try_for_each_concurrent(TENANTS_AT_ONCE, |(tenant, touched)| self.project_tenant(tenant, touched, turn)).await
    }

    async fn project_tenant(&self, tenant: Tenant, mut touched: Touched, turn: Option<u64>) -> StoreResult<()> {
        if self.shadow {
            touched.profiles.append(&mut touched.erased);
            self.newest_versions(&tenant, &mut touched).await?;
            let users: Vec<UserId> = touched.profiles.iter().cloned().collect();
            let _own = self.profiles.read().await;
            let (people, items) = tokio::join!(self.write_profiles(&tenant, &users), self.write_items(&tenant, &touched));
            return people.and(items);
        }
        self.erase(&tenant, &mut touched).await?;
        timed("versions", self.newest_versions(&tenant, &mut touched)).await?;
        let users: Vec<UserId> = touched.profiles.iter().cloned().collect();
        let people = async {
            let _own = self.profiles.read().await;
            if self.whole_history > 0 {
                return self.write_users(&tenant, &users, &touched.pairs, turn).await;
            }
            let (edges, profiles) =
                tokio::join!(self.write_edges(&tenant, &touched.pairs), self.write_profiles(&tenant, &users));
            edges.and(profiles)
        };
        let (people, totals, items) = tokio::join!(
            people,
            timed("engagement", self.write_totals(&tenant, &touched)),
            timed("items", self.write_items(&tenant, &touched))
        );
        people.and(totals).and(items)
    }

    /// Takes erased users out of every projection, and notes what they did since for projecting anew.
    async fn erase(&self, tenant: &Tenant, touched: &mut Touched) -> StoreResult<()> {
        for user in std::mem::take(&mut touched.erased) {
            self.stores.graph.erase(tenant, &user).await?;
            self.stores.engagement.erase(tenant, &user).await?;
            self.stores.vectors.delete(tenant, Collection::Users, &[user.as_str().to_owned()]).await?;
            touched.tallies.retain(|t| t.user != user);
            touched.pairs.retain(|(u, _)| *u != user);
            let everything = HistoryLimit { engagements: usize::MAX, messages: 0 };
            let histories = self.stores.ledger.histories(tenant, std::slice::from_ref(&user), everything, None).await?;
            for e in histories.into_iter().flat_map(|h| h.engagements) {
                touched.pairs.insert((user.clone(), e.item.clone()));
                touched.tallies.push(tally(&user, &e, &self.rules.taste));
            }
            touched.profiles.insert(user);
        }
        Ok(())
    }

    /// Of each item in the batch, what the ledger holds now: a batch may bring an older version, or one without its vector.
    async fn newest_versions(&self, tenant: &Tenant, touched: &mut Touched) -> StoreResult<()> {
        if touched.items.is_empty() {
            return Ok(());
        }
        let ids: Vec<ItemId> = touched.items.keys().cloned().collect();
        let revision = &self.stores.embedder.model().revision;
        for (id, state) in ids.iter().zip(self.stores.ledger.items(tenant, &ids, Some(revision)).await?) {
            let Some(state) = state else { continue };
            let labels: Vec<String> = state.item.categories.iter().map(|c| c.to_string()).collect();
            touched.labels.insert(id.clone(), ItemLabels { item: id.clone(), categories: labels.clone() });
            let row = state.vector.map(|vector| VectorRow { id: id.as_str().to_owned(), vector, labels });
            touched.items.insert(id.clone(), row);
        }
        Ok(())
    }

    async fn write_totals(&self, tenant: &Tenant, touched: &Touched) -> StoreResult<()> {
        if !touched.tallies.is_empty() {
            self.stores.engagement.record(tenant, &touched.tallies).await?;
        }
        if !touched.labels.is_empty() {
            let labels: Vec<_> = touched.labels.values().cloned().collect();
            self.stores.engagement.set_labels(tenant, &labels).await?;
        }
        Ok(())
    }

    async fn write_items(&self, tenant: &Tenant, touched: &Touched) -> StoreResult<()> {
        let revision = &self.stores.embedder.model().revision;
        let rows: Vec<VectorRow> = touched.items.values().flatten().cloned().collect();
        if !rows.is_empty() {
            self.stores.vectors.upsert(tenant, Collection::Items, revision, &rows).await?;
        }
        let gone: Vec<String> = touched.items.iter().filter(|(_, r)| r.is_none()).map(|(i, _)| i.as_str().into()).collect();
        if !gone.is_empty() && !self.shadow {
            self.stores.vectors.delete(tenant, Collection::Items, &gone).await?;
        }
        Ok(())
    }
}

/// An event as histories give it, where it is about an item.
fn engaged(event: &Event) -> Option<EngagedEvent> {
    match event {
        Event::Message(m) => Some(EngagedEvent {
            id: m.message_id.clone(),
            is_message: true,
            item: m.item_id.clone()?,
            kind: MESSAGE_KIND.into(),
            value: 1.0,
            timestamp: m.timestamp,
        }),
        Event::Engagement(e) => Some(EngagedEvent {
            id: e.event_id.clone(),
            is_message: false,
            item: e.item_id.clone(),
            kind: e.kind.clone(),
            value: e.value,
            timestamp: e.timestamp,
        }),
        Event::Item(_) | Event::Erasure(_) => None,
    }
}

/// Notes what an event touches.
fn note(touched: &mut Touched, append: &Append, taste: &Taste) {
    match &append.event {
        Event::Message(Message { user_id: user, .. }) | Event::Engagement(Engagement { user_id: user, .. }) => {
            touched.profiles.insert(user.clone());
            if let Some(e) = engaged(&append.event) {
                touched.pairs.insert((user.clone(), e.item.clone()));
                touched.tallies.push(tally(user, &e, taste));
            }
        }
        Event::Item(i) => {
            touched.items.insert(i.item_id.clone(), None);
        }
        Event::Erasure(e) => {
            touched.erased.insert(e.user_id.clone());
        }
    }
}

/// What the totals count. Messages and engagements have ids of their own, so their kind stands before the id.
pub(crate) fn tally(user: &UserId, e: &EngagedEvent, taste: &Taste) -> Tally {
    let id = EventId::trusted(format!("{}:{}", if e.is_message { 'm' } else { 'e' }, e.id));
    let weight = taste.strength(&e.kind, e.value).weight;
    Tally { id, user: user.clone(), item: e.item.clone(), weight, timestamp: e.timestamp }
}
