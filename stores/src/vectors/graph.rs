//! A navigable small world graph over points, after Malkov and Yashunin 2018 (arXiv:1603.09320): insertion, search, and
//! what a removal leaves to mend.
//!
//! It holds links only; vectors stay with the caller, by number. It must never be the only way to a row: what it does not find
//! ([`super::shard`] asks for each point it takes in) is scanned instead.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};

use super::{
    codes::Codes,
    near::{Near, SEEN},
};

/// Links of a point in each layer above the lowest, at most.
const LINKS: usize = 24;
/// Links in the lowest layer, at most.
const LINKS_LOWEST: usize = 2 * LINKS;
/// Places of a point in the table of the lowest layer: the number of links, then the links.
const STRIDE: usize = LINKS_LOWEST + 1;
/// How many candidates an insertion weighs (`efConstruction`).
const WIDTH_BUILD: usize = 120;
/// With how many points of the layer above a search enters the lowest one. The paper takes one; several keep a query that lies
/// between clusters from being caught in the first.
const STARTS: usize = 16;
/// No point lies higher than this.
const TOP: u8 = 12;
/// The level of a point that is not in the graph.
const ABSENT: u8 = u8::MAX;

/// The links. Points are numbered by the caller and never renumbered.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Graph {
    levels: Vec<u8>,
    lowest: Vec<u32>,
    upper: Vec<Vec<Vec<u32>>>,
    entry: Option<u32>,
    len: usize,
}

impl Graph {
    /// How many points are in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a point is in it.
    pub(super) fn holds(&self, point: u32) -> bool {
        self.levels.get(point as usize).is_some_and(|l| *l != ABSENT)
    }

