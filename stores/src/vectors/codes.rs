//! Vectors in 16 bits a component, for whoever must look at many: half the memory traffic of `f32`, and whole numbers, whose
//! sums have no order. It must never decide a score or a tie: what it picks is compared again with the vectors themselves.

use std::sync::Arc;

/// A component of 1. The inner product of two codes of unit vectors stays below 2³¹, and so does every part of it (Cauchy and
/// Schwarz: at most [`ONE`]² = 1.02e9, and less than 2 % more by rounding up to 2^15 components).
const ONE: f32 = 32_000.0;
/// Points in a block.
const BLOCK: usize = 512;

/// Codes by number, in blocks that a copy shares until one of the two is written to.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    dimension: usize,
    blocks: Vec<Arc<Vec<i16>>>,
}

impl Codes {
    /// None yet.
    pub(super) fn new(dimension: usize) -> Self {
        Self { dimension, blocks: Vec::new() }
    }

    /// The code of a unit vector.
    pub(super) fn encode(vector: &[f32]) -> Vec<i16> {
        vector.iter().map(|x| (x * ONE).round_ties_even() as i16).collect()
    }

    /// Sets the code of a point; the table grows to hold it.
    pub(super) fn set(&mut self, point: u32, code: &[i16]) {
        let (block, at) = self.place(point);
        while self.blocks.len() <= block {
            self.blocks.push(Arc::new(vec![0; BLOCK * self.dimension]));
        }
        Arc::make_mut(&mut self.blocks[block])[at..at + self.dimension].copy_from_slice(code);
    }

    /// The code of a point that was set.
    #[inline]
    pub(super) fn of(&self, point: u32) -> &[i16] {
        let (block, at) = self.place(point);
        &self.blocks[block][at..at + self.dimension]
    }

    /// The inner product of a code with that of a point, in units of [`ONE`]².
    #[inline]
    pub(super) fn dot(&self, code: &[i16], point: u32) -> i32 {
        dot(code, self.of(point))
    }

    /// By how much an inner product of codes can miss that of the unit vectors, in the same units: each component is off by
    /// half a unit at most, so each code by √n/2, and the product by √n (1 + √n / (4 · ONE)) · ONE; a hundredth more for vectors whose
    /// length is not quite 1.
    pub(super) fn error(&self) -> i32 {
        let root = (self.dimension as f32).sqrt();
        (root * (1.0 + root / (4.0 * ONE)) * ONE * 1.01) as i32 + 1
    }

    #[inline]
    fn place(&self, point: u32) -> (usize, usize) {
        (point as usize / BLOCK, point as usize % BLOCK * self.dimension)
    }
}

#[inline(always)]
fn product(a: &[i16], b: &[i16]) -> i32 {
    let n = a.len().min(b.len());
    a[..n].iter().zip(&b[..n]).fold(0_i32, |sum, (x, y)| sum.wrapping_add(i32::from(*x) * i32::from(*y)))
}

/// The same loop, compiled for 256-bit registers.
///
/// # Safety
/// The processor must have AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn product_avx2(a: &[i16], b: &[i16]) -> i32 {
    product(a, b)
}

/// The inner product of two codes, in units of [`ONE`]². In whole numbers, so the same on every machine.
#[inline]
pub(super) fn dot(a: &[i16], b: &[i16]) -> i32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the feature was just detected.
        return unsafe { product_avx2(a, b) };
    }
    product(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_unit(rng: &mut fastrand::Rng, n: usize) -> Vec<f32> {
        let v: Vec<f32> = (0..n).map(|_| rng.f32() - 0.5).collect();
        let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt();
        v.iter().map(|x| x / norm).collect()
    }

    #[test]
    fn the_error_bound_holds() {
        let mut rng = fastrand::Rng::with_seed(3);
        for n in [1, 2, 7, 160, 384, 1024] {
            let codes = Codes::new(n);
            for _ in 0..500 {
                let (a, b) = (random_unit(&mut rng, n), random_unit(&mut rng, n));
                let exact: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                let rough = dot(&Codes::encode(&a), &Codes::encode(&b));
                assert!((exact * f64::from(ONE) * f64::from(ONE) - f64::from(rough)).abs() < f64::from(codes.error()));
            }
        }
    }

    #[test]
    fn one_component_does_not_overflow() {
        let a = Codes::encode(&[1.0, 0.0]);
        assert_eq!(dot(&a, &a), 32_000 * 32_000);
        assert_eq!(dot(&a, &Codes::encode(&[-1.0, 0.0])), -32_000 * 32_000);
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut codes = Codes::new(2);
        codes.set(600, &[1, 2]);
        let copy = codes.clone();
        codes.set(600, &[3, 4]);
        codes.set(1, &[5, 6]);
        assert_eq!((copy.of(600), copy.of(1)), (&[1, 2][..], &[0, 0][..]));
        assert_eq!((codes.of(600), codes.of(1)), (&[3, 4][..], &[5, 6][..]));
    }
}
