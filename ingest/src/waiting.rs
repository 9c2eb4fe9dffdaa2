//! Between the two halves of a worker: parts that the ledger has, on their way to the projections.
//!
//! What waits is bounded to one batch of the configured size, however many parts it comes in, and goes on as one: a projection costs
//! about the same for one event as for a thousand, and a store that is slow for a moment does not keep the next event out of the
//! ledger. Never changes the order, nor joins what is claimed apart.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{apply::Part, config::IngestConfig};

/// What a batch of the configured size takes of the room.
const ROOM: u32 = 10_000;

/// A way for parts, and its two ends.
pub(crate) fn waiting<'a>(config: &IngestConfig) -> (Entry<'a>, Exit<'a>) {
    let (parts, arrived) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(ROOM as usize));
    (Entry { parts, room: room.clone(), config: config.clone() }, Exit { arrived, room, next: None })
}

/// Where parts go in.
pub(crate) struct Entry<'a> {
    parts: mpsc::UnboundedSender<(Part<'a>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    config: IngestConfig,
}

impl<'a> Entry<'a> {
    /// Waits for room; `false`: nobody takes parts any more.
    pub async fn send(&self, part: Part<'a>) -> bool {
        let share = |n: u64, of: usize| n.saturating_mul(u64::from(ROOM)) / of.max(1) as u64;
        let records = share(part.batch.records() as u64, self.config.batch_records);
        let takes = records.max(share(part.batch.bytes, self.config.batch_bytes)).clamp(1, ROOM.into()) as u32;
        let Ok(room) = self.room.clone().acquire_many_owned(takes).await else { return false };
        self.parts.send((part, room)).is_ok()
    }
}

/// Where they come out.
pub(crate) struct Exit<'a> {
    arrived: mpsc::UnboundedReceiver<(Part<'a>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    next: Option<Part<'a>>,
}

impl<'a> Exit<'a> {
    /// Everything that waits and may go on as one; `None` when nothing is left and nothing will come.
    pub async fn next(&mut self) -> Option<Part<'a>> {
        let mut part = match self.next.take() {
            Some(part) => part,
            None => self.arrived.recv().await?.0,
        };
        while let Ok((more, _)) = self.arrived.try_recv() {
            self.next = part.join(more);
            if self.next.is_some() {
                break;
            }
        }
        Some(part)
    }
}

impl Drop for Exit<'_> {
    /// Whoever waits for room need not any more.
    fn drop(&mut self) {
        self.room.close();
    }
}
