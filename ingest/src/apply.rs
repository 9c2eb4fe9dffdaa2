//! One batch through its stages.
//!
//! Nothing is written but under the batch's claim, which is taken anew for every stage: a source that gives records to another worker
//! waits for one stage at most, and the next one does not begin.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::OptionFuture;
use nearcast_domain::{
    Event, StoreError, StoreResult, Tenant, Timestamp, UserId,
    ports::{Append, Appended, Priority, answer_prefix, erasures, item_epoch},
};
use tokio::sync::RwLockReadGuard;
use tokio_util::sync::CancellationToken;

use crate::{
    ahead::{Ahead, erases},
    decode::Decoded,
    feed::Done,
    letters::letter,
    stage::timed,
    tenants::by_tenant,
    totals::Totals,
    worker::{IngestError, Lane, Lanes, Worker},
};

/// How many texts are embedded between two signs of life.
const EMBED_PORTION: usize = 64;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Every effect is durable.
    Whole,
    /// The worker is to stop, and the batch is not done.
    Interrupted,
    /// The source took the batch back.
    Withdrawn,
}

/// A batch, or a part of one, on its way.
pub(crate) struct Part<'a> {
    pub batch: Decoded,
    lanes: Arc<Lanes>,
    /// Places of texts of which the ledger can tell only now whether they are new.
    later: Vec<usize>,
    /// What is to be committed behind it, where it is the end of its batch.
    pub done: Option<Done>,
    /// The lanes stay as they are until its end.
    _gate: RwLockReadGuard<'a, ()>,
}

impl Part<'_> {
    /// Takes in the part behind this one; gives it back where the two may not go on as one.
    pub fn join(&mut self, next: Self) -> Option<Self> {
        if self.batch.claim != next.batch.claim || !Arc::ptr_eq(&self.lanes, &next.lanes) {
            return Some(next);
        }
        self.batch.join(next.batch);
        self.done = match (self.done.take(), next.done) {
            (Some(mut done), Some(next)) => {
                done.erased.extend(next.erased);
                done.position = next.position;
                Some(done)
            }
            (done, next) => done.or(next),
        };
        None
    }
}

/// Waits that double, and are never the same for two workers: between a half and the whole.
#[derive(Default)]
pub(crate) struct Backoff {
    /// How many waits there were.
    pub tries: u32,
}

impl Backoff {
    /// The next wait: from 100 ms to 10 s.
    pub fn next(&mut self) -> Duration {
        let whole = (100_u64 << self.tries.min(10)).min(10_000);
        self.tries += 1;
        Duration::from_millis(whole / 2 + fastrand::u64(0..=whole / 2))
    }
}

