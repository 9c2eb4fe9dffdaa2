//! One training, from a history to an artefact and a verdict. No I/O.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use nearcast_domain::{
    learned::{Blend, Learned},
    profile::ProfileRule,
};
use serde::{Deserialize, Serialize};

use super::{
    blend::{self, ALONE, alone, judge, judge_all, mean},
    bootstrap::{Difference, compare, interval},
    config::TrainConfig,
    diversity::strength,
    fit::{Lists, fit},
    next::next,
    slices::{Slice, slices},
    sources::{Row, rows},
    world::World,
};
use crate::{neighbours::NeighbourRule, trending::FitRule};

/// The fewest people on whom an artefact is judged.
const LEAST_PEOPLE: usize = 20;

/// The formulas of the other sources.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Of neighbour lists.
    pub neighbours: NeighbourRule,
    /// Of trending.
    pub trending: FitRule,
    /// Of profiles.
    pub profile: ProfileRule,
    /// Set by whoever no longer wants the result.
    pub stop: Arc<AtomicBool>,
}

impl Rules {
    /// Whether nobody wants the result any more.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What became of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is too little history to learn from.
    TooLittle,
    /// Better than what was in service, with 95 % confidence: taken into service.
    Better,
    /// No other blend is clearly better, but there is new history: the same blend with weights between items made anew.
    Refreshed,
    /// Not clearly better: what was in service stays.
    Kept,
}

/// A source by itself on the slice that judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceFigure {
    /// Its name.
    pub source: String,
    /// NDCG@10.
    pub ndcg: f64,
    /// With a 95 % interval, by bootstrap over people.
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// What an artefact was judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What became of it.
    pub verdict: Verdict,
    /// How slices were cut: `time`, or `person` where most people come once.
    pub slices: String,
    /// People on whom it was judged.
    pub people: usize,
    /// Choices there were.
    pub choices: u64,
    /// Items that have learned weights.
    pub items: usize,
    /// NDCG@10 of what was in service before.
    pub before: f64,
    /// NDCG@10 of what was learned.
    pub after: f64,
    /// Their difference, with the bounds of a paired bootstrap: `low` above 0 is better with 95 % confidence.
    pub difference: [f64; 3],
    /// The sources by themselves.
    pub sources: Vec<SourceFigure>,
    /// What was learned.
    pub blend: Blend,
}

/// Trains. `current`: what is in service, where anything is. `None`: too little to learn from.
pub fn compute(world: &World, current: Option<&Learned>, config: &TrainConfig, rules: &Rules) -> Option<(Learned, Figures)> {
    let all = slices(world, config.people);
    let (judging, learning) = all.split_last()?;
    if all.iter().any(|s| s.tests.len() < LEAST_PEOPLE) {
        return None;
    }
    let rows_of = |slice: &Slice, lists: &Lists, next: &Lists| {
        rows(world, slice, (lists, next), &rules.neighbours, &rules.trending, &rules.profile)
    };
    let mut learned_on = Vec::with_capacity(learning.len());
    for slice in learning {
        let lists = fit(world, &slice.known, config, config.items_compared, &rules.stop)?;
        learned_on.push(rows_of(slice, &lists, &next(world, &slice.known)));
    }
    let from = current.map_or_else(Blend::default, |c| c.blend);
    let blend = blend::learn(&learned_on, from, &rules.stop);
    let blend = Blend { diversity: strength(&learned_on, &world.categories, &blend), ..blend };
    let found = Learned {
        blend,
        groups: Default::default(),
        until: world.until(),
        choices: world.count() as u64,
        span_hours: world.span_hours(),
        items: world.items.clone(),
        lists: Vec::new(),
        next: Vec::new(),
    };
    let found = Learned { groups: blend::groups(&learned_on, &found.blend, &rules.stop), ..found };
    drop(learned_on);
    let lists = fit(world, &judging.known, config, config.items_compared, &rules.stop)?;
    let judged_on = rows_of(judging, &lists, &next(world, &judging.known));
    // What is in service is judged as it is where it knows nothing of what comes; else by its blend alone.
    let own = current.filter(|c| judging.at.is_some_and(|at| c.until < at));
    let before_on = match own {
        Some(c) => rows_of(judging, &numbered(c, &c.lists, world), &numbered(c, &c.next, world)),
        None => judged_on.clone(),
    };
    let base = current.cloned().unwrap_or_default();
    let by = |rows: &[Row], with: &Learned| -> Vec<f64> { rows.iter().map(|r| judge(r, with.blend_for(r.own))).collect() };
    let (before, after) = (by(&before_on, &base), by(&judged_on, &found));
    let better = compare(&after, &before);
    let news = current.is_some_and(|c| c.until != found.until || c.choices != found.choices);
    let verdict = match current {
        _ if better.is_better() => Verdict::Better,
        Some(_) if news && !compare(&by(&judged_on, &base), &before).is_worse() => Verdict::Refreshed,
        _ => Verdict::Kept,
    };
    let sources = (0..ALONE.len()).map(|s| source_figure(s, &judged_on)).collect();
    let (blend, groups) = match verdict {
        Verdict::Refreshed => (base.blend, base.groups),
        _ => (found.blend, found.groups),
    };
    let (lists, next) = match verdict {
        // Not going into service.
        Verdict::Kept | Verdict::TooLittle => (vec![Vec::new(); world.items.len()], Vec::new()),
        Verdict::Better | Verdict::Refreshed => {
            (fit(world, &world.all(), config, config.items, &rules.stop)?, next(world, &world.all()))
        }
    };
    if rules.stopped() {
        return None;
    }
    let Difference { mean: difference, low, high } = better;
    let figures = Figures {
        verdict,
        slices: if judging.at.is_some() { "time" } else { "person" }.into(),
        people: judged_on.len(),
        choices: found.choices,
        items: lists.iter().filter(|l| !l.is_empty()).count(),
        before: mean(&before),
        after: mean(&after),
        difference: [difference, low, high],
        sources,
        blend: found.blend,
    };
    Some((Learned { blend, groups, lists, next, ..found }, figures))
}

fn source_figure(source: usize, rows: &[Row]) -> SourceFigure {
    let all = judge_all(rows, &alone(source));
    let (low, high) = interval(&all, 0.025);
    SourceFigure { source: ALONE[source].into(), ndcg: mean(&all), low, high }
}

/// Lists of an artefact in the numbers of a history; what is not there any more is left out.
fn numbered(learned: &Learned, of: &Lists, world: &World) -> Lists {
    let number = |i: &nearcast_domain::ItemId| world.items.binary_search(i).ok().map(|n| n as u32);
    let numbers: Vec<Option<u32>> = learned.items.iter().map(number).collect();
    let mut lists = vec![Vec::new(); world.items.len()];
    for (item, list) in numbers.iter().zip(of) {
        if let Some(item) = item {
            lists[*item as usize] = list.iter().filter_map(|(j, w)| Some((numbers[*j as usize]?, *w))).collect();
        }
    }
    lists
}
