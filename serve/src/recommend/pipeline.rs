//! A request as a list of stages: sources at once → the best of each → merge → filters → scorer → verify → selector → reasons → fill
//! → answer.
//!
//! Never fails: a store that is away costs its source, and what is left is answered. Waits for nothing past the budget.

use std::sync::Arc;

use futures_util::future::{join, join_all};
use nearcast_domain::{StoreResult, Tenant, Timestamp, candidate::Source};

use tokio::time::Instant;

use super::{
    Query, Recommender, alike,
    answer::{Recommendation, RemovalName, Removed},
    bits::Bits,
    blend::{self, Candidate, Scale, Scored},
    budget::{Budget, by},
    degraded::{Degraded, LEDGER},
    engaged,
    formulas::{ASKED, WRITTEN, trending_share},
    reasons, select,
    sources::{Ask, Asker, Found},
    stages::Stage,
    tally::{Proposed, best_first},
    why_not::Watched,
};
use crate::config::Weights;

/// The share of the budget after which filters are no longer waited for.
pub(super) const FILTERS_UNTIL: f64 = 0.82;
/// The share after which nothing is.
pub(super) const FILL_UNTIL: f64 = 0.95;

/// How many more than are wanted are verified at once: some may fall.
pub(super) const VERIFY_MORE: usize = 10;

/// What the stages make of a request.
#[derive(Default)]
pub struct Outcome {
    /// Best first.
    pub recommendations: Vec<Recommendation>,
    /// Candidates that were removed, and why; only where the caller wants to know.
    pub removed: Vec<Removed>,
    /// What did not answer.
    pub degraded: Degraded,
    /// Where the item stood whose fate is to be told, where it was a candidate that filters kept.
    pub watched: Option<Watched>,
    /// Who was asked.
    pub asked: Vec<Source>,
}

/// What the stages hand on.
pub(super) struct Run<'a> {
    pub(super) on: &'a Recommender,
    pub(super) ask: Ask<'a>,
    pub(super) query: &'a Query,
    pub(super) exclude: Bits,
    /// What the asker is known to have engaged with.
    pub(super) own: Bits,
    /// Whether that is all they did, so that nobody need be asked.
    pub(super) own_whole: bool,
    pub(super) now: Timestamp,
    pub(super) budget: Budget,
    pub(super) degraded: Degraded,
    /// Everything that was judged, so that nothing is proposed twice.
    pub(super) judged: Bits,
    pub(super) removed: Vec<Removed>,
    pub(super) unverified: Vec<Candidate>,
    watched: Option<Watched>,
}

/// All stages. `epochs` are those of the asker and of erasures, where they are known.
pub async fn run(
    on: &Recommender,
    tenant: &Tenant,
    asker: Asker<'_>,
    query: &Query,
    epochs: Option<(u64, u64)>,
    budget: Budget,
) -> Outcome {
    let ask = Ask::new(on, tenant, asker, query, epochs, &budget);
    let session = if let Asker::Session(session) = asker { session.items.as_slice() } else { &[] };
    let exclude = ask.mem.numbers(query.exclude.iter().chain(session)).into_iter().collect();
    let mut run = Run {
        on,
        ask,
        query,
        exclude,
        own: Bits::default(),
        own_whole: false,
        now: Timestamp::now(),
        budget,
        degraded: Degraded::default(),
        judged: Bits::default(),
        removed: Vec::new(),
        unverified: Vec::new(),
        watched: None,
    };
    let began = Instant::now();
    let engaged = engaged::engaged(&run.ask, budget.at(FILTERS_UNTIL));
    let (mut found, engaged) = join(run.ask_sources(), engaged).await;
    let began = on.over(query, Stage::Sources, began);
    let asked: Vec<Source> = if query.watch.is_some() { found.iter().map(|(s, _)| *s).collect() } else { Vec::new() };
    run.know(engaged);
    run.best_of_each(&mut found);
    let pool = blend::merge(found.iter().map(|(s, f)| (*s, f.proposals.as_slice())));
    let kept = run.filter(pool).await;
    let began = on.over(query, Stage::Filter, began);
    let (weights, diversity, moment) = run.weights().await;
    let scale = Scale::of(&kept, &weights, moment);
    let sure = run.score(&kept, &scale, select::look_at(query.k, diversity)).await;
    let mut chosen = select::select(sure, query.k, diversity);
    alike::apart(&mut chosen);
    reasons::tell(&run, &mut chosen, &scale, &found);
    let began = on.over(query, Stage::Score, began);
    if chosen.len() < query.k {
        run.fill(&mut chosen).await;
        on.over(query, Stage::Fill, began);
    }
    for candidate in std::mem::take(&mut run.unverified) {
        run.remove(&candidate, RemovalName::Unverified);
    }
    let mut propensity = None;
    if let Some(draw) = query.explore {
        propensity = run.explore(&mut chosen, draw).await;
    }
    let mut recommendations: Vec<Recommendation> = chosen.into_iter().map(recommendation).collect();
    if let Some(last) = recommendations.last_mut() {
        last.propensity = propensity;
    }
    Outcome { recommendations, removed: run.removed, degraded: run.degraded, watched: run.watched, asked }
}

