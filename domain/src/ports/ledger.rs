//! The ledger: every accepted event once, each message's embedding, each item's state, and who was erased.
//!
//! The only source of truth. It never decides what an event means: profiles, edges and totals are computed by callers.

use std::{cmp::Ordering, sync::Arc};

use async_trait::async_trait;

use crate::{
    Event, EventId, ItemId, StoreResult, Tenant, Timestamp, UserId, Vector,
    digest::Digest,
    event::{ContentHash, Item},
    profile::newest_first,
};

/// An event on its way into the ledger.
#[derive(Debug, Clone)]
pub struct Append {
    /// What is stated.
    pub event: Event,
    /// [`Event::content_hash`], computed once by the decoder.
    pub hash: ContentHash,
    /// The unit vector of the message's or the item's text, made by the model of `revision`.
    pub vector: Option<Vector>,
}

/// What became of an appended event. The same event appended again gives [`Appended::Duplicate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Appended {
    /// It was not known before.
    New,
    /// It is there already, with the same content. (Items: the same version, or an older one than the ledger has.)
    Duplicate,
    /// Another content is there under its id; that one stays.
    Conflict,
    /// Its user was erased after it happened; it is not kept.
    Erased,
}

/// How much of a user's past is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimit {
    /// The newest engagements (messages about an item included), at most so many.
    pub engagements: usize,
    /// The newest messages, at most so many.
    pub messages: usize,
}

/// An engagement as history gives it; a message about an item comes as kind [`crate::taste::MESSAGE_KIND`], value 1.
#[derive(Debug, Clone, PartialEq)]
pub struct EngagedEvent {
    /// The event's (or message's) id.
    pub id: EventId,
    /// Whether this is a message about the item: messages and engagements have ids of their own.
    pub is_message: bool,
    /// With what.
    pub item: ItemId,
    /// Of what kind.
    pub kind: Arc<str>,
    /// With which value.
    pub value: f64,
    /// When.
    pub timestamp: Timestamp,
}

impl EngagedEvent {
    /// The order in which histories hold them: newest first, ties by id from the end, of a message and an engagement with one id the
    /// message.
    pub fn newest_first(a: &Self, b: &Self) -> Ordering {
        newest_first((a.timestamp, &a.id), (b.timestamp, &b.id)).then(b.is_message.cmp(&a.is_message))
    }
}

/// A message as history gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageEvent {
    /// The message's id.
    pub id: EventId,
    /// What was written.
    pub text: Arc<str>,
    /// About what.
    pub item: Option<ItemId>,
    /// When.
    pub timestamp: Timestamp,
    /// Its vector under the revision asked for, where there is one.
    pub vector: Option<Vector>,
}

impl MessageEvent {
    /// The order in which histories hold them: newest first, ties by id from the end.
    pub fn newest_first(a: &Self, b: &Self) -> Ordering {
        newest_first((a.timestamp, &a.id), (b.timestamp, &b.id))
    }
}

/// A user's latest events, each list newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// What they did, messages about items included.
    pub engagements: Vec<EngagedEvent>,
    /// What they wrote.
    pub messages: Vec<MessageEvent>,
}

/// All engagements of one user with one item, oldest first (ties by id).
#[derive(Debug, Clone, PartialEq)]
pub struct PairEvents {
    /// Who.
    pub user: UserId,
    /// With what.
    pub item: ItemId,
    /// Every engagement, messages about the item included.
    pub events: Vec<EngagedEvent>,
}

/// An item as the ledger holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemState {
    /// The newest version.
    pub item: Item,
    /// The vector of [`Item::embedding_text`] under the revision asked for.
    pub vector: Option<Vector>,
}

/// That someone was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureRecord {
    /// Whose customer.
    pub tenant: Tenant,
    /// Who.
    pub user: UserId,
    /// No event up to this time comes back: the latest of the erasure's own time, the newest event that was erased, and the newest
    /// that was refused as a conflict before (a replay would let it in, now that its rival is gone).
    pub until: Timestamp,
}

/// An event of the ledger with what belongs to it, for scans.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// The event.
    pub event: Event,
    /// The vector of its text under the revision asked for.
    pub vector: Option<Vector>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerCounts {
    /// Users with at least one event.
    pub users: u64,
    /// Items with a state.
    pub items: u64,
    /// Messages and engagements.
    pub events: u64,
}

/// What serving and jobs read.
#[async_trait]
pub trait LedgerRead: Send + Sync {
    /// The latest events of each of these users, in the order asked. Vectors only when a revision is given.
    async fn histories(
        &self,
        tenant: &Tenant,
        users: &[UserId],
        limit: HistoryLimit,
        revision: Option<&str>,
    ) -> StoreResult<Vec<History>>;

