//! The last stage: while an answer is not full, it is filled from the last rungs.
//!
//! What fills up stands behind everything that was proposed, and passes the same filters.

use std::sync::Arc;

use nearcast_domain::candidate::Source;

use super::{
    answer::Reason,
    blend::{self, Candidate, Scored},
    degraded::LEDGER,
    formulas::filler,
    pipeline::{FILL_UNTIL, Run, VERIFY_MORE},
    sources::{self, Answering, FillFrom},
};

impl Run<'_> {
    /// Stage 8: while the answer is not full, goes on with what rises, what is new, and the catalogue; at the very last,
    /// and only for an answer that would be empty, with what could not be verified.
    pub(super) async fn fill(&mut self, chosen: &mut Vec<Scored>) {
        let mut from = FillFrom::Trending;
        while chosen.len() < self.query.k && from != FillFrom::End {
            let ok =
                Answering { trending: !self.degraded.holds(Source::Trending.name()), ledger: !self.degraded.holds(LEDGER) };
            if self.budget.is_over() && ok.ledger && !chosen.is_empty() {
                break;
            }
            let filling = sources::fill(&self.ask, from, &self.judged, ok, self.budget.at(FILL_UNTIL)).await;
            from = filling.next;
            if let Some(e) = filling.error {
                self.degraded.add(filling.source.name(), &e);
                if e.store == LEDGER {
                    self.degraded.add(LEDGER, &e);
                }
            }
            let pool = filling.items.into_iter().map(|item| Candidate::of(item, filling.source)).collect();
            let mut fillers = self.filter(pool).await.into_iter().peekable();
            let wanted = self.query.k - chosen.len();
            let mut sure = Vec::with_capacity(wanted);
            while sure.len() < wanted && fillers.peek().is_some() {
                let some = fillers.by_ref().take(wanted + VERIFY_MORE).map(|c| (0.0, c)).collect();
                self.verify(some, &mut sure, |c| c.sources().collect()).await;
            }
            for s in sure.into_iter().take(wanted) {
                self.push(chosen, s);
            }
        }
        if chosen.is_empty() {
            let mut unverified = std::mem::take(&mut self.unverified);
            blend::in_order(&mut unverified, &self.ask.mem.catalogue());
            for candidate in unverified.into_iter().take(self.query.k) {
                let item = self.ask.mem.catalogue().id(candidate.item).clone();
                self.push(chosen, Scored { item, candidate, score: 0.0, reasons: Vec::new(), card: Arc::default() });
            }
        }
    }

    /// Puts an item behind all that are chosen; the first who named it is its reason.
    pub(super) fn push(&self, chosen: &mut Vec<Scored>, filled: Scored) {
        let before = chosen.last().map_or(1.0, |s| s.score);
        let score = filler(self.on.config.weights.newest, chosen.len(), before);
        let source = filled.candidate.sources().next().unwrap_or(Source::Newest);
        let reasons = vec![Reason { source, weight: 1.0, via: Vec::new(), score: None }];
        chosen.push(Scored { score, reasons, ..filled });
    }
}