impl Run<'_> {
    /// Stage 1: every source at once, each until its share of the budget is over.
    async fn ask_sources(&mut self) -> Vec<(Source, Found)> {
        let (ask, weights, figures, parts) = (&self.ask, &self.on.config.weights, &self.on.figures, &self.query.parts);
        let asked = self
            .on
            .sources
            .iter()
            .filter(|s| {
                weights.of(s.source()) > 0.0 && (ask.learned.is_some() || !matches!(s.source(), Source::Learned | Source::Next))
            })
            .map(|source| async move {
                let begun = Instant::now();
                let answer = by(ask.deadline, source.source().name(), source.propose(ask)).await;
                let took = begun.elapsed();
                figures.source(source.source(), took, answer.is_ok());
                if let Some(parts) = parts {
                    parts.add(source.source().name(), true, begun, took, answer.is_ok());
                }
                (source.source(), answer)
            });
        let answers: Vec<(Source, StoreResult<Found>)> = join_all(asked).await;
        let mut found = Vec::with_capacity(answers.len());
        for (source, answer) in answers {
            match answer {
                Ok(f) => found.push((source, f)),
                Err(e) => {
                    self.degraded.add(source.name(), &e);
                    if source == Source::Trending {
                        let last = self.on.shelf.last_rising(self.ask.tenant, self.ask.category).await;
                        found.push((source, Found::risen(&self.ask, &last)));
                    }
                }
            }
        }
        found
    }

    /// Takes down what the asker engaged with: what the graph says, and the ledger, where it was asked.
    fn know(&mut self, engaged: StoreResult<Option<Arc<[u32]>>>) {
        if self.ask.user.is_none() || self.on.config.recommend_engaged {
            return;
        }
        if let Some(own) = self.ask.own_if_known() {
            self.own_whole = own.whole() && self.ask.mem.exclusive();
            self.own = own.own.iter().map(|o| o.item).collect();
        }
        match engaged {
            Ok(Some(engaged)) => {
                self.own_whole = true;
                for item in engaged.iter() {
                    self.own.insert(*item);
                }
            }
            Ok(None) => {}
            Err(e) => self.degraded.add(LEDGER, &e),
        }
    }

    /// Stage 2: the best of each source. What is known to be the asker's own is taken out before, so that it fills no
    /// place that another could have.
    fn best_of_each(&mut self, found: &mut [(Source, Found)]) {
        let mut known: Vec<(Source, Vec<Proposed>)> = Vec::new();
        for (source, found) in found {
            if !self.own.is_empty() {
                let theirs = found.proposals.extract_if(.., |p| self.own.contains(p.item));
                if self.query.explain { known.push((*source, theirs.collect())) } else { theirs.for_each(drop) }
            }
            found.proposals.truncate(self.ask.most());
        }
        for candidate in blend::merge(known.iter().map(|(s, p)| (*s, p.as_slice()))) {
            let excluded = self.exclude.contains(candidate.item);
            self.judged.insert(candidate.item);
            self.remove(&candidate, if excluded { RemovalName::Excluded } else { RemovalName::Engaged });
        }
    }

    pub(super) fn remove(&mut self, candidate: &Candidate, reason: RemovalName) {
        if self.query.explain {
            let item_id = self.ask.mem.catalogue().id(candidate.item).clone();
            self.removed.push(Removed { item_id, reason, sources: candidate.sources().collect() });
        }
    }

    /// The weights of the blend: the learned or the configured ones, trending's times what fits the tenant and the person. And how much
    /// diversity there is to be, and how much of the moment.
    async fn weights(&self) -> (Weights, f32, f32) {
        let config = &self.on.config;
        let fitted = self.on.shelf.last_rising(self.ask.tenant, self.ask.category).await.share;
        let own = self.ask.own_if_known().map_or(0, |own| own.own.len());
        let (weights, diversity, moment) = match self.ask.learned.as_ref().map(|l| l.blending(own)) {
            Some(b) => (b.weights(&config.weights), config.diversity.max(b.blend.diversity), b.blend.moment),
            None => (Weights { learned: 0.0, next: 0.0, ..config.weights }, config.diversity, 0.0),
        };
        // Words say what is wanted, too: a newcomer is who did neither.
        let own = match (self.ask.has_vector(), self.ask.user) {
            (true, Some(_)) => own.max(WRITTEN),
            (true, None) => own.max(ASKED),
            (false, _) => own,
        };
        let share = trending_share(fitted, config.sources.newcomer_share, own);
        (Weights { trending: weights.trending * share, ..weights }, diversity, moment)
    }

    /// Stages 5 and 6: the best `wanted` whom fresh cards and the ledger allow.
    async fn score(&mut self, kept: &[Candidate], scale: &Scale, wanted: usize) -> Vec<Scored> {
        // By place in `kept`.
        let mut ranked: Vec<(f32, u32)> = kept.iter().zip(0..).map(|(c, place)| (scale.score(c), place)).collect();
        if let Some(watch) = &self.query.watch {
            let catalogue = self.ask.mem.catalogue();
            let place = catalogue.find(watch).and_then(|n| kept.iter().position(|c| c.item == n));
            self.watched = place.map(|place| {
                let score = ranked[place].0;
                let before = |(s, p): &(f32, u32)| {
                    *s > score || *s == score && catalogue.id(kept[*p as usize].item) < catalogue.id(kept[place].item)
                };
                Watched {
                    rank: 1 + ranked.iter().filter(|r| before(r)).count(),
                    of: ranked.len(),
                    score,
                    reasons: scale.reasons(&kept[place], |_| Vec::new(), true),
                }
            });
        }
        let mut portion = wanted + VERIFY_MORE;
        let mut sure: Vec<Scored> = Vec::with_capacity(wanted);
        let mut rest = ranked.as_mut_slice();
        while sure.len() < wanted && !rest.is_empty() {
            {
                let catalogue = self.ask.mem.catalogue();
                best_first(rest, portion, |place| catalogue.id(kept[place as usize].item));
            }
            let (some, others) = rest.split_at_mut(portion.min(rest.len()));
            rest = others;
            let some: Vec<(f32, Candidate)> = some.iter().map(|(score, place)| (*score, kept[*place as usize])).collect();
            self.verify(some, &mut sure, |c| scale.reasons(c, |_| Vec::new(), false).iter().map(|r| r.source).collect()).await;
            // Where most fall, few looks find those that do not.
            portion = portion.saturating_mul(2);
        }
        sure.truncate(wanted);
        sure
    }
}

fn recommendation(s: Scored) -> Recommendation {
    Recommendation {
        item_id: s.item,
        score: s.score,
        reasons: s.reasons,
        text: s.card.text.clone(),
        categories: s.card.categories.clone(),
        propensity: None,
    }
}
