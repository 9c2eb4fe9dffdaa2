//! How near an item stands to another: what people turn to around the time they turn to it.
//!
//! For each person `u` who engaged with both, `i` at place `p` of their history and `j` at place `q`, at most
//! [`NeighbourRule::window`] apart:
//!
//! ```text
//! C(i,j) += |q-p|^-distance · (1 if j came after i, else backward)        N(i,j) += 1
//! sim(i,j) = C / (n_i^balance · n_j^(1-balance)) · N / (N + shrink)        n = people of the item
//! ```
//! It is the cosine between item columns (Sarwar et al. 2001) with an uneven exponent (Aiolli 2013), evidence shrunk where
//! few people speak (Bell and Koren 2007), and co-occurrence weighted by order and distance as in session-based neighbours
//! (Ludewig and Jannach 2018). What was tried, with figures: `docs/taste.md`.

use nearcast_domain::ports::{Neighbour, NeighbourList};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Matrix, matrix::Fan};

/// How neighbour lists are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighbourRule {
    /// How many neighbours an item keeps.
    pub keep: usize,
    /// How many of a user's newest items count.
    pub history: usize,
    /// How many of an item's newest people are read; what they say stands for all.
    pub fans: usize,
    /// How far apart in a history two items may stand.
    pub window: usize,
    /// The exponent by which distance weakens.
    pub distance: f64,
    /// What it counts to have come before instead of after, 0 to 1.
    pub backward: f64,
    /// The exponent of the item's own people; the rest is the neighbour's.
    pub balance: f64,
    /// So many people must speak for half of the weight.
    pub shrink: f64,
}

impl Default for NeighbourRule {
    fn default() -> Self {
        Self { keep: 100, history: 2000, fans: 1000, window: 100, distance: 0.25, backward: 0.5, balance: 0.55, shrink: 3.0 }
    }
}

impl NeighbourRule {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("upkeep.neighbours.{name} must lie between {low} and {high}"))
            }
        };
        within("keep", self.keep as f64, 1.0, 1000.0)?;
        within("history", self.history as f64, 2.0, 100_000.0)?;
        within("fans", self.fans as f64, 1.0, 1_000_000.0)?;
        within("window", self.window as f64, 1.0, 10_000.0)?;
        within("distance", self.distance, 0.0, 4.0)?;
        within("backward", self.backward, 0.0, 1.0)?;
        within("balance", self.balance, 0.0, 1.0)?;
        within("shrink", self.shrink, 0.0, 1000.0)
    }
}

/// Sums of one thread: by item, with the items that have one.
struct Sums {
    weight: Vec<f64>,
    people: Vec<u32>,
    seen: Vec<u32>,
}

