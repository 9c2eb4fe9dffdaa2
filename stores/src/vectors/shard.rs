//! The rows of one tenant in one collection of one revision, in memory: what is kept, and the state that searches use.
//!
//! Rows whose codes are equal are one *point*: a thousand users who wrote the same word are one place in the graph, and all of
//! them are found with it. A point is in the graph, or it is scanned: those too new for the graph, and those that the graph
//! does not find. So an answer never lacks a row because of how the graph grew. Nothing here blocks, reads a clock or does I/O.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use nearcast_domain::{Vector, ports::VectorRow};

use super::{codes::Codes, graph::Graph, record::checksum};

/// A row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: Arc<str>,
    pub(super) vector: Vector,
    pub(super) labels: Arc<[Arc<str>]>,
    point: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) dimension: usize,
    rows: Vec<Option<Row>>,
    free_rows: Vec<u32>,
    by_id: HashMap<Arc<str>, u32>,
    pub(super) by_label: HashMap<Arc<str>, BTreeSet<u32>>,
    pub(super) codes: Codes,
    /// The rows of each point; empty where the point is free or gone.
    points: Vec<Vec<u32>>,
    by_code: HashMap<u64, u32>,
    free_points: Vec<u32>,
    /// Points without rows that the graph, or one that is being made, may still lead to.
    gone: HashSet<u32>,
    /// Made in the background; never changed.
    pub(super) graph: Option<Graph>,
    /// Points with rows that are not in the graph.
    pub(super) fresh: BTreeSet<u32>,
    /// Points in the graph that it does not find.
    pub(super) strays: BTreeSet<u32>,
    /// Whether a graph is being made of a copy.
    growing: bool,
    /// About how many bytes the rows take in the journal.
    pub(super) bytes: u64,
}

/// What a new graph is made from, apart from the shard.
#[derive(Debug)]
pub(super) struct Growth {
    pub(super) codes: Codes,
    pub(super) take: Vec<u32>,
}

impl Shard {
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            dimension,
            rows: Vec::new(),
            free_rows: Vec::new(),
            by_id: HashMap::new(),
            by_label: HashMap::new(),
            codes: Codes::new(dimension),
            points: Vec::new(),
            by_code: HashMap::new(),
            free_points: Vec::new(),
            gone: HashSet::new(),
            graph: None,
            fresh: BTreeSet::new(),
            strays: BTreeSet::new(),
            growing: false,
            bytes: 0,
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many points have rows.
    pub(super) fn live_points(&self) -> usize {
        self.points.len() - self.free_points.len() - self.gone.len()
    }

    /// The row of an id.
    pub(super) fn get(&self, id: &str) -> Option<&Row> {
        self.row(*self.by_id.get(id)?)
    }

    /// The number of the row of an id.
    pub(super) fn number(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// A row by number.
    pub(super) fn row(&self, number: u32) -> Option<&Row> {
        self.rows.get(number as usize)?.as_ref()
    }

    /// Every row's number is below this.
    pub(super) fn places(&self) -> usize {
        self.rows.len()
    }

    /// All rows, in no order that means anything.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().flatten()
    }

    /// The numbers of the rows of a point.
    pub(super) fn rows_at(&self, point: u32) -> &[u32] {
        &self.points[point as usize]
    }

    /// The point of a row by number.
    pub(super) fn point_of(&self, row: u32) -> Option<u32> {
        self.row(row).map(|r| r.point)
    }

