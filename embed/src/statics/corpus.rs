//! Ordinary text as bags of tokens: what a table is fitted to, and how often each token occurs.

use rayon::prelude::*;

/// Texts as rows of (token, share) pairs, and the same by token: a sparse matrix whose rows sum to one.
pub(crate) struct Bags {
    rows: Vec<Vec<(u32, f32)>>,
    columns: Vec<Vec<(u32, f32)>>,
    counts: Vec<u64>,
}

impl Bags {
    /// From the tokens of each text. Texts without tokens are rows of zeros.
    pub fn new(texts: &[Vec<u32>], vocabulary: usize) -> Self {
        let mut counts = vec![0; vocabulary];
        let mut columns = vec![Vec::new(); vocabulary];
        let mut rows = Vec::with_capacity(texts.len());
        for (i, tokens) in texts.iter().enumerate() {
            let mut sorted = tokens.clone();
            sorted.sort_unstable();
            let share = 1.0 / tokens.len().max(1) as f32;
            let row = sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as f32 * share)).collect::<Vec<_>>();
            for &(token, share) in &row {
                columns[token as usize].push((i as u32, share));
            }
            tokens.iter().for_each(|&t| counts[t as usize] += 1);
            rows.push(row);
        }
        Self { rows, columns, counts }
    }

    /// Tokens in all of them.
    pub fn tokens(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Different tokens among them.
    pub fn seen(&self) -> usize {
        self.counts.iter().filter(|&&c| c > 0).count()
    }

    /// The share of each token in all of them.
    pub fn frequencies(&self) -> Vec<f32> {
        let total = self.counts.iter().sum::<u64>().max(1) as f32;
        self.counts.iter().map(|&c| c as f32 / total).collect()
    }

    /// The mean vector of each text under a table of rows of `width`.
    pub fn times(&self, table: &[f32], width: usize) -> Vec<f32> {
        product(&self.rows, table, width)
    }

    /// The transpose times a matrix with a row a text.
    pub fn transposed_times(&self, matrix: &[f32], width: usize) -> Vec<f32> {
        product(&self.columns, matrix, width)
    }
}

fn product(sparse: &[Vec<(u32, f32)>], dense: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; sparse.len() * width];
    out.par_chunks_exact_mut(width).zip(sparse).for_each(|(out, row)| {
        for &(i, share) in row {
            for (o, x) in out.iter_mut().zip(&dense[i as usize * width..][..width]) {
                *o += share * x;
            }
        }
    });
    out
}
