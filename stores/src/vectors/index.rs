//! [`HnswIndex`]: the port, on shards in memory and a journal on disk. Which thread does what is decided here: files and long
//! searches off the runtime's threads, graphs on one thread of their own at a time.

use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, Vector,
    digest::{Digest, bucket},
    ports::{Collection, Hit, VectorJobs, VectorQuery, VectorRead, VectorRow, VectorWrite, add_row},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    grow::grow,
    journal::Journal,
    record::{Record, Writer},
    shard::Shard,
    state::{State, apply, check_unit, read, upserts, write},
};

/// A search that compares more points than this leaves the runtime's threads: below it takes less than a millisecond, and the way
/// there and back costs a good part of that.
const INLINE: usize = 10_000;
/// The journal is written anew when it is twice as long as its rows need, and this many bytes more.
const SLACK: u64 = 64 << 20;

/// The embedded vector index: everything in memory, durable in a directory that one process has at a time.
///
/// Graphs are made in the background when searches gain by them, so after a start with the first search; until one is there, searches
/// compare every row. They are given up at [`Self::close`] or when the index is dropped. Nothing needs closing: an acknowledged write
/// survives even a kill.
pub struct HnswIndex {
    reader: Reader,
    rebuild: bool,
    _stop_on_drop: DropGuard,
}

/// The index as it is read: in the current revision, or in one that is named.
#[derive(Clone)]
struct Reader {
    inner: Arc<Inner>,
    tasks: TaskTracker,
    stop: CancellationToken,
    growing: Arc<AtomicBool>,
    revision: Option<String>,
}

struct Inner {
    dir: PathBuf,
    /// Taken before the state is written, by every writer, so that memory and file see changes in one order.
    journal: Mutex<Files>,
    state: RwLock<State>,
}

struct Files {
    journal: Journal,
    /// At which length the journal is compared with what it holds.
    look_at: u64,
    slack: u64,
}

impl HnswIndex {
    /// Opens the index of a directory, which is made where it is not there.
    ///
    /// # Errors
    /// `Busy` where another process has the directory, `TooNew`, `ReadOnly`, `Full`, or `Unavailable`, each with the remedy. Damage is
    /// no error: see [`VectorWrite::needs_rebuild`].
    pub async fn open(dir: &Path) -> StoreResult<Self> {
        Self::open_with_slack(dir, SLACK).await
    }

    /// As [`Self::open`], but the journal is written anew when it holds `slack` bytes that it does not need, and as many again
    /// as its rows take. Small values serve tests.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with_slack(dir: &Path, slack: u64) -> StoreResult<Self> {
        let dir = dir.to_owned();
        let (inner, rebuild) = off_thread(move || {
            let state = RwLock::new(State::default());
            let (journal, rebuild) = Journal::open(&dir, |record| match record {
                Some(record) => apply(&state, record),
                None => *write(&state) = State::default(),
            })?;
            let files = Files { journal, look_at: 0, slack };
            Ok((Inner { dir, journal: Mutex::new(files), state }, rebuild))
        })
        .await?;
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let (tasks, growing) = (TaskTracker::new(), Arc::default());
        let reader = Reader { inner: Arc::new(inner), tasks, growing, stop, revision: None };
        Ok(Self { reader, rebuild, _stop_on_drop: guard })
    }

    /// Waits until no graph is being made.
    pub async fn settled(&self) {
        let tasks = &self.reader.tasks;
        tasks.close();
        tasks.wait().await;
        tasks.reopen();
    }

    /// Gives up whatever is being made in the background and waits until it has ended.
    pub async fn close(&self) {
        self.reader.stop.cancel();
        self.settled().await;
    }

    /// Writes the journal anew, so that nothing is left in it of what was deleted.
    ///
    /// # Errors
    /// As any write.
    pub async fn compact(&self) -> StoreResult<()> {
        self.change(|files, state| files.journal.replace(read(state).records())).await
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut Files, &RwLock<State>) -> StoreResult<()> + Send + 'static,
    ) -> StoreResult<()> {
        let inner = self.reader.inner.clone();
        off_thread(move || {
            let mut files = inner.files();
            change(&mut files, &inner.state)?;
            files.tidy(&inner.state);
            Ok(())
        })
        .await
    }

    /// Hands the rows of a tenant under a revision on, off the runtime's threads.
    async fn each<T: Send + 'static>(
        &self,
        key: (String, Collection, String),
        mut all: T,
        add: impl Fn(&mut T, &super::shard::Row) + Send + 'static,
    ) -> StoreResult<T> {
        let shard = read(&self.reader.inner.state).shards.get(&key).cloned();
        off_thread(move || {
            if let Some(shard) = shard {
                read(&shard).rows().for_each(|row| add(&mut all, row));
            }
            Ok(all)
        })
        .await
    }
}

