//! Engagement in sum, by hour or by day: brought up to date, however late an event came or was erased.
//!
//! The totals that are counted with every event say which spans no longer agree; only those are counted again from the events. Old hours
//! are kept by day alone, counted back from the newest engagement and not from a clock. Rows are set as absolute states, so that a run
//! may be stopped and repeated; they name nobody, and what an erased user did is out of them with the next run.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, Timestamp,
    ports::{AggregateRow, EngagementJobs, Positions},
    time::HOUR_MS,
};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use nearcast_domain::ports::Span;

use crate::reconcile::rest;

/// Spans that are counted together: each time, the events are gone through once.
const SPANS: usize = 2048;
/// Aggregates in one page.
const PAGE: usize = 20_000;
/// Hours outside lie before or after all that can be told; whole days, and far from where numbers end.
const ALWAYS: Range<i64> = -(1 << 40) * 24..(1 << 40) * 24;

/// Which times are counted anew whether they agree or not; without either, none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    /// From the span of this time on.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl Window {
    /// Whole days that hold it.
    pub fn hours(&self) -> Range<i64> {
        let day = |t: Timestamp| t.millis().div_euclid(24 * HOUR_MS) * 24;
        let end = |t: Timestamp| day(t.plus_millis(24 * HOUR_MS - 1));
        self.since.map_or(ALWAYS.start, day)..self.until.map_or(ALWAYS.end, end)
    }

    fn is_given(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }
}

/// What became of a tenant's aggregates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AggregateReport {
    /// Whose.
    pub tenant: Tenant,
    /// Spans that were counted again.
    pub spans: u64,
    /// Engagements in them.
    pub events: u64,
    /// Rows that were new or other.
    pub written: u64,
    /// Rows that nothing stands behind any more.
    pub removed: u64,
    /// Rows of hours that are kept by day now.
    pub folded: u64,
}

/// See the module.
pub struct Aggregate {
    /// What is counted, and where the sums stand.
    pub engagement: Arc<dyn EngagementJobs>,
    /// Where it is noted up to when hours are kept by day.
    pub positions: Arc<dyn Positions>,
    /// By hour or by day.
    pub span: Span,
    /// What is counted anew in any case.
    pub window: Window,
    /// How many hours are kept as hours.
    pub keep_hours: Option<u32>,
    /// The share of the time that is worked.
    pub share: f64,
    /// Told of the rows written so far.
    pub progress: Box<dyn Fn(u64) + Send + Sync>,
    /// Stops it.
    pub cancel: CancellationToken,
}

impl Aggregate {
    /// Brings a tenant's aggregates up to date.
    ///
    /// # Errors
    /// Where the store refuses, and where it is stopped.
    pub async fn run(&self, tenant: &Tenant) -> StoreResult<AggregateReport> {
        let mut report = AggregateReport { tenant: tenant.clone(), spans: 0, events: 0, written: 0, removed: 0, folded: 0 };
        let key = format!("aggregate/{tenant}/folded");
        let before = self.positions.get(&key).await?.and_then(|text| text.parse::<i64>().ok()).unwrap_or(ALWAYS.start);
        let folded = self.fold_until(tenant).await?.map_or(before, |until| until.max(before));
        match self.span {
            Span::Day => self.bring(tenant, Span::Day, ALWAYS, &mut report).await?,
            Span::Hour => {
                // Late events of hours that are gone are found in their days.
                self.bring(tenant, Span::Day, ALWAYS.start..folded, &mut report).await?;
                self.bring(tenant, Span::Hour, folded..ALWAYS.end, &mut report).await?;
            }
        }
        // The days first, then the mark, then the hours: stopped anywhere, nothing is missing, and the next run goes on.
        if folded > before {
            self.positions.set(&key, &folded.to_string()).await?;
        }
        if folded > ALWAYS.start {
            report.folded = self.engagement.drop_aggregates(tenant, Span::Hour, folded).await?;
        }
        Ok(report)
    }

