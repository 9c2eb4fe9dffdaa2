//! Makes the vectors of a revision that the ledger lacks. Reading, embedding and writing go on at once, so that the model never waits.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nearcast_domain::{
    ErrorKind, Event, ItemId, Message, StoreError, StoreResult, Tenant, UserId,
    digest::bucket,
    ports::{Append, Embedder, HistoryLimit, Leases, LedgerWrite, Positions, Priority},
};
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::reconcile::rest;

/// Into so many shards users are cut.
pub const SHARDS: usize = 16;
/// Users and items of a page.
const PAGE: usize = 128;
/// Bytes of text that are embedded together, about; texts at most.
const PORTION: (usize, usize) = (64 << 10, 512);
/// Portions that may wait between two stages.
const QUEUE: usize = 3;
/// How long a shard is held without being renewed.
const LEASE_FOR: Duration = Duration::from_secs(30);

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Filled {
    /// Vectors that were made and written.
    pub vectors: u64,
    /// Bytes of text that were embedded.
    pub bytes: u64,
    /// Shards that were gone through here; the others are somebody else's.
    pub shards: usize,
    /// Milliseconds that the model worked.
    pub embedding_ms: u64,
    /// Milliseconds in all.
    pub took_ms: u64,
}

/// Fills in the vectors of one revision.
pub struct Fill {
    /// Whose texts are read, and which takes the vectors.
    pub ledger: Arc<dyn LedgerWrite>,
    /// The model.
    pub embedder: Arc<dyn Embedder>,
    /// Under which shards are taken.
    pub leases: Arc<dyn Leases>,
    /// Where finished shards are noted.
    pub positions: Arc<dyn Positions>,
    /// Who takes them.
    pub holder: String,
    /// Only this shard (items go with the first).
    pub only: Option<usize>,
    /// The share of the time that is worked.
    pub share: f64,
    /// Told of the vectors made so far.
    pub progress: Box<dyn Fn(u64) + Send + Sync>,
    /// Stops it.
    pub cancel: CancellationToken,
}

struct Portion {
    made: Vec<Append>,
    texts: Vec<Arc<str>>,
    bytes: usize,
}

impl Portion {
    fn new() -> Self {
        Self { made: Vec::new(), texts: Vec::new(), bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.bytes >= PORTION.0 || self.texts.len() >= PORTION.1
    }
}

impl Fill {
    /// Goes through every shard that nobody else has, whether it was gone through before or not where `again` says so.
    pub async fn run(&self, again: bool) -> StoreResult<Filled> {
        let begun = Instant::now();
        let (made, mut filled) = (AtomicU64::new(0), Filled::default());
        let mut left: VecDeque<usize> = self.only.map_or_else(|| (0..SHARDS).collect(), |s| [s].into());
        let mut waited = 0;
        while let Some(shard) = left.pop_front() {
            let name = format!("reembed/{}/{shard}", self.embedder.model().revision);
            if !again && self.positions.get(&name).await?.is_some() {
                continue;
            }
            if !self.leases.acquire(&name, &self.holder, LEASE_FOR).await? {
                // Somebody is at it: looked at again when the rest is done, until it is finished or given up.
                left.push_back(shard);
                waited += 1;
                if waited > left.len() {
                    waited = 0;
                    tokio::select! {
                        () = self.cancel.cancelled() => return Err(interrupted()),
                        () = tokio::time::sleep(Duration::from_millis(500)) => {}
                    }
                }
                continue;
            }
            waited = 0;
            let done = self.shard(shard, &name, &made, &mut filled).await;
            if done.is_ok() {
                self.positions.set(&name, "filled").await?;
            }
            self.leases.release(&name, &self.holder).await?;
            done?;
            filled.shards += 1;
        }
        filled.vectors = made.load(Ordering::Relaxed);
        filled.took_ms = begun.elapsed().as_millis() as u64;
        Ok(filled)
    }

    /// Forgets which shards were gone through.
    pub async fn forget(positions: &dyn Positions, revision: &str) -> StoreResult<()> {
        for shard in 0..SHARDS {
            positions.remove(&format!("reembed/{revision}/{shard}")).await?;
        }
        Ok(())
    }