impl Worker {
    /// Makes a batch ready for the ledger, again and again while a store is only away.
    pub(crate) async fn prepare_with_retries(
        &self,
        batch: Decoded,
        ahead: &Ahead,
        stop: &CancellationToken,
    ) -> Result<Result<Part<'_>, Applied>, IngestError> {
        let mut retry = Backoff::default();
        // One model from the first try to the last: what an earlier try embedded is written under that model's revision.
        let gate = self.gate.read().await;
        let mut part = Part { batch, lanes: self.lanes(), later: Vec::new(), done: None, _gate: gate };
        loop {
            match self.prepare(&mut part, ahead).await {
                Ok(true) => return Ok(Ok(part)),
                Ok(false) => return Ok(Err(Applied::Withdrawn)),
                Err(e) => {
                    if !self.again(e, &mut retry, stop).await? {
                        return Ok(Err(Applied::Interrupted));
                    }
                }
            }
        }
    }

    /// Takes a batch into the ledger, again and again while it is only away.
    pub(crate) async fn take_in_with_retries<'a>(
        &self,
        mut part: Part<'a>,
        stop: &CancellationToken,
    ) -> Result<Result<Part<'a>, Applied>, IngestError> {
        let mut retry = Backoff::default();
        loop {
            match self.take_in(&mut part).await {
                Ok(true) => return Ok(Ok(part)),
                Ok(false) => return Ok(Err(Applied::Withdrawn)),
                Err(e) => {
                    if !self.again(e, &mut retry, stop).await? {
                        return Ok(Err(Applied::Interrupted));
                    }
                }
            }
        }
    }

    /// Writes the projections of a batch that the ledger has, again and again while stores are only away.
    pub(crate) async fn project_with_retries(
        &self,
        part: &mut Part<'_>,
        stop: &CancellationToken,
    ) -> Result<Applied, IngestError> {
        let mut retry = Backoff::default();
        for recalling in part.batch.recalling.drain(..) {
            // What could not be remembered is read again.
            let _ = timed("recalled", recalling).await;
        }
        loop {
            match self.project(&part.lanes, &part.batch).await {
                Ok(Some(totals)) => {
                    totals.report();
                    let told = Totals { embedded: 0, ..totals };
                    self.totals.send_modify(|t| t.add(&told));
                    return Ok(Applied::Whole);
                }
                Ok(None) => return Ok(Applied::Withdrawn),
                Err(e) => {
                    if !self.again(e, &mut retry, stop).await? {
                        return Ok(Applied::Interrupted);
                    }
                }
            }
        }
    }

    /// Waits before another try; `false`: the worker is to stop. An error that does not pass is handed on.
    async fn again(&self, e: StoreError, retry: &mut Backoff, stop: &CancellationToken) -> Result<bool, IngestError> {
        if !e.kind.is_transient() || (self.config.retries != 0 && retry.tries >= self.config.retries) {
            return Err(e.into());
        }
        let wait = retry.next();
        tracing::warn!(store = e.store, error = %e, wait_ms = wait.as_millis() as u64, "batch will be tried again");
        metrics::counter!("nearcast_ingest_retries_total", "store" => e.store).increment(1);
        tokio::select! {
            () = stop.cancelled() => Ok(false),
            () = tokio::time::sleep(wait) => Ok(true),
        }
    }

    /// Letters, vectors, and what will be needed of its users; `false`: the batch was taken back. What an earlier try did is not done again.
    async fn prepare(&self, part: &mut Part<'_>, ahead: &Ahead) -> StoreResult<bool> {
        let Part { batch, lanes, later, .. } = part;
        if batch.claim.is_shared() {
            lanes.main.projector.set_shared();
            lanes.also.iter().for_each(|l| l.projector.set_shared());
        }
        if !batch.letters.is_empty() {
            let Some(_writing) = batch.claim.begin() else { return Ok(false) };
            self.stores.dead_letters.put(&batch.letters).await?;
        }
        let (now, must_wait) = ahead.texts(batch);
        timed("embed", self.embed(&lanes.main, batch, &now)).await?;
        *later = must_wait;
        let introduces = !erases(&batch.appends) && !ahead.erases();
        let Some(_writing) = batch.claim.begin() else { return Ok(false) };
        let (projector, turn) = (&lanes.main.projector, batch.claim.turn());
        batch.recalling.extend(timed("recall", projector.recall(&batch.appends, turn, introduces)).await?);
        Ok(true)
    }

    /// The ledger; `false`: the batch was taken back. What an earlier try did is not done again.
    async fn take_in(&self, part: &mut Part<'_>) -> StoreResult<bool> {
        let Part { batch, lanes, later, .. } = part;
        if !later.is_empty() {
            timed("embed", self.embed(&lanes.main, batch, later)).await?;
            later.clear();
        }
        if batch.outcomes.is_none() {
            let Some(_writing) = batch.claim.begin() else { return Ok(false) };
            let (revision, projector) = (&lanes.main.embedder.model().revision, &lanes.main.projector);
            let turn = batch.claim.turn();
            let outcomes = timed("ledger", self.stores.ledger.append(&batch.appends, revision)).await?;
            projector.learn(&batch.appends, &outcomes, turn);
            if turn.is_some() {
                // What was engaged with, and what was hidden, goes from answers before projections follow, which end epochs once more: an
                // answer asks the ledger for both.
                let new = batch.appends.iter().zip(&outcomes).filter(|(_, o)| **o == Appended::New).map(|(a, _)| a);
                if let Err(e) = timed("early epochs", self.bump(owners(new))).await {
                    tracing::debug!(error = %e, "answers end with the projections");
                }
            }
            // Kept for a later try: an event that this batch brought is new, also when a projection has to be told again.
            batch.outcomes = Some(outcomes);
        }
        Ok(true)
    }

    /// The projections and the epochs of a batch that the ledger has; `None`: it was taken back.
    async fn project(&self, lanes: &Lanes, batch: &Decoded) -> StoreResult<Option<Totals>> {
        let mut totals = Totals {
            records: batch.records() as u64,
            bytes: batch.bytes,
            rejected: batch.letters.len() as u64,
            embedded: batch.embedded,
            ..Totals::default()
        };
        let outcomes = batch.outcomes.as_deref().unwrap_or_default();
        totals.count(outcomes);
        {
            let Some(_writing) = batch.claim.begin() else { return Ok(None) };
            if batch.claim.turn().is_none() {
                self.stores.ledger.wrote_beside().await?;
            }
            let (told, projected) = tokio::join!(
                self.report_conflicts(batch, outcomes),
                lanes.main.projector.project(&batch.appends, outcomes, batch.claim.turn())
            );
            told.and(projected)?;
            if let Some(also) = &lanes.also {
                // Behind the revision that is read: what that one removes is gone from both.
                self.write_beside(also, &batch.appends, outcomes).await?;
            }
        }
        // Behind the projections: an answer that is cached from here on knows them.
        let Some(_writing) = batch.claim.begin() else { return Ok(None) };
        timed("epochs", self.end_epochs(batch)).await?;
        Ok(Some(totals))
    }

    /// The same batch in the revision beside the one that is read: its texts embedded by that model, and the projections of vectors.
    async fn write_beside(&self, lane: &Lane, appends: &[Append], outcomes: &[Appended]) -> StoreResult<()> {
        let mut new: Vec<Append> = Vec::new();
        let mut texts = Vec::new();
        for (append, _) in appends.iter().zip(outcomes).filter(|(_, o)| **o == Appended::New) {
            let text = match &append.event {
                Event::Message(m) => Some(m.text.clone()),
                Event::Item(item) => item.embedding_text(),
                _ => None,
            };
            if let Some(text) = text {
                texts.push(text);
                new.push(Append { vector: None, ..append.clone() });
            }
        }
        for (new, texts) in new.chunks_mut(EMBED_PORTION).zip(texts.chunks(EMBED_PORTION)) {
            for (append, vector) in new.iter_mut().zip(lane.embedder.embed(texts, Priority::Bulk).await?) {
                append.vector = Some(vector);
            }
        }
        if !new.is_empty() {
            self.stores.ledger.add_vectors(&new, &lane.embedder.model().revision, true).await?;
        }
        lane.projector.project(appends, outcomes, None).await
    }

    /// Gives vectors to the texts at these places that are new. What the ledger has is not embedded again.
    async fn embed(&self, lane: &Lane, batch: &mut Decoded, texts: &[usize]) -> StoreResult<()> {
        if texts.iter().all(|at| batch.appends[*at].vector.is_some()) {
            return Ok(());
        }
        // Whether a text is new depends on texts and erasures alone: the rest of the batch need not be looked up.
        let erases = |at: &usize| matches!(batch.appends[*at].event, Event::Erasure(_));
        let mut asked: Vec<usize> = (0..batch.appends.len()).filter(erases).chain(texts.iter().copied()).collect();
        asked.sort_unstable();
        let outcomes = if asked.len() == batch.appends.len() {
            self.stores.ledger.preview(&batch.appends).await?
        } else {
            let some: Vec<Append> = asked.iter().map(|i| batch.appends[*i].clone()).collect();
            self.stores.ledger.preview(&some).await?
        };
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        for (i, outcome) in asked.into_iter().zip(outcomes) {
            let append = &batch.appends[i];
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
        let begun = Instant::now();
        // In portions, so that a retry after a failure keeps what was made.
        for (places, texts) in places.chunks(EMBED_PORTION).zip(texts.chunks(EMBED_PORTION)) {
            if !batch.claim.holds() {
                break;
            }
            let vectors = lane.embedder.embed(texts, Priority::Bulk).await?;
            for (place, vector) in places.iter().zip(vectors) {
                batch.appends[*place].vector = Some(vector);
            }
            batch.embedded += texts.len() as u64;
            // At once, for whoever watches: a batch of texts takes a while.
            self.totals.send_modify(|t| t.embedded += texts.len() as u64);
        }
        self.pace.took(texts.len(), begun.elapsed());
        Ok(())
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
        let put = (!letters.is_empty()).then(|| self.stores.dead_letters.put(&letters));
        OptionFuture::from(put).await.unwrap_or(Ok(()))
    }

    /// Ends the cached answers of everyone in the batch, those of erased users for good, and what others remember of its items.
    async fn end_epochs(&self, batch: &Decoded) -> StoreResult<()> {
        for a in &batch.appends {
            if let Event::Erasure(e) = &a.event {
                self.stores.cache.forget(&answer_prefix(&e.tenant, &e.user_id)).await?;
                self.stores.dead_letters.erase(&e.tenant, &e.user_id).await?;
            }
        }
        let erased = batch.appends.iter().filter(|a| matches!(a.event, Event::Erasure(_)));
        let erased = erased.map(|a| (a.event.tenant().clone(), erasures()));
        self.bump(owners(batch.appends.iter()).chain(erased)).await
    }

    /// Begins new epochs for these.
    async fn bump(&self, owners: impl Iterator<Item = (Tenant, UserId)>) -> StoreResult<()> {
        let owners: Vec<(Tenant, UserId)> = owners.collect();
        for (tenant, owners) in by_tenant(owners.iter().map(|(tenant, owner)| (tenant, owner))) {
            self.stores.cache.bump(&tenant, &owners).await?;
        }
        Ok(())
    }
}

/// Whose epochs end with these events.
fn owners<'a>(appends: impl Iterator<Item = &'a Append>) -> impl Iterator<Item = (Tenant, UserId)> {
    appends.filter_map(|append| {
        let owner = match &append.event {
            Event::Item(item) => item_epoch(&item.item_id),
            event => event.user()?.clone(),
        };
        Some((append.event.tenant().clone(), owner))
    })
}