    /// Up to when hours are kept by day; a whole number of days.
    async fn fold_until(&self, tenant: &Tenant) -> StoreResult<Option<i64>> {
        let Some(keep) = self.keep_hours else { return Ok(None) };
        let newest = self.engagement.hours(tenant, 1).await?.last().map(|total| total.hour);
        Ok(newest.map(|newest| (newest + 1 - i64::from(keep)).div_euclid(24) * 24))
    }

    async fn bring(&self, tenant: &Tenant, span: Span, hours: Range<i64>, report: &mut AggregateReport) -> StoreResult<()> {
        if hours.is_empty() {
            return Ok(());
        }
        let mut starts = self.engagement.stale_spans(tenant, span, hours.clone()).await?;
        if self.window.is_given() {
            let wanted = self.window.hours();
            let wanted = wanted.start.max(hours.start)..wanted.end.min(hours.end);
            starts.extend(self.all_spans(tenant, span, wanted).await?);
            starts.sort_unstable();
            starts.dedup();
        }
        for part in starts.chunks(SPANS) {
            if self.cancel.is_cancelled() {
                return Err(StoreError::new(ErrorKind::Unavailable, "job", "interrupted; the same command goes on from there"));
            }
            let begun = Instant::now();
            self.part(tenant, span, part, report).await?;
            (self.progress)(report.written);
            rest(begun.elapsed(), self.share).await;
        }
        Ok(())
    }

    /// Every span of a range that there are aggregates of; those that have none yet are stale.
    async fn all_spans(&self, tenant: &Tenant, span: Span, hours: Range<i64>) -> StoreResult<Vec<i64>> {
        let (mut starts, mut after) = (Vec::new(), None);
        loop {
            let page = self.engagement.aggregates(tenant, span, hours.clone(), after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(starts) };
            after = Some((last.start, last.item.clone()));
            starts.extend(page.iter().map(|row| row.start));
            starts.dedup();
        }
    }

    async fn part(&self, tenant: &Tenant, span: Span, starts: &[i64], report: &mut AggregateReport) -> StoreResult<()> {
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return Ok(()) };
        let counted = self.engagement.count_spans(tenant, span, starts).await?;
        let mut kept: BTreeMap<(i64, ItemId), AggregateRow> = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.engagement.aggregates(tenant, span, *first..*last + span.hours(), after.as_ref(), PAGE).await?;
            let Some(end) = page.last() else { break };
            after = Some((end.start, end.item.clone()));
            kept.extend(
                page.into_iter().filter(|r| starts.binary_search(&r.start).is_ok()).map(|r| ((r.start, r.item.clone()), r)),
            );
        }
        report.spans += starts.len() as u64;
        report.events += counted.iter().map(|r| r.events).sum::<u64>();
        let other = |r: &AggregateRow| kept.get(&(r.start, r.item.clone())) != Some(r);
        let rows: Vec<AggregateRow> = counted.iter().filter(|r| other(r)).cloned().collect();
        for row in &counted {
            kept.remove(&(row.start, row.item.clone()));
        }
        let gone: Vec<(i64, ItemId)> = kept.into_keys().collect();
        self.engagement.set_aggregates(tenant, span, &rows, &gone).await?;
        report.written += rows.len() as u64;
        report.removed += gone.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_whole_days() {
        let at = |text: &str| Some(Timestamp::parse(text).unwrap());
        let window = Window { since: at("1970-01-02T05:00:00Z"), until: at("1970-01-03T00:00:00Z") };
        assert_eq!(window.hours(), 24..48);
        let window = Window { since: at("1969-12-31T23:00:00Z"), until: at("1970-01-01T00:00:01Z") };
        assert_eq!(window.hours(), -24..24);
        assert_eq!(Window::default().hours(), ALWAYS);
        assert_eq!((ALWAYS.start % 24, ALWAYS.end % 24), (0, 0));
    }
}