impl Reader {
    /// A tenant's rows.
    fn shard(&self, tenant: &Tenant, collection: Collection) -> Option<Arc<RwLock<Shard>>> {
        let state = read(&self.inner.state);
        let revision = self.revision.clone().or_else(|| state.current.clone())?;
        state.shards.get(&(revision, collection, tenant.as_str().to_owned())).cloned()
    }

    /// Begins to make a graph, unless one is being made.
    fn grow(&self, shard: Arc<RwLock<Shard>>) {
        if self.stop.is_cancelled() || self.growing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (growing, stop) = (self.growing.clone(), self.stop.clone());
        self.tasks.spawn_blocking(move || {
            // Also where the making panics.
            let _done = OnDrop(growing);
            loop {
                let Some(growth) = write(&shard).begin() else { break };
                let unfinished = Unfinished(&shard);
                let made = grow(growth, &|| stop.is_cancelled());
                std::mem::forget(unfinished);
                let given_up = made.is_none();
                let before = write(&shard).finish(made);
                // Taking a graph apart is long work too.
                drop(before);
                if given_up || !read(&shard).wants_growth() {
                    break;
                }
            }
        });
    }
}

/// Clears the flag at the end.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Tells the shard that no graph comes, where making it panics.
struct Unfinished<'a>(&'a RwLock<Shard>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        write(self.0).finish(None);
    }
}

impl Inner {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, revision: Option<String>) -> Digest {
        let mut digest = Digest::default();
        // So that no write comes in between.
        let _files = self.files();
        let state = read(&self.state);
        let wanted = revision.or_else(|| state.current.clone());
        for ((revision, collection, tenant), shard) in &state.shards {
            if Some(revision) == wanted.as_ref() {
                for r in read(shard).rows() {
                    add_row(&mut digest, tenant, *collection, &r.id, &r.vector, r.labels.iter().map(AsRef::as_ref));
                }
            }
        }
        digest
    }

    fn checkpoint(&self) -> StoreResult<()> {
        let files = self.files();
        files.journal.sync()?;
        files.journal.whole()
    }
}

impl Files {
    /// Writes the journal anew where most of it is history. A failure is no failure of the write before it.
    fn tidy(&mut self, state: &RwLock<State>) {
        if self.journal.len() < self.look_at.max(self.slack) {
            return;
        }
        let state = read(state);
        let needed = state.bytes();
        if self.journal.len() > 2 * needed + self.slack
            && let Err(error) = self.journal.replace(state.records())
        {
            tracing::warn!(store = "vectors", %error, "the journal could not be written anew");
        }
        self.look_at = (2 * needed + self.slack).max(self.journal.len() + self.slack / 4);
    }
}

#[async_trait]
impl VectorRead for Reader {
    async fn revision(&self) -> StoreResult<Option<String>> {
        Ok(self.revision.clone().or_else(|| read(&self.inner.state).current.clone()))
    }

    async fn get(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<Vec<Option<Vector>>> {
        let Some(shard) = self.shard(tenant, collection) else { return Ok(vec![None; ids.len()]) };
        let shard = read(&shard);
        Ok(ids.iter().map(|id| shard.get(id).map(|r| r.vector.clone())).collect())
    }

    async fn search(&self, tenant: &Tenant, collection: Collection, query: VectorQuery) -> StoreResult<Vec<Hit>> {
        check_unit(&query.vector)?;
        let Some(shard) = self.shard(tenant, collection) else { return Ok(Vec::new()) };
        let (grows, effort) = {
            let shard = read(&shard);
            if shard.len() == 0 {
                return Ok(Vec::new());
            }
            if shard.dimension != query.vector.len() {
                let message = format!("the query has {} components, the index {}", query.vector.len(), shard.dimension);
                return Err(StoreError::new(ErrorKind::Invalid, "vectors", message));
            }
            (shard.wants_growth(), shard.effort())
        };
        if grows {
            self.grow(shard.clone());
        }
        if effort <= INLINE {
            return Ok(read(&shard).search(&query));
        }
        off_thread(move || Ok(read(&shard).search(&query))).await
    }

    async fn count(&self, tenant: &Tenant, collection: Collection) -> StoreResult<u64> {
        Ok(self.shard(tenant, collection).map_or(0, |s| read(&s).len() as u64))
    }

    async fn digest(&self) -> StoreResult<Digest> {
        let (inner, revision) = (self.inner.clone(), self.revision.clone());
        off_thread(move || Ok(inner.digest(revision))).await
    }
}

#[async_trait]
impl VectorRead for HnswIndex {
    async fn revision(&self) -> StoreResult<Option<String>> {
        self.reader.revision().await
    }