    /// The numbers of all points, ascending.
    pub(super) fn points(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.levels.len() as u32).filter(|p| self.holds(*p))
    }

    /// The `width` nearest points that `accept` takes, nearest first; exact only with luck. Points that are not accepted
    /// still lead the way.
    pub(super) fn search(&self, codes: &Codes, query: &[i16], width: usize, accept: &dyn Fn(u32) -> bool) -> Vec<Near> {
        let Some(entry) = self.entry else { return Vec::new() };
        let start = self.descend(codes, query, entry, 1);
        let starts = match self.levels[entry as usize] {
            0 => vec![start],
            _ => self.search_layer(codes, query, &[start], STARTS, 1, &|_| true),
        };
        let mut found = self.search_layer(codes, query, &starts, width, 0, accept);
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// Takes a point in. `vectors` must hold it and every point that is in already. Does nothing where it is in.
    pub(super) fn insert(&mut self, codes: &Codes, point: u32) {
        if self.holds(point) {
            return;
        }
        let level = level(codes.of(point));
        self.place(point, level);
        let Some(entry) = self.entry else {
            self.entry = Some(point);
            return;
        };
        let query = codes.of(point);
        let top = self.levels[entry as usize];
        let mut starts = vec![self.descend(codes, query, entry, level.min(top))];
        for layer in (0..=level.min(top)).rev() {
            let mut found = self.search_layer(codes, query, &starts, WIDTH_BUILD, layer, &|p| p != point);
            found.sort_unstable_by(|a, b| b.cmp(a));
            let chosen = select(codes, &found, LINKS);
            self.set_links(point, layer, &chosen);
            for near in chosen {
                self.link(codes, near, point, layer);
            }
            starts = found;
        }
        if level > top {
            self.entry = Some(point);
        }
    }

    /// Takes points out and mends the links of those that led to them: what a removed point linked to is weighed in its place
    /// (after FreshDiskANN, Singh et al. 2021, arXiv:2105.09613, section 4.2). Needs no vector of a removed point.
    pub(super) fn remove(&mut self, codes: &Codes, gone: &HashSet<u32>) {
        let gone: HashSet<u32> = gone.iter().copied().filter(|p| self.holds(*p)).collect();
        if gone.is_empty() {
            return;
        }
        let kept: Vec<u32> = self.points().filter(|p| !gone.contains(p)).collect();
        for &point in &kept {
            for layer in 0..=self.levels[point as usize] {
                if self.links(point, layer).iter().any(|l| gone.contains(l)) {
                    let mut around = HashSet::new();
                    for &l in self.links(point, layer) {
                        if gone.contains(&l) {
                            around.extend(self.links(l, layer).iter().filter(|l| **l != point && !gone.contains(l)));
                        } else {
                            around.insert(l);
                        }
                    }
                    let mended = rank(codes, codes.of(point), around);
                    let chosen = select(codes, &mended, capacity(layer));
                    self.set_links(point, layer, &chosen);
                }
            }
        }
        for &point in &gone {
            self.levels[point as usize] = ABSENT;
            self.lowest[point as usize * STRIDE] = 0;
            self.upper[point as usize] = Vec::new();
        }
        self.len = kept.len();
        if self.entry.is_some_and(|e| gone.contains(&e)) {
            self.entry = kept.iter().copied().max_by_key(|p| (self.levels[*p as usize], Reverse(*p)));
        }
    }

    /// The points that no search can come to.
    pub(super) fn unreachable(&self) -> Vec<u32> {
        let mut seen = vec![false; self.levels.len()];
        let mut open: Vec<u32> = self.entry.into_iter().collect();
        // A search enters the lowest layer where a descent through the upper ones ended.
        open.extend(self.points().filter(|p| self.levels[*p as usize] > 0));
        for p in &open {
            seen[*p as usize] = true;
        }
        while let Some(p) = open.pop() {
            for &l in self.links(p, 0) {
                if !std::mem::replace(&mut seen[l as usize], true) {
                    open.push(l);
                }
            }
        }
        self.points().filter(|p| !seen[*p as usize]).collect()
    }

    /// The highest layer of a point that is in.
    pub(super) fn top_of(&self, point: u32) -> u8 {
        self.levels[point as usize]
    }

    /// Puts a point back with the links that it had, a list a layer from the lowest up. `None` where it cannot have had them.
    /// All points are to be put back before anything is asked of the graph.
    pub(super) fn restore(&mut self, point: u32, layers: Vec<Vec<u32>>) -> Option<()> {
        let top = layers.len().checked_sub(1)? as u8;
        let fits = layers.iter().enumerate().all(|(i, l)| l.len() <= capacity(i as u8));
        if self.holds(point) || top > TOP || !fits {
            return None;
        }
        self.place(point, top);
        for (layer, links) in layers.into_iter().enumerate() {
            let links: Vec<Near> = links.into_iter().map(|point| Near { score: 0, point }).collect();
            self.set_links(point, layer as u8, &links);
        }
        if self.entry.is_none_or(|e| top > self.levels[e as usize]) {
            self.entry = Some(point);
        }
        Some(())
    }

    /// Whether every link leads to a point that is in, in that layer too.
    pub(super) fn is_sound(&self) -> bool {
        self.points().all(|p| {
            (0..=self.top_of(p))
                .all(|layer| self.links(p, layer).iter().all(|l| *l != p && self.holds(*l) && self.top_of(*l) >= layer))
        })
    }

    /// The links of a point in a layer.
    pub(super) fn links(&self, point: u32, layer: u8) -> &[u32] {
        if layer == 0 {
            let at = point as usize * STRIDE;
            &self.lowest[at + 1..at + 1 + self.lowest[at] as usize]
        } else {
            self.upper[point as usize].get(usize::from(layer) - 1).map_or(&[], Vec::as_slice)
        }
    }

    fn set_links(&mut self, point: u32, layer: u8, links: &[Near]) {
        if layer == 0 {
            let at = point as usize * STRIDE;
            let n = links.len().min(LINKS_LOWEST);
            self.lowest[at] = n as u32;
            for (to, l) in self.lowest[at + 1..at + 1 + n].iter_mut().zip(links) {
                *to = l.point;
            }
        } else {
            self.upper[point as usize][usize::from(layer) - 1] = links.iter().map(|l| l.point).collect();
        }
    }

    /// Links `from` to `to`; where `from` has no place left, its links are chosen anew.
    fn link(&mut self, codes: &Codes, from: Near, to: u32, layer: u8) {
        let room = capacity(layer);
        let links = self.links(from.point, layer);
        if links.contains(&to) {
            return;
        }
        if links.len() < room {
            if layer == 0 {
                let at = from.point as usize * STRIDE;
                let n = self.lowest[at] as usize;
                self.lowest[at + 1 + n] = to;
                self.lowest[at] += 1;
            } else {
                self.upper[from.point as usize][usize::from(layer) - 1].push(to);
            }
            return;
        }
        let around = links.iter().copied().chain([to]).collect::<Vec<_>>();
        let ranked = rank(codes, codes.of(from.point), around);
        let chosen = select(codes, &ranked, room);
        self.set_links(from.point, layer, &chosen);
    }

    fn place(&mut self, point: u32, level: u8) {
        let places = point as usize + 1;
        if self.levels.len() < places {
            self.levels.resize(places, ABSENT);
            self.lowest.resize(places * STRIDE, 0);
            self.upper.resize(places, Vec::new());
        }
        self.levels[point as usize] = level;
        self.upper[point as usize] = vec![Vec::new(); usize::from(level)];
        self.len += 1;
    }

    /// From the entry down to above `layer`, always to the nearest.
    fn descend(&self, codes: &Codes, query: &[i16], entry: u32, layer: u8) -> Near {
        let mut at = Near { score: codes.dot(query, entry), point: entry };
        for layer in (layer + 1..=self.levels[entry as usize]).rev() {
            loop {
                let next = self
                    .links(at.point, layer)
                    .iter()
                    .map(|&l| Near { score: codes.dot(query, l), point: l })
                    .max()
                    .unwrap_or(at);
                if next <= at {
                    break;
                }
                at = next;
            }
        }
        at
    }

    fn search_layer(
        &self,
        codes: &Codes,
        query: &[i16],
        starts: &[Near],
        width: usize,
        layer: u8,
        accept: &dyn Fn(u32) -> bool,
    ) -> Vec<Near> {
        SEEN.with_borrow_mut(|seen| {
            seen.begin(self.levels.len());
            let mut open: BinaryHeap<Near> = BinaryHeap::with_capacity(2 * width);
            let mut found: BinaryHeap<Reverse<Near>> = BinaryHeap::with_capacity(width + 1);
            for &s in starts {
                if seen.first(s.point) {
                    open.push(s);
                    if accept(s.point) {
                        found.push(Reverse(s));
                        if found.len() > width {
                            found.pop();
                        }
                    }
                }
            }
            while let Some(at) = open.pop() {
                if found.len() >= width && found.peek().is_some_and(|worst| at < worst.0) {
                    break;
                }
                let mut fresh = [0_u32; LINKS_LOWEST];
                let mut n = 0;
                for &l in self.links(at.point, layer) {
                    if seen.first(l) {
                        codes.prefetch(l);
                        fresh[n] = l;
                        n += 1;
                    }
                }
                for &l in &fresh[..n] {
                    let near = Near { score: codes.dot(query, l), point: l };
                    if found.len() < width || found.peek().is_some_and(|worst| near > worst.0) {
                        open.push(near);
                        if accept(l) {
                            found.push(Reverse(near));
                            if found.len() > width {
                                found.pop();
                            }
                        }
                    }
                }
            }
            found.into_iter().map(|r| r.0).collect()
        })
    }
}