    async fn shard(&self, shard: usize, lease: &str, made: &AtomicU64, filled: &mut Filled) -> StoreResult<()> {
        let (to_model, mut texts) = mpsc::channel::<Portion>(QUEUE);
        let (to_ledger, mut vectors) = mpsc::channel::<Vec<Append>>(QUEUE);
        let revision = self.embedder.model().revision.as_str();
        let read = async move {
            for tenant in self.ledger.tenants().await? {
                if shard == 0 {
                    self.items(&tenant, &to_model).await?;
                }
                self.messages(&tenant, shard, lease, &to_model).await?;
            }
            Ok(())
        };
        let (mut bytes, mut busy) = (0, Duration::ZERO);
        let embed = async {
            let to_ledger = to_ledger;
            while let Some(mut portion) = texts.recv().await {
                let begun = Instant::now();
                let made = self.embedder.embed(&portion.texts, Priority::Bulk).await?;
                for (append, vector) in portion.made.iter_mut().zip(made) {
                    append.vector = Some(vector);
                }
                bytes += portion.bytes as u64;
                busy += begun.elapsed();
                if to_ledger.send(portion.made).await.is_err() {
                    break;
                }
                rest(begun.elapsed(), self.share).await;
            }
            Ok(())
        };
        let write = async {
            while let Some(portion) = vectors.recv().await {
                self.ledger.add_vectors(&portion, revision, false).await?;
                let so_far = made.fetch_add(portion.len() as u64, Ordering::Relaxed) + portion.len() as u64;
                (self.progress)(so_far);
            }
            Ok::<(), StoreError>(())
        };
        // One that fails ends the others.
        futures_util::try_join!(read, embed, write)?;
        filled.bytes += bytes;
        filled.embedding_ms += busy.as_millis() as u64;
        Ok(())
    }

    async fn items(&self, tenant: &Tenant, to: &mpsc::Sender<Portion>) -> StoreResult<()> {
        let revision = self.embedder.model().revision.as_str();
        let (mut after, mut portion): (Option<ItemId>, _) = (None, Portion::new());
        loop {
            self.go_on()?;
            let page = self.ledger.catalogue(tenant, after.as_ref(), PAGE, Some(revision)).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.item.item_id.clone());
            for state in page.into_iter().filter(|s| s.vector.is_none()) {
                let Some(text) = state.item.embedding_text() else { continue };
                self.put(&mut portion, Event::Item(state.item), text, to).await?;
            }
        }
        self.send(portion, to).await
    }

    async fn messages(&self, tenant: &Tenant, shard: usize, lease: &str, to: &mpsc::Sender<Portion>) -> StoreResult<()> {
        let revision = self.embedder.model().revision.as_str();
        let (mut after, mut portion): (Option<UserId>, _) = (None, Portion::new());
        let (mut renewed, mut page): (Instant, Vec<UserId>) = (Instant::now(), Vec::new());
        let everything = HistoryLimit { engagements: 0, messages: usize::MAX };
        loop {
            self.go_on()?;
            if renewed.elapsed() > LEASE_FOR / 3 {
                renewed = Instant::now();
                if !self.leases.acquire(lease, &self.holder, LEASE_FOR).await? {
                    let message = "another worker took the shard over, as this one was silent for too long; it goes on there";
                    return Err(StoreError::new(ErrorKind::Busy, "job", message));
                }
            }
            let found = self.ledger.users(tenant, "", after.as_ref(), 8 * PAGE).await?;
            let end = found.is_empty();
            after = found.last().cloned().or(after);
            page.extend(found.into_iter().filter(|u| bucket(u.as_str(), SHARDS) == shard));
            if page.len() < PAGE && !end {
                continue;
            }
            for users in std::mem::take(&mut page).chunks(PAGE) {
                let histories = self.ledger.histories(tenant, users, everything, Some(revision)).await?;
                for (user, history) in users.iter().zip(histories) {
                    for m in history.messages.into_iter().filter(|m| m.vector.is_none()) {
                        let text = m.text.clone();
                        let message = Message {
                            tenant: tenant.clone(),
                            message_id: m.id,
                            user_id: user.clone(),
                            text: m.text,
                            item_id: m.item,
                            timestamp: m.timestamp,
                        };
                        self.put(&mut portion, Event::Message(message), text, to).await?;
                    }
                }
            }
            if end {
                break;
            }
        }
        self.send(portion, to).await
    }

    async fn put(&self, portion: &mut Portion, event: Event, text: Arc<str>, to: &mpsc::Sender<Portion>) -> StoreResult<()> {
        portion.bytes += text.len();
        portion.texts.push(text);
        let hash = event.content_hash();
        portion.made.push(Append { event, hash, vector: None });
        if portion.is_full() {
            return self.send(std::mem::replace(portion, Portion::new()), to).await;
        }
        Ok(())
    }

    async fn send(&self, portion: Portion, to: &mpsc::Sender<Portion>) -> StoreResult<()> {
        // Whoever takes them ends with an error of its own, which is told.
        if !portion.texts.is_empty() && to.send(portion).await.is_err() {
            return Err(interrupted());
        }
        Ok(())
    }

    fn go_on(&self) -> StoreResult<()> {
        if self.cancel.is_cancelled() { Err(interrupted()) } else { Ok(()) }
    }
}

fn interrupted() -> StoreError {
    StoreError::new(ErrorKind::Unavailable, "job", "interrupted; the same command goes on from there")
}
