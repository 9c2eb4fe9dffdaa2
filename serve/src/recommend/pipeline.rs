//! A request as a list of stages: sources at once → the best of each → merge → filters → scorer → verify → selector → fill →
//! answer.
//!
//! Never fails: a store that is away costs its source, and what is left is answered. Waits for nothing past the budget.

use std::{collections::HashSet, sync::Arc, time::Instant};

use futures_util::future::join_all;
use nearcast_domain::{
    ItemId, StoreResult, Tenant, Timestamp,
    candidate::{Proposal, Source},
};

use super::{
    Query, Recommender,
    answer::{Reason, Recommendation, RemovalName, Removed},
    blend::{self, Candidate, Scored},
    budget::{Budget, by},
    degraded::{Degraded, LEDGER},
    filters::{self, Pass, Rules, Verdict},
    formulas::{ASKED, WRITTEN, filler, trending_share},
    items::Card,
    select,
    sources::{self, Answering, Ask, Asker, FillFrom},
};
use crate::config::Weights;

/// The share of the budget after which filters are no longer waited for.
const FILTERS_UNTIL: f64 = 0.82;
/// The share after which nothing is.
const FILL_UNTIL: f64 = 0.95;

/// How many more than are wanted are verified at once: some may fall.
const VERIFY_MORE: usize = 10;

/// What the stages make of a request.
pub struct Outcome {
    /// Best first.
    pub recommendations: Vec<Recommendation>,
    /// Candidates that were removed, and why.
    pub removed: Vec<Removed>,
    /// What did not answer.
    pub degraded: Degraded,
}

/// What the stages hand on.
struct Run<'a> {
    on: &'a Recommender,
    ask: Ask<'a>,
    query: &'a Query,
    exclude: HashSet<ItemId>,
    now: Timestamp,
    budget: Budget,
    degraded: Degraded,
    /// Everything that was judged, so that nothing is proposed twice.
    judged: HashSet<ItemId>,
    removed: Vec<Removed>,
    unverified: Vec<Candidate>,
}

/// All stages.
pub async fn run(on: &Recommender, tenant: &Tenant, asker: Asker<'_>, query: &Query, budget: Budget) -> Outcome {
    let mut exclude: HashSet<ItemId> = query.exclude.iter().cloned().collect();
    if let Asker::Session(session) = asker {
        exclude.extend(session.items.iter().cloned());
    }
    let mut run = Run {
        on,
        ask: Ask::new(on, tenant, asker, query.category.as_ref(), &budget),
        query,
        exclude,
        now: Timestamp::now(),
        budget,
        degraded: Degraded::default(),
        judged: HashSet::new(),
        removed: Vec::new(),
        unverified: Vec::new(),
    };
    let proposals = run.ask_sources().await;
    let best = run.best_of_each(proposals);
    let pool = blend::merge(best);
    let kept = run.filter(pool).await;
    let weights = run.weights().await;
    let scored = blend::score(kept, &weights, query.explain);
    let sure = run.verify(scored, select::look_at(query.k, on.config.diversity)).await;
    let mut chosen = select::select(sure, query.k, on.config.diversity);
    run.fill(&mut chosen).await;
    Outcome { recommendations: chosen.into_iter().map(recommendation).collect(), removed: run.removed, degraded: run.degraded }
}

