//! One client, opened at the first call, and what kind of server answered.
//!
//! Making it does no I/O and never fails because a server is down: every call tries anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt as _, future::BoxFuture};
use mongodb::{
    Client, Collection, Database,
    bson::{Document, doc},
    options::{CollectionOptions, SelectionCriteria},
};
use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::{MongoConfig, error};

/// The wire version of MongoDB 6.0, the oldest that is still maintained.
const OLDEST_WIRE: i64 = 17;
/// On FerretDB a look-up of a single key is answered by an index of PostgreSQL (`infra/local/ferretdb/index_documents.sql`), and one by
/// `$in` reads every document through FerretDB, which costs as much as about so many of the former.
const SINGLE_LOOK_UPS: usize = 1_000;

/// On FerretDB asking how many documents a collection has costs about as much as so many look-ups.
const ASKED_FIRST: usize = 64;

/// So long what was answered stands for the next question: it decides only which way is quicker.
const COUNT_HOLDS: Duration = Duration::from_secs(1);

/// Documents in one answer of a read, at most: few questions need a second call then.
pub(crate) const BATCH: u32 = 4_096;

/// A database of a server that may not be there yet.
#[derive(Clone)]
pub(crate) struct Mongo {
    pub config: Arc<MongoConfig>,
    store: &'static str,
    client: Arc<OnceCell<Client>>,
    ferret: Arc<OnceCell<bool>>,
    /// How many documents collections had, and when.
    counted: Arc<Mutex<HashMap<String, (Instant, usize)>>>,
    reads: SelectionCriteria,
    /// Whether somebody waits for each answer.
    requests: bool,
}

impl Mongo {
    /// Checks the configuration alone.
    pub fn new(config: &MongoConfig, store: &'static str) -> StoreResult<Self> {
        config.checked(store)?;
        Ok(Self {
            config: Arc::new(config.clone()),
            store,
            client: Arc::default(),
            ferret: Arc::default(),
            counted: Arc::default(),
            reads: super::ReadFrom::Primary.criteria(),
            requests: false,
        })
    }

    /// The same client, reading from wherever requests may read.
    pub fn for_requests(&self) -> Self {
        Self { reads: self.config.read_from.criteria(), requests: true, ..self.clone() }
    }

    /// The database.
    pub async fn database(&self) -> StoreResult<Database> {
        let open = || async {
            let options = self.config.options(self.store).await?;
            Client::with_options(options).map_err(|e| error::map(self.store, &e))
        };
        let database = self.client.get_or_try_init(open).await?.database(&self.config.database);
        self.ferret.get_or_try_init(|| self.greet(&database)).await?;
        Ok(database)
    }

    /// A collection to read documents of one shape from.
    pub async fn read<T: Send + Sync>(&self, name: &str) -> StoreResult<Collection<T>> {
        let mut options = CollectionOptions::default();
        options.selection_criteria = Some(self.reads.clone());
        Ok(self.database().await?.collection_with_options(name, options))
    }

    /// A collection to write to.
    pub async fn write<T: Send + Sync>(&self, name: &str) -> StoreResult<Collection<T>> {
        Ok(self.database().await?.collection(name))
    }

    /// Waits for a call, no longer than configured.
    pub async fn call<T>(&self, call: impl IntoFuture<Output = mongodb::error::Result<T>>) -> StoreResult<T> {
        match tokio::time::timeout(self.config.call_timeout(), call.into_future()).await {
            Ok(done) => done.map_err(|e| error::map(self.store, &e)),
            Err(_) => Err(self.error(ErrorKind::Timeout, format!("no answer within {} ms", self.config.call_timeout_ms))),
        }
    }

    /// An error of this store.
    pub fn error(&self, kind: ErrorKind, message: impl std::fmt::Display) -> StoreError {
        StoreError::new(kind, self.store, message)
    }

