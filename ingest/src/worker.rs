//! The worker: a batch of records through its stages, in the order in which they stand in `apply`.
//!
//! ```text
//! source ─ decode ─┬─ dead letters
//!                  └─ preview ─ embed ─ ledger ─┬─ graph ──────┐
//!                                               ├─ engagement ─┼─ epochs ─ commit
//!                                               └─ vectors ────┘
//! ```
//! Three batches are under way at a time: while one is projected, the next is taken in by the ledger, and the one behind it is embedded
//! ([`crate::ahead`]). What the ledger has meanwhile waits, to be projected as one ([`crate::waiting`]). All in the order of the source. A
//! projection that reads what the next batch brought meanwhile is only newer.
//!
//! A position is committed only when every stage before it has been acknowledged. A stage that fails for a passing cause is
//! tried again, the batch with it: every write is an absolute fact, so repeating changes nothing. A batch whose records were given
//! to another worker is written no further.

use std::sync::Arc;

use nearcast_domain::{
    StoreError, StoreResult, Tenant,
    ports::{
        DeadLetters, Embedder, EngagementWrite, EventSink, EventSource, GraphWrite, LedgerWrite, ResponseCache, VectorWrite,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    ahead::Ahead,
    apply::Applied,
    config::{BATCH_RECORDS, IngestConfig, Rules, decided},
    decode::Decoded,
    feed::{Done, erased},
    pace::Pace,
    project::Projector,
    totals::Totals,
    waiting::waiting,
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
    pub(crate) stores: Stores,
    pub(crate) config: IngestConfig,
    rules: Rules,
    lanes: std::sync::RwLock<Arc<Lanes>>,
    /// Held by every batch under way, and by whoever changes the lanes: a batch is written by one model from its beginning to its end.
    pub(crate) gate: tokio::sync::RwLock<()>,
    pub(crate) totals: watch::Sender<Totals>,
    pub(crate) pace: Pace,
}

/// A model and the projector of its revision.
#[derive(Clone)]
pub struct Lane {
    /// Texts to vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Vectors to the index.
    pub projector: Arc<Projector>,
}

/// The revisions that a worker writes.
#[derive(Clone)]
pub struct Lanes {
    /// The one that is read.
    pub main: Lane,
    /// Another beside it: one that is to be read soon, or that was read before and may be again.
    pub also: Option<Lane>,
}

impl Worker {
    /// A worker over these stores.
    pub fn new(stores: Stores, config: IngestConfig, rules: Rules) -> Self {
        let config = IngestConfig { batch_records: decided(config.batch_records, BATCH_RECORDS), ..config };
        let projector = Arc::new(Projector::new(stores.clone(), rules.clone(), &config));
        let main = Lane { embedder: stores.embedder.clone(), projector };
        let lanes = std::sync::RwLock::new(Arc::new(Lanes { main, also: None }));
        Self {
            stores,
            config,
            rules,
            lanes,
            gate: tokio::sync::RwLock::new(()),
            totals: watch::Sender::new(Totals::default()),
            pace: Pace::default(),
        }
    }

    /// What the next batch is written with.
    pub fn lanes(&self) -> Arc<Lanes> {
        self.lanes.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// A projector of another model's revision, for jobs.
    pub fn shadow(&self, embedder: &Arc<dyn Embedder>) -> Arc<Projector> {
        let stores = Stores { embedder: embedder.clone(), ..self.stores.clone() };
        Arc::new(Projector::shadow(stores, self.rules.clone()))
    }

    /// Changes the models that batches are written with: `main` makes the vectors that are read, `also` others beside them. Returns when
    /// every batch that was begun before has ended.
    pub async fn set_lanes(&self, main: &Arc<dyn Embedder>, also: Option<&Arc<dyn Embedder>>) {
        let _nobody = self.gate.write().await;
        let stores = Stores { embedder: main.clone(), ..self.stores.clone() };
        let projector = Arc::new(Projector::new(stores, self.rules.clone(), &self.config));
        let main = Lane { embedder: main.clone(), projector };
        let also = also.map(|e| Lane { embedder: e.clone(), projector: self.shadow(e) });
        *self.lanes.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(Lanes { main, also });
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
        // While the projections of one batch are written, the ledger takes in the next, and the one behind that is embedded.
        let (ahead, (prepared, mut arrived)) = (Ahead::default(), mpsc::channel(1));
        let (ready, mut taken_in) = waiting(&self.config);
        let prepare = async {
            self.warm_up().await;
            let mut waiting = None;
            'batches: while let Some(batch) = self.gather(&mut rx, &mut waiting).await {
                let mut whole = Some(Done { position: batch.position.clone(), erased: erased(&batch) });
                let mut rest = Some(batch);
                while let Some(mut part) = rest.take() {
                    if stop.is_cancelled() {
                        // The rest of the batch is for the next run.
                        break 'batches;
                    }
                    // By the pace that the part before has shown.
                    rest = part.split_off(self.pace.texts_at_once());
                    match self.prepare_with_retries(part, &ahead, &stop).await {
                        Ok(Ok(mut part)) => {
                            if rest.is_none() {
                                part.done = whole.take();
                            }
                            ahead.begin(&part.batch);
                            if prepared.send(part).await.is_err() {
                                break 'batches;
                            }
                        }
                        Ok(Err(Applied::Withdrawn)) => {
                            withdrawn();
                            break;
                        }
                        Ok(Err(_)) => break 'batches,
                        Err(e) => {
                            stop.cancel();
                            return Err(e);
                        }
                    }
                }
            }
            drop(rx);
            drop(prepared);
            Ok(())
        };
        let take_in = async {
            while let Some(part) = arrived.recv().await {
                if stop.is_cancelled() {
                    break;
                }
                let taken = self.take_in_with_retries(part, &stop).await;
                ahead.end();
                match taken {
                    Ok(Ok(part)) => {
                        if !ready.send(part).await {
                            break;
                        }
                    }
                    Ok(Err(Applied::Withdrawn)) => withdrawn(),
                    Ok(Err(_)) => break,
                    Err(e) => {
                        stop.cancel();
                        return Err(e);
                    }
                }
            }
            drop(arrived);
            drop(ready);
            Ok(())
        };
        let project = async {
            while let Some(mut part) = taken_in.next().await {
                match self.project_with_retries(&mut part, &stop).await {
                    // Positions are bounded by the queue of batches that they come from.
                    Ok(Applied::Whole) => drop(part.done.take().map(|whole| done.send(whole))),
                    Ok(Applied::Withdrawn) => withdrawn(),
                    Ok(Applied::Interrupted) => break,
                    Err(e) => {
                        stop.cancel();
                        return Err(e);
                    }
                }
            }
            drop(taken_in);
            drop(done);
            Ok(())
        };
        let (fed, made_ready, taken, projected) = tokio::join!(feed, prepare, take_in, project);
        made_ready?;
        taken?;
        projected?;
        fed?;
        Ok(*self.totals.borrow())
    }

    /// Lets a ledger that remembers item vectors read what it will need, before the first profile waits for it.
    async fn warm_up(&self) {
        let revision = &self.lanes().main.embedder.model().revision.clone();
        if self.config.whole_history > 0
            && let Err(e) = self.stores.ledger.item_vectors(&Tenant::default(), &[], revision).await
        {
            tracing::debug!(error = %e, "item vectors are read as they are needed");
        }
    }

    /// Takes everything of erased users out of the log that an earlier process may have left there.
    pub async fn forget_erased(&self) -> StoreResult<u64> {
        let erased = self.stores.ledger.erasures().await?;
        let users: Vec<_> = erased.into_iter().map(|e| (e.tenant, e.user)).collect();
        self.stores.log.forget(&users).await
    }

    /// Writes every vector of every tenant anew from the ledger; answers how many rows. The caller marks the end by a
    /// checkpoint of the index.
    pub async fn rebuild_vectors(&self, cancel: &CancellationToken) -> StoreResult<u64> {
        self.lanes().main.projector.rebuild_vectors(cancel).await
    }

    /// Profiles that an item's new vector made stale, brought up to date; answers how many there were.
    pub async fn refresh_stale(&self) -> StoreResult<usize> {
        let _batch = self.gate.read().await;
        let lanes = self.lanes();
        let also = lanes.also.as_ref().map(|l| &*l.projector);
        lanes.main.projector.refresh_stale(also).await
    }
}

/// Says that a batch was taken back. A part of it that the ledger has already will come again as a duplicate.
fn withdrawn() {
    tracing::info!("a batch was taken back before it was applied; whoever has its records now applies them");
    metrics::counter!("nearcast_ingest_withdrawn_total").increment(1);
}
