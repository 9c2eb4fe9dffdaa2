//! How well a model agrees with people: pairs of sentences that people gave a score, and the rank correlation with it.

use std::{io, path::Path, sync::Arc};

use crate::{
    EmbedError,
    model::{TextModel, encode_all},
};

/// Pairs of sentences with their scores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    first: Vec<Arc<str>>,
    second: Vec<Arc<str>>,
    scores: Vec<f64>,
}

impl Pairs {
    /// A file of the STS benchmark (Cer et al. 2017): tab-separated, the score in column 5, the sentences in 6 and 7.
    pub fn read(path: &Path) -> Result<Self, EmbedError> {
        let text = std::fs::read_to_string(path).map_err(|e| EmbedError::io(path, e))?;
        let mut pairs = Self::default();
        for (n, line) in text.lines().enumerate() {
            let fields = line.split('\t').collect::<Vec<_>>();
            let (Some(score), Some(first), Some(second)) =
                (fields.get(4).and_then(|s| s.parse().ok()), fields.get(5), fields.get(6))
            else {
                let what = format!("line {}: no score in column 5 with sentences in columns 6 and 7", n + 1);
                return Err(EmbedError::io(path, io::Error::new(io::ErrorKind::InvalidData, what)));
            };
            pairs.scores.push(score);
            pairs.first.push((*first).into());
            pairs.second.push((*second).into());
        }
        Ok(pairs)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// Spearman's correlation of the cosines of a model with the scores, from -1 to 1.
    pub fn spearman(&self, model: &Arc<dyn TextModel>, threads: usize) -> Result<f64, EmbedError> {
        let vectors = |texts: &[Arc<str>]| {
            let mut out = Vec::new();
            encode_all(model, texts, threads, &mut |_, v| out.push(v.to_vec())).map(|_| out)
        };
        let near = vectors(&self.first)?.iter().zip(&vectors(&self.second)?).map(|(a, b)| dot(a, b)).collect::<Vec<_>>();
        Ok(spearman(&near, &self.scores))
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Spearman's rank correlation: Pearson's of the ranks, ties sharing their mean.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len().max(1) as f64;
    let (ma, mb) = (mean(&a), mean(&b));
    let dot = |x: &[f64], mx: f64, y: &[f64], my: f64| x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>();
    dot(&a, ma, &b, mb) / (dot(&a, ma, &a, ma) * dot(&b, mb, &b, mb)).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order = (0..values.len()).collect::<Vec<_>>();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for run in order.chunk_by(|&a, &b| values[a] == values[b]) {
        run.iter().for_each(|&i| ranks[i] = below as f64 + (run.len() as f64 + 1.0) / 2.0);
        below += run.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_ties() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert!((spearman(&[1.0, 2.0, 30.0], &[-1.0, 0.0, 0.5]) - 1.0).abs() < 1e-12);
        assert!((spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 4.0, 3.0]) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\tb\tc\td\t2.5\tone\ttwo\nnothing\n").unwrap();
        assert!(Pairs::read(file.path()).unwrap_err().to_string().contains("line 2"));
    }
}
