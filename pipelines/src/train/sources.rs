//! What each source would have proposed at an earlier moment, with the very formulas of requests: the ground on which blends are compared.
//!
//! One row a person: the items that any source would have named, what each said of them, and which were really chosen next.

use std::collections::BTreeMap;

use faer::{Accum, Mat, MatRef, Par, linalg::matmul::matmul};
use nearcast_domain::{ItemId, Vector, learned::to_the_taste, ports::TrendFit, profile::ProfileRule};
use rayon::prelude::*;

use super::{
    fit::Lists,
    next::{LATEST, fading},
    slices::Slice,
    world::{Choice, World},
};
use crate::{
    neighbours::{Matrix, NeighbourRule, all_lists},
    trending::{FitRule, fit as fit_trend},
};

/// Exponents of fading that are compared.
pub const RECENCIES: [f32; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
const N: usize = RECENCIES.len();
/// Columns: `graph` and `learned` once an exponent, then the others.
pub const GRAPH: usize = 0;
/// See [`GRAPH`].
pub const LEARNED: usize = N;
/// See [`GRAPH`].
pub const USERS: usize = 2 * N;
/// See [`GRAPH`].
pub const TEXT: usize = 2 * N + 1;
/// See [`GRAPH`].
pub const NEXT: usize = 2 * N + 2;
/// `trending`, once a pace and a taste: `TRENDING + pace * TASTES.len() + taste`.
pub const TRENDING: usize = 2 * N + 3;
/// Half-lives that are compared, as shares of the history's span; 0: what fits by itself.
pub const PACES: [f32; 4] = [0.0, 0.001, 0.003, 0.02];
/// How much trending may follow the person's categories.
pub const TASTES: [f32; 3] = [0.0, 0.5, 1.0];
/// How many columns there are.
pub const COLUMNS: usize = TRENDING + PACES.len() * TASTES.len();

/// How far sources look, as requests do by default.
const OWN: usize = 50;
const NEIGHBOURS: usize = 100;
const NEAR_USERS: usize = 30;
const ITEMS_PER_USER: usize = 20;
const OTHERS_RECENCY: f32 = 0.5;
const NEAR_TEXTS: usize = 200;
const RISING: usize = 200;
const RISING_DEPTH: usize = 400;
const NEWCOMER: f32 = 0.6;
/// Whoever has a vector is no newcomer.
const WRITTEN: usize = 5;
/// The best of each column that are compared: whatever comes after has no say in the first ten.
const BEST: usize = 100;
/// People per product of vectors.
const BLOCK: usize = 256;

/// A person at an earlier moment.
#[derive(Debug, Clone)]
pub struct Row {
    /// How many items they had.
    pub own: usize,
    /// What trending would have counted, times its weight.
    pub share: f32,
    /// How many items they chose next.
    pub wanted: usize,
    /// The candidates, by number, in order.
    pub items: Vec<u32>,
    /// By candidate, what each source says relative to its best.
    pub scores: Vec<[f32; COLUMNS]>,
    /// Whether each candidate was chosen next.
    pub hits: Vec<bool>,
}

/// What the sources read at a moment.
struct Moment<'a> {
    world: &'a World,
    slice: &'a Slice,
    graph: Vec<Vec<(u32, f32)>>,
    learned: &'a Lists,
    next: &'a Lists,
    /// Once a pace.
    rising: [Near; PACES.len()],
    share: f32,
    rule: &'a ProfileRule,
}

/// The rows of a slice, in the order of its tests. `learned` and `next`: as made of what was known then.
pub fn rows(
    world: &World,
    slice: &Slice,
    (learned, next): (&Lists, &Lists),
    neighbours: &NeighbourRule,
    trending: &FitRule,
    rule: &ProfileRule,
) -> Vec<Row> {
    let edges = world.edges(&slice.known);
    let mut graph = vec![Vec::new(); world.items.len()];
    let number = |item: &ItemId| world.items.binary_search(item).unwrap_or_default() as u32;
    for (item, list) in all_lists(&Matrix::new(&edges, neighbours.history), neighbours) {
        graph[number(&item) as usize] = list.iter().take(NEIGHBOURS).map(|n| (number(&n.item), n.weight)).collect();
    }
    let found = fit_trend(&edges, trending).unwrap_or(TrendFit { half_life_hours: Some(720.0), share: 0.05 });
    drop(edges);
    let rising = PACES.map(|pace| match pace > 0.0 {
        true => rising(world, slice, Some(f64::from(pace) * world.span_hours())),
        false => rising(world, slice, found.half_life_hours),
    });
    let moment = Moment { world, slice, graph, learned, next, rising, share: found.share as f32, rule };
    let near = moment.near();
    let tests = slice.tests.par_iter().zip(near);
    let tally = || Tally::new(world.items.len());
    tests.map_init(tally, |tally, (test, (users, texts))| moment.row(tally, test.user, &test.truth, &users, &texts)).collect()
}

