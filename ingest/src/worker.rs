//! The worker: a batch of records through its stages, in the order in which they stand in [`Worker::apply`].
//!
//! ```text
//! source ─ decode ─┬─ dead letters
//!                  └─ preview ─ embed ─ ledger ─┬─ graph ──────┐
//!                                               ├─ engagement ─┼─ epochs ─ commit
//!                                               └─ vectors ────┘
//! ```
//! A position is committed only when every stage before it has been acknowledged. A stage that fails for a passing cause is
//! tried again, the batch with it: every write is an absolute fact, so repeating changes nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use nearcast_domain::{
    Event, StoreError, StoreResult, Tenant, Timestamp, UserId,
    ports::{
        Append, Appended, DeadLetters, Embedder, EngagementWrite, EventSink, EventSource, GraphWrite, LedgerWrite, Priority,
        ResponseCache, VectorWrite, answer_prefix, erasures,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{IngestConfig, Rules},
    decode::{Decoded, decode_batch},
    letters::letter,
    project::Projector,
    totals::Totals,
};

/// Everything a worker writes to.
#[derive(Clone)]
pub struct Stores {
    /// The source of truth.
    pub ledger: Arc<dyn LedgerWrite>,
    /// Profiles and item vectors.
    pub vectors: Arc<dyn VectorWrite>,
    /// Who engaged with what.
    pub graph: Arc<dyn GraphWrite>,
    /// Totals.
    pub engagement: Arc<dyn EngagementWrite>,
    /// Whose epochs end with an event.
    pub cache: Arc<dyn ResponseCache>,
    /// Texts to vectors.
    pub embedder: Arc<dyn Embedder>,
    /// What could not be used.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// The log, whose records of erased users go once they are done.
    pub log: Arc<dyn EventSink>,
}

/// Why the worker stopped before its source ended.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A store refused, for good or too often.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Decoding died: a fault of the program.
    #[error("decoding stopped: {0}")]
    Decode(String),
}

/// Carries batches from one source to all stores.
pub struct Worker {
    stores: Stores,
    config: IngestConfig,
    projector: Projector,
    totals: watch::Sender<Totals>,
}

impl Worker {
    /// A worker over these stores.
    pub fn new(stores: Stores, config: IngestConfig, rules: Rules) -> Self {
        let projector = Projector::new(stores.clone(), rules);
        Self { stores, config, projector, totals: watch::Sender::new(Totals::default()) }
    }

    /// Counts as they grow.
    pub fn totals(&self) -> watch::Receiver<Totals> {
        self.totals.subscribe()
    }

    /// Works until the source ends or `cancel` fires; then finishes what is in hand, commits it and returns the counts.
    pub async fn run(&self, source: &mut dyn EventSource, cancel: &CancellationToken) -> Result<Totals, IngestError> {
        let (tx, mut rx) = mpsc::channel::<Decoded>(self.config.queue);
        let (done, mut finished) = mpsc::unbounded_channel::<Done>();
        let stop = cancel.child_token();
        let feed = self.feed(source, tx, &mut finished, &stop);
        let apply = async {
            while let Some(batch) = rx.recv().await {
                let done_with = Done { position: batch.position.clone(), erased: erased(&batch) };
                let mut whole = true;
                for part in batch.split(TEXTS_AT_ONCE) {
                    match self.apply_with_retries(part, &stop).await {
                        Ok(done) => whole &= done,
                        Err(e) => {
                            stop.cancel();
                            return Err(e);
                        }
                    }
                    if !whole || stop.is_cancelled() {
                        break;
                    }
                }
                if !whole {
                    break;
                }
                // Positions are bounded by the queue of batches that they come from.
                drop(done.send(done_with));
            }
            drop(rx);
            drop(done);
            Ok(())
        };
        let (fed, applied) = tokio::join!(feed, apply);
        applied?;
        fed?;
        Ok(*self.totals.borrow())
    }

