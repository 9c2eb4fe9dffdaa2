//! Where readers put what they read: into a bounded queue, whose other end is a source of the worker.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use nearcast_domain::Vector;
use serde_json::Value;
use tokio::sync::mpsc;

use super::ReadError;
use crate::transfer::to_json;

/// Records that travel together.
const CHUNK: usize = 256;

/// A record that was read.
#[derive(Debug, Clone, Default)]
pub struct Fed {
    /// The event, as a producer would have sent it; or what was read, where it is none.
    pub bytes: Vec<u8>,
    /// `ratings.csv:17`.
    pub origin: String,
    /// Why it is no event.
    pub rejected: Option<String>,
    /// The text in it, and its vector in the revision that is asked for.
    pub vector: Option<(Arc<str>, Vector)>,
}

/// Numbered records, or the error that they end with.
pub(super) type Chunk = Result<Vec<(u64, Fed)>, ReadError>;

/// See the module.
pub struct Sink {
    tx: mpsc::Sender<Chunk>,
    chunk: Vec<(u64, Fed)>,
    number: u64,
    skip: u64,
    read: Arc<AtomicU64>,
    notes: Arc<Mutex<Vec<String>>>,
    revision: String,
}

impl Sink {
    pub(super) fn new(
        tx: mpsc::Sender<Chunk>,
        skip: u64,
        read: Arc<AtomicU64>,
        notes: Arc<Mutex<Vec<String>>>,
        revision: String,
    ) -> Self {
        Self { tx, chunk: Vec::with_capacity(CHUNK), number: 0, skip, read, notes, revision }
    }

    /// The revision of the vectors that are of use.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Hands a record over. Waits while nobody takes any.
    ///
    /// # Errors
    /// [`ReadError::Stopped`] when nobody ever will.
    pub fn put(&mut self, fed: Fed) -> Result<(), ReadError> {
        self.number += 1;
        if self.number > self.skip {
            self.chunk.push((self.number, fed));
            if self.chunk.len() == CHUNK {
                return self.flush();
            }
        }
        Ok(())
    }

    /// An event as JSON.
    pub(super) fn event(&mut self, origin: String, event: &Value) -> Result<(), ReadError> {
        match to_json(event) {
            Ok(bytes) => self.put(Fed { bytes, origin, ..Fed::default() }),
            Err(e) => self.reject(origin, Vec::new(), e.to_string()),
        }
    }

    /// Something that is no event.
    pub(super) fn reject(&mut self, origin: String, bytes: Vec<u8>, why: impl Into<String>) -> Result<(), ReadError> {
        self.put(Fed { bytes, origin, rejected: Some(why.into()), vector: None })
    }

    /// Something that people should know at the end.
    pub fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// So many more bytes were read.
    pub fn advance(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what a reader takes.
    pub(super) fn counter(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }

    fn flush(&mut self) -> Result<(), ReadError> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.tx.blocking_send(Ok(chunk)).map_err(|_| ReadError::Stopped)
    }

    /// The end: what is in hand, then the error if there was one.
    pub(super) fn end(mut self, outcome: Result<(), ReadError>) {
        // Where nobody receives, there is nobody to tell.
        let _ = self.flush();
        if let Err(e) = outcome {
            let _ = self.tx.blocking_send(Err(e));
        }
    }
}
