//! Where the time of a request went, stage by stage: for the figures of all requests, and written down for one that is watched.
//!
//! Costs a clock reading a stage; a request that nobody watches allocates nothing here.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The stages that every answer goes through, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the caller's own events.
    After,
    /// Looking for an answer that was given before.
    Cache,
    /// All sources at once.
    Sources,
    /// Merging and filtering what they propose.
    Filter,
    /// Scoring, verifying and choosing.
    Score,
    /// Filling what is empty.
    Fill,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::After, Self::Cache, Self::Sources, Self::Filter, Self::Score, Self::Fill];

    /// Its name on every surface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::After => "after",
            Self::Cache => "cache",
            Self::Sources => "sources",
            Self::Filter => "filter",
            Self::Score => "score",
            Self::Fill => "fill",
        }
    }
}

/// A part of a request that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// A stage's name, or a source's.
    pub name: &'static str,
    /// Whether it is a source, asked within the stage `sources`.
    pub source: bool,
    /// When it began, counted from the beginning of the request.
    pub begun: Duration,
    /// How long it took.
    pub took: Duration,
    /// Whether it gave what was asked of it.
    pub ok: bool,
}

/// The parts of one request, as they end. Shared between the request and whoever watches it.
#[derive(Debug)]
pub struct Parts {
    begun: Instant,
    list: Mutex<Vec<Part>>,
}

impl Parts {
    /// Of a request that began then.
    pub fn since(begun: Instant) -> Arc<Self> {
        Arc::new(Self { begun, list: Mutex::default() })
    }

    /// One is over.
    pub fn add(&self, name: &'static str, source: bool, begun: Instant, took: Duration, ok: bool) {
        let begun = begun.saturating_duration_since(self.begun);
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(Part { name, source, begun, took, ok });
    }

    /// What is over by now, in the order of beginnings.
    pub fn taken(&self) -> Vec<Part> {
        let mut list = std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner));
        list.sort_by_key(|p| p.begun);
        list
    }
}