    /// Reads and decodes ahead of the worker, and commits behind it.
    async fn feed(
        &self,
        source: &mut dyn EventSource,
        tx: mpsc::Sender<Decoded>,
        finished: &mut mpsc::UnboundedReceiver<Done>,
        stop: &CancellationToken,
    ) -> Result<(), IngestError> {
        let mut last = None;
        let outcome = loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                Some(done) = finished.recv() => {
                    last = Some(self.commit(source, done).await?);
                    continue;
                }
                batch = source.next(self.config.batch_records, self.config.batch_bytes) => batch,
            };
            match batch {
                Ok(Some(batch)) => {
                    let now = Timestamp::now();
                    let decoded = tokio::task::spawn_blocking(move || decode_batch(batch, now)).await;
                    let decoded = decoded.map_err(|e| IngestError::Decode(e.to_string()))?;
                    let mut send = std::pin::pin!(tx.send(decoded));
                    loop {
                        tokio::select! {
                            sent = &mut send => break drop(sent),
                            Some(done) = finished.recv() => last = Some(self.commit(source, done).await?),
                        }
                    }
                }
                Ok(None) => break Ok(()),
                Err(e) => break Err(e.into()),
            }
        };
        drop(tx);
        while let Some(done) = finished.recv().await {
            last = Some(self.commit(source, done).await?);
        }
        // A source that has ended hears of it with all work done.
        if let Some(position) = last {
            source.commit(&position).await?;
        }
        outcome
    }

    /// Commits a batch, then takes what erased users once published out of the log: only what is committed can go.
    async fn commit(&self, source: &mut dyn EventSource, done: Done) -> StoreResult<String> {
        source.commit(&done.position).await?;
        if !done.erased.is_empty() {
            self.stores.log.forget(&done.erased).await?;
        }
        Ok(done.position)
    }

    /// Takes everything of erased users out of the log that an earlier process may have left there.
    pub async fn forget_erased(&self) -> StoreResult<u64> {
        let erased = self.stores.ledger.erasures().await?;
        let users: Vec<_> = erased.into_iter().map(|e| (e.tenant, e.user)).collect();
        self.stores.log.forget(&users).await
    }

    /// Applies a batch, again and again while stores are only away. `false`: cancelled before it was done.
    async fn apply_with_retries(&self, mut batch: Decoded, stop: &CancellationToken) -> Result<bool, IngestError> {
        let mut wait = Duration::from_millis(100);
        let mut tries = 0;
        loop {
            match self.apply(&mut batch).await {
                Ok(totals) => {
                    totals.report();
                    let told = Totals { embedded: 0, ..totals };
                    self.totals.send_modify(|t| t.add(&told));
                    return Ok(true);
                }
                Err(e) if e.kind.is_transient() && (self.config.retries == 0 || tries < self.config.retries) => {
                    tries += 1;
                    tracing::warn!(store = e.store, error = %e, wait_ms = wait.as_millis() as u64, "batch will be tried again");
                    metrics::counter!("nearcast_ingest_retries_total", "store" => e.store).increment(1);
                    tokio::select! {
                        () = stop.cancelled() => return Ok(false),
                        () = tokio::time::sleep(wait) => {}
                    }
                    wait = (wait * 2).min(Duration::from_secs(10));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// One batch through every stage.
    async fn apply(&self, batch: &mut Decoded) -> StoreResult<Totals> {
        let mut totals =
            Totals { records: (batch.appends.len() + batch.letters.len()) as u64, bytes: batch.bytes, ..Totals::default() };
        totals.rejected = batch.letters.len() as u64;
        self.stores.dead_letters.put(&batch.letters).await?;
        totals.embedded = self.embed(batch).await?;
        let revision = &self.stores.embedder.model().revision;
        let outcomes = self.stores.ledger.append(&batch.appends, revision).await?;
        totals.count(&outcomes);
        self.report_conflicts(batch, &outcomes).await?;
        self.projector.project(&batch.appends, &outcomes).await?;
        self.end_epochs(batch).await?;
        Ok(totals)
    }

    /// Gives vectors to the texts that are new. What the ledger has is not embedded again.
    async fn embed(&self, batch: &mut Decoded) -> StoreResult<u64> {
        let has_text = |e: &Event| matches!(e, Event::Message(_)) || matches!(e, Event::Item(i) if i.text.is_some());
        if !batch.appends.iter().any(|a| has_text(&a.event) && a.vector.is_none()) {
            return Ok(0);
        }
        let outcomes = self.stores.ledger.preview(&batch.appends).await?;
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        for (i, (append, outcome)) in batch.appends.iter().zip(outcomes).enumerate() {
            let text = match &append.event {
                Event::Message(m) => Some(m.text.clone()),
                Event::Item(item) => item.embedding_text(),
                _ => None,
            };
            if let (Some(text), Appended::New, None) = (text, outcome, &append.vector) {
                places.push(i);
                texts.push(text);
            }
        }
        // In portions, so that a retry after a failure keeps what was made.
        for (places, texts) in places.chunks(EMBED_PORTION).zip(texts.chunks(EMBED_PORTION)) {
            let vectors = self.stores.embedder.embed(texts, Priority::Bulk).await?;
            for (place, vector) in places.iter().zip(vectors) {
                batch.appends[*place].vector = Some(vector);
            }
            // At once, for whoever watches: a batch of texts takes a while.
            self.totals.send_modify(|t| t.embedded += texts.len() as u64);
        }
        Ok(texts.len() as u64)
    }

    /// An id with two contents: the first stays, the second is reported.
    async fn report_conflicts(&self, batch: &Decoded, outcomes: &[Appended]) -> StoreResult<()> {
        let letters: Vec<_> = batch
            .appends
            .iter()
            .zip(&batch.records)
            .zip(outcomes)
            .filter(|(_, o)| **o == Appended::Conflict)
            .map(|((append, record), _)| {
                let event = &append.event;
                let reason = format!("conflict: the {} with this id has another content, which stays", event.type_name());
                letter(record, event.tenant(), event.user().cloned(), reason, Timestamp::now())
            })
            .collect();
        if letters.is_empty() { Ok(()) } else { self.stores.dead_letters.put(&letters).await }
    }

    /// Ends the cached answers of everyone in the batch, and those of erased users for good.
    async fn end_epochs(&self, batch: &Decoded) -> StoreResult<()> {
        let mut users: BTreeSet<(Tenant, UserId)> = BTreeSet::new();
        for a in &batch.appends {
            if let Some(user) = a.event.user() {
                users.insert((a.event.tenant().clone(), user.clone()));
            }
            if let Event::Erasure(e) = &a.event {
                users.insert((e.tenant.clone(), erasures()));
                self.stores.cache.forget(&answer_prefix(&e.tenant, &e.user_id)).await?;
                self.stores.dead_letters.erase(&e.tenant, &e.user_id).await?;
            }
        }
        let mut users: Vec<_> = users.into_iter().collect();
        while let Some((tenant, _)) = users.last() {
            let tenant = tenant.clone();
            let from = users.partition_point(|(t, _)| *t < tenant);
            let names: Vec<UserId> = users.drain(from..).map(|(_, u)| u).collect();
            self.stores.cache.bump(&tenant, &names).await?;
        }
        Ok(())
    }

    /// Writes every vector of every tenant anew from the ledger; answers how many rows. The caller marks the end by a
    /// checkpoint of the index.
    pub async fn rebuild_vectors(&self, cancel: &CancellationToken) -> StoreResult<u64> {
        self.projector.rebuild_vectors(cancel).await
    }

    /// Profiles that an item's new vector made stale, brought up to date; answers how many there were.
    pub async fn refresh_stale(&self) -> StoreResult<usize> {
        self.projector.refresh_stale().await
    }
}

/// A batch with all its effects.
struct Done {
    position: String,
    erased: Vec<(Tenant, UserId)>,
}

fn erased(batch: &Decoded) -> Vec<(Tenant, UserId)> {
    let erasure = |a: &Append| match &a.event {
        Event::Erasure(e) => Some((e.tenant.clone(), e.user_id.clone())),
        _ => None,
    };
    batch.appends.iter().filter_map(erasure).collect()
}

/// How many texts are embedded between two signs of life.
const EMBED_PORTION: usize = 64;
/// How many texts go into the ledger at once: a crash costs at most so many embeddings.
const TEXTS_AT_ONCE: usize = 512;
