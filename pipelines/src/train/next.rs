//! What came next: for each item, what people chose soon after it.
//!
//! Directed, unlike `graph` in its last places: only what came after counts. A function of the known choices alone.

use rayon::prelude::*;

use super::{
    fit::{Lists, strongest},
    world::{Known, World},
};

/// How many places later still counts: at `d` places, `1/d`.
const WINDOW: usize = 5;
/// What an item keeps.
const KEEP: usize = 50;
/// Pairs that few people made are held back: times `n / (n + 3)`.
const SHRINK: f32 = 3.0;
/// At most so many choices are read, those of the people with the newest ones first: pairs are sorted in memory, at 12 bytes each.
const MOST: usize = 4_000_000;

/// How far a person's latest items count, by their place from the newest: `1/(1 + r)`.
pub fn fading(rank: usize) -> f32 {
    1.0 / (rank + 1) as f32
}

/// The latest items that count.
pub const LATEST: usize = 5;

/// `C / sqrt(n_i · n_j) · N/(N + 3)`, where `C` sums `1/d` over the people who chose `j` within five places after `i`, `N` counts them,
/// and `n` counts the people of an item. What was chosen in the same moment has no order and counts half each way.
pub fn next(world: &World, known: &Known) -> Lists {
    let mut people = vec![0_u32; world.items.len()];
    let mut pairs: Vec<(u32, u32, f32)> = Vec::new();
    let mut read = 0;
    let mut order: Vec<usize> = (0..world.users.len()).filter(|u| known[*u] > 0).collect();
    order.sort_by_key(|u| (std::cmp::Reverse(world.choices[*u][known[*u] - 1].first), *u));
    for user in order {
        let choices = &world.choices[user][..known[user]];
        read += choices.len();
        if read > MOST {
            break;
        }
        choices.iter().for_each(|c| people[c.item as usize] += 1);
        let liked: Vec<_> = choices.iter().filter(|c| c.positive).collect();
        for (at, before) in liked.iter().enumerate() {
            for (d, after) in liked[at + 1..].iter().take(WINDOW).enumerate() {
                let counts = 1.0 / (d + 1) as f32;
                if before.first == after.first {
                    pairs.push((before.item, after.item, counts / 2.0));
                    pairs.push((after.item, before.item, counts / 2.0));
                } else {
                    pairs.push((before.item, after.item, counts));
                }
            }
        }
    }
    // Of one pair all counts are added smallest first: the order in which people came does not show.
    pairs.par_sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
    let mut lists = vec![Vec::new(); world.items.len()];
    for pair in pairs.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (item, then, _) = pair[0];
        let (sum, n) = (pair.iter().map(|p| p.2).sum::<f32>(), pair.len() as f32);
        let both = people[item as usize] as f32 * people[then as usize] as f32;
        lists[item as usize].push((then, sum / both.sqrt() * n / (n + SHRINK)));
    }
    lists.into_par_iter().map(|list| strongest(list, KEEP)).collect()
}

#[cfg(test)]
mod tests {
    use nearcast_domain::{ItemId, Timestamp, UserId, ports::Edge};

    use super::*;

    fn edge(user: &str, item: &str, at: i64) -> Edge {
        let at = Timestamp::from_millis(at);
        Edge { user: UserId::trusted(user), item: ItemId::trusted(item), weight: 1.0, positive: true, first: at, last: at }
    }

    #[test]
    fn only_what_came_after_counts_and_nearer_counts_more() {
        let edges = [
            edge("u", "a", 1),
            edge("u", "b", 2),
            edge("u", "c", 3),
            edge("v", "a", 1),
            edge("v", "b", 2),
            edge("w", "d", 5),
            edge("w", "c", 5),
        ];
        let world = World::new(&edges, Vec::new());
        let lists = next(&world, &world.all());
        // a then b: two people of two and two; a then c: one person, two places on, of two and two.
        assert_eq!(lists[0].len(), 2);
        assert!((lists[0][0].1 - 2.0 / 2.0 * 2.0 / 5.0).abs() < 1e-6 && lists[0][0].0 == 1);
        assert!((lists[0][1].1 - 0.5 / 2.0 * 1.0 / 4.0).abs() < 1e-6 && lists[0][1].0 == 2);
        // b comes before nothing but c; c and d came at once, and each follows the other.
        assert_eq!((lists[1].len(), lists[2].len(), lists[3].len()), (1, 1, 1));
        assert_eq!((lists[2][0].0, lists[3][0].0), (3, 2));
        // Known only in part, nothing follows.
        assert!(next(&world, &vec![1; world.users.len()]).iter().all(Vec::is_empty));
    }
}
