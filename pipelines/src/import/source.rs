//! A reader as a source of the worker: goes on where the last import of the same files was stopped.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicU64};

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant,
    ports::{EventSource, Positions, Record, SourceBatch},
};
use tokio::sync::mpsc;

use super::{
    Input, Known, ReadError,
    sink::{Chunk, Fed, Sink},
};

/// Chunks that wait.
const QUEUE: usize = 8;
/// Records that are given out at once: with the worker's queue, the bound on vectors that wait.
const MOST: usize = 2048;

/// See the module.
pub struct ReaderSource {
    tenant: Tenant,
    rx: mpsc::Receiver<Chunk>,
    waiting: std::vec::IntoIter<(u64, Fed)>,
    failed: Option<ReadError>,
    key: String,
    fingerprint: String,
    positions: Arc<dyn Positions>,
    known: Option<Arc<Known>>,
    read: Arc<AtomicU64>,
    notes: Arc<Mutex<Vec<String>>>,
    skipped: u64,
    ended: bool,
}

impl ReaderSource {
    /// Begins to read, on a thread of its own. `known`: where vectors that come along are put, and of which revision they must be.
    ///
    /// # Errors
    /// Where the files or the positions cannot be read.
    pub async fn open(
        input: Input,
        tenant: Tenant,
        positions: Arc<dyn Positions>,
        known: Option<Arc<Known>>,
    ) -> Result<Self, ReadError> {
        let io = |e: std::io::Error| ReadError::at(&input.path, 0, e);
        let key = format!("import:{}", input.path.canonicalize().map_err(io)?.display());
        let fingerprint = input.fingerprint().map_err(io)?;
        let before = positions.get(&key).await.map_err(crate::transfer::TransferError::from)?;
        let skipped = before
            .and_then(|text| text.split_once('@').filter(|(f, _)| *f == fingerprint).and_then(|(_, n)| n.parse().ok()))
            .unwrap_or(0);
        let (tx, rx) = mpsc::channel(QUEUE);
        let (read, notes) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let revision = known.as_ref().map(|k| k.revision().to_owned()).unwrap_or_default();
        let mut sink = Sink::new(tx, skipped, read.clone(), notes.clone(), revision);
        // It ends by itself: at the end of the files, or when nobody receives any more.
        std::thread::spawn(move || {
            let outcome = super::read(&input, &mut sink);
            sink.end(outcome);
        });
        let waiting = Vec::new().into_iter();
        Ok(Self { tenant, rx, waiting, failed: None, key, fingerprint, positions, known, read, notes, skipped, ended: false })
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }

    /// Records that an earlier, interrupted import had finished with.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// What people should know of what was read.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl EventSource for ReaderSource {
    async fn next(&mut self, max_records: usize, max_bytes: usize) -> StoreResult<Option<SourceBatch>> {
        if self.waiting.len() == 0 && self.failed.is_none() && !self.ended {
            match self.rx.recv().await {
                Some(Ok(chunk)) => self.waiting = chunk.into_iter(),
                Some(Err(e)) => self.failed = Some(e),
                None => self.ended = true,
            }
        }
        // From here on nothing waits, so that a dropped call loses nothing.
        let (mut records, mut bytes, mut last) = (Vec::new(), 0, 0);
        while records.len() < max_records.min(MOST) && bytes < max_bytes {
            let Some((number, fed)) = self.waiting.next() else {
                match self.rx.try_recv() {
                    Ok(Ok(chunk)) => {
                        self.waiting = chunk.into_iter();
                        continue;
                    }
                    Ok(Err(e)) => self.failed = Some(e),
                    Err(mpsc::error::TryRecvError::Disconnected) if self.failed.is_none() => self.ended = true,
                    Err(_) => {}
                }
                break;
            };
            bytes += fed.bytes.len();
            last = number;
            if let (Some(known), Some((text, vector))) = (&self.known, fed.vector) {
                known.put(text, vector);
            }
            records.push(Record {
                bytes: fed.bytes.into(),
                tenant: self.tenant.clone(),
                origin: fed.origin,
                rejected: fed.rejected,
                ..Record::default()
            });
        }
        if records.is_empty() {
            // What was read before the damage came first.
            if let Some(e) = self.failed.take() {
                self.ended = true;
                return Err(StoreError::new(ErrorKind::Corrupt, "import", e));
            }
            return Ok(None);
        }
        Ok(Some(SourceBatch { records, position: last.to_string(), ..SourceBatch::default() }))
    }

    async fn commit(&mut self, position: &str) -> StoreResult<()> {
        let done = self.ended && self.failed.is_none() && self.waiting.len() == 0;
        if done {
            self.positions.remove(&self.key).await
        } else {
            self.positions.set(&self.key, &format!("{}@{position}", self.fingerprint)).await
        }
    }
}
