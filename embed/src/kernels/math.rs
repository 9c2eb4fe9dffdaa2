//! exp and erf for blocks of numbers: no branches, no tables, so that the compiler vectorises them.

use super::LANES;

/// `a * b + c`, fused where the processor does it in one instruction.
#[inline(always)]
pub(crate) fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    // As two comparisons, which become one instruction each; `f32::clamp` has to care for NaN.
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// e^x within 2 units in the last place between -87 and 88, held at those ends.
///
/// Range reduction by ln 2 in two parts (Cody and Waite) and the polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let x = clamp(x, -87.0, 88.0);
    let shifted = madd::<FMA>(x, std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = madd::<FMA>(n, -0.693_359_4, x);
    let r = madd::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    p = madd::<FMA>(p, r, 1.398_199_9e-3);
    p = madd::<FMA>(p, r, 8.333_452e-3);
    p = madd::<FMA>(p, r, 4.166_579_6e-2);
    p = madd::<FMA>(p, r, 1.666_666_5e-1);
    p = madd::<FMA>(p, r, 0.5);
    let y = madd::<FMA>(p, r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    y * power
}

/// erf(x) within a few units in the last place: the rational approximation of Eigen and XLA on [-4, 4].
#[inline(always)]
pub(crate) fn erf<const FMA: bool>(x: f32) -> f32 {
    let x = clamp(x, -4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142_3e-10;
    p = madd::<FMA>(p, s, 2.770_681_4e-8);
    p = madd::<FMA>(p, s, -2.101_024e-6);
    p = madd::<FMA>(p, s, -5.692_506_5e-5);
    p = madd::<FMA>(p, s, -7.349_906_3e-4);
    p = madd::<FMA>(p, s, -2.954_6e-3);
    p = madd::<FMA>(p, s, -1.609_603_3e-2);
    let mut q = -1.456_607_2e-5;
    q = madd::<FMA>(q, s, -2.133_740_6e-4);
    q = madd::<FMA>(q, s, -1.682_827e-3);
    q = madd::<FMA>(q, s, -7.373_329e-3);
    q = madd::<FMA>(q, s, -1.426_474_e-2);
    x * p / q
}

/// tanh(x) by way of exp; used by the tanh form of GELU only.
#[inline(always)]
pub(crate) fn tanh<const FMA: bool>(x: f32) -> f32 {
    1.0 - 2.0 / (exp::<FMA>(2.0 * x) + 1.0)
}

/// The sum of a block, always in the same order.
#[inline(always)]
pub(crate) fn sum(block: &[f32; LANES]) -> f32 {
    let mut half = [0.0; 8];
    for i in 0..8 {
        half[i] = block[i] + block[i + 8];
    }
    let quarter = [half[0] + half[4], half[1] + half[5], half[2] + half[6], half[3] + half[7]];
    (quarter[0] + quarter[2]) + (quarter[1] + quarter[3])
}

/// The largest of a block.
#[inline(always)]
pub(crate) fn max(block: &[f32; LANES]) -> f32 {
    block.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let (got, want) = (f64::from(exp::<true>(x)), f64::from(x).exp());
            assert!(((got - want) / want).abs() < 3e-7, "exp({x}) = {got}, not {want}");
            assert!(((f64::from(exp::<false>(x)) - want) / want).abs() < 3e-7);
        }
    }

    /// erf by its series (Abramowitz and Stegun 7.1.5), in f64.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn erf_is_close() {
        for i in -380..380 {
            let x = i as f32 / 100.0;
            let want = erf_series(f64::from(x));
            assert!((f64::from(erf::<true>(x)) - want).abs() < 1e-6, "erf({x})");
            assert!((f64::from(erf::<false>(x)) - want).abs() < 1e-6, "erf({x})");
        }
        assert!((erf::<true>(50.0) - 1.0).abs() < 1e-6 && (erf::<true>(-50.0) + 1.0).abs() < 1e-6);
    }

    #[test]
    fn tanh_is_close() {
        for i in -900..900 {
            let x = i as f32 / 100.0;
            assert!((f64::from(tanh::<true>(x)) - f64::from(x).tanh()).abs() < 5e-7, "tanh({x})");
        }
    }
}
