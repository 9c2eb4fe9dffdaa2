//! What the program asks of its stores. Each port is split in a read and a write half where serving only reads.
//!
//! Rules for every implementation:
//! - Writes state absolute facts ("the edge's weight is 7"), never changes ("add 1"): writing again changes nothing.
//! - Every method is set-wise: callers hand over batches, backends answer in the order asked.
//! - A method never blocks the caller's thread on I/O or on long computation.
//! - Errors carry the kind that a caller can act on; a call given up halfway leaves either all or none of its effect
//!   per row, and may be repeated.
//! - What a port hands out is ordered deterministically; ties are broken by id.

mod artefacts;
mod cache;
mod changes;
mod claim;
mod embedder;
mod engagement;
mod graph;
mod jobs;
mod lease;
mod ledger;
mod log;
mod states;
mod vectors;

pub use artefacts::{ArtefactInfo, Artefacts, NewArtefact, NoArtefacts};
pub use cache::{CachedAnswer, ResponseCache, answer_prefix, erasures, item_epoch, item_epochs};
pub use changes::Changes;
pub use claim::{Claim, Claimed};
pub use embedder::{Embedder, ModelInfo, Priority};
pub use engagement::{EngagementRead, EngagementWrite, HourTotal, ItemLabels, Tally, TrendFit, TrendingQuery, WEIGHT_STEP};
pub use graph::{Edge, GraphRead, GraphWrite, Neighbour, NeighbourList, Touched};
pub use jobs::{AggregateRow, EngagementBuckets, EngagementJobs, LedgerJobs, PipelineRun, Span, VectorJobs};
pub use lease::Leases;
pub use ledger::{
    Append, Appended, EngagedEvent, ErasureRecord, History, HistoryLimit, ItemState, LedgerCounts, LedgerRead, LedgerWrite,
    MessageEvent, PairEvents, StoredEvent,
};
pub use log::{
    DeadLetter, DeadLetterFilter, DeadLetters, EventSink, EventSource, Positions, Progress, Record, SourceBatch, Token,
};
pub use states::{Breaker, LatencyCounts, StoreState, StoreStates, Unguarded};
pub use vectors::{Collection, Hit, VectorQuery, VectorRead, VectorRow, VectorWrite, add_row};
