//! Products with a matrix of weights in `f32`, packed once when the model is loaded.
//!
//! The weights lie in panels of sixteen columns, so that the innermost loop reads them in order; a tile of a few rows and
//! sixteen columns stays in registers over the whole inner dimension. For processors without 16-bit products.

use super::{LANES, Level, math::madd};

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

/// `out = a · w + bias`; `a` has rows of `w.k`, `out` rows of `w.n`.
pub fn product(level: Level, a: &[f32], w: &PackedF32, out: &mut [f32]) {
    let rows = a.len() / w.k;
    assert!(a.len() == rows * w.k && out.len() == rows * w.n);
    #[cfg(target_arch = "x86_64")]
    match level.kind() {
        // SAFETY: a level exists only where the processor has what it stands for, and the sizes were just checked.
        super::Kind::Vnni | super::Kind::Avx512 => return unsafe { x86::product_avx512(a, w, rows, out.as_mut_ptr()) },
        // SAFETY: the same.
        super::Kind::Avx2 => return unsafe { x86::product_avx2(a, w, rows, out.as_mut_ptr()) },
        super::Kind::Portable => {}
    }
    let _ = level;
    portable::<{ cfg!(target_arch = "aarch64") }>(a, w, out);
}

/// The product of `MR` rows with one panel, of which `width` columns count.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn tile<const FMA: bool, const MR: usize>(
    a: &[f32],
    k: usize,
    panel: &[[f32; LANES]],
    bias: &[f32; LANES],
    out: &mut [f32],
    n: usize,
    width: usize,
) {
    let mut acc = [*bias; MR];
    let rows: [&[f32]; MR] = std::array::from_fn(|r| &a[r * k..][..panel.len()]);
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
        out[r * n..][..width].copy_from_slice(&acc[r][..width]);
    }
}

fn portable<const FMA: bool>(a: &[f32], w: &PackedF32, out: &mut [f32]) {
    let (k, n) = (w.k, w.n);
    let rows = a.len() / k;
    for (p, panel) in w.panels.chunks_exact(k).enumerate() {
        let column = p * LANES;
        let width = LANES.min(n - column);
        let Some(bias) = w.bias[column..].first_chunk::<LANES>() else { return };
        let mut r = 0;
        while r < rows {
            // Two rows of sixteen are what the registers of the oldest processors hold.
            let take = (rows - r).min(2);
            let (a, out) = (&a[r * k..], &mut out[r * n + column..(r + take - 1) * n + column + width]);
            if take == 2 {
                tile::<FMA, 2>(a, k, panel, bias, out, n, width)
            } else {
                tile::<FMA, 1>(a, k, panel, bias, out, n, width)
            }
            r += take;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_set1_ps,
    };

    use super::{LANES, PackedF32};

    /// Where a tile reads and writes.
    struct Tile {
        a: *const f32,
        k: usize,
        panel: *const f32,
        bias: *const f32,
        out: *mut f32,
        n: usize,
        width: usize,
    }

    macro_rules! product_of_tiles {
        ($name:ident, $run:ident, $features:literal, $most:literal, [$($m:literal),*]) => {
            /// # Safety
            /// The processor has the features; `a` has whole rows of `w.k`, `out` as many rows of `w.n`.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(a: &[f32], w: &PackedF32, rows: usize, out: *mut f32) {
                for p in 0..w.n.div_ceil(LANES) {
                    let column = p * LANES;
                    let mut r = 0;
                    while r < rows {
                        let tile = Tile {
                            a: a[r * w.k..].as_ptr(),
                            k: w.k,
                            panel: w.panels[p * w.k..].as_ptr().cast(),
                            bias: w.bias[column..].as_ptr(),
                            // SAFETY: row r and this column lie within `out`.
                            out: unsafe { out.add(r * w.n + column) },
                            n: w.n,
                            width: LANES.min(w.n - column),
                        };
                        // SAFETY: at least as many rows are left as each tile takes.
                        unsafe {
                            match rows - r {
                                $($m => tile.$run::<$m>(),)*
                                _ => tile.$run::<$most>(),
                            }
                        }
                        r += $most;
                    }
                }
            }
        };
    }
    product_of_tiles!(product_avx2, avx2, "avx2,fma", 6, [1, 2, 3, 4, 5]);
    product_of_tiles!(product_avx512, avx512, "avx512f,avx512bw", 12, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);

    impl Tile {
        /// # Safety
        /// `M` rows lie behind `a` and `out`, a whole panel behind `panel` and `bias`.
        #[target_feature(enable = "avx2,fma")]
        #[inline]
        unsafe fn avx2<const M: usize>(&self) {
            // SAFETY: as promised by the caller.
            unsafe {
                let bias = [_mm256_loadu_ps(self.bias), _mm256_loadu_ps(self.bias.add(8))];
                let mut acc: [[__m256; 2]; M] = [bias; M];
                for i in 0..self.k {
                    let w0 = _mm256_loadu_ps(self.panel.add(i * LANES));
                    let w1 = _mm256_loadu_ps(self.panel.add(i * LANES + 8));
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let x = _mm256_broadcast_ss(&*self.a.add(r * self.k + i));
                        acc[0] = _mm256_fmadd_ps(x, w0, acc[0]);
                        acc[1] = _mm256_fmadd_ps(x, w1, acc[1]);
                    }
                }
                for (r, acc) in acc.iter().enumerate() {
                    let out = self.out.add(r * self.n);
                    if self.width == LANES {
                        _mm256_storeu_ps(out, acc[0]);
                        _mm256_storeu_ps(out.add(8), acc[1]);
                    } else {
                        let mut whole = [0.0_f32; LANES];
                        _mm256_storeu_ps(whole.as_mut_ptr(), acc[0]);
                        _mm256_storeu_ps(whole.as_mut_ptr().add(8), acc[1]);
                        out.copy_from_nonoverlapping(whole.as_ptr(), self.width);
                    }
                }
            }
        }

        /// # Safety
        /// The same.
        #[target_feature(enable = "avx512f,avx512bw")]
        #[inline]
        unsafe fn avx512<const M: usize>(&self) {
            // SAFETY: as promised by the caller.
            unsafe {
                let mut acc: [__m512; M] = [_mm512_loadu_ps(self.bias); M];
                for i in 0..self.k {
                    let w = _mm512_loadu_ps(self.panel.add(i * LANES));
                    for (r, acc) in acc.iter_mut().enumerate() {
                        *acc = _mm512_fmadd_ps(_mm512_set1_ps(*self.a.add(r * self.k + i)), w, *acc);
                    }
                }
                let mask = if self.width == LANES { u16::MAX } else { (1 << self.width) - 1 };
                for (r, acc) in acc.iter().enumerate() {
                    _mm512_mask_storeu_ps(self.out.add(r * self.n), mask, *acc);
                }
            }
        }
    }
}
