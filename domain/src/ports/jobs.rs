//! What only batch jobs ask of stores: digests of key ranges, the rows of a range, another revision than the current one, and a record
//! of what they did.
//!
//! Never called on behalf of a request: most of it reads a store from end to end. Ranges are those of [`crate::digest::bucket`].

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Collection, EngagementWrite, LedgerWrite, VectorRead, VectorRow, VectorWrite};
use crate::{ItemId, StoreResult, Tenant, Timestamp, UserId, digest::Digest};

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineRun {
    /// Unique among all runs.
    pub id: String,
    /// Which job: `reembed`, `rebuild`, `aggregate`, …
    pub job: String,
    /// Whose data, where it was one tenant's.
    pub tenant: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None` while it runs.
    pub finished: Option<Timestamp>,
    /// `running`, `done`, `failed`, `interrupted`, …
    pub outcome: String,
    /// Counts, durations and anomalies, as the job reports them.
    pub report: serde_json::Value,
}

/// Jobs on the ledger.
#[async_trait]
pub trait LedgerJobs: LedgerWrite {
    /// Removes every vector of a revision. Answers how many there were. The caller has made sure that nobody reads them any more.
    async fn drop_vectors(&self, revision: &str) -> StoreResult<u64>;
}

/// Jobs on the vector index.
#[async_trait]
pub trait VectorJobs: VectorWrite {
    /// The same index, read in this revision whether it is current or not, for as long as it is there.
    fn of_revision(&self, revision: &str) -> Arc<dyn VectorRead>;

    /// The digests of a tenant's rows in `n` ranges of their ids.
    async fn buckets(&self, tenant: &Tenant, collection: Collection, revision: &str, n: usize) -> StoreResult<Vec<Digest>>;

    /// The rows of some of these ranges, by id.
    async fn rows(
        &self,
        tenant: &Tenant,
        collection: Collection,
        revision: &str,
        n: usize,
        wanted: &[usize],
    ) -> StoreResult<Vec<VectorRow>>;
}

/// The digests of a tenant's engagement rows, each kind in as many ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngagementBuckets {
    /// Counted events, by user.
    pub counted: Vec<Digest>,
    /// Totals, by item.
    pub totals: Vec<Digest>,
    /// Categories, by item.
    pub labels: Vec<Digest>,
}

impl EngagementBuckets {
    /// Of nothing.
    pub fn new(n: usize) -> Self {
        let none = vec![Digest::default(); n];
        Self { counted: none.clone(), totals: none.clone(), labels: none }
    }
}

/// How long the time of one aggregate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// An hour.
    Hour,
    /// A day, in UTC.
    Day,
}

impl Span {
    /// In hours.
    pub const fn hours(self) -> i64 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
        }
    }

    /// The name on every surface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// The engagement of an item in one span of time, in sum. It names nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateRow {
    /// When the span begins, in hours since 1970; a multiple of [`Span::hours`].
    pub start: i64,
    /// Which item.
    pub item: ItemId,
    /// How many engagements.
    pub events: u64,
    /// By how many users.
    pub users: u64,
    /// The sum of their weights, a multiple of [`super::WEIGHT_STEP`].
    pub weight: f64,
}

/// Jobs on engagement totals.
#[async_trait]
pub trait EngagementJobs: EngagementWrite {
    /// The spans (by their beginning, ascending) that begin in `hours` and whose aggregates do not agree with the totals: something was
    /// counted or erased since, however old it is. `hours` begins and ends on a span's border.
    async fn stale_spans(&self, tenant: &Tenant, span: Span, hours: Range<i64>) -> StoreResult<Vec<i64>>;

    /// What the counted events of these spans add up to, by start and item.
    async fn count_spans(&self, tenant: &Tenant, span: Span, starts: &[i64]) -> StoreResult<Vec<AggregateRow>>;

    /// The aggregates whose spans begin in `hours`, by start and item, those after `after` only, at most `limit`.
    async fn aggregates(
        &self,
        tenant: &Tenant,
        span: Span,
        hours: Range<i64>,
        after: Option<&(i64, ItemId)>,
        limit: usize,
    ) -> StoreResult<Vec<AggregateRow>>;

    /// Sets aggregates and removes others, durably.
    async fn set_aggregates(
        &self,
        tenant: &Tenant,
        span: Span,
        rows: &[AggregateRow],
        gone: &[(i64, ItemId)],
    ) -> StoreResult<()>;

    /// Removes the aggregates whose spans begin before `before`. Answers how many there were.
    async fn drop_aggregates(&self, tenant: &Tenant, span: Span, before: i64) -> StoreResult<u64>;

    /// Writes down a run of a job as it stands, again and again under its id.
    async fn record_run(&self, run: &PipelineRun) -> StoreResult<()>;

    /// The newest runs of a job, or of all.
    async fn runs(&self, job: Option<&str>, limit: usize) -> StoreResult<Vec<PipelineRun>>;

    /// The digests of a tenant's rows in `n` ranges.
    async fn buckets(&self, tenant: &Tenant, n: usize) -> StoreResult<EngagementBuckets>;

    /// Users with counted events in some of these ranges.
    async fn counted_users(&self, tenant: &Tenant, n: usize, wanted: &[usize]) -> StoreResult<Vec<UserId>>;

    /// Items with categories in some of these ranges.
    async fn labelled_items(&self, tenant: &Tenant, n: usize, wanted: &[usize]) -> StoreResult<Vec<ItemId>>;

    /// Makes a tenant's totals anew from the events that are counted, in one transaction: readers see the old ones or the new ones.
    async fn recount(&self, tenant: &Tenant) -> StoreResult<()>;
}