/// What rises: by item, each choice faded by its age in hours.
fn rising(world: &World, slice: &Slice, half_life: Option<f64>) -> Vec<(u32, f32)> {
    const HOUR: i64 = 3_600_000;
    let known = || world.choices.iter().zip(&slice.known).flat_map(|(c, k)| &c[..*k]);
    let newest = known().map(|c| c.first.div_euclid(HOUR)).max().unwrap_or(0);
    let mut sums = vec![0.0_f64; world.items.len()];
    for c in known() {
        let age = (newest - c.first.div_euclid(HOUR)) as f64;
        sums[c.item as usize] += f64::from(c.weight) * half_life.map_or(1.0, |h| (-age / h).exp2());
    }
    super::fit::strongest((0_u32..).zip(sums).map(|(i, s)| (i, s as f32)).filter(|(_, s)| *s > 0.0).collect(), RISING_DEPTH)
}

/// Sums by item, once an exponent. Used again by the next person of the same thread.
struct Tally {
    sums: Vec<[f32; N]>,
    touched: Vec<u32>,
}

impl Tally {
    fn new(items: usize) -> Self {
        Self { sums: vec![[0.0; N]; items], touched: Vec::new() }
    }

    fn add(&mut self, item: u32, voices: &[f32; N], weight: f32) {
        let sums = &mut self.sums[item as usize];
        // Without fading a voice is above 0, and so is its sum from the first on.
        if sums[0] == 0.0 {
            self.touched.push(item);
        }
        sums.iter_mut().zip(voices).for_each(|(s, v)| *s += v * weight);
    }

    /// What was added up, once an exponent; begins anew.
    fn take(&mut self) -> [Near; N] {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let out = std::array::from_fn(|e| touched.iter().map(|i| (*i, self.sums[*i as usize][e])).collect());
        touched.iter().for_each(|i| self.sums[*i as usize] = [0.0; N]);
        out
    }
}

/// Near ones with how far each stands out.
type Near = Vec<(u32, f32)>;

