//! The one way in which two vectors are compared.
//!
//! The sum runs in a fixed order over sixteen lanes and never contracts a multiplication with an addition, so that equal vectors
//! give equal bits on every machine, whatever instructions it has. It must never depend on how a caller batches its work.

/// Sixteen partial sums, then the remainder, then a tree over the lanes: the order that every build of this function keeps.
#[inline(always)]
fn lanes(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut sum = [0.0_f32; 16];
    let (whole_a, rest_a) = a.as_chunks::<16>();
    let (whole_b, rest_b) = b.as_chunks::<16>();
    for (x, y) in whole_a.iter().zip(whole_b) {
        for i in 0..16 {
            sum[i] += x[i] * y[i];
        }
    }
    for (i, (x, y)) in rest_a.iter().zip(rest_b).enumerate() {
        sum[i] += x * y;
    }
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            sum[i] += sum[i + width];
        }
        width /= 2;
    }
    sum[0]
}

/// The same loop, compiled for 256-bit registers.
///
/// # Safety
/// The processor must have AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn lanes_avx2(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b)
}

/// The inner product; the cosine where both are of unit length. Elements past the shorter one's end do not count.
#[inline]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the feature was just detected.
        return unsafe { lanes_avx2(a, b) };
    }
    lanes(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_build_gives_the_same_bits() {
        let mut rng = fastrand::Rng::with_seed(7);
        for n in [0, 1, 3, 15, 16, 17, 160, 384, 385] {
            let a: Vec<f32> = (0..n).map(|_| rng.f32() - 0.5).collect();
            let b: Vec<f32> = (0..n).map(|_| rng.f32() - 0.5).collect();
            assert_eq!(dot(&a, &b).to_bits(), lanes(&a, &b).to_bits());
            assert_eq!(dot(&a, &b).to_bits(), dot(&b, &a).to_bits());
            let exact: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-5);
        }
    }
}
