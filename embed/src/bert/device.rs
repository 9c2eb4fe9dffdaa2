//! The plain forward in batches that suit an accelerator: texts of like length together, so that little is padded, and as many
//! at once as its memory takes.
//!
//! Never changes the order of the answers. A batch that finds no room is halved, and what follows stays that small.
//!
//! On a CPU this path is tested against the plain forward a text at a time and against the engine made for CPUs. It was not run
//! on a GPU: none was at hand.

use std::sync::Arc;

use super::TensorBert;
use crate::{EmbedError, registry::Pooling};

/// Padded tokens in a batch to begin with.
pub const BATCH_TOKENS: usize = 16_384;
/// Scores of attention in a batch (heads x tokens² a text): 512 MB in `f32`. Long texts meet this limit first.
const MOST_SCORES: usize = 128 << 20;

/// A model on a device, for one thread.
pub struct DeviceForward {
    bert: Arc<TensorBert>,
    pooling: Pooling,
    room: usize,
}

impl DeviceForward {
    /// Begins with batches of `room` padded tokens; [`BATCH_TOKENS`] where nothing else is known.
    pub fn new(bert: Arc<TensorBert>, pooling: Pooling, room: usize) -> Self {
        Self { bert, pooling, room }
    }

    /// The pooled vectors of these sequences (not normalised), one after another in `out`, in the order given. No sequence may
    /// be empty.
    pub fn run(&mut self, sequences: &[&[u32]], out: &mut Vec<f32>) -> Result<(), EmbedError> {
        let config = self.bert.config();
        let (width, heads, longest) = (config.hidden_size, config.num_attention_heads, config.max_position_embeddings);
        for s in sequences {
            if s.is_empty() || s.len() > longest || s.iter().any(|&t| t as usize >= config.vocab_size) {
                return Err(EmbedError::Compute(format!("a sequence of {} tokens, or a token that is none", s.len())));
            }
        }
        let (bert, pooling) = (&self.bert, self.pooling);
        in_parts(sequences, width, heads, &mut self.room, out, |part| bert.forward(part, pooling))
    }
}

/// How many sequences from the front of `rest`, the longest first, fit a batch. At least one.
fn fitting(rest: &[&[u32]], heads: usize, room: usize) -> usize {
    let longest = rest.first().map_or(1, |s| s.len().max(1));
    (room / longest).min(MOST_SCORES / (heads * longest * longest).max(1)).clamp(1, rest.len().max(1))
}

fn in_parts(
    sequences: &[&[u32]],
    width: usize,
    heads: usize,
    room: &mut usize,
    out: &mut Vec<f32>,
    forward: impl Fn(&[&[u32]]) -> Result<Vec<f32>, EmbedError>,
) -> Result<(), EmbedError> {
    let mut order = (0..sequences.len()).collect::<Vec<_>>();
    order.sort_by_key(|&i| (std::cmp::Reverse(sequences[i].len()), i));
    let sorted = order.iter().map(|&i| sequences[i]).collect::<Vec<_>>();
    out.clear();
    out.resize(sequences.len() * width, 0.0);
    let mut done = 0;
    while done < sorted.len() {
        let rest = &sorted[done..];
        let n = fitting(rest, heads, *room);
        match forward(&rest[..n]) {
            Ok(vectors) => {
                for (&i, v) in order[done..].iter().zip(vectors.chunks_exact(width)) {
                    out[i * width..][..width].copy_from_slice(v);
                }
                done += n;
            }
            Err(e) if n > 1 && is_full(&e) => {
                *room = (n / 2).max(1) * rest[0].len();
                tracing::warn!(tokens = *room, "the device has no memory for so many texts at once; batches are halved");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Whether the device said that it has no memory left: CUDA and Metal have no common error for it.
fn is_full(e: &EmbedError) -> bool {
    let text = e.to_string().to_lowercase();
    text.contains("out of memory") || text.contains("out_of_memory") || text.contains("insufficient memory")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn halves_until_it_fits_and_keeps_the_order() {
        let sequences = (0..50_u32).map(|i| vec![i; 1 + (i as usize * 7) % 13]).collect::<Vec<_>>();
        let sequences = sequences.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let sizes = RefCell::new(Vec::new());
        let forward = |part: &[&[u32]]| {
            let padded = part.len() * part.iter().map(|s| s.len()).max().unwrap_or(0);
            if padded > 60 {
                return Err(EmbedError::Compute("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into()));
            }
            sizes.borrow_mut().push(part.len());
            Ok(part.iter().flat_map(|s| [s[0] as f32, s.len() as f32]).collect())
        };
        let (mut room, mut out) = (10_000, Vec::new());
        in_parts(&sequences, 2, 1, &mut room, &mut out, forward).unwrap();
        for (i, v) in out.chunks_exact(2).enumerate() {
            assert_eq!(v, [i as f32, sequences[i].len() as f32]);
        }
        assert!(room <= 60 && sizes.borrow().iter().any(|&n| n > 4), "{room} {sizes:?}");
        let broken = |_: &[&[u32]]| Err(EmbedError::Compute("no such kernel".into()));
        assert!(in_parts(&sequences, 2, 1, &mut room, &mut out, broken).is_err());
        let never = |_: &[&[u32]]| Err(EmbedError::Compute("out of memory".into()));
        assert!(in_parts(&sequences, 2, 1, &mut room, &mut out, never).is_err(), "one text that does not fit is an error");
    }

    #[test]
    fn long_texts_go_in_small_batches() {
        let long = vec![0; 512];
        let many = vec![long.as_slice(); 1000];
        assert_eq!(fitting(&many, 12, BATCH_TOKENS), 32);
        assert_eq!(fitting(&many, 12, usize::MAX), (128 << 20) / (12 * 512 * 512));
        assert_eq!(fitting(&many, 12, 1), 1);
    }
}