impl Moment<'_> {
    /// For each test, the near people and the near items.
    fn near(&self) -> Vec<(Near, Near)> {
        let profiles: Vec<Option<Vector>> = (0..self.world.users.len())
            .into_par_iter()
            .map(|u| self.world.profile(u, self.slice.known[u], self.rule))
            .collect();
        let dimension = profiles.iter().flatten().next().map_or(0, |v| v.len());
        let (people, users) = table(profiles.iter().map(Option::as_ref), dimension);
        let (texts, items) = table(self.world.texts.iter().map(Option::as_ref), dimension);
        let tests: Vec<usize> = self.slice.tests.iter().map(|t| t.user).collect();
        let found: Vec<Vec<(Near, Near)>> = tests
            .par_chunks(BLOCK)
            .map(|some| {
                let (asked, who) = table(some.iter().map(|u| profiles[*u].as_ref()), dimension);
                let by_user = product(people.as_ref(), asked.as_ref());
                let by_text = product(texts.as_ref(), asked.as_ref());
                let mut column = 0;
                (0..some.len() as u32)
                    .map(|n| {
                        if who.get(column) != Some(&n) {
                            return (Near::new(), Near::new());
                        }
                        column += 1;
                        let user = some[n as usize];
                        let own: Vec<u32> = self.own(user).iter().map(|c| c.item).collect();
                        let hits = |s: &Mat<f32>, ids: &[u32], not: &dyn Fn(u32) -> bool| -> Near {
                            let scores = s.col(column - 1);
                            ids.iter().enumerate().filter(|(_, id)| !not(**id)).map(|(r, id)| (*id, scores[r])).collect()
                        };
                        let users = hits(&by_user, &users, &|u| u as usize == user);
                        let items = hits(&by_text, &items, &|i| own.contains(&i));
                        (standing_out(users, NEAR_USERS), standing_out(items, NEAR_TEXTS))
                    })
                    .collect()
            })
            .collect();
        found.into_iter().flatten().collect()
    }

    fn own(&self, user: usize) -> Vec<Choice> {
        self.world.newest(user, self.slice.known[user])
    }

    /// By item, which part of the person's liked items is in its category, relative to their most frequent one.
    fn affinity(&self, own: &[Choice]) -> Vec<f32> {
        let of = &self.world.categories;
        let mut counts: BTreeMap<u32, f32> = BTreeMap::new();
        for c in own.iter().take(OWN).filter(|c| c.positive) {
            of[c.item as usize].iter().for_each(|c| *counts.entry(*c).or_default() += 1.0);
        }
        let most = counts.values().copied().fold(0.0, f32::max).max(1.0);
        let part = |c: &u32| counts.get(c).copied().unwrap_or(0.0) / most;
        let mut out = vec![0.0; of.len()];
        for (item, _) in self.rising.iter().flatten() {
            out[*item as usize] = of[*item as usize].iter().map(part).fold(0.0, f32::max);
        }
        out
    }

    fn row(&self, tally: &mut Tally, user: usize, truth: &[u32], users: &Near, texts: &Near) -> Row {
        let own = self.own(user);
        let mut columns: Vec<Near> = Vec::with_capacity(COLUMNS);
        for lists in [&self.graph, self.learned] {
            for (rank, c) in own.iter().take(OWN).enumerate().filter(|(_, c)| c.positive) {
                let voices = RECENCIES.map(|exponent| c.weight * ((rank + 1) as f32).powf(-exponent));
                for (item, weight) in &lists[c.item as usize] {
                    tally.add(*item, &voices, *weight);
                }
            }
            columns.extend(tally.take());
        }
        let mut sums: BTreeMap<u32, f32> = BTreeMap::new();
        for (near, voice) in users {
            let theirs = self.own(*near as usize);
            for (rank, c) in theirs.iter().take(ITEMS_PER_USER).filter(|c| c.positive).enumerate() {
                *sums.entry(c.item).or_default() += voice * c.weight * ((rank + 1) as f32).powf(-OTHERS_RECENCY);
            }
        }
        columns.push(sums.into_iter().collect());
        columns.push(texts.clone());
        let mut followed: BTreeMap<u32, f32> = BTreeMap::new();
        for (rank, c) in own.iter().take(LATEST).enumerate().filter(|(_, c)| c.positive) {
            for (item, weight) in &self.next[c.item as usize] {
                *followed.entry(*item).or_default() += fading(rank) * c.weight * weight;
            }
        }
        columns.push(followed.into_iter().collect());
        let affinity = self.affinity(&own);
        for rising in &self.rising {
            for taste in TASTES {
                let tasted = rising.iter().map(|(i, s)| (*i, s * to_the_taste(affinity[*i as usize], taste))).collect();
                columns.push(super::fit::strongest(tasted, RISING));
            }
        }
        let share = self.share + NEWCOMER / (1 + own.len().max(WRITTEN)) as f32;
        let mut mine: Vec<u32> = own.iter().map(|c| c.item).collect();
        mine.sort_unstable();
        let mut candidates: BTreeMap<u32, [f32; COLUMNS]> = BTreeMap::new();
        for (column, list) in columns.into_iter().enumerate() {
            let list = list.into_iter().filter(|(i, s)| *s > 0.0 && mine.binary_search(i).is_err()).collect();
            let list = super::fit::strongest(list, BEST);
            let best = list.first().map_or(1.0, |(_, s)| *s);
            for (item, score) in list {
                candidates.entry(item).or_insert([0.0; COLUMNS])[column] = score / best;
            }
        }
        let hits = candidates.keys().map(|i| truth.contains(i)).collect();
        let (items, scores) = candidates.into_iter().unzip();
        Row { own: own.len(), share, wanted: truth.len(), items, scores, hits }
    }
}

/// Vectors as columns, and whose they are.
fn table<'a>(vectors: impl Iterator<Item = Option<&'a Vector>>, dimension: usize) -> (Mat<f32>, Vec<u32>) {
    let some: Vec<(u32, &Vector)> =
        (0_u32..).zip(vectors).filter_map(|(n, v)| Some((n, v?))).filter(|(_, v)| v.len() == dimension).collect();
    let mut out = Mat::zeros(dimension, some.len());
    for (column, (_, v)) in some.iter().enumerate() {
        v.iter().enumerate().for_each(|(row, x)| out[(row, column)] = *x);
    }
    (out, some.into_iter().map(|(n, _)| n).collect())
}

fn product(all: MatRef<'_, f32>, asked: MatRef<'_, f32>) -> Mat<f32> {
    let mut out = Mat::zeros(all.ncols(), asked.ncols());
    matmul(out.as_mut(), Accum::Replace, all.transpose(), asked, 1.0, Par::Seq);
    out
}

/// `(s - s_next) / (s_1 - s_next)` of the best `taken`, as requests have it.
fn standing_out(found: Near, taken: usize) -> Near {
    let mut found = super::fit::strongest(found, taken + 1);
    let floor = found.get(taken).map_or(0.0, |(_, s)| *s);
    let span = found.first().map_or(0.0, |(_, s)| *s) - floor;
    found.truncate(taken);
    found.iter_mut().for_each(|(_, s)| *s = if span > 0.0 { (*s - floor) / span } else { 1.0 });
    found.retain(|(_, s)| *s > 0.0);
    found
}