    async fn get(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<Vec<Option<Vector>>> {
        self.reader.get(tenant, collection, ids).await
    }

    async fn search(&self, tenant: &Tenant, collection: Collection, query: VectorQuery) -> StoreResult<Vec<Hit>> {
        self.reader.search(tenant, collection, query).await
    }

    async fn count(&self, tenant: &Tenant, collection: Collection) -> StoreResult<u64> {
        self.reader.count(tenant, collection).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        self.reader.digest().await
    }
}

#[async_trait]
impl VectorWrite for HnswIndex {
    async fn upsert(&self, tenant: &Tenant, collection: Collection, revision: &str, rows: &[VectorRow]) -> StoreResult<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (tenant, revision, rows) = (tenant.as_str().to_owned(), revision.to_owned(), rows.to_vec());
        self.change(move |files, state| {
            read(state).check(&revision, &rows)?;
            let key = (revision, collection, tenant);
            let rows = read(state).changed(&key, rows);
            if rows.is_empty() {
                return Ok(());
            }
            files.journal.append(&upserts(&key, &rows))?;
            let (revision, collection, tenant) = key;
            apply(state, Record::Upsert { tenant, collection, revision, rows });
            Ok(())
        })
        .await
    }

    async fn delete(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let (tenant, ids) = (tenant.as_str().to_owned(), ids.to_vec());
        self.change(move |files, state| {
            let mut w = Writer::default();
            w.delete(&tenant, collection, &ids);
            files.journal.append(&[w.0])?;
            apply(state, Record::Delete { tenant, collection, ids });
            Ok(())
        })
        .await
    }

    async fn switch(&self, revision: &str) -> StoreResult<()> {
        let revision = revision.to_owned();
        self.change(move |files, state| {
            let mut w = Writer::default();
            w.switch(&revision);
            files.journal.append(&[w.0])?;
            apply(state, Record::Switch { revision });
            Ok(())
        })
        .await
    }

    async fn drop_revision(&self, revision: &str) -> StoreResult<()> {
        let revision = revision.to_owned();
        self.change(move |files, state| {
            if read(state).current.as_ref() == Some(&revision) {
                let message = format!("revision {revision} is current; switch to another before dropping it");
                return Err(StoreError::new(ErrorKind::Invalid, "vectors", message));
            }
            let mut w = Writer::default();
            w.drop_revision(&revision);
            files.journal.append(&[w.0])?;
            apply(state, Record::Drop { revision });
            Ok(())
        })
        .await
    }

    async fn needs_rebuild(&self) -> StoreResult<bool> {
        Ok(self.rebuild)
    }

    async fn checkpoint(&self) -> StoreResult<()> {
        let inner = self.reader.inner.clone();
        off_thread(move || inner.checkpoint()).await
    }
}

#[async_trait]
impl VectorJobs for HnswIndex {
    fn of_revision(&self, revision: &str) -> Arc<dyn VectorRead> {
        Arc::new(Reader { revision: Some(revision.to_owned()), ..self.reader.clone() })
    }

    async fn buckets(&self, tenant: &Tenant, collection: Collection, revision: &str, n: usize) -> StoreResult<Vec<Digest>> {
        let (key, name) = ((revision.to_owned(), collection, tenant.as_str().to_owned()), tenant.as_str().to_owned());
        self.each(key, vec![Digest::default(); n], move |digests: &mut Vec<Digest>, r| {
            let labels = r.labels.iter().map(AsRef::as_ref);
            add_row(&mut digests[bucket(&r.id, n)], &name, collection, &r.id, &r.vector, labels);
        })
        .await
    }

    async fn rows(
        &self,
        tenant: &Tenant,
        collection: Collection,
        revision: &str,
        n: usize,
        wanted: &[usize],
    ) -> StoreResult<Vec<VectorRow>> {
        let key = (revision.to_owned(), collection, tenant.as_str().to_owned());
        let wanted: HashSet<usize> = wanted.iter().copied().collect();
        let mut rows = self
            .each(key, Vec::new(), move |rows, r| {
                if wanted.contains(&bucket(&r.id, n)) {
                    let labels = r.labels.iter().map(ToString::to_string).collect();
                    rows.push(VectorRow { id: r.id.as_ref().to_owned(), vector: r.vector.clone(), labels });
                }
            })
            .await?;
        rows.sort_by(|a: &VectorRow, b| a.id.cmp(&b.id));
        Ok(rows)
    }
}

impl fmt::Debug for HnswIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HnswIndex").field("dir", &self.reader.inner.dir).finish_non_exhaustive()
    }
}

/// Runs long work where it blocks no one. Where the caller goes away, the work still ends.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> StoreResult<T> + Send + 'static) -> StoreResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(StoreError::new(ErrorKind::Unavailable, "vectors", format!("the work did not end: {e}"))),
    }
}
