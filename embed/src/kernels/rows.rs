//! Everything between the products, a row at a time: residual and layer norm, activation, rounding to 16 bits, pooling.
//!
//! Rows are as wide as the model; a width that is no multiple of the block is walked in blocks and a rest.

use super::{
    LANES, at_level,
    gemm_i16::{LIMIT, length_limit},
    math::{erf, exp, madd, max, sum, tanh},
};
use crate::bert::Activation;

/// Sum of `f(x)` over a row, blockwise and always in the same order.
#[inline(always)]
fn fold<const FMA: bool>(row: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut acc = [0.0; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            acc[i] = f(acc[i], block[i]);
        }
    }
    for (a, &x) in acc.iter_mut().zip(rest) {
        *a = f(*a, x);
    }
    sum(&acc)
}

#[inline(always)]
fn norm_row<const FMA: bool>(row: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let n = row.len() as f32;
    let mean = fold::<FMA>(row, |a, x| a + x) / n;
    let variance = fold::<FMA>(row, |a, x| madd::<FMA>(x - mean, x - mean, a)) / n;
    let scale = 1.0 / (variance + eps).sqrt();
    for ((x, &w), &b) in row.iter_mut().zip(weight).zip(bias) {
        *x = madd::<FMA>((*x - mean) * scale, w, b);
    }
}

#[inline(always)]
fn add_norm_body<const FMA: bool>(x: &mut [f32], added: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    let width = weight.len();
    for (row, added) in x.chunks_exact_mut(width).zip(added.chunks_exact(width)) {
        for (x, &a) in row.iter_mut().zip(added) {
            *x += a;
        }
        norm_row::<FMA>(row, weight, bias, eps);
    }
}

at_level! {
    /// `x = norm(x + added)`, for every row.
    pub fn add_norm(x: &mut [f32], added: &[f32], weight: &[f32], bias: &[f32], eps: f32) = add_norm_body
}

#[inline(always)]
fn activate_body<const FMA: bool>(x: &mut [f32], activation: Activation) {
    match activation {
        Activation::Gelu => {
            for x in x {
                let half = 0.5 * *x;
                *x = madd::<FMA>(half, erf::<FMA>(*x * std::f32::consts::FRAC_1_SQRT_2), half);
            }
        }
        Activation::GeluNew => {
            for x in x {
                let inner = 0.797_884_6 * madd::<FMA>(0.044_715 * *x * *x, *x, *x);
                *x = 0.5 * *x * (1.0 + tanh::<FMA>(inner));
            }
        }
        Activation::Relu => {
            for x in x {
                *x = if *x > 0.0 { *x } else { 0.0 };
            }
        }
    }
}

at_level! {
    /// The activation, in place.
    pub fn activate(x: &mut [f32], activation: Activation) = activate_body
}

#[inline(always)]
fn round_body<const FMA: bool>(x: &[f32], width: usize, out: &mut [i16], stride: usize, scales: &mut [f32]) {
    // Adding 1.5 * 2^23 leaves the nearest whole number in the low bits, in two's complement.
    const SHIFT: f32 = 12_582_912.0;
    let limit = length_limit(width);
    for ((row, out), scale) in x.chunks_exact(width).zip(out.chunks_exact_mut(stride)).zip(scales) {
        let (mut top, mut squares) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let (blocks, rest) = row.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                let a = block[i].abs();
                top[i] = if a > top[i] { a } else { top[i] };
                squares[i] = madd::<FMA>(a, a, squares[i]);
            }
        }
        for ((t, s), &x) in top.iter_mut().zip(&mut squares).zip(rest) {
            *t = if x.abs() > *t { x.abs() } else { *t };
            *s = madd::<FMA>(x, x, *s);
        }
        let (top, length) = (max(&top), sum(&squares).sqrt());
        // A row of nothing but zeros, or of what is not finite, becomes all zeros.
        let fits = top > 1e-15 && length < 1e15;
        let up = if fits { (limit / length).min(LIMIT / top) } else { 0.0 };
        *scale = if fits { 1.0 / up } else { 0.0 };
        for (o, &x) in out.iter_mut().zip(row) {
            *o = madd::<FMA>(x, up, SHIFT).to_bits() as i16;
        }
        out[width..].fill(0);
    }
}

at_level! {
    /// Scales rows of `width` to the length that 16-bit products allow and rounds them; row `r` of `out` begins at
    /// `r * stride` and is filled up with zeros; `scales[r]` brings it back.
    pub fn round(x: &[f32], width: usize, out: &mut [i16], stride: usize, scales: &mut [f32]) = round_body
}

#[inline(always)]
fn mean_body<const FMA: bool>(rows: &[f32], out: &mut [f32]) {
    let width = out.len();
    out.fill(0.0);
    for row in rows.chunks_exact(width) {
        for (o, &x) in out.iter_mut().zip(row) {
            *o += x;
        }
    }
    let scale = width as f32 / rows.len() as f32;
    for o in out {
        *o *= scale;
    }
}

at_level! {
    /// The mean of the rows.
    pub fn mean(rows: &[f32], out: &mut [f32]) = mean_body
}

/// Softmax of a row whose length is a multiple of the block; what stands behind `len` counts as nothing.
#[inline(always)]
pub(crate) fn softmax<const FMA: bool>(row: &mut [f32], len: usize) {
    row[len..].fill(-1e30);
    let (blocks, _) = row.as_chunks_mut::<LANES>();
    let mut top = [-1e30_f32; LANES];
    for block in blocks.iter() {
        for i in 0..LANES {
            top[i] = if block[i] > top[i] { block[i] } else { top[i] };
        }
    }
    let top = max(&top);
    let mut acc = [0.0; LANES];
    for block in blocks.iter_mut() {
        for i in 0..LANES {
            block[i] = exp::<FMA>(block[i] - top);
            acc[i] += block[i];
        }
    }
    // The padding became e^-87; its share is below the last bit, but it must be nothing.
    let scale = 1.0 / sum(&acc);
    for block in blocks.iter_mut() {
        for x in block {
            *x *= scale;
        }
    }
    row[len..].fill(0.0);
}
