//! Whether one thing is better than another for the same people: the paired bootstrap (Efron and Tibshirani 1993; for retrieval, Sakai 2006).
//!
//! The seed is fixed: the same figures give the same verdict.

use serde::Serialize;

/// How often people are drawn anew.
const DRAWS: usize = 2_000;
const SEED: u64 = 20_260_101;

/// A mean difference and what may be said of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// The mean over people.
    pub mean: f64,
    /// 5 % of the draws lie below: above 0, the first is better with 95 % confidence.
    pub low: f64,
    /// 5 % of the draws lie above: below 0, the first is worse with 95 % confidence.
    pub high: f64,
}

impl Difference {
    /// With 95 % confidence.
    pub fn is_better(&self) -> bool {
        self.low > 0.0
    }

    /// With 95 % confidence.
    pub fn is_worse(&self) -> bool {
        self.high < 0.0
    }
}

/// Of the same people, `a` minus `b`.
pub fn compare(a: &[f64], b: &[f64]) -> Difference {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let (low, high) = interval(&differences, 0.05);
    Difference { mean: super::blend::mean(&differences), low, high }
}

/// Between which values all but a share `tail` on either side of the means of draws lie.
pub fn interval(values: &[f64], tail: f64) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mut rng = Rng(SEED);
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| (0..values.len()).map(|_| values[rng.below(values.len())]).sum::<f64>() / values.len() as f64)
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| means[((DRAWS as f64 * share) as usize).min(DRAWS - 1)];
    (at(tail), at(1.0 - tail))
}

/// SplitMix64 (Steele, Lea and Flood 2014): its numbers are the same in every version of every library.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_clear_is_better_or_worse() {
        let mut rng = fastrand::Rng::with_seed(3);
        let a: Vec<f64> = (0..500).map(|_| rng.f64()).collect();
        let moved =
            |by: f64, rng: &mut fastrand::Rng| -> Vec<f64> { a.iter().map(|x| x + by + 0.2 * (rng.f64() - 0.5)).collect() };
        let better = moved(0.02, &mut rng);
        // Up and down in turns: nothing on the whole.
        let same: Vec<f64> = a.iter().enumerate().map(|(n, x)| x + if n % 2 == 0 { 0.1 } else { -0.1 }).collect();
        assert!(compare(&better, &a).is_better() && compare(&a, &better).is_worse());
        let d = compare(&same, &a);
        assert!(!d.is_better() && !d.is_worse(), "{d:?}");
        assert_eq!(d, compare(&same, &a));
        assert_eq!(compare(&[], &[]), Difference { mean: 0.0, low: 0.0, high: 0.0 });
    }
}
