//! How a shard is searched: which points are looked at, and how what was found is told apart.
//!
//! Points are picked by their codes, in whole numbers; every row that can belong to the answer is then compared by its vector.
//! Filters are never approximate: a row that does not pass is never returned, and where few pass, exactly those are compared.

use std::{cmp::Ordering, collections::BTreeSet};

use nearcast_domain::ports::{Hit, VectorQuery};

use super::{codes::Codes, dot::dot, graph::Graph, near::Near, shard::Shard};

/// With fewer points than this there is no graph: up to here a scan takes no longer than a search in one, and is exact (384 components,
/// see the parent module).
pub(super) const GRAPH_FROM: usize = 16_384;
/// How many candidates a search in the graph keeps. Recall@10 on 20,000 messages: 64 gave 0.987, 96 0.9935, 128 0.996, 160 0.997
/// (one order of insertion; the one that is used gives 0.995 at 128, and 0.992 with a quarter replaced).
pub(super) const WIDTH: usize = 160;
/// About how many points are scanned in the time that a search takes for each candidate it keeps. A search that would keep more than
/// this allows is a scan.
const SCANNED_PER_CANDIDATE: usize = 80;
/// A label that fewer rows bear than this is answered by comparing them all.
const SCAN_MAX: usize = GRAPH_FROM;

/// Which rows may be returned.
struct Filter<'a> {
    excluded: Excluded,
    labelled: Option<&'a BTreeSet<u32>>,
}

/// A set of rows, a bit each: asked once for every row that is compared.
#[derive(Default)]
struct Excluded {
    bits: Vec<u64>,
    len: usize,
}

impl Excluded {
    fn insert(&mut self, row: u32) {
        let (word, bit) = (row as usize / 64, 1_u64 << (row % 64));
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.len += usize::from(self.bits[word] & bit == 0);
        self.bits[word] |= bit;
    }

    fn contains(&self, row: u32) -> bool {
        self.bits.get(row as usize / 64).is_some_and(|w| w & (1 << (row % 64)) != 0)
    }
}

impl Filter<'_> {
    fn passes(&self, row: u32) -> bool {
        !self.excluded.contains(row) && self.labelled.is_none_or(|rows| rows.contains(&row))
    }

    fn is_open(&self) -> bool {
        self.excluded.len == 0 && self.labelled.is_none()
    }
}

impl Shard {
    /// Whether there should be a graph and is none, or it lags so far behind that a search would gain by a new one: a quarter of it is
    /// dead, or a quarter is not in it.
    pub(super) fn wants_growth(&self) -> bool {
        let made = self.graph_len();
        self.live_points() >= GRAPH_FROM && (4 * self.gone() > made || self.fresh.len() > (GRAPH_FROM / 4).max(made / 4))
    }

    fn graph_len(&self) -> usize {
        self.graph.as_ref().map_or(0, Graph::len)
    }

    /// About how many points a search compares, or could in the same time.
    pub(super) fn effort(&self) -> usize {
        match self.graph {
            None => self.live_points(),
            Some(_) => SCANNED_PER_CANDIDATE * WIDTH + self.fresh.len() + self.strays.len(),
        }
    }

    /// The nearest rows: by score from the top, ties by id.
    pub(super) fn search(&self, query: &VectorQuery) -> Vec<Hit> {
        let mut excluded = Excluded::default();
        query.exclude.iter().filter_map(|id| self.number(id)).for_each(|row| excluded.insert(row));
        let labelled = match &query.label {
            None => None,
            Some(label) => match self.by_label.get(label.as_str()) {
                None => return Vec::new(),
                rows => rows,
            },
        };
        let filter = Filter { excluded, labelled };
        let limit = query.limit.min(labelled.map_or(self.len(), BTreeSet::len));
        if limit == 0 {
            return Vec::new();
        }
        let code = Codes::encode(&query.vector);
        let found = self.candidates(&code, limit, &filter);
        self.settle_scores(&query.vector, found, limit, &filter)
    }

    fn candidates(&self, code: &[i16], limit: usize, filter: &Filter<'_>) -> Vec<Near> {
        let accept = |p: u32| {
            if filter.is_open() { !self.rows_at(p).is_empty() } else { self.rows_at(p).iter().any(|r| filter.passes(*r)) }
        };
        let near = |p: u32| Near { score: self.codes.dot(code, p), point: p };
        if let Some(rows) = filter.labelled
            && rows.len() < SCAN_MAX
        {
            let mut points: Vec<u32> =
                rows.iter().filter(|r| !filter.excluded.contains(**r)).filter_map(|r| self.point_of(*r)).collect();
            points.sort_unstable();
            points.dedup();
            return points.into_iter().map(near).collect();
        }
        self.through_graph(code, limit, filter, &accept)
            .unwrap_or_else(|| self.all_points().filter(|p| accept(*p)).collect())
            .into_iter()
            .map(near)
            .collect()
    }

    /// The candidates that the graph and what is not found through it give; `None` where a scan costs less, or is needed because
    /// what was found does not fill the answer. The library's own filter is not used: with one, its search does not stop early.
    fn through_graph(&self, code: &[i16], limit: usize, filter: &Filter<'_>, accept: &dyn Fn(u32) -> bool) -> Option<Vec<u32>> {
        let graph = self.graph.as_ref()?;
        // So many candidates that enough of them are left: without the dead, without the label, and excluded.
        let alive = graph.len().saturating_sub(self.gone()).max(1);
        let labelled = filter.labelled.map_or(self.len(), BTreeSet::len).max(1);
        let wanted = WIDTH.max(limit + limit / 2).saturating_mul(graph.len()) / alive;
        let width = wanted.saturating_mul(self.len()) / labelled + filter.excluded.len;
        if width.saturating_mul(SCANNED_PER_CANDIDATE) > self.live_points() {
            return None;
        }
        let mut found: Vec<u32> = graph.search(code, width).filter(|p| accept(*p) && !self.strays.contains(p)).collect();
        found.extend(self.fresh.iter().chain(&self.strays).copied().filter(|p| accept(*p)));
        (found.len() >= limit).then_some(found)
    }

    /// Compares by the vectors themselves whatever the codes cannot rule out.
    fn settle_scores(&self, vector: &[f32], mut found: Vec<Near>, limit: usize, filter: &Filter<'_>) -> Vec<Hit> {
        if found.len() > limit {
            let (_, last, _) = found.select_nth_unstable_by(limit - 1, |a, b| b.cmp(a));
            // Either score can be off by the error.
            let cut = last.score.saturating_sub(2 * self.codes.error());
            found.retain(|n| n.score >= cut);
        }
        let mut hits: Vec<(f32, &str)> = Vec::with_capacity(found.len());
        for n in found {
            for &r in self.rows_at(n.point).iter().filter(|r| filter.passes(**r)) {
                if let Some(row) = self.row(r) {
                    // Adding zero makes -0 equal 0, so that they tie.
                    hits.push((dot(vector, &row.vector).clamp(-1.0, 1.0) + 0.0, &row.id));
                }
            }
        }
        let order = |a: &(f32, &str), b: &(f32, &str)| -> Ordering { b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)) };
        if hits.len() > limit {
            hits.select_nth_unstable_by(limit - 1, order);
            hits.truncate(limit);
        }
        hits.sort_unstable_by(order);
        hits.into_iter().map(|(score, id)| Hit { id: id.to_owned(), score }).collect()
    }
}
