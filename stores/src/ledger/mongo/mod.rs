//! The ledger in MongoDB, for any number of processes at once.
//!
//! Uses what MongoDB 6 and later and FerretDB 1.24 both have: single documents change at once, nothing spans two of them. What a batch
//! does in which order, so that it may stop anywhere and be repeated, stands in [`append`]; how documents look, in [`documents`].
//! Every filter names the shard key, save the few that ask for everything or for all who engaged with an item.

mod append;
mod documents;
mod facts;
mod items;
mod keys;
mod load;
mod marks;
mod read;
mod scan;
mod seen;
mod setup;
mod stale;
mod vectors;

use std::sync::Arc;

use async_trait::async_trait;
use nearcast_domain::{
    ItemId, StoreResult, Tenant, UserId, Vector,
    digest::Digest,
    ports::{
        Append, Appended, ErasureRecord, History, HistoryLimit, ItemState, LedgerCounts, LedgerJobs, LedgerRead, LedgerWrite,
        PairEvents,
    },
};

pub use self::scan::MongoPage;
use crate::mongo::{Mongo, MongoConfig};

/// The names of the collections.
struct Collections {
    events: &'static str,
    users: &'static str,
    erasures: &'static str,
    items: &'static str,
    stale: &'static str,
    due: &'static str,
    tenants: &'static str,
    counters: &'static str,
}

impl Collections {
    fn all(&self) -> [&'static str; 8] {
        [self.events, self.users, self.erasures, self.items, self.stale, self.due, self.tenants, self.counters]
    }
}

const COLLECTIONS: Collections = Collections {
    events: "events",
    users: "users",
    erasures: "erasures",
    items: "items",
    stale: "stale",
    due: "due",
    tenants: "tenants",
    counters: "counters",
};

/// A database of MongoDB. Clones share one client.
#[derive(Clone)]
pub struct MongoLedger {
    mongo: Mongo,
    seen: Arc<seen::Seen>,
    vectors: Arc<vectors::Known>,
    counted: Arc<facts::Counted>,
}

impl MongoLedger {
    /// Checks the configuration. Does no I/O: the first call connects, and every call tries anew while there is no server.
    /// Reads come from the primary, as the worker and jobs need it.
    pub fn new(config: &MongoConfig) -> StoreResult<Self> {
        Ok(Self {
            mongo: Mongo::new(config, "ledger")?,
            seen: Arc::default(),
            vectors: Arc::default(),
            counted: Arc::default(),
        })
    }

    /// The same ledger for requests: reads come from where [`MongoConfig::read_from`] says.
    pub fn for_requests(&self) -> Self {
        // Secondaries may be behind: what they say is not to be remembered.
        Self { mongo: self.mongo.for_requests(), vectors: Arc::default(), ..self.clone() }
    }

    /// Makes collections and indexes; says what there is then. May be repeated.
    pub async fn setup(&self) -> StoreResult<Vec<String>> {
        setup::setup(&self.mongo).await
    }

    /// A page of all events in the order of their keys, behind the token of an earlier page. At most 100,000 at once. What is
    /// written meanwhile may come or not.
    pub async fn scan(&self, after: Option<&str>, limit: usize, revision: Option<&str>) -> StoreResult<MongoPage> {
        scan::page(&self.mongo, after, limit, revision).await
    }

    /// Gives the connections back. Calls after it fail.
    pub async fn close(&self) {
        self.mongo.close().await;
    }
}

#[async_trait]
impl LedgerRead for MongoLedger {
    async fn histories(
        &self,
        tenant: &Tenant,
        users: &[UserId],
        limit: HistoryLimit,
        revision: Option<&str>,
    ) -> StoreResult<Vec<History>> {
        read::histories(&self.mongo, tenant, users, limit, revision).await
    }

    async fn items(&self, tenant: &Tenant, items: &[ItemId], revision: Option<&str>) -> StoreResult<Vec<Option<ItemState>>> {
        read::items(self, tenant, items, revision).await
    }

    async fn item_vectors(&self, tenant: &Tenant, items: &[ItemId], revision: &str) -> StoreResult<Vec<Option<Vector>>> {
        vectors::of_items(self, tenant, items, revision).await
    }

    async fn engaged(&self, tenant: &Tenant, user: &UserId, items: &[ItemId]) -> StoreResult<Vec<bool>> {
        read::engaged(&self.mongo, tenant, user, items).await
    }

    async fn pairs(&self, tenant: &Tenant, pairs: &[(UserId, ItemId)]) -> StoreResult<Vec<PairEvents>> {
        read::pairs(&self.mongo, tenant, pairs).await
    }

    async fn newest_items(&self, tenant: &Tenant, category: Option<&str>, limit: usize) -> StoreResult<Vec<ItemState>> {
        read::newest_items(&self.mongo, tenant, category, limit).await
    }

    async fn users(&self, tenant: &Tenant, prefix: &str, after: Option<&UserId>, limit: usize) -> StoreResult<Vec<UserId>> {
        read::users(&self.mongo, tenant, prefix, after, limit).await
    }

    async fn catalogue(
        &self,
        tenant: &Tenant,
        after: Option<&ItemId>,
        limit: usize,
        revision: Option<&str>,
    ) -> StoreResult<Vec<ItemState>> {
        read::catalogue(&self.mongo, tenant, after, limit, revision).await
    }

    async fn tenants(&self) -> StoreResult<Vec<Tenant>> {
        facts::tenants(&self.mongo).await
    }

    /// No older than [`MongoConfig::counts_max_age_s`].
    async fn counts(&self, tenant: &Tenant) -> StoreResult<LedgerCounts> {
        facts::counts(&self.mongo, &self.counted, tenant).await
    }

    async fn stale_users(&self, limit: usize) -> StoreResult<Vec<(Tenant, UserId, u64)>> {
        stale::users(self, limit).await
    }

    async fn erasures(&self) -> StoreResult<Vec<ErasureRecord>> {
        facts::erasures(&self.mongo).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        facts::digest(&self.mongo).await
    }
}

#[async_trait]
impl LedgerWrite for MongoLedger {
    async fn preview(&self, batch: &[Append]) -> StoreResult<Vec<Appended>> {
        append::foresee(self, batch).await
    }

    async fn append(&self, batch: &[Append], revision: &str) -> StoreResult<Vec<Appended>> {
        append::take_in(self, batch, revision).await
    }

    async fn introduce(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<bool>> {
        append::introduce(self, tenant, users).await
    }

    async fn add_vectors(&self, made: &[Append], revision: &str, stale: bool) -> StoreResult<u64> {
        items::add_vectors(&self.mongo, made, revision, stale).await
    }

    async fn wrote_beside(&self) -> StoreResult<()> {
        marks::set(&self.mongo, marks::BESIDE).await
    }

    async fn written_beside(&self) -> StoreResult<u64> {
        Ok(marks::get(&self.mongo, marks::BESIDE).await?.cast_unsigned())
    }

    async fn clear_stale(&self, marks: &[(Tenant, UserId, u64)]) -> StoreResult<()> {
        stale::clear(&self.mongo, marks).await
    }
}

#[async_trait]
impl LedgerJobs for MongoLedger {
    async fn drop_vectors(&self, revision: &str) -> StoreResult<u64> {
        facts::drop_vectors(&self.mongo, revision).await
    }
}