    /// The name of this store in errors.
    pub(super) fn store(&self) -> &'static str {
        self.store
    }

    /// Something stored that is not as it was written.
    pub fn torn(&self, what: &str) -> StoreError {
        self.error(ErrorKind::Corrupt, format!("{what} in database {:?} is torn or not ours", self.config.database))
    }

    /// The server's time in milliseconds.
    pub async fn now(&self) -> StoreResult<i64> {
        let database = self.database().await?;
        let hello = self.call(database.run_command(doc! { "hello": 1 })).await?;
        hello.get_datetime("localTime").map(|t| t.timestamp_millis()).map_err(|_| self.torn("the server's greeting"))
    }

    /// How many keys one look-up asks for: as many as fit where `$in` runs over an index, one where it would read everything.
    pub async fn keys_at_once(&self, keys: usize) -> StoreResult<usize> {
        self.database().await?;
        let single = self.ferret.get().copied().unwrap_or(false) && keys <= SINGLE_LOOK_UPS;
        Ok(if single { 1 } else { 1_000 })
    }

    /// Whether the server finds only one key at a time by an index.
    pub async fn one_by_one(&self) -> StoreResult<bool> {
        self.database().await?;
        Ok(self.ferret.get().copied().unwrap_or(false))
    }

    /// Whether reading a whole collection costs less than asking for so many keys one by one, where a look-up of one costs as much as
    /// reading `documents` of them. Never where keys are found together by an index, and never for requests: asking how much there is
    /// makes FerretDB go through a part of it, one asker after the other.
    pub async fn whole_costs_less(&self, collection: &str, keys: usize, documents: usize) -> StoreResult<bool> {
        if self.requests || keys < ASKED_FIRST || !self.one_by_one().await? {
            return Ok(false);
        }
        Ok(self.about(collection).await? / documents < keys)
    }

    /// About how many documents a collection has, a moment ago at the latest.
    async fn about(&self, collection: &str) -> StoreResult<usize> {
        let counted = || self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, there)) = counted().get(collection).filter(|(at, _)| at.elapsed() < COUNT_HOLDS) {
            return Ok(*there);
        }
        let database = self.database().await?;
        let stats = self.call(database.run_command(doc! { "collStats": collection })).await?;
        let there = usize::try_from(super::bulk::whole(&stats, "count")).unwrap_or(usize::MAX);
        counted().insert(collection.to_owned(), (Instant::now(), there));
        Ok(there)
    }

    /// Whether asking for so many keys one by one would cost more than reading everything once.
    pub async fn reads_everything(&self, keys: usize) -> StoreResult<bool> {
        self.database().await?;
        Ok(self.ferret.get().copied().unwrap_or(false) && keys > SINGLE_LOOK_UPS)
    }

    /// Runs calls together, a bounded number at a time; the answers come in the order asked.
    pub async fn together<T>(&self, calls: Vec<BoxFuture<'_, StoreResult<T>>>) -> StoreResult<Vec<T>> {
        let mut answers = std::pin::pin!(futures_util::stream::iter(calls).buffered(self.config.concurrency));
        let mut all = Vec::new();
        while let Some(answer) = answers.next().await {
            all.push(answer?);
        }
        Ok(all)
    }

    /// Whether the server says that it takes no writes.
    pub async fn read_only(&self) -> StoreResult<bool> {
        let database = self.database().await?;
        Ok(self.call(database.run_command(doc! { "hello": 1 })).await?.get_bool("readOnly").unwrap_or(false))
    }

    /// Gives connections back; waits a moment for calls under way.
    pub async fn close(&self) {
        if let Some(client) = self.client.get() {
            let _ = tokio::time::timeout(Duration::from_secs(5), client.clone().shutdown()).await;
        }
    }

    async fn greet(&self, database: &Database) -> StoreResult<bool> {
        let hello = self.call(database.run_command(doc! { "hello": 1 })).await?;
        let wire = super::bulk::whole(&hello, "maxWireVersion");
        if wire < OLDEST_WIRE {
            let found = format!("the server speaks wire version {wire}, {OLDEST_WIRE} is the least");
            return Err(self.error(ErrorKind::Invalid, error::too_old(&found)));
        }
        let info = self.call(database.run_command(doc! { "buildInfo": 1 })).await?;
        Ok(info.contains_key("ferretdbVersion"))
    }
}

/// Reads a cursor to its end; each further batch has the time of a call.
pub(crate) async fn collect<T: DeserializeOwned>(
    mongo: &Mongo,
    mut rows: impl Stream<Item = mongodb::error::Result<T>> + Unpin,
) -> StoreResult<Vec<T>> {
    let mut all = Vec::new();
    while let Some(row) = mongo.call(async { rows.next().await.transpose() }).await? {
        all.push(row);
    }
    Ok(all)
}

/// `{ _id: key }` or `{ _id: { $in: keys } }`.
pub(crate) fn ids(keys: &[String]) -> Document {
    match keys {
        [key] => doc! { "_id": key },
        keys => doc! { "_id": { "$in": keys } },
    }
}
