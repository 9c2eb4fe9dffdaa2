//! The similarity of two items: how many of their people they share, normalised.
//!
//! `sim(i, j) = Σ_u a_u·w_ui·w_uj / (sqrt(n_i·n_j) + shrink)` over the people `u` of both, with `n_i = Σ_u a_u·w_ui²` and
//! `a_u = (items of u)^-damping`: cosine between item columns (Sarwar et al. 2001) in which people who take everything
//! say less (the idea of inverse user frequency, Breese et al. 1998), shrunk where few people speak (Bell and Koren 2007).

use nearcast_domain::ports::{Neighbour, NeighbourList};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Matrix;

/// How neighbour lists are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighbourRule {
    /// How many neighbours an item keeps.
    pub keep: usize,
    /// How many of a user's newest items count.
    pub history: usize,
    /// How much less the busy say; 0: all say as much.
    pub damping: f64,
    /// What is added to the norm: more asks for more evidence.
    pub shrink: f64,
}

impl Default for NeighbourRule {
    fn default() -> Self {
        Self { keep: 100, history: 1000, damping: 0.5, shrink: 0.5 }
    }
}

impl NeighbourRule {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), String> {
        if !(1..=1000).contains(&self.keep) {
            return Err("upkeep.neighbours.keep must lie between 1 and 1000".into());
        }
        if !(2..=10_000).contains(&self.history) {
            return Err("upkeep.neighbours.history must lie between 2 and 10000".into());
        }
        if !(0.0..=2.0).contains(&self.damping) {
            return Err("upkeep.neighbours.damping must lie between 0 and 2".into());
        }
        if !(self.shrink.is_finite() && self.shrink >= 0.0) {
            return Err("upkeep.neighbours.shrink must be at least 0".into());
        }
        Ok(())
    }
}

/// The lists of all items that have a neighbour, by item.
pub fn all_lists(matrix: &Matrix, rule: &NeighbourRule) -> Vec<NeighbourList> {
    let n = matrix.items.len();
    let activity: Vec<f64> = (0..matrix.users() as u32).map(|u| (matrix.of_user(u).len() as f64).powf(-rule.damping)).collect();
    let norms: Vec<f64> = (0..n as u32)
        .map(|i| matrix.of_item(i).iter().map(|(u, w)| activity[*u as usize] * f64::from(*w) * f64::from(*w)).sum())
        .collect();
    (0..n as u32)
        .into_par_iter()
        .map_init(
            || (vec![0.0_f64; n], Vec::<u32>::new()),
            |(shared, seen), i| {
                // People in the order of their number, so that the sum is the same on any number of threads.
                for (u, wi) in matrix.of_item(i) {
                    let share = activity[*u as usize] * f64::from(*wi);
                    for (j, wj) in matrix.of_user(*u) {
                        let slot = &mut shared[*j as usize];
                        if *slot == 0.0 {
                            seen.push(*j);
                        }
                        *slot += share * f64::from(*wj);
                    }
                }
                let mut near: Vec<(f32, u32)> = Vec::with_capacity(seen.len());
                for j in seen.drain(..) {
                    let sum = std::mem::take(&mut shared[j as usize]);
                    if j != i {
                        let norm = (norms[i as usize] * norms[j as usize]).sqrt() + rule.shrink;
                        near.push(((sum / norm) as f32, j));
                    }
                }
                // Numbers run in the order of the ids.
                let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
                if near.len() > rule.keep {
                    near.select_nth_unstable_by(rule.keep, order);
                    near.truncate(rule.keep);
                }
                near.sort_unstable_by(order);
                let list = near.into_iter().map(|(weight, j)| Neighbour { item: matrix.items[j as usize].clone(), weight });
                (matrix.items[i as usize].clone(), list.collect::<Vec<_>>())
            },
        )
        .filter(|(_, list)| !list.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use nearcast_domain::{ItemId, Timestamp, UserId, ports::Edge};

    use super::*;

    fn edges(pairs: &[(&str, &str)]) -> Vec<Edge> {
        pairs
            .iter()
            .map(|(u, i)| Edge {
                user: UserId::trusted(*u),
                item: ItemId::trusted(*i),
                weight: 1.0,
                positive: true,
                first: Timestamp::ZERO,
                last: Timestamp::ZERO,
            })
            .collect()
    }

    fn plain() -> NeighbourRule {
        NeighbourRule { keep: 2, history: 10, damping: 0.0, shrink: 0.0 }
    }

    #[test]
    fn cosine_by_hand() {
        let m = Matrix::new(&edges(&[("u1", "a"), ("u1", "b"), ("u2", "a"), ("u2", "b"), ("u3", "a"), ("u3", "c")]), 10);
        let lists = all_lists(&m, &plain());
        assert_eq!(lists.len(), 3);
        let a = &lists[0].1;
        assert_eq!(a[0].item.as_str(), "b");
        assert!((a[0].weight - 2.0 / (3.0_f32 * 2.0).sqrt()).abs() < 1e-6);
        assert!((a[1].weight - 1.0 / 3.0_f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn order_of_edges_does_not_matter_and_ties_go_by_id() {
        let mut e = edges(&[("u1", "a"), ("u1", "d"), ("u1", "c"), ("u1", "b"), ("u2", "x")]);
        let one = all_lists(&Matrix::new(&e, 10), &plain());
        e.reverse();
        assert_eq!(one, all_lists(&Matrix::new(&e, 10), &plain()));
        assert_eq!(one[0].1.iter().map(|n| n.item.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert!(!one.iter().any(|(i, _)| i.as_str() == "x"));
    }
}
