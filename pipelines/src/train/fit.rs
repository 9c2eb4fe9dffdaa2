//! Weights between items, learned from everyone's history and from the items' texts.
//!
//! `B` minimises `|X - XB|² + text·|Eᵀ - EᵀB|² + ridge·|B|²` with a diagonal of zeros, where `X` says who has what and `E` holds the
//! centred text vectors: EASE (Steck 2019) on the Gram matrix `G = XᵀX + text·EEᵀ + ridge·I` (as collective EASE, Jeunen et al. 2020).
//! With `P = G⁻¹`, `B(i,j) = -P(i,j) / P(j,j)`. An item keeps its strongest weights above zero.
//!
//! Where people and dimensions are fewer than items, `P = (I - WᵀW)/ridge` with `W = L⁻¹Z`, `LLᵀ = ridge·I + ZZᵀ`, `G = ZᵀZ + ridge·I`
//! (Woodbury). Products run on one thread each, in blocks that do not depend on the number of threads: the same bits always.

use std::sync::atomic::{AtomicBool, Ordering};

use faer::{
    Accum, Mat, MatRef, Par,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{
        cholesky::llt::factor::{LltRegularization, cholesky_in_place, cholesky_in_place_scratch},
        matmul::matmul,
        triangular_inverse::invert_lower_triangular,
        triangular_solve::solve_lower_triangular_in_place,
    },
};
use rayon::prelude::*;

use super::{
    config::TrainConfig,
    world::{Known, World},
};

/// Items of a block.
const BLOCK: usize = 128;
/// A person's newest items that count.
const HISTORY: usize = 500;

/// By item, what follows from having it: numbers and weights above 0, the strongest first (ties by number).
pub type Lists = Vec<Vec<(u32, f32)>>;

/// Which items take part, and what they are.
struct Chosen {
    /// Their numbers, ascending.
    items: Vec<u32>,
    /// By person, the places in `items` of what they have.
    rows: Vec<Vec<u32>>,
    /// The centred texts: a column an item.
    texts: Mat<f32>,
}

/// Learns from what is known, between at most `most` items. `None` where there is nothing to learn from.
pub fn fit(world: &World, known: &Known, config: &TrainConfig, most: usize, stop: &AtomicBool) -> Option<Lists> {
    if stop.load(Ordering::Relaxed) {
        return None;
    }
    let chosen = Chosen::new(world, known, most)?;
    let n = chosen.items.len();
    let dimensions = chosen.rows.len() + chosen.texts.nrows();
    let lists = if dimensions < n { low_rank(&chosen, config, stop)? } else { direct(&chosen, config, stop)? };
    let mut all: Lists = vec![Vec::new(); world.items.len()];
    for (item, list) in chosen.items.iter().zip(lists) {
        all[*item as usize] = list.into_iter().map(|(j, w)| (chosen.items[j as usize], w)).collect();
    }
    Some(all)
}

impl Chosen {
    fn new(world: &World, known: &Known, most: usize) -> Option<Self> {
        let mut fans = vec![0_u32; world.items.len()];
        let own = |user: usize| world.choices[user][..known[user]].iter().rev().take(HISTORY).map(|c| c.item);
        for user in 0..world.users.len() {
            own(user).for_each(|i| fans[i as usize] += 1);
        }
        let mut items: Vec<u32> =
            (0..fans.len() as u32).filter(|i| fans[*i as usize] > 0 || world.texts[*i as usize].is_some()).collect();
        // The most chosen; ties by number.
        items.sort_by_key(|i| std::cmp::Reverse(fans[*i as usize]));
        items.truncate(most);
        items.sort_unstable();
        if items.len() < 2 {
            return None;
        }
        let place = |item: u32| items.binary_search(&item).ok().map(|p| p as u32);
        let rows: Vec<Vec<u32>> = (0..world.users.len())
            .map(|u| {
                let mut row: Vec<u32> = own(u).filter_map(place).collect();
                row.sort_unstable();
                row
            })
            .filter(|row| !row.is_empty())
            .collect();
        let texts = centred(world, &items);
        Some(Self { items, rows, texts })
    }
}

fn centred(world: &World, items: &[u32]) -> Mat<f32> {
    let text = |i: &u32| world.texts[*i as usize].as_deref();
    let dimension = items.iter().find_map(text).map_or(0, <[f32]>::len);
    let mut mean = vec![0.0_f64; dimension];
    let mut with = 0_usize;
    for v in items.iter().filter_map(text) {
        with += 1;
        mean.iter_mut().zip(v).for_each(|(m, x)| *m += f64::from(*x));
    }
    mean.iter_mut().for_each(|m| *m /= with.max(1) as f64);
    let mut out = Mat::zeros(dimension, items.len());
    for (column, item) in items.iter().enumerate() {
        if let Some(v) = text(item) {
            for (row, (x, m)) in v.iter().zip(&mean).enumerate() {
                out[(row, column)] = (f64::from(*x) - m) as f32;
            }
        }
    }
    out
}

