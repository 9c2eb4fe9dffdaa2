//! Attention of one head over one sequence: scores, softmax and the weighted sum, with keys transposed and values gathered
//! first so that every inner loop reads in order.
//!
//! The scale 1/sqrt(d) is not applied here: it lies in the weights of the queries.

use super::{LANES, at_level, math::madd, padded, rows::softmax};

/// Query rows taken at once.
const ROWS: usize = 4;

/// Working memory for sequences of up to a length.
pub struct AttentionScratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
}

impl AttentionScratch {
    /// For heads of `size` and up to `len` tokens.
    pub fn new(size: usize, len: usize) -> Self {
        let (size, len) = (padded(size), padded(len));
        Self { keys: vec![0.0; size * len], values: vec![0.0; size * len], scores: vec![0.0; ROWS * len] }
    }
}

/// Where one head lies in rows of queries, keys and values.
#[derive(Clone, Copy)]
pub struct Head {
    /// Width of the model: a row of `qkv` is three times as long.
    pub width: usize,
    /// The head's first column.
    pub first: usize,
    /// The head's width.
    pub size: usize,
}

#[inline(always)]
fn attend_body<const FMA: bool>(qkv: &[f32], head: Head, scratch: &mut AttentionScratch, out: &mut [f32]) {
    let Head { width, first, size } = head;
    let stride = 3 * width;
    let len = qkv.len() / stride;
    let (wide, deep) = (padded(len), padded(size));
    let keys = &mut scratch.keys[..size * wide];
    let values = &mut scratch.values[..len * deep];
    for (j, row) in qkv.chunks_exact(stride).enumerate() {
        for (d, &x) in row[width + first..][..size].iter().enumerate() {
            keys[d * wide + j] = x;
        }
        let value = &mut values[j * deep..][..deep];
        value[..size].copy_from_slice(&row[2 * width + first..][..size]);
        value[size..].fill(0.0);
    }
    for d in 0..size {
        keys[d * wide + len..(d + 1) * wide].fill(0.0);
    }
    let mut row = 0;
    while row < len {
        // The last rows are taken with some before them again, so that the tile is always whole (or the sequence short).
        let start = if len >= ROWS { row.min(len - ROWS) } else { row };
        if len >= ROWS {
            rows_body::<FMA, ROWS>(qkv, head, start, len, keys, values, &mut scratch.scores, out);
            row = start + ROWS;
        } else {
            rows_body::<FMA, 1>(qkv, head, start, len, keys, values, &mut scratch.scores, out);
            row += 1;
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn rows_body<const FMA: bool, const R: usize>(
    qkv: &[f32],
    head: Head,
    start: usize,
    len: usize,
    keys: &[f32],
    values: &[f32],
    scores: &mut [f32],
    out: &mut [f32],
) {
    let Head { width, first, size } = head;
    let (wide, deep) = (padded(len), padded(size));
    let queries: [&[f32]; R] = std::array::from_fn(|r| &qkv[(start + r) * 3 * width + first..][..size]);
    for block in 0..wide / LANES {
        let mut acc = [[0.0_f32; LANES]; R];
        for d in 0..size {
            let Some(k) = keys[d * wide + block * LANES..].first_chunk::<LANES>() else { return };
            for r in 0..R {
                let q = queries[r][d];
                for i in 0..LANES {
                    acc[r][i] = madd::<FMA>(q, k[i], acc[r][i]);
                }
            }
        }
        for r in 0..R {
            scores[r * wide + block * LANES..][..LANES].copy_from_slice(&acc[r]);
        }
    }
    for r in 0..R {
        softmax::<FMA>(&mut scores[r * wide..][..wide], len);
    }
    let shares: [&[f32]; R] = std::array::from_fn(|r| &scores[r * wide..][..len]);
    for block in 0..deep / LANES {
        let mut acc = [[0.0_f32; LANES]; R];
        for j in 0..len {
            let Some(v) = values[j * deep + block * LANES..].first_chunk::<LANES>() else { return };
            for r in 0..R {
                let p = shares[r][j];
                for i in 0..LANES {
                    acc[r][i] = madd::<FMA>(p, v[i], acc[r][i]);
                }
            }
        }
        let n = LANES.min(size - block * LANES);
        for r in 0..R {
            out[(start + r) * width + first + block * LANES..][..n].copy_from_slice(&acc[r][..n]);
        }
    }
}

at_level! {
    /// One head of one sequence: `qkv` holds its rows of queries, keys and values side by side, `out` its rows of the model's
    /// width, of which the head's columns are written.
    pub fn attend(qkv: &[f32], head: Head, scratch: &mut AttentionScratch, out: &mut [f32]) = attend_body
}
