//! Ledger and projections compared by digests of key ranges, and put right where they differ.
//!
//! For each projection the ledger is gone through once in pages, and what it says is digested by ranges of ids
//! ([`nearcast_domain::digest::bucket`]); the projection's own digests are made where its rows lie. Only rows of ranges that differ are
//! read and compared one by one, and only those that are wrong are written. A rebuild is the same with every range taken for wrong.
//!
//! Nothing is dropped before it is replaced: requests find every right row where it was. May be stopped at any moment: what was put
//! right is right, and the next run finds only the rest. It never writes to the ledger.

mod engagement;
mod graph;
mod vectors;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId, Vector,
    digest::Digest,
    ports::{Edge, EngagementJobs, GraphWrite, ItemLabels, ItemState, LedgerRead, Tally, VectorJobs, VectorRow},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::neighbours::NeighbourRule;

/// Users or items in one page of the ledger.
const PAGE: usize = 256;
/// About how many rows a range holds.
const ROWS_A_RANGE: u64 = 64;
/// The fewest and the most ranges.
const RANGES: (u64, u64) = (64, 65_536);

/// What the ledger says that projections should hold, and how to put them right. (Computed by whoever projects events, so that both
/// cannot differ.)
#[async_trait]
pub trait Truth: Send + Sync {
    /// The revision of the vectors.
    fn revision(&self) -> String;
    /// Profiles, in the order asked.
    async fn profiles(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Option<Vector>>>;
    /// All edges of each user.
    async fn edges(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Vec<Edge>>>;
    /// Everything of each user that totals count.
    async fn tallies(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<Vec<Vec<Tally>>>;
    /// The row and the categories of an item.
    fn item(&self, state: ItemState) -> (Option<VectorRow>, ItemLabels);
    /// Puts profiles right.
    async fn mend_profiles(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()>;
    /// Puts item vectors right.
    async fn mend_items(&self, tenant: &Tenant, items: &[ItemId]) -> StoreResult<()>;
    /// Puts categories right.
    async fn mend_labels(&self, tenant: &Tenant, items: &[ItemId]) -> StoreResult<()>;
    /// Puts edges right.
    async fn mend_edges(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()>;
    /// Puts counted events right.
    async fn mend_tallies(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()>;
}

/// A projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Profiles in the vector index.
    Users,
    /// Items in the vector index.
    Items,
    /// Edges.
    Graph,
    /// Counted events, totals and categories.
    Engagement,
    /// Neighbour lists.
    Neighbours,
}

impl Part {
    /// All, in the order in which they depend on each other.
    pub const ALL: [Self; 5] = [Self::Items, Self::Users, Self::Graph, Self::Engagement, Self::Neighbours];

    /// The name on every surface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Items => "items",
            Self::Graph => "graph",
            Self::Engagement => "engagement",
            Self::Neighbours => "neighbours",
        }
    }

    /// The part of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// How it is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Puts right what is wrong.
    pub repair: bool,
    /// Takes every range for wrong, whatever its digest says.
    pub everything: bool,
    /// The share of the time that it works, above 0 and at most 1; it rests for the others' sake the rest of the time.
    pub share: f64,
}

/// What was found of one projection of one tenant.
#[derive(Debug, Clone, Serialize)]
pub struct PartReport {
    /// Which.
    pub part: Part,
    /// Whose.
    pub tenant: Tenant,
    /// Rows that there should be.
    pub rows: u64,
    /// Key ranges that were compared.
    pub ranges: usize,
    /// Those whose digests differ.
    pub ranges_different: usize,
    /// Rows of the projection that were read and compared one by one.
    pub rows_read: u64,
    /// Rows, or users whose rows, are wrong, missing or too many.
    pub wrong: u64,
    /// Those that were put right.
    pub repaired: u64,
}

impl PartReport {
    fn new(part: Part, tenant: &Tenant) -> Self {
        let tenant = tenant.clone();
        Self { part, tenant, rows: 0, ranges: 0, ranges_different: 0, rows_read: 0, wrong: 0, repaired: 0 }
    }

    /// Whether the projection is as the ledger says, now.
    pub fn is_right(&self) -> bool {
        self.wrong == self.repaired
    }
}

/// Who is told what is being done, and with how many users or items it is through.
pub type Told = Box<dyn Fn(&str, u64) + Send + Sync>;

/// Compares projections with the ledger.
pub struct Reconcile {
    /// The truth.
    pub ledger: Arc<dyn LedgerRead>,
    /// What follows from it.
    pub truth: Arc<dyn Truth>,
    /// Profiles and item vectors.
    pub vectors: Arc<dyn VectorJobs>,
    /// Edges and lists.
    pub graph: Arc<dyn GraphWrite>,
    /// Totals.
    pub engagement: Arc<dyn EngagementJobs>,
    /// How neighbour lists are made.
    pub neighbours: NeighbourRule,
    /// How it is done.
    pub options: Options,
    /// Told after every page.
    pub progress: Told,
    /// Stops it.
    pub cancel: CancellationToken,
}

impl Reconcile {
    /// Compares these parts of every tenant.
    pub async fn run(&self, parts: &[Part]) -> StoreResult<Vec<PartReport>> {
        let mut reports = Vec::new();
        for tenant in self.ledger.tenants().await? {
            for part in Part::ALL.into_iter().filter(|p| parts.contains(p)) {
                reports.push(match part {
                    Part::Users => vectors::users(self, &tenant).await?,
                    Part::Items => vectors::items(self, &tenant).await?,
                    Part::Graph => graph::edges(self, &tenant).await?,
                    Part::Engagement => engagement::engagement(self, &tenant).await?,
                    Part::Neighbours => graph::neighbours(self, &tenant).await?,
                });
            }
        }
        Ok(reports)
    }

    /// How many ranges so many rows are cut into.
    fn ranges(rows: u64) -> usize {
        (rows / ROWS_A_RANGE).clamp(RANGES.0, RANGES.1) as usize
    }

    fn go_on(&self) -> StoreResult<()> {
        match self.cancel.is_cancelled() {
            true => Err(StoreError::new(ErrorKind::Unavailable, "job", "interrupted; the same command goes on from there")),
            false => Ok(()),
        }
    }

    /// The pages of users, each handed on, with rests in between.
    async fn each_users<F>(&self, what: &str, tenant: &Tenant, mut each: impl FnMut(Vec<UserId>) -> F) -> StoreResult<()>
    where
        F: Future<Output = StoreResult<()>>,
    {
        let (mut after, mut done): (Option<UserId>, u64) = (None, 0);
        loop {
            self.go_on()?;
            let begun = tokio::time::Instant::now();
            let page = self.ledger.users(tenant, "", after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            done += page.len() as u64;
            each(page).await?;
            (self.progress)(what, done);
            rest(begun.elapsed(), self.options.share).await;
        }
    }

    /// The same for items, with vectors.
    async fn each_items(&self, what: &str, tenant: &Tenant, mut each: impl FnMut(ItemState)) -> StoreResult<()> {
        let revision = self.truth.revision();
        let (mut after, mut done): (Option<ItemId>, u64) = (None, 0);
        loop {
            self.go_on()?;
            let begun = tokio::time::Instant::now();
            let page = self.ledger.catalogue(tenant, after.as_ref(), PAGE, Some(&revision)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.item.item_id.clone());
            done += page.len() as u64;
            page.into_iter().for_each(&mut each);
            (self.progress)(what, done);
            rest(begun.elapsed(), self.options.share).await;
        }
    }

    /// The ranges that are to be looked at.
    fn different(&self, a: &[Digest], b: &[Digest]) -> Vec<usize> {
        (0..a.len()).filter(|i| self.options.everything || a[*i] != b[*i]).collect()
    }
}

/// Rests as long as a share of the time asks for after work that took so long.
pub(crate) async fn rest(took: Duration, share: f64) {
    if share < 1.0 {
        tokio::time::sleep(took.mul_f64(1.0 / share.max(0.01) - 1.0).min(Duration::from_secs(5))).await;
    }
}
