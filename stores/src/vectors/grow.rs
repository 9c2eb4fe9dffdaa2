//! Making a graph, apart from the shard it is for: long computation, on a thread of its own, that can be given up.
//!
//! Deterministic: points are taken in on one thread, in the order of their codes' hashes, so equal rows make equal graphs, whatever
//! their history. What the finished graph does not find is listed, by asking it for every single point.

use std::collections::BTreeSet;

use super::{
    codes::Codes,
    graph::Graph,
    shard::{Growth, code_hash},
};

/// With how few candidates every point must be found. Fewer than any search of a caller's uses, so that those find it more surely.
const WIDTH_CHECK: usize = 24;

/// The new graph and the points that it does not find; `None` where `stop` said so in between.
pub(super) fn grow(growth: Growth, stop: &dyn Fn() -> bool) -> Option<(Graph, BTreeSet<u32>)> {
    let Growth { codes, take } = growth;
    let mut order: Vec<(u64, u32)> = take.into_iter().map(|p| (code_hash(codes.of(p)), p)).collect();
    order.sort_unstable();
    let mut graph = Graph::new(order.len());
    for (i, (_, point)) in order.into_iter().enumerate() {
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
        if graph.search(codes.of(point), WIDTH_CHECK).all(|found| found != point) {
            strays.insert(point);
        }
    }
    Some(strays)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::search::WIDTH, *};

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

    fn found(graph: &Graph, code: &[i16], width: usize) -> Vec<u32> {
        graph.search(code, width).collect()
    }

    #[test]
    fn finds_what_is_near() {
        let codes = codes(3000, 32, 5);
        let queries = self::codes(100, 32, 6);
        // Some numbers are not taken.
        let take: Vec<u32> = (0..3000).filter(|p| p % 10 != 3).collect();
        let (graph, strays) = grow(Growth { codes: codes.clone(), take: take.clone() }, &|| false).unwrap();
        assert_eq!((graph.len(), graph.points().collect::<Vec<_>>()), (2700, take.clone()));
        assert!(!graph.holds(3) && graph.holds(4) && !graph.holds(3000));
        assert!(strays.len() < 27, "{}", strays.len());
        for p in take.iter().filter(|p| !strays.contains(p)) {
            assert!(found(&graph, codes.of(*p), WIDTH_CHECK).contains(p));
        }
        let mut hits = 0;
        for q in 0..100 {
            let q = queries.of(q);
            let mut exact: Vec<i32> = take.iter().map(|p| codes.dot(q, *p)).collect();
            exact.sort_unstable_by(|a, b| b.cmp(a));
            let found = found(&graph, q, WIDTH);
            assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), WIDTH, "a point was named twice");
            hits += found.iter().filter(|p| codes.dot(q, **p) >= exact[9]).count();
        }
        assert!(hits >= 985, "{hits}");
    }

    #[test]
    fn equal_points_make_equal_graphs_whatever_their_numbers() {
        let one = codes(600, 16, 9);
        let mut other = Codes::new(16);
        for p in 0..600 {
            other.set(599 - p, one.of(p));
        }
        let make = |codes: &Codes| grow(Growth { codes: codes.clone(), take: (0..600).collect() }, &|| false).unwrap();
        let ((a, strays_a), (b, strays_b)) = (make(&one), make(&other));
        assert_eq!(strays_a, strays_b.into_iter().map(|p| 599 - p).collect());
        for p in 0..600 {
            let renumbered: Vec<u32> = found(&b, one.of(p), 40).into_iter().map(|p| 599 - p).collect();
            assert_eq!(found(&a, one.of(p), 40), renumbered);
        }
    }

    #[test]
    fn it_can_be_given_up() {
        let codes = codes(50, 8, 2);
        assert!(grow(Growth { codes, take: (0..50).collect() }, &|| true).is_none());
    }
}
