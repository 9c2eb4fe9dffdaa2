//! Texts to token numbers, exactly as the model's own tokenizer does it, cut to the model's length.
//!
//! Never pads. An empty text still has its special tokens, so no sequence is ever empty. Of a long text only as much is read
//! as the model takes.

mod wordpiece;

use std::path::Path;

use tokenizers::{PostProcessor as _, Tokenizer as Library};

use self::wordpiece::WordPiece;
use crate::EmbedError;

/// A model's tokenizer.
pub struct Tokenizer {
    library: Library,
    fast: Option<WordPiece>,
    /// The special tokens before and behind a text.
    before: Vec<u32>,
    behind: Vec<u32>,
    max_tokens: usize,
    windows: usize,
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
        library.with_truncation(None).map_err(refuse)?;
        let (before, behind) = frame(&library).map_err(refuse)?;
        if max_tokens <= before.len() + behind.len() {
            return Err(EmbedError::Unsupported(format!("{max_tokens} tokens leave no room for a text")));
        }
        Ok(Self {
            library,
            fast: WordPiece::from_json(bytes),
            before,
            behind,
            max_tokens,
            windows: 1,
            prefix: prefix.to_owned(),
        })
    }

    /// Reads up to `windows` times as much of long texts, as windows one after another, each with the special tokens and as
    /// long as the model takes. Whoever encodes them must take them apart again.
    pub fn with_windows(mut self, windows: usize) -> Self {
        self.windows = windows.max(1);
        self
    }

    /// Puts the tokens of a text, special ones and all, behind those in `out`.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), EmbedError> {
        let (start, room) = (out.len() + self.before.len(), self.room());
        out.extend_from_slice(&self.before);
        if self.prefix.is_empty() {
            self.pieces(text, room * self.windows, out)?;
        } else {
            self.pieces(&format!("{}{text}", self.prefix), room * self.windows, out)?;
        }
        if out.len() - start > room {
            let rest = out.split_off(start + room);
            for window in rest.chunks(room) {
                out.extend_from_slice(&self.behind);
                out.extend_from_slice(&self.before);
                out.extend_from_slice(window);
            }
        }
        out.extend_from_slice(&self.behind);
        Ok(())
    }

    /// Puts at most `limit` tokens of a text, without special ones, behind those in `out`.
    pub fn pieces(&self, text: &str, limit: usize, out: &mut Vec<u32>) -> Result<(), EmbedError> {
        let limit = out.len() + limit;
        match &self.fast {
            Some(fast) => fast.encode(text, limit, out, |chunk, out| self.by_library(chunk, out)),
            None => {
                self.by_library(text, out)?;
                out.truncate(limit);
                Ok(())
            }
        }
    }

    /// How many tokens of a text fit between the special ones.
    pub fn room(&self) -> usize {
        self.max_tokens - self.before.len() - self.behind.len()
    }

    /// Special tokens before and behind a text.
    pub(crate) fn frame(&self) -> (&[u32], &[u32]) {
        (&self.before, &self.behind)
    }

    /// The library holds some hundred bytes for every character it reads, however few tokens are wanted: what it is given ends
    /// far beyond the longest text that an event may hold (32 KiB), or the most that this model reads of one.
    fn by_library(&self, text: &str, out: &mut Vec<u32>) -> Result<(), EmbedError> {
        let most = (64 << 10).max(16 * self.room() * self.windows);
        let text = &text[..text.floor_char_boundary(most)];
        let encoding =
            self.library.encode_fast(text, false).map_err(|e| EmbedError::Compute(format!("tokenizing failed: {e}")))?;
        out.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

/// The special tokens that the post-processor puts before and behind a text.
fn frame(library: &Library) -> Result<(Vec<u32>, Vec<u32>), tokenizers::Error> {
    let added = library.get_post_processor().map_or(0, |p| p.added_tokens(false));
    let bare = library.encode_fast("a", false)?;
    let framed = library.encode_fast("a", true)?;
    let (bare, framed) = (bare.get_ids(), framed.get_ids());
    let start = framed.windows(bare.len().max(1)).position(|w| w == bare);
    match start {
        Some(start) if framed.len() == bare.len() + added => {
            Ok((framed[..start].to_vec(), framed[start + bare.len()..].to_vec()))
        }
        _ => Err("its post-processor does not put fixed tokens around a text".into()),
    }
}
