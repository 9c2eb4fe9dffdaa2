//! Both ends of a worker: reading and decoding ahead of it, gathering what waits, and committing behind it.
//!
//! Never commits but what it was told to be done.

use std::time::Duration;

use nearcast_domain::{
    Event, StoreResult, Tenant, Timestamp, UserId,
    ports::{Append, EventSource},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::Backoff,
    decode::{Decoded, decode_batch},
    worker::{IngestError, Worker},
};

/// A batch with all its effects.
pub(crate) struct Done {
    pub position: String,
    pub erased: Vec<(Tenant, UserId)>,
}

pub(crate) fn erased(batch: &Decoded) -> Vec<(Tenant, UserId)> {
    let erasure = |a: &Append| match &a.event {
        Event::Erasure(e) => Some((e.tenant.clone(), e.user_id.clone())),
        _ => None,
    };
    batch.appends.iter().filter_map(erasure).collect()
}

/// How often a commit is tried again when the worker is to stop.
const COMMITS_AT_END: u32 = 5;

impl Worker {
    /// The next batch, and with it whatever else waits and fits: a call to a store that is far away costs about the same for one event
    /// as for a thousand. `next` is what was received and did not fit.
    pub(crate) async fn gather(&self, rx: &mut mpsc::Receiver<Decoded>, next: &mut Option<Decoded>) -> Option<Decoded> {
        let mut batch = match next.take() {
            Some(batch) => batch,
            None => rx.recv().await?,
        };
        let until = Instant::now() + Duration::from_millis(self.config.linger_ms);
        while batch.records() < self.config.batch_records && batch.bytes < self.config.batch_bytes as u64 {
            let more = match rx.try_recv() {
                Ok(more) => more,
                Err(_) => match tokio::time::timeout_at(until, rx.recv()).await {
                    Ok(Some(more)) => more,
                    _ => break,
                },
            };
            let fits = batch.claim == more.claim
                && batch.records() + more.records() <= self.config.batch_records
                && batch.bytes + more.bytes <= self.config.batch_bytes as u64;
            if !fits {
                *next = Some(more);
                break;
            }
            batch.join(more);
        }
        Some(batch)
    }

    /// Reads and decodes ahead of the worker, and commits behind it.
    pub(crate) async fn feed(
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
                    last = Some(self.commit(source, done, stop).await?);
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
                            Some(done) = finished.recv() => last = Some(self.commit(source, done, stop).await?),
                        }
                    }
                }
                Ok(None) => break Ok(()),
                Err(e) => break Err(e.into()),
            }
        };
        drop(tx);
        while let Some(done) = finished.recv().await {
            last = Some(self.commit(source, done, stop).await?);
        }
        // A source that has ended hears of it with all work done.
        if let Some(position) = last {
            source.commit(&position).await?;
        }
        outcome
    }

    /// Commits a batch, then takes what erased users once published out of the log: only what is committed can go. A log that is away
    /// is waited for; when the worker is to stop, a little.
    async fn commit(&self, source: &mut dyn EventSource, done: Done, stop: &CancellationToken) -> StoreResult<String> {
        let mut retry = Backoff::default();
        loop {
            match source.commit(&done.position).await {
                Ok(()) => break,
                Err(e) if e.kind.is_transient() && (!stop.is_cancelled() || retry.tries < COMMITS_AT_END) => {
                    tracing::warn!(error = %e, "committing will be tried again");
                    tokio::time::sleep(retry.next()).await;
                }
                Err(e) => return Err(e),
            }
        }
        if !done.erased.is_empty() {
            self.stores.log.forget(&done.erased).await?;
        }
        Ok(done.position)
    }
}