impl Run<'_> {
    /// Stage 1: every source at once, each until its share of the budget is over.
    async fn ask_sources(&mut self) -> Vec<(Source, Vec<Proposal>)> {
        let deadline = self.budget.at(self.on.config.sources.share);
        let (ask, weights) = (&self.ask, &self.on.config.weights);
        let asked = self.on.sources.iter().filter(|s| weights.of(s.source()) > 0.0).map(|source| async move {
            let begun = Instant::now();
            let answer = by(deadline, source.source().name(), source.propose(ask)).await;
            let name = source.source().name();
            metrics::histogram!("nearcast_source_duration_seconds", "source" => name).record(begun.elapsed());
            (source.source(), answer)
        });
        let answers: Vec<(Source, StoreResult<Vec<Proposal>>)> = join_all(asked).await;
        let mut proposals = Vec::with_capacity(answers.len());
        for (source, answer) in answers {
            match answer {
                Ok(found) => proposals.push((source, found)),
                Err(e) => {
                    self.degraded.add(source.name(), &e);
                    if source == Source::Trending {
                        proposals.push((source, self.remembered_trending().await));
                    }
                }
            }
        }
        proposals
    }

    /// Stage 2: the best of each source. What the graph knows to be the asker's own is taken out before, so that it fills no
    /// place that another could have.
    fn best_of_each(&mut self, proposals: Vec<(Source, Vec<Proposal>)>) -> Vec<(Source, Vec<Proposal>)> {
        let own = self.ask.own_if_known().filter(|_| self.ask.user.is_some() && !self.on.config.recommend_engaged);
        let own: HashSet<&ItemId> = own.iter().flat_map(|own| own.iter().map(|o| &o.item)).collect();
        let mut known: Vec<(Source, Vec<Proposal>)> = Vec::new();
        let mut best = Vec::with_capacity(proposals.len());
        for (source, mut found) in proposals {
            if !own.is_empty() {
                let theirs = found.extract_if(.., |p| own.contains(&p.item)).collect();
                known.push((source, theirs));
            }
            found.truncate(self.on.config.sources.candidates);
            best.push((source, found));
        }
        for candidate in blend::merge(known) {
            let excluded = self.exclude.contains(&candidate.item);
            let why = if excluded { RemovalName::Excluded } else { RemovalName::Engaged };
            self.judged.insert(candidate.item.clone());
            self.removed.push(removed(&candidate, why));
        }
        best
    }

    /// What rose when that could last be read.
    async fn remembered_trending(&self) -> Vec<Proposal> {
        let list = self.on.shelf.last_rising(self.ask.tenant, self.ask.category).await;
        let first = list.items.iter().take(self.on.config.sources.trending);
        first.map(|(item, score)| Proposal { item: item.clone(), score: *score, via: Vec::new() }).collect()
    }

    /// The weights of the blend: the configured ones, trending's times what fits the tenant and the person.
    async fn weights(&self) -> Weights {
        let config = &self.on.config;
        let fitted = self.on.shelf.last_rising(self.ask.tenant, self.ask.category).await.share;
        let own = self.ask.own_if_known().map_or(0, |own| own.len());
        // Words say what is wanted, too: a newcomer is who did neither.
        let own = match (self.ask.has_vector(), self.ask.user) {
            (true, Some(_)) => own.max(WRITTEN),
            (true, None) => own.max(ASKED),
            (false, _) => own,
        };
        let share = trending_share(fitted, config.sources.newcomer_share, own);
        Weights { trending: config.weights.trending * share, ..config.weights }
    }

    /// Stage 4: keeps who may be recommended as far as this process remembers, takes down why the others may not.
    async fn filter(&mut self, pool: Vec<Candidate>) -> Vec<(Candidate, Arc<Card>)> {
        let items: Vec<ItemId> = pool.iter().map(|c| c.item.clone()).collect();
        let verdicts = self.judge(Pass::Sift, &items).await;
        self.judged.extend(items);
        let mut kept = Vec::with_capacity(pool.len());
        for (candidate, verdict) in pool.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Keep(card) => kept.push((candidate, card)),
                Verdict::Remove(why) => self.removed.push(removed(&candidate, why.into())),
                Verdict::Unverified => self.unverified.push(candidate),
            }
        }
        kept
    }

    /// Stage 6: the best `wanted` of these whom the ledger, asked now, allows.
    async fn verify(&mut self, scored: Vec<Scored>, wanted: usize) -> Vec<Scored> {
        let mut sure: Vec<Scored> = Vec::with_capacity(wanted);
        let mut rest = scored.into_iter();
        while sure.len() < wanted {
            let some: Vec<Scored> = rest.by_ref().take(wanted + VERIFY_MORE).collect();
            if some.is_empty() {
                break;
            }
            let items: Vec<ItemId> = some.iter().map(|s| s.item.clone()).collect();
            for (mut s, verdict) in some.into_iter().zip(self.judge(Pass::Verify, &items).await) {
                let why = match verdict {
                    Verdict::Keep(card) => {
                        s.card = card;
                        sure.push(s);
                        continue;
                    }
                    Verdict::Remove(why) => why.into(),
                    Verdict::Unverified => RemovalName::Unverified,
                };
                let sources = s.reasons.iter().map(|r| r.source).collect();
                self.removed.push(Removed { item_id: s.item, reason: why, sources });
            }
        }
        sure.truncate(wanted);
        sure
    }

    async fn judge(&mut self, pass: Pass, items: &[ItemId]) -> Vec<Verdict> {
        let rules = Rules {
            exclude: &self.exclude,
            category: self.query.category.as_ref(),
            now: self.now,
            ledger_ok: !self.degraded.holds(LEDGER),
        };
        let (verdicts, error) = filters::judge(&self.ask, &rules, pass, items, self.budget.at(FILTERS_UNTIL)).await;
        if let Some(e) = error.filter(|_| rules.ledger_ok) {
            self.degraded.add(LEDGER, &e);
        }
        verdicts
    }

    /// Stage 8: while the answer is not full, goes on with what rises, what is new, and the catalogue; at the very last,
    /// and only for an answer that would be empty, with what could not be verified.
    async fn fill(&mut self, chosen: &mut Vec<Scored>) {
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
            let voice = |item| {
                let voices = vec![blend::Voice { source: filling.source, score: 1.0, via: Vec::new() }];
                Candidate { item, voices }
            };
            let pool = filling.items.into_iter().map(voice).collect();
            let kept = self.filter(pool).await;
            let fillers = kept.into_iter().map(|(c, card)| self.filled(1.0, 0, c.item, filling.source, card)).collect();
            for s in self.verify(fillers, self.query.k - chosen.len()).await {
                let before = chosen.last().map_or(1.0, |s| s.score);
                chosen.push(self.filled(before, chosen.len(), s.item, filling.source, s.card));
            }
        }
        if chosen.is_empty() {
            for candidate in std::mem::take(&mut self.unverified).into_iter().take(self.query.k) {
                let source = candidate.voices.first().map_or(Source::Newest, |v| v.source);
                let before = chosen.last().map_or(1.0, |s| s.score);
                chosen.push(self.filled(before, chosen.len(), candidate.item, source, Arc::default()));
            }
        }
        let unverified = std::mem::take(&mut self.unverified);
        self.removed.extend(unverified.iter().map(|c| removed(c, RemovalName::Unverified)));
    }

    fn filled(&self, before: f32, rank: usize, item: ItemId, source: Source, card: Arc<Card>) -> Scored {
        let reason = Reason { source, weight: 1.0, via: Vec::new(), score: None };
        Scored { score: filler(self.on.config.weights.newest, rank, before), item, reasons: vec![reason], card }
    }
}

fn removed(candidate: &Candidate, reason: RemovalName) -> Removed {
    let sources = candidate.voices.iter().map(|v| v.source).collect();
    Removed { item_id: candidate.item.clone(), reason, sources }
}

fn recommendation(s: Scored) -> Recommendation {
    Recommendation {
        item_id: s.item,
        score: s.score,
        reasons: s.reasons,
        text: s.card.text.clone(),
        categories: s.card.categories.clone(),
    }
}
