//! Who of the candidates may be recommended: first by what this process remembers, then, for the few that would be shown, by fresh cards
//! and the ledger's word.
//!
//! Never lets an item through of which only nothing is known, where its card or the ledger can be read.

use std::sync::Arc;

use futures_util::future::join;
use nearcast_domain::{
    ItemId, StoreResult,
    candidate::{Removal, Source},
};

use super::{
    answer::Removed,
    blend::{Candidate, Scored},
    degraded::LEDGER,
    filters::{Rules, Verdict},
    pipeline::{FILL_UNTIL, FILTERS_UNTIL, Run},
};
use crate::memory::{Card, Seen};

impl Run<'_> {
    fn rules(&self) -> Rules<'_> {
        Rules { exclude: &self.exclude, engaged: &self.own, category: self.query.category.as_ref(), now: self.now }
    }

    /// Stage 4: keeps who may be recommended as far as this process remembers, takes down why the others may not. A card that allows an
    /// item may be of any age here; one that forbids it is read again. Where others write, too, and cards are not all here from the
    /// beginning, an item of which nothing is known stays: the few that would be shown are looked at before.
    pub(super) async fn filter(&mut self, mut pool: Vec<Candidate>) -> Vec<Candidate> {
        let ledger_ok = !self.degraded.holds(LEDGER);
        // Who asks for reasons is told them for every candidate.
        let telling = self.query.explain || self.query.watch.is_some();
        let benefit_of_doubt = ledger_ok && !telling && self.query.category.is_none() && !self.ask.mem.exclusive();
        let (mut verdicts, mut missing) = self.judge(&pool, benefit_of_doubt);
        if !missing.is_empty() && ledger_ok {
            let (loads, mem) = (self.ask.loads(), &self.ask.mem);
            if !mem.exclusive() {
                loads.vouch(mem, &missing).await;
                missing = self.judge(&pool, benefit_of_doubt).1;
            }
            if !missing.is_empty()
                && let Err(e) = loads.read_cards(mem, missing, self.budget.at(FILTERS_UNTIL)).await
            {
                self.degraded.add(LEDGER, &e);
            }
            verdicts = self.judge(&pool, benefit_of_doubt).0;
        }
        let mut verdicts = verdicts.into_iter();
        pool.retain(|candidate| {
            self.judged.insert(candidate.item);
            match verdicts.next() {
                Some(Verdict::Keep) => return true,
                Some(Verdict::Remove(why)) => self.remove(candidate, why.into()),
                Some(Verdict::Unverified) | None => self.unverified.push(*candidate),
            }
            false
        });
        pool
    }

    /// Those of some candidates who may be recommended, taking down nothing.
    pub(super) async fn allowed(&self, mut pool: Vec<Candidate>) -> Vec<Candidate> {
        let missing = self.judge(&pool, false).1;
        if !missing.is_empty() && !self.degraded.holds(LEDGER) {
            // What could not be read is not allowed.
            let _ = self.ask.loads().read_cards(&self.ask.mem, missing, self.budget.at(FILL_UNTIL)).await;
        }
        let mut verdicts = self.judge(&pool, false).0.into_iter();
        pool.retain(|_| matches!(verdicts.next(), Some(Verdict::Keep)));
        pool
    }

    /// Verdicts by what is remembered, and the items whose cards are to be read first. `benefit_of_doubt`: what nothing is known of stays,
    /// and need not be read.
    fn judge(&self, pool: &[Candidate], benefit_of_doubt: bool) -> (Vec<Verdict>, Vec<u32>) {
        let rules = self.rules();
        let (mut verdicts, mut missing) = (Vec::with_capacity(pool.len()), Vec::new());
        self.ask.mem.each_card(pool.iter().map(|c| c.item), |item, seen| {
            let verdict = match seen {
                Some(seen) if seen.plain && rules.category.is_none() => rules.judge_plain(item),
                None if benefit_of_doubt => rules.judge_plain(item),
                _ => rules.judge(item, seen.map(|s| s.card)),
            };
            let good_enough = |s: Seen<'_>| s.fresh || s.plain && rules.category.is_none() || rules.allows(s.card).is_ok();
            if !seen.map_or(benefit_of_doubt, good_enough) {
                missing.push(item);
            }
            verdicts.push(verdict);
        });
        (verdicts, missing)
    }

    /// Moves to `sure` those of `some` whom fresh cards and the ledger allow; `spoke` names who spoke for one that is removed.
    pub(super) async fn verify(
        &mut self,
        some: Vec<(f32, Candidate)>,
        sure: &mut Vec<Scored>,
        spoke: impl Fn(&Candidate) -> Vec<Source>,
    ) {
        let items: Vec<u32> = some.iter().map(|(_, c)| c.item).collect();
        let until = self.budget.at(FILTERS_UNTIL);
        let ledger_ok = !self.degraded.holds(LEDGER);
        let loads = self.ask.loads();
        let cards = async {
            match ledger_ok {
                true => loads.cards(&self.ask.mem, &items, |_| false, until).await,
                // Memory answers at once.
                false => (self.ask.mem.look_at_cards(&items, |_| true).0, None),
            }
        };
        let ((cards, cards_failed), engaged) = join(cards, self.engaged(&items, ledger_ok)).await;
        let (engaged, engaged_failed) = match engaged {
            Ok(engaged) => (engaged, None),
            Err(e) => (Vec::new(), Some(e)),
        };
        if let Some(e) = cards_failed.or(engaged_failed).filter(|_| ledger_ok) {
            self.degraded.add(LEDGER, &e);
        }
        for (place, ((score, candidate), card)) in some.into_iter().zip(cards).enumerate() {
            let verdict = match engaged.get(place) {
                Some(true) if !self.exclude.contains(candidate.item) => Verdict::Remove(Removal::Engaged),
                _ => self.rules().judge(candidate.item, card.as_deref()),
            };
            let why = match verdict {
                Verdict::Keep => {
                    let item = self.ask.mem.catalogue().id(candidate.item).clone();
                    let card: Arc<Card> = card.unwrap_or_default();
                    sure.push(Scored { item, candidate, score, reasons: Vec::new(), card });
                    continue;
                }
                Verdict::Remove(why) => why.into(),
                Verdict::Unverified => {
                    self.unverified.push(candidate);
                    continue;
                }
            };
            if self.query.explain {
                let sources = spoke(&candidate);
                let item_id = self.ask.mem.catalogue().id(candidate.item).clone();
                self.removed.push(Removed { item_id, reason: why, sources });
            }
        }
    }

    /// For each item, whether the asker engaged with it: the ledger's word, where what is known of them is not all. Empty where nobody
    /// need be asked.
    async fn engaged(&self, items: &[u32], ledger_ok: bool) -> StoreResult<Vec<bool>> {
        let Some(user) = self.ask.user.filter(|_| !self.on.config.recommend_engaged && ledger_ok) else {
            return Ok(Vec::new());
        };
        if self.own_whole {
            return Ok(Vec::new());
        }
        let ids: Vec<ItemId> = {
            let catalogue = self.ask.mem.catalogue();
            items.iter().map(|i| catalogue.id(*i).clone()).collect()
        };
        let (ledger, tenant, user) = (self.on.stores.ledger.clone(), self.ask.tenant.clone(), user.clone());
        let work = async move { ledger.engaged(&tenant, &user, &ids).await };
        self.on.late.run(self.budget.at(FILTERS_UNTIL), "ledger", work).await
    }
}
