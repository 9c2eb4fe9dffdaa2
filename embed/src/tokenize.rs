//! Texts to token numbers, exactly as the model's own tokenizer does it, cut to the model's length.
//!
//! Never pads. An empty text still has its special tokens, so no sequence is ever empty.

use std::path::Path;

use tokenizers::{Tokenizer as Library, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::EmbedError;

/// A model's tokenizer.
pub struct Tokenizer {
    library: Library,
    prefix: String,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. What it says of padding and length is replaced: no padding, `max_tokens`.
    pub fn load(path: &Path, max_tokens: usize, prefix: &str) -> Result<Self, EmbedError> {
        let bytes = std::fs::read(path).map_err(|e| EmbedError::io(path, e))?;
        Self::from_bytes(&bytes, max_tokens, prefix)
    }

    /// The same from the file's content.
    pub fn from_bytes(bytes: &[u8], max_tokens: usize, prefix: &str) -> Result<Self, EmbedError> {
        let refuse = |e: tokenizers::Error| EmbedError::Unsupported(format!("tokenizer.json: {e}"));
        let mut library = Library::from_bytes(bytes).map_err(refuse)?;
        library.with_padding(None);
        let cut = TruncationParams {
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: TruncationDirection::Right,
        };
        library.with_truncation(Some(cut)).map_err(refuse)?;
        Ok(Self { library, prefix: prefix.to_owned() })
    }

    /// Puts the tokens of a text behind those in `out`.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), EmbedError> {
        let fail = |e: tokenizers::Error| EmbedError::Compute(format!("tokenizing failed: {e}"));
        let encoding = if self.prefix.is_empty() {
            self.library.encode_fast(text, true)
        } else {
            self.library.encode_fast(format!("{}{text}", self.prefix), true)
        }
        .map_err(fail)?;
        out.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}
