//! What became of the records so far: for progress, reports and metrics.

use nearcast_domain::ports::Appended;
use serde::Serialize;

/// Counts of records by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// All that were read.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events that were not known before.
    pub new: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Events whose id was taken by another content; kept as dead letters.
    pub conflicts: u64,
    /// Events of users who were erased since.
    pub erased: u64,
    /// Records that are no events; kept as dead letters.
    pub rejected: u64,
    /// Texts that were embedded.
    pub embedded: u64,
}

impl Totals {
    /// Counts outcomes.
    pub fn count(&mut self, outcomes: &[Appended]) {
        for o in outcomes {
            match o {
                Appended::New => self.new += 1,
                Appended::Duplicate => self.duplicates += 1,
                Appended::Conflict => self.conflicts += 1,
                Appended::Erased => self.erased += 1,
            }
        }
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.new += other.new;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.erased += other.erased;
        self.rejected += other.rejected;
        self.embedded += other.embedded;
    }

    /// Reports a batch to the metrics.
    pub fn report(&self) {
        let events = |outcome: &'static str, n: u64| {
            metrics::counter!("nearcast_ingest_events_total", "outcome" => outcome).increment(n);
        };
        events("new", self.new);
        events("duplicate", self.duplicates);
        events("conflict", self.conflicts);
        events("erased", self.erased);
        events("rejected", self.rejected);
        metrics::counter!("nearcast_ingest_bytes_total").increment(self.bytes);
        metrics::counter!("nearcast_ingest_embedded_texts_total").increment(self.embedded);
    }
}