    /// All points with rows.
    pub(super) fn all_points(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.points.len() as u32).filter(|p| !self.points[*p as usize].is_empty())
    }

    /// Whether a row is held just so.
    pub(super) fn holds(&self, row: &VectorRow) -> bool {
        self.get(&row.id).is_some_and(|old| {
            same_bits(&old.vector, &row.vector)
                && old.labels.iter().map(AsRef::as_ref).eq(row.labels.iter().map(String::as_str))
        })
    }

    /// Sets a row. Its dimension was checked.
    pub(super) fn upsert(&mut self, row: VectorRow, shared: &mut HashMap<String, Arc<str>>) {
        if self.holds(&row) {
            return;
        }
        self.delete(&row.id);
        let id: Arc<str> = row.id.into();
        let labels: Arc<[Arc<str>]> = row
            .labels
            .into_iter()
            .map(|l| match self.by_label.get_key_value(l.as_str()) {
                Some((known, _)) => known.clone(),
                None => shared.entry(l).or_insert_with_key(|l| l.as_str().into()).clone(),
            })
            .collect();
        let number = self.free_rows.pop().unwrap_or(self.rows.len() as u32);
        let point = self.settle(number, &Codes::encode(&row.vector));
        for l in labels.iter() {
            self.by_label.entry(l.clone()).or_default().insert(number);
        }
        let row = Row { id: id.clone(), vector: row.vector, labels, point };
        self.bytes += size(&row);
        match self.rows.get_mut(number as usize) {
            Some(place) => *place = Some(row),
            None => self.rows.push(Some(row)),
        }
        self.by_id.insert(id, number);
    }

    /// Removes a row, if there is one.
    pub(super) fn delete(&mut self, id: &str) {
        let Some(number) = self.by_id.remove(id) else { return };
        let Some(row) = self.rows[number as usize].take() else { return };
        self.bytes -= size(&row);
        self.free_rows.push(number);
        for l in row.labels.iter() {
            if let Some(rows) = self.by_label.get_mut(l) {
                rows.remove(&number);
                if rows.is_empty() {
                    self.by_label.remove(l);
                }
            }
        }
        let members = &mut self.points[row.point as usize];
        members.retain(|r| *r != number);
        if members.is_empty() {
            self.retire(row.point);
        }
    }

    /// A graph to make of all points, unless one is being made. [`Self::finish`] must follow.
    pub(super) fn begin(&mut self) -> Option<Growth> {
        if self.growing {
            return None;
        }
        self.growing = true;
        Some(Growth { codes: self.codes.clone(), take: self.all_points().collect() })
    }

    /// Takes in the graph that was made of what [`Self::begin`] gave, with the points that it does not find; `None` where it was given
    /// up. Gives back the graph before, so that the caller can take it apart where no one waits.
    pub(super) fn finish(&mut self, made: Option<(Graph, BTreeSet<u32>)>) -> Option<Graph> {
        self.growing = false;
        let before = made.and_then(|(graph, strays)| {
            self.fresh = self.all_points().filter(|p| !graph.holds(*p)).collect();
            self.strays = strays.into_iter().filter(|p| !self.points[*p as usize].is_empty()).collect();
            self.graph.replace(graph)
        });
        self.free_gone();
        before
    }

    /// Frees the places of points that neither have rows nor stand in the graph. None may be being made meanwhile.
    fn free_gone(&mut self) {
        let free: Vec<u32> = self.gone.iter().copied().filter(|p| !self.in_graph(*p)).collect();
        for p in free {
            self.gone.remove(&p);
            self.free_points.push(p);
        }
        self.free_points.sort_unstable_by(|a, b| b.cmp(a));
    }

    fn in_graph(&self, point: u32) -> bool {
        self.graph.as_ref().is_some_and(|g| g.holds(point))
    }

    /// How many points without rows the graph, or one that is being made, still leads to.
    pub(super) fn gone(&self) -> usize {
        self.gone.len()
    }

    /// The point of a row's code: one that is there, or a new one.
    fn settle(&mut self, row: u32, code: &[i16]) -> u32 {
        let hash = code_hash(code);
        match self.by_code.get(&hash) {
            Some(&point) if self.codes.of(point) == code => {
                self.points[point as usize].push(row);
                point
            }
            other => {
                // Of two codes with one hash, the second is not shared with rows to come; nothing else changes.
                let unshared = other.is_some();
                let point = self.new_point();
                self.codes.set(point, code);
                self.points[point as usize].push(row);
                self.fresh.insert(point);
                if !unshared {
                    self.by_code.insert(hash, point);
                }
                point
            }
        }
    }

    fn new_point(&mut self) -> u32 {
        self.free_points.pop().unwrap_or_else(|| {
            self.points.push(Vec::new());
            self.points.len() as u32 - 1
        })
    }

    fn retire(&mut self, point: u32) {
        let hash = code_hash(self.codes.of(point));
        if self.by_code.get(&hash) == Some(&point) {
            self.by_code.remove(&hash);
        }
        self.fresh.remove(&point);
        self.strays.remove(&point);
        if self.growing || self.in_graph(point) {
            self.gone.insert(point);
        } else {
            self.free_points.push(point);
        }
    }
}

/// What a code is known by, and what orders points on their way into a graph.
pub(super) fn code_hash(code: &[i16]) -> u64 {
    let bytes: Vec<u8> = code.iter().flat_map(|c| c.to_le_bytes()).collect();
    checksum(&bytes)
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
}

/// About what the row takes in the journal.
fn size(row: &Row) -> u64 {
    (12 + row.id.len() + 4 * row.vector.len() + row.labels.iter().map(|l| 4 + l.len()).sum::<usize>()) as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nearcast_domain::testing::vectors::random_unit;

    use super::{super::grow::grow, *};

    fn write(shard: &mut Shard, ids: std::ops::Range<usize>, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        for i in ids {
            let row = VectorRow { id: format!("i{i}"), vector: random_unit(&mut rng, 16), labels: vec![] };
            shard.upsert(row, &mut HashMap::new());
        }
    }

    #[test]
    fn what_changes_while_a_graph_is_made_is_scanned_until_the_next() {
        let mut shard = Shard::new(16);
        write(&mut shard, 0..200, 1);
        let growth = shard.begin().unwrap();
        assert!(shard.begin().is_none(), "two at a time");
        (0..20).for_each(|i| shard.delete(&format!("i{i}")));
        write(&mut shard, 20..40, 2);
        write(&mut shard, 200..210, 3);
        assert!(shard.finish(grow(growth, &|| false)).is_none());
        assert_eq!(
            (shard.graph.as_ref().unwrap().len(), shard.fresh.len(), shard.gone(), shard.live_points()),
            (200, 30, 40, 190)
        );
        for p in shard.all_points() {
            assert_ne!(shard.in_graph(p), shard.fresh.contains(&p));
        }

        // Given up: the one that is there stays.
        shard.begin().unwrap();
        assert!(shard.finish(None).is_none());
        assert_eq!((shard.graph.as_ref().unwrap().len(), shard.fresh.len(), shard.gone()), (200, 30, 40));

        let growth = shard.begin().unwrap();
        let before = shard.finish(grow(growth, &|| false));
        assert_eq!((before.unwrap().len(), shard.graph.as_ref().unwrap().len()), (200, 190));
        assert_eq!((shard.fresh.len(), shard.gone(), shard.free_points.len(), shard.live_points()), (0, 0, 40, 190));
        write(&mut shard, 300..340, 4);
        assert_eq!((shard.free_points.len(), shard.points.len(), shard.fresh.len()), (0, 230, 40));
    }
}
