//! Making a graph of more points, apart from the shard it is for: long computation, on a thread of its own, that can be given up.
//!
//! Deterministic: points are taken in by number on one thread, and their levels come from their codes, so equal histories make
//! equal graphs. What the finished graph does not find is listed, by asking it for every single point.

use std::collections::BTreeSet;

use super::{codes::Codes, graph::Graph, shard::Growth};

/// With how few candidates every point must be found. Fewer than any search of a caller's uses, so that those find it more surely.
const WIDTH_CHECK: usize = 24;

/// The new graph and the points that it does not find; `None` where `stop` said so in between.
pub(super) fn grow(growth: Growth, stop: &dyn Fn() -> bool) -> Option<(Graph, BTreeSet<u32>)> {
    let Growth { mut graph, codes, gone, take } = growth;
    if !gone.is_empty() {
        graph.remove(&codes, &gone);
    }
    for (i, point) in take.into_iter().enumerate() {
        if i % 16 == 0 && stop() {
            return None;
        }
        graph.insert(&codes, point);
    }
    let strays = strays(&graph, &codes, stop)?;
    Some((graph, strays))
}

/// The points that a search for their own code does not return.
fn strays(graph: &Graph, codes: &Codes, stop: &dyn Fn() -> bool) -> Option<BTreeSet<u32>> {
    let mut strays = BTreeSet::new();
    for (i, point) in graph.points().enumerate() {
        if i % 64 == 0 && stop() {
            return None;
        }
        let found = graph.search(codes, codes.of(point), WIDTH_CHECK, &|_| true);
        if found.iter().all(|n| n.point != point) {
            strays.insert(point);
        }
    }
    Some(strays)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Clusters: what real vectors look like, and what makes graphs lose points.
    fn codes(n: u32, dimension: usize, seed: u64) -> Codes {
        let mut rng = fastrand::Rng::with_seed(seed);
        let centres: Vec<Vec<f32>> = (0..20).map(|_| (0..dimension).map(|_| rng.f32() - 0.5).collect()).collect();
        let mut codes = Codes::new(dimension);
        for p in 0..n {
            let c = &centres[rng.usize(..centres.len())];
            let v: Vec<f32> = c.iter().map(|x| x + 0.4 * (rng.f32() - 0.5)).collect();
            let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt();
            codes.set(p, &Codes::encode(&v.iter().map(|x| x / norm).collect::<Vec<_>>()));
        }
        codes
    }

    fn recall(graph: &Graph, codes: &Codes, live: &[u32], queries: &Codes, n: u32) -> f64 {
        let mut hits = 0;
        for q in 0..n {
            let q = queries.of(q);
            let mut exact: Vec<i32> = live.iter().map(|p| codes.dot(q, *p)).collect();
            exact.sort_unstable_by(|a, b| b.cmp(a));
            hits += graph.search(codes, q, 80, &|_| true).iter().take(10).filter(|h| h.score >= exact[9]).count();
        }
        hits as f64 / f64::from(10 * n)
    }

    #[test]
    fn finds_what_is_near_before_and_after_removals() {
        let codes = codes(3000, 32, 5);
        let queries = self::codes(100, 32, 6);
        let growth = Growth { graph: Graph::default(), codes: codes.clone(), gone: HashSet::new(), take: (0..3000).collect() };
        let (graph, strays) = grow(growth, &|| false).unwrap();
        assert_eq!(graph.len(), 3000);
        assert!(graph.is_sound() && graph.unreachable().iter().all(|p| strays.contains(p)));
        assert!(strays.len() < 30, "{}", strays.len());
        let all: Vec<u32> = (0..3000).collect();
        let before = recall(&graph, &codes, &all, &queries, 100);
        assert!(before > 0.99, "{before}");

        // Two thirds go, and the entry with them; some come back.
        let gone: HashSet<u32> = (0..3000).filter(|p| p % 3 != 0).collect();
        let take: Vec<u32> = (0..3000).filter(|p| p % 6 == 1).collect();
        let live: Vec<u32> = (0..3000).filter(|p| p % 3 == 0 || p % 6 == 1).collect();
        let mut rest = graph.clone();
        rest.remove(&codes, &gone);
        assert!(rest.is_sound());
        assert_eq!(rest.points().collect::<Vec<_>>(), (0..3000).filter(|p| p % 3 == 0).collect::<Vec<_>>());
        let (graph, _) = grow(Growth { graph: rest, codes: codes.clone(), gone: HashSet::new(), take }, &|| false).unwrap();
        let after = recall(&graph, &codes, &live, &queries, 100);
        assert!(after > 0.98, "{after}");
    }

    #[test]
    fn equal_facts_make_equal_graphs() {
        let codes = codes(600, 16, 9);
        let make = || {
            let growth =
                Growth { graph: Graph::default(), codes: codes.clone(), gone: HashSet::new(), take: (0..600).collect() };
            grow(growth, &|| false).unwrap()
        };
        assert_eq!(make(), make());
    }

    #[test]
    fn removing_all_leaves_an_empty_graph() {
        let codes = codes(50, 8, 2);
        let growth = Growth { graph: Graph::default(), codes: codes.clone(), gone: HashSet::new(), take: (0..50).collect() };
        let (mut graph, _) = grow(growth, &|| false).unwrap();
        graph.remove(&codes, &(0..50).collect());
        assert_eq!((graph.len(), graph.search(&codes, codes.of(1), 10, &|_| true).len()), (0, 0));
        graph.insert(&codes, 7);
        assert_eq!(graph.search(&codes, codes.of(1), 10, &|_| true)[0].point, 7);
    }

    #[test]
    fn it_can_be_given_up() {
        let codes = codes(50, 8, 2);
        assert!(
            grow(Growth { graph: Graph::default(), codes, gone: HashSet::new(), take: (0..50).collect() }, &|| true).is_none()
        );
    }
}