fn capacity(layer: u8) -> usize {
    if layer == 0 { LINKS_LOWEST } else { LINKS }
}

/// The points by nearness to `from`, nearest first.
fn rank(codes: &Codes, from: &[i16], points: impl IntoIterator<Item = u32>) -> Vec<Near> {
    let mut ranked: Vec<Near> = points.into_iter().map(|p| Near { score: codes.dot(from, p), point: p }).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked
}

/// Of candidates that are sorted nearest first, those that lie nearer to the middle than to any one chosen before (algorithm 4 of
/// the paper), filled up with the nearest of the others.
fn select(codes: &Codes, candidates: &[Near], limit: usize) -> Vec<Near> {
    if candidates.len() <= limit {
        return candidates.to_vec();
    }
    let mut chosen: Vec<Near> = Vec::with_capacity(limit);
    let mut others: Vec<Near> = Vec::new();
    for &c in candidates {
        if chosen.len() == limit {
            break;
        }
        let v = codes.of(c.point);
        if chosen.iter().all(|s| codes.dot(v, s.point) < c.score) {
            chosen.push(c);
        } else {
            others.push(c);
        }
    }
    let room = limit - chosen.len();
    chosen.extend(others.into_iter().take(room));
    chosen
}

/// The highest layer of a point: from its code alone, so that equal facts make equal graphs.
fn level(code: &[i16]) -> u8 {
    let hash = code.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |h, x| {
        let h = (h ^ (*x as u64)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h ^ (h >> 29)
    });
    let uniform = ((hash >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    (-uniform.ln() / (LINKS as f64).ln()) as u8 % (TOP + 1)
}
