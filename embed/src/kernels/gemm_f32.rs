//! Products with a matrix of weights in `f32`, packed once when the model is loaded.
//!
//! The weights lie in panels of sixteen columns, so that the innermost loop reads them in order; a tile of a few rows and
//! sixteen columns stays in registers over the whole inner dimension. For processors without 16-bit products.

use super::{LANES, at_level, math::madd};

/// A matrix of `k` rows and `n` columns with a bias for each column.
pub struct PackedF32 {
    /// Inner dimension.
    pub k: usize,
    /// Columns.
    pub n: usize,
    panels: Vec<[f32; LANES]>,
    bias: Vec<f32>,
}

impl PackedF32 {
    /// Packs weights as models keep them: `n` rows of `k`.
    pub fn pack(weights: &[f32], bias: &[f32], k: usize) -> Self {
        let n = bias.len();
        let mut panels = vec![[0.0; LANES]; n.div_ceil(LANES) * k];
        for (column, row) in weights.chunks_exact(k).enumerate() {
            for (i, &w) in row.iter().enumerate() {
                panels[column / LANES * k + i][column % LANES] = w;
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(n.div_ceil(LANES) * LANES, 0.0);
        Self { k, n, panels, bias }
    }
}

/// The product of `MR` rows with one panel.
#[inline(always)]
fn tile<const FMA: bool, const MR: usize>(
    a: &[f32],
    k: usize,
    panel: &[[f32; LANES]],
    bias: &[f32; LANES],
    out: &mut [f32],
    n: usize,
) {
    let mut acc = [*bias; MR];
    let rows: [&[f32]; MR] = std::array::from_fn(|r| &a[r * k..][..k]);
    for (i, w) in panel.iter().enumerate() {
        for r in 0..MR {
            let x = rows[r][i];
            for j in 0..LANES {
                acc[r][j] = madd::<FMA>(x, w[j], acc[r][j]);
            }
        }
    }
    for r in 0..MR {
        // The last panel may be narrower than the block.
        let width = LANES.min(out.len() - r * n);
        out[r * n..][..width].copy_from_slice(&acc[r][..width]);
    }
}

#[inline(always)]
fn product_body<const FMA: bool>(a: &[f32], w: &PackedF32, out: &mut [f32]) {
    let (k, n) = (w.k, w.n);
    let rows = a.len() / k;
    for (p, panel) in w.panels.chunks_exact(k).enumerate() {
        let column = p * LANES;
        let width = LANES.min(n - column);
        let Some(bias) = w.bias[column..].first_chunk::<LANES>() else { return };
        let mut r = 0;
        while r < rows {
            let take = (rows - r).min(6);
            let a = &a[r * k..];
            let end = (r + take - 1) * n + column + width;
            let out = &mut out[r * n + column..end];
            match take {
                6 => tile::<FMA, 6>(a, k, panel, bias, out, n),
                5 => tile::<FMA, 5>(a, k, panel, bias, out, n),
                4 => tile::<FMA, 4>(a, k, panel, bias, out, n),
                3 => tile::<FMA, 3>(a, k, panel, bias, out, n),
                2 => tile::<FMA, 2>(a, k, panel, bias, out, n),
                _ => tile::<FMA, 1>(a, k, panel, bias, out, n),
            }
            r += take;
        }
    }
}

at_level! {
    /// `out = a · w + bias`; `a` has rows of `w.k`, `out` rows of `w.n`.
    pub fn product(a: &[f32], w: &PackedF32, out: &mut [f32]) = product_body
}