/// Turns a matrix, whose upper triangle does not count, into its lower Cholesky factor, with zeros above.
fn cholesky(g: &mut Mat<f32>) -> Option<()> {
    let n = g.nrows();
    let mut buffer = MemBuffer::new(cholesky_in_place_scratch::<f32>(n, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut buffer);
    cholesky_in_place(g.as_mut(), LltRegularization::default(), Par::Seq, stack, Default::default()).ok()?;
    for column in 1..n {
        for row in 0..column {
            g[(row, column)] = 0.0;
        }
    }
    Some(())
}

/// `P` by way of people and dimensions.
fn low_rank(chosen: &Chosen, config: &TrainConfig, stop: &AtomicBool) -> Option<Lists> {
    let (n, people, d) = (chosen.items.len(), chosen.rows.len(), chosen.texts.nrows());
    let m = people + d;
    let scale = config.text.sqrt();
    let mut z: Mat<f32> = Mat::zeros(m, n);
    for (row, own) in chosen.rows.iter().enumerate() {
        for column in own {
            z[(row, *column as usize)] += 1.0;
        }
    }
    for column in 0..n {
        for row in 0..d {
            z[(people + row, column)] = scale * chosen.texts[(row, column)];
        }
    }
    let mut k: Mat<f32> = Mat::zeros(m, m);
    matmul(k.as_mut(), Accum::Replace, z.as_ref(), z.as_ref().transpose(), 1.0, Par::Seq);
    for i in 0..m {
        k[(i, i)] += config.ridge;
    }
    cholesky(&mut k)?;
    solve_lower_triangular_in_place(k.as_ref(), z.as_mut(), Par::Seq);
    drop(k);
    let w = z.as_ref();
    let share: Vec<f32> = (0..n).map(|j| 1.0 - squares(w, j, 0)).collect();
    blocks(n, config.keep, stop, |from, to| {
        let mut s: Mat<f32> = Mat::zeros(n, to - from);
        matmul(s.as_mut(), Accum::Replace, w.transpose(), w.subcols(from, to - from), 1.0, Par::Seq);
        // P(i,j) = -s / ridge beside the diagonal, P(j,j) = share / ridge.
        (s, |value: f32, j: usize| value / share[j])
    })
}

/// `P` by way of the whole Gram matrix.
fn direct(chosen: &Chosen, config: &TrainConfig, stop: &AtomicBool) -> Option<Lists> {
    let n = chosen.items.len();
    let mut inverse: Mat<f32> = Mat::zeros(n, n);
    {
        let mut g: Mat<f32> = Mat::zeros(n, n);
        if chosen.texts.nrows() > 0 {
            let e = chosen.texts.as_ref();
            matmul(g.as_mut(), Accum::Replace, e.transpose(), e, config.text, Par::Seq);
        }
        for own in &chosen.rows {
            for column in own {
                for row in own {
                    g[(*row as usize, *column as usize)] += 1.0;
                }
            }
        }
        for i in 0..n {
            g[(i, i)] += config.ridge;
        }
        cholesky(&mut g)?;
        invert_lower_triangular(inverse.as_mut(), g.as_ref(), Par::Seq);
    }
    let l = inverse.as_ref();
    let diagonal: Vec<f32> = (0..n).map(|j| squares(l, j, j)).collect();
    blocks(n, config.keep, stop, |from, to| {
        let mut s: Mat<f32> = Mat::zeros(n, to - from);
        let (below, columns) = (l.subrows(from, n - from), to - from);
        matmul(s.as_mut(), Accum::Replace, below.transpose(), below.subcols(from, columns), 1.0, Par::Seq);
        (s, |value: f32, j: usize| -value / diagonal[j])
    })
}

/// The squares of a column from a row on, added up in order.
fn squares(m: MatRef<'_, f32>, column: usize, from: usize) -> f32 {
    (from..m.nrows()).map(|row| f64::from(m[(row, column)]).powi(2)).sum::<f64>() as f32
}

/// Goes over items in blocks: `product` gives a column an item of the block and what an entry of it is worth.
fn blocks<V: Fn(f32, usize) -> f32>(
    n: usize,
    keep: usize,
    stop: &AtomicBool,
    product: impl Fn(usize, usize) -> (Mat<f32>, V) + Sync,
) -> Option<Lists> {
    let starts: Vec<usize> = (0..n).step_by(BLOCK).collect();
    let done: Vec<Lists> = starts
        .into_par_iter()
        .map(|from| {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let to = n.min(from + BLOCK);
            let (s, worth) = product(from, to);
            let lists = (from..to)
                .map(|i| {
                    let column = s.col(i - from);
                    let worths = (0..n).filter(|j| *j != i).map(|j| (j as u32, worth(column[j], j)));
                    strongest(worths.filter(|(_, w)| w.is_finite() && *w > 0.0).collect(), keep)
                })
                .collect();
            Some(lists)
        })
        .collect::<Option<_>>()?;
    Some(done.into_iter().flatten().collect())
}

/// The strongest so many, in order, ties by number.
pub fn strongest(mut list: Vec<(u32, f32)>, keep: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if list.len() > keep {
        list.select_nth_unstable_by(keep, order);
        list.truncate(keep);
    }
    list.sort_unstable_by(order);
    list.shrink_to_fit();
    list
}

#[cfg(test)]
mod tests {
    use nearcast_domain::{ItemId, Timestamp, UserId, Vector, ports::Edge, profile::unit};

    use super::*;

    /// People with tastes of their own, items with texts near their subject.
    fn world(people: usize, items: usize, texts: bool) -> World {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut edges = Vec::new();
        for u in 0..people {
            for n in 0..8 {
                let item = (u % 5) + 5 * rng.usize(0..items / 5);
                let time = Timestamp::from_millis((u * 10 + n) as i64);
                let (user, item) = (UserId::trusted(format!("u{u:04}")), ItemId::trusted(format!("i{item:04}")));
                edges.push(Edge { user, item, weight: 1.0, positive: true, first: time, last: time });
            }
        }
        let state = |n: usize, rng: &mut fastrand::Rng| {
            let v: Vec<f64> = (0..8).map(|d| rng.f64() + if d == n % 5 { 3.0 } else { 0.0 }).collect();
            let vector: Option<Vector> = texts.then(|| unit(&v)).flatten();
            (ItemId::trusted(format!("i{n:04}")), vector)
        };
        World::new(&edges, (0..items).map(|n| state(n, &mut rng)).collect())
    }

    /// The formula, by a plain inverse in double precision.
    fn expected(world: &World, config: &TrainConfig) -> Vec<Vec<f64>> {
        let n = world.items.len();
        let items: Vec<u32> = (0..n as u32).collect();
        let e = centred(world, &items);
        let mut a = vec![vec![0.0_f64; 2 * n]; n];
        for i in 0..n {
            for j in 0..n {
                let dot: f64 = (0..e.nrows()).map(|d| f64::from(e[(d, i)]) * f64::from(e[(d, j)])).sum();
                a[i][j] = f64::from(config.text) * dot;
            }
            a[i][i] += f64::from(config.ridge);
            a[i][n + i] = 1.0;
        }
        for own in &world.choices {
            for x in own {
                for y in own {
                    a[x.item as usize][y.item as usize] += 1.0;
                }
            }
        }
        for i in 0..n {
            let pivot = a[i][i];
            a[i].iter_mut().for_each(|x| *x /= pivot);
            let row = a[i].clone();
            for (k, other) in a.iter_mut().enumerate().filter(|(k, _)| *k != i) {
                let _ = k;
                let factor = other[i];
                other.iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
            }
        }
        (0..n).map(|i| (0..n).map(|j| if i == j { 0.0 } else { -a[i][n + j] / a[j][n + j] }).collect()).collect()
    }

    #[test]
    fn both_ways_give_the_formula() {
        let config = TrainConfig { ridge: 5.0, text: 2.0, keep: 500, ..TrainConfig::default() };
        for (people, items) in [(300, 60), (20, 100)] {
            let world = world(people, items, true);
            let lists = fit(&world, &world.all(), &config, 1_000, &AtomicBool::new(false)).unwrap();
            let all = expected(&world, &config);
            let mut seen = 0;
            for (i, list) in lists.iter().enumerate() {
                // Those next to nothing may fall on either side of it.
                let clear = (0..items).filter(|j| all[i][*j] > 1e-5);
                let missing: Vec<(usize, f64)> =
                    clear.clone().filter(|j| list.iter().all(|(k, _)| *k as usize != *j)).map(|j| (j, all[i][j])).collect();
                assert!(missing.is_empty(), "{i}: {missing:?}");
                seen += clear.count();
                for (j, w) in list {
                    assert!((f64::from(*w) - all[i][*j as usize]).abs() < 1e-5, "{i} {j} {w}");
                }
                assert!(list.windows(2).all(|w| w[0].1 >= w[1].1));
            }
            assert!(seen > 500, "{seen}");
        }
    }

    #[test]
    fn the_same_bits_with_any_number_of_threads() {
        let config = TrainConfig { keep: 20, ..TrainConfig::default() };
        for (people, items) in [(900, 400), (60, 700)] {
            let world = world(people, items, true);
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| fit(&world, &world.all(), &config, 1_000, &AtomicBool::new(false))).unwrap()
            };
            let bits =
                |lists: Lists| -> Vec<(u32, u32)> { lists.into_iter().flatten().map(|(j, w)| (j, w.to_bits())).collect() };
            let one = bits(with(1));
            assert!(one.len() > 1_000);
            assert_eq!(one, bits(with(3)));
            assert_eq!(one, bits(with(8)));
        }
    }

    #[test]
    fn only_the_most_chosen_take_part_where_there_are_too_many() {
        let world = world(200, 100, false);
        let lists = fit(&world, &world.all(), &TrainConfig::default(), 30, &AtomicBool::new(false)).unwrap();
        assert!(lists.iter().filter(|l| !l.is_empty()).count() <= 30);
        assert!(fit(&World::default(), &Known::default(), &TrainConfig::default(), 30, &AtomicBool::new(false)).is_none());
    }
}
