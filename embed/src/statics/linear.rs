//! The linear algebra of distilling: means, covariance, eigenvectors, and conjugate gradients for many right-hand sides.

use rayon::prelude::*;

use super::corpus::Bags;

/// The mean row.
pub(crate) fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f64; width];
    for row in rows.chunks_exact(width) {
        sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
    }
    let n = (rows.len() / width).max(1) as f64;
    sum.iter().map(|s| (s / n) as f32).collect()
}

/// The `keep` directions in which the rows vary most, as columns of a matrix of `width` rows: eigenvectors of the covariance,
/// by cyclic Jacobi rotations (Golub and Van Loan, 8.5), the greatest first, signs fixed so that equal rows give equal bits.
pub(crate) fn principal(rows: &[f32], centre: &[f32], keep: usize) -> Vec<f32> {
    let n = centre.len();
    let mut a = covariance(rows, centre);
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    for _ in 0..30 {
        let off: f64 = (0..n).map(|i| (0..i).map(|j| a[i * n + j] * a[i * n + j]).sum::<f64>()).sum();
        let diagonal: f64 = (0..n).map(|i| a[i * n + i] * a[i * n + i]).sum();
        if off <= 1e-22 * diagonal {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut v, n, p, q);
            }
        }
    }
    let mut order = (0..n).collect::<Vec<_>>();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]).then(i.cmp(&j)));
    let mut out = vec![0.0; n * keep];
    for (column, &from) in order.iter().take(keep).enumerate() {
        // Row `from` of `v` is the eigenvector.
        let vector = &v[from * n..][..n];
        let sign = if vector.iter().sum::<f64>() < 0.0 { -1.0 } else { 1.0 };
        (0..n).for_each(|i| out[i * keep + column] = (sign * vector[i]) as f32);
    }
    out
}

fn covariance(rows: &[f32], centre: &[f32]) -> Vec<f64> {
    let n = centre.len();
    let count = (rows.len() / n).max(1) as f64;
    let mut a = vec![0.0_f64; n * n];
    a.par_chunks_exact_mut(n).enumerate().for_each(|(i, out)| {
        for row in rows.chunks_exact(n) {
            let x = f64::from(row[i] - centre[i]);
            for j in 0..n {
                out[j] += x * f64::from(row[j] - centre[j]);
            }
        }
        out.iter_mut().for_each(|o| *o /= count);
    });
    a
}

/// One rotation that makes `a[p][q]` zero; `v` gathers them, an eigenvector a row.
fn rotate(a: &mut [f64], v: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq.abs() < 1e-300 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let t = if theta == 0.0 { 1.0 } else { t };
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    turn(a, n, p, q, c, s);
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    turn(v, n, p, q, c, s);
}

/// Turns two rows into each other.
fn turn(m: &mut [f64], n: usize, p: usize, q: usize, c: f64, s: f64) {
    let (head, tail) = m.split_at_mut(q * n);
    for (x, y) in head[p * n..][..n].iter_mut().zip(&mut tail[..n]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

/// `rows · matrix`, where `matrix` has `keep` columns.
pub(crate) fn project(rows: &[f32], centre: &[f32], matrix: &[f32], keep: usize) -> Vec<f32> {
    let n = centre.len();
    let mut out = vec![0.0; rows.len() / n * keep];
    out.par_chunks_exact_mut(keep).zip(rows.par_chunks_exact(n)).for_each(|(out, row)| {
        for i in 0..n {
            let x = row[i] - centre[i];
            out.iter_mut().zip(&matrix[i * keep..][..keep]).for_each(|(o, m)| *o += x * m);
        }
    });
    out
}

/// The table `W` that minimises `|B W - T|² + lambda |W - W0|²`, column by column, by conjugate gradients (Hestenes and
/// Stiefel 1952) on the normal equations, from `W0`.
pub(crate) fn ridge(bags: &Bags, targets: &[f32], start: &[f32], width: usize, lambda: f32, rounds: usize) -> Vec<f32> {
    let fitted = bags.times(start, width);
    let rest = targets.iter().zip(&fitted).map(|(t, f)| t - f).collect::<Vec<_>>();
    let mut residual = bags.transposed_times(&rest, width);
    let mut direction = residual.clone();
    let mut table = start.to_vec();
    let mut norms = dots(&residual, &residual, width);
    for _ in 0..rounds {
        let mut image = bags.transposed_times(&bags.times(&direction, width), width);
        image.iter_mut().zip(&direction).for_each(|(a, d)| *a += lambda * d);
        let curvature = dots(&direction, &image, width);
        let step = norms.iter().zip(&curvature).map(|(n, c)| if *c > 0.0 { (n / c) as f32 } else { 0.0 }).collect::<Vec<_>>();
        add_scaled(&mut table, &direction, &step, 1.0);
        add_scaled(&mut residual, &image, &step, -1.0);
        let next = dots(&residual, &residual, width);
        let keep = next.iter().zip(&norms).map(|(a, b)| if *b > 0.0 { (a / b) as f32 } else { 0.0 }).collect::<Vec<_>>();
        for (d, r) in direction.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
            for i in 0..width {
                d[i] = r[i] + keep[i] * d[i];
            }
        }
        norms = next;
    }
    table
}

/// The scalar product of each pair of columns.
fn dots(a: &[f32], b: &[f32], width: usize) -> Vec<f64> {
    let mut out = vec![0.0_f64; width];
    for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
        for i in 0..width {
            out[i] += f64::from(a[i]) * f64::from(b[i]);
        }
    }
    out
}

fn add_scaled(to: &mut [f32], what: &[f32], steps: &[f32], sign: f32) {
    for (t, w) in to.chunks_exact_mut(steps.len()).zip(what.chunks_exact(steps.len())) {
        for i in 0..steps.len() {
            t[i] += sign * steps[i] * w[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_axis_is_found() {
        let mut rng = fastrand::Rng::with_seed(5);
        // Varies with 3 along (0.6, 0.8, 0), with 1 along the third axis, and with 0.1 across.
        let rows = (0..2000)
            .flat_map(|_| {
                let (a, b, c) = (3.0 * (rng.f32() - 0.5), 0.1 * (rng.f32() - 0.5), rng.f32() - 0.5);
                [0.6 * a - 0.8 * b, 0.8 * a + 0.6 * b, c]
            })
            .collect::<Vec<_>>();
        let axes = principal(&rows, &mean(&rows, 3), 2);
        assert!((axes[0] - 0.6).abs() < 0.02 && (axes[2] - 0.8).abs() < 0.02, "{axes:?}");
        assert!(axes[5].abs() > 0.99, "{axes:?}");
    }

    #[test]
    fn a_table_is_recovered() {
        let mut rng = fastrand::Rng::with_seed(6);
        let truth = (0..20 * 3).map(|_| rng.f32() - 0.5).collect::<Vec<_>>();
        let texts = (0..400).map(|_| (0..rng.usize(1..6)).map(|_| rng.u32(0..20)).collect()).collect::<Vec<Vec<u32>>>();
        let bags = Bags::new(&texts, 20);
        let targets = bags.times(&truth, 3);
        let found = ridge(&bags, &targets, &[0.0; 60], 3, 1e-6, 60);
        assert!(found.iter().zip(&truth).all(|(a, b)| (a - b).abs() < 1e-2));
        assert!((bags.frequencies().iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