    /// The states of these items, in the order asked; `None` for those without one. Vectors only when a revision is given.
    async fn items(&self, tenant: &Tenant, items: &[ItemId], revision: Option<&str>) -> StoreResult<Vec<Option<ItemState>>>;

    /// The vectors of these items under a revision, in the order asked, for profiles: what [`Self::items`] says of them. A ledger may
    /// remember them, as long as nobody's profile stays as it was made from one that was replaced: who engaged before a vector was
    /// replaced is marked stale behind it, and who asks behind an engagement that came later gets the new one.
    async fn item_vectors(&self, tenant: &Tenant, items: &[ItemId], revision: &str) -> StoreResult<Vec<Option<Vector>>> {
        Ok(self.items(tenant, items, Some(revision)).await?.into_iter().map(|state| state?.vector).collect())
    }

    /// For each of these items, whether the user ever engaged with it.
    async fn engaged(&self, tenant: &Tenant, user: &UserId, items: &[ItemId]) -> StoreResult<Vec<bool>>;

    /// Every engagement of these pairs, in the order asked; empty where there is none.
    async fn pairs(&self, tenant: &Tenant, pairs: &[(UserId, ItemId)]) -> StoreResult<Vec<PairEvents>>;

    /// The items that arrived last (ties by id), not hidden, of a category where one is given.
    async fn newest_items(&self, tenant: &Tenant, category: Option<&str>, limit: usize) -> StoreResult<Vec<ItemState>>;

    /// Users whose id begins with `prefix`, by id, after `after`.
    async fn users(&self, tenant: &Tenant, prefix: &str, after: Option<&UserId>, limit: usize) -> StoreResult<Vec<UserId>>;

    /// Items by id, after `after`: the catalogue in pages.
    async fn catalogue(
        &self,
        tenant: &Tenant,
        after: Option<&ItemId>,
        limit: usize,
        revision: Option<&str>,
    ) -> StoreResult<Vec<ItemState>>;

    /// Every tenant that has anything, by name.
    async fn tenants(&self) -> StoreResult<Vec<Tenant>>;

    /// How much a tenant has.
    async fn counts(&self, tenant: &Tenant) -> StoreResult<LedgerCounts>;

    /// Users whose profile may be out of date because an item of theirs got another vector: the oldest marks first.
    /// The number is handed back to [`LedgerWrite::clear_stale`].
    async fn stale_users(&self, limit: usize) -> StoreResult<Vec<(Tenant, UserId, u64)>>;

    /// Everyone who was erased, by tenant and user.
    async fn erasures(&self) -> StoreResult<Vec<ErasureRecord>>;

    /// The digest of all facts: events with their content hashes and vectors, items, erasures. See [`crate::digest`].
    async fn digest(&self) -> StoreResult<Digest>;
}

/// What the worker writes.
#[async_trait]
pub trait LedgerWrite: LedgerRead {
    /// What would become of these events if they were appended now, one after the other. Writes nothing. It tells which texts are worth
    /// embedding: where each look-up is dear, a large batch may be taken for new after a look at some of it.
    async fn preview(&self, batch: &[Append]) -> StoreResult<Vec<Appended>>;

    /// Takes in a batch, in order, durably and as a whole; answers in the same order. Vectors are stored under `revision`.
    ///
    /// - Messages and engagements are unique by (tenant, user, id), the two kinds apart.
    /// - An item replaces its older version: by timestamp where both have one (ties by hash), else by arrival. When that
    ///   changes its vector, everyone who engaged with it is marked stale in the same transaction.
    /// - An erasure removes all of the user's events and embeddings and leaves an [`ErasureRecord`]; one that is not newer
    ///   than the record is a duplicate and removes nothing.
    async fn append(&self, batch: &[Append], revision: &str) -> StoreResult<Vec<Appended>>;

    /// Says that events of these users are to be appended next; answers of each whether the ledger is sure to hold nothing of theirs.
    /// Where a look at each is dear, they may be written down as users at once: not to be called while one of them is being erased.
    async fn introduce(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<bool>>;

    /// Adds vectors of another revision to messages and items that are there with just this content; whatever was replaced or erased
    /// since is left alone, and so is a vector that is there already. Answers how many were added. Whoever engaged with the items is
    /// marked stale where `stale` says so.
    async fn add_vectors(&self, made: &[Append], revision: &str, stale: bool) -> StoreResult<u64>;

    /// Says that somebody wrote events whose users may be another's: behind the write, and before its projections. Whoever remembers
    /// histories of users that are theirs alone forgets them then.
    async fn wrote_beside(&self) -> StoreResult<()>;

    /// A number that is another one after each [`Self::wrote_beside`].
    async fn written_beside(&self) -> StoreResult<u64>;

    /// Takes back marks that [`LedgerRead::stale_users`] handed out, unless they were set again since.
    async fn clear_stale(&self, marks: &[(Tenant, UserId, u64)]) -> StoreResult<()>;
}