/// The lists of all items that have a neighbour, by item.
pub fn all_lists(matrix: &Matrix, rule: &NeighbourRule) -> Vec<NeighbourList> {
    let n = matrix.items.len();
    let fading: Vec<f64> = (0..=rule.window).map(|d| (d.max(1) as f64).powf(-rule.distance)).collect();
    let own: Vec<f64> = (0..n as u32).map(|i| (matrix.fans(i).len() as f64).powf(rule.balance)).collect();
    let other: Vec<f64> = (0..n as u32).map(|i| (matrix.fans(i).len() as f64).powf(1.0 - rule.balance)).collect();
    (0..n as u32)
        .into_par_iter()
        .map_init(
            || Sums { weight: vec![0.0; n], people: vec![0; n], seen: Vec::new() },
            |sums, i| {
                let fans = newest(matrix.fans(i), rule.fans);
                let whole = matrix.fans(i).len() as f64 / fans.len().max(1) as f64;
                for fan in &fans {
                    add(sums, matrix.sequence(fan.user), fan.place as usize, &fading, rule);
                }
                let mut near: Vec<(f32, u32)> = Vec::with_capacity(sums.seen.len());
                for j in sums.seen.drain(..) {
                    let weight = std::mem::take(&mut sums.weight[j as usize]) * whole;
                    let people = f64::from(std::mem::take(&mut sums.people[j as usize]));
                    let sim = weight / (own[i as usize] * other[j as usize]) * people / (people + rule.shrink);
                    if sim > 0.0 {
                        near.push((sim as f32, j));
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

/// Adds what one person has around a place of their history.
fn add(sums: &mut Sums, sequence: &[u32], place: usize, fading: &[f64], rule: &NeighbourRule) {
    let mut one = |j: u32, weight: f64| {
        let j = j as usize;
        if sums.people[j] == 0 {
            sums.seen.push(j as u32);
        }
        sums.people[j] += 1;
        sums.weight[j] += weight;
    };
    let from = place.saturating_sub(rule.window);
    for (q, j) in sequence[from..place].iter().enumerate() {
        one(*j, fading[place - from - q] * rule.backward);
    }
    for (d, j) in sequence[place + 1..].iter().take(rule.window).enumerate() {
        one(*j, fading[d + 1]);
    }
}

/// The `most` newest fans (ties by number), in the order of their number: the order in which sums run.
fn newest(fans: &[Fan], most: usize) -> Vec<Fan> {
    let mut fans = fans.to_vec();
    if fans.len() > most {
        fans.select_nth_unstable_by(most, |a, b| b.last.cmp(&a.last).then(a.user.cmp(&b.user)));
        fans.truncate(most);
        fans.sort_unstable_by_key(|f| f.user);
    }
    fans
}

#[cfg(test)]
mod tests {
    use nearcast_domain::{ItemId, Timestamp, UserId, ports::Edge};

    use super::*;

    /// Each user's items in the order given.
    fn edges(histories: &[(&str, &[&str])]) -> Vec<Edge> {
        let edge = |u: &str, i: &str, n: usize| {
            let time = Timestamp::from_millis(n as i64);
            Edge { user: UserId::trusted(u), item: ItemId::trusted(i), weight: 1.0, positive: true, first: time, last: time }
        };
        histories.iter().flat_map(|(u, items)| items.iter().enumerate().map(move |(n, i)| edge(u, i, n))).collect()
    }

    fn rule() -> NeighbourRule {
        NeighbourRule { keep: 3, ..NeighbourRule::default() }
    }

    fn list<'a>(lists: &'a [NeighbourList], item: &str) -> &'a [Neighbour] {
        &lists.iter().find(|(i, _)| i.as_str() == item).unwrap().1
    }

    #[test]
    fn formula_by_hand() {
        let lists =
            all_lists(&Matrix::new(&edges(&[("u1", &["a", "x", "b"]), ("u2", &["b", "a"]), ("u3", &["a"])]), 10), &rule());
        let b = list(&lists, "a").iter().find(|n| n.item.as_str() == "b").unwrap();
        // After, two apart; and before, one apart. Three people have a, two have b; two have both.
        let c = 2_f64.powf(-0.25) + 0.5;
        let expected = c / (3_f64.powf(0.55) * 2_f64.powf(0.45)) * 2.0 / 5.0;
        assert!((f64::from(b.weight) - expected).abs() < 1e-6, "{} {expected}", b.weight);
    }

    #[test]
    fn order_of_edges_does_not_matter_and_ties_go_by_id() {
        let mut e =
            edges(&[("u1", &["a", "d"]), ("u2", &["a", "c"]), ("u3", &["a", "b"]), ("u4", &["a", "e"]), ("u5", &["x"])]);
        let one = all_lists(&Matrix::new(&e, 10), &rule());
        e.reverse();
        assert_eq!(one, all_lists(&Matrix::new(&e, 10), &rule()));
        assert_eq!(list(&one, "a").iter().map(|n| n.item.as_str()).collect::<Vec<_>>(), ["b", "c", "d"]);
        assert!(!one.iter().any(|(i, _)| i.as_str() == "x"));
    }

    #[test]
    fn the_newest_fans_stand_for_all() {
        let few = NeighbourRule { fans: 1, ..rule() };
        let lists = all_lists(&Matrix::new(&edges(&[("u1", &["b", "a"]), ("u2", &["z", "y", "a"])]), 10), &few);
        assert!(list(&lists, "a").iter().all(|n| n.item.as_str() != "b"));
    }
}
