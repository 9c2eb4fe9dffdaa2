//! What serving is given to read from and to publish to.
//!
//! Ports only; which store stands behind each is decided where the program is wired.

use std::sync::Arc;

use nearcast_domain::ports::{
    Artefacts, DeadLetters, Embedder, EngagementRead, EventSink, GraphRead, LedgerRead, Progress, ResponseCache, StoreStates,
    VectorRead,
};

use crate::Memory;

/// Every port that the API uses. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    /// Events, items and histories.
    pub ledger: Arc<dyn LedgerRead>,
    /// Profiles and item texts as vectors.
    pub vectors: Arc<dyn VectorRead>,
    /// Who engaged with what, and items next to each other.
    pub graph: Arc<dyn GraphRead>,
    /// What rises.
    pub engagement: Arc<dyn EngagementRead>,
    /// Answers given before.
    pub cache: Arc<dyn ResponseCache>,
    /// Texts of requests to vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Where events are published.
    pub sink: Arc<dyn EventSink>,
    /// How far the worker has come.
    pub progress: Arc<dyn Progress>,
    /// Where rejected events are kept.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// What this process remembers of them; told of writes where it is exclusive.
    pub memory: Arc<Memory>,
    /// What training made.
    pub artefacts: Arc<dyn Artefacts>,
    /// How they fare, where calls to them are guarded.
    pub states: Arc<dyn StoreStates>,
}
