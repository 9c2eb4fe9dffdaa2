//! WordPiece for text in ASCII, at the speed a static model needs; everything else is left to the library.
//!
//! White space separates words under every rule of BERT's normalizer, so a text is the sequence of its chunks: those in plain
//! ASCII are cut up here, others go through the library one by one. Exactly the same tokens come out (a test compares them on
//! hundreds of thousands of texts); a tokenizer that differs from BERT's in any setting is never taken over.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use serde::Deserialize;

/// A vocabulary by its pieces.
pub(crate) struct WordPiece {
    starts: Pieces,
    inner: Pieces,
    unknown: u32,
    longest: usize,
    longest_word: usize,
    lowercase: bool,
}

type Pieces = HashMap<Box<[u8]>, u32, BuildHasherDefault<WordHasher>>;

#[derive(Deserialize)]
struct File {
    added_tokens: Vec<Added>,
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<Typed>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    content: String,
    normalized: bool,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
}

#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

#[derive(Deserialize)]
struct Normalizer {
    r#type: String,
    clean_text: Option<bool>,
    lowercase: Option<bool>,
}

#[derive(Deserialize)]
struct Model {
    r#type: Option<String>,
    #[serde(default)]
    unk_token: String,
    #[serde(default)]
    continuing_subword_prefix: String,
    #[serde(default)]
    max_input_chars_per_word: usize,
    #[serde(default)]
    vocab: HashMap<String, u32>,
}

impl WordPiece {
    /// The vocabulary of a `tokenizer.json`, where that is BERT's tokenizer in every setting that matters for ASCII.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let file: File = serde_json::from_slice(bytes).ok()?;
        let normalizer = file.normalizer?;
        let as_bert = normalizer.r#type == "BertNormalizer"
            && normalizer.clean_text == Some(true)
            && file.pre_tokenizer?.r#type == "BertPreTokenizer"
            && file.model.r#type.as_deref().is_none_or(|t| t == "WordPiece")
            && file.model.continuing_subword_prefix == "##"
            // A word that holds such a token goes to the library; it must be seen by its first character.
            && file.added_tokens.iter().all(|t| {
                t.content.starts_with('[') && !t.content.contains(char::is_whitespace)
                    && !(t.normalized || t.single_word || t.lstrip || t.rstrip)
            });
        as_bert.then_some(())?;
        let words = file.model.vocab.iter().map(|(piece, &id)| (piece.as_str(), id));
        Self::new(words, &file.model.unk_token, file.model.max_input_chars_per_word, normalizer.lowercase?)
    }

    /// A vocabulary of pieces with their numbers.
    fn new<'a>(
        pieces: impl Iterator<Item = (&'a str, u32)>,
        unknown: &str,
        longest_word: usize,
        lowercase: bool,
    ) -> Option<Self> {
        let (mut starts, mut inner) = (Pieces::default(), Pieces::default());
        let mut longest = 0;
        let mut unknown_id = None;
        for (piece, id) in pieces {
            if piece == unknown {
                unknown_id = Some(id);
            }
            // Pieces beyond ASCII are never looked for here.
            if !piece.is_ascii() {
                continue;
            }
            let (map, key) = piece.strip_prefix("##").map_or((&mut starts, piece), |rest| (&mut inner, rest));
            longest = longest.max(key.len());
            map.insert(key.as_bytes().into(), id);
            if key.len() != piece.len() {
                // "##a" is also what a text "##a" could hold, as a word of its own.
                longest = longest.max(piece.len());
                starts.insert(piece.as_bytes().into(), id);
            }
        }
        Some(Self { starts, inner, unknown: unknown_id?, longest, longest_word, lowercase })
    }

    /// Puts the tokens of a text, without special ones, behind those in `out`, until that holds `limit`. Chunks that are not
    /// plain ASCII go to `other`.
    pub fn encode<E>(
        &self,
        text: &str,
        limit: usize,
        out: &mut Vec<u32>,
        mut other: impl FnMut(&str, &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut word = Vec::with_capacity(self.longest_word + 1);
        for chunk in text.split([' ', '\t', '\n', '\r']) {
            if out.len() >= limit {
                break;
            }
            if chunk.is_empty() {
                continue;
            }
            if !chunk.is_ascii() || chunk.contains('[') {
                other(chunk, out)?;
                continue;
            }
            for &byte in chunk.as_bytes() {
                if byte.is_ascii_control() {
                    continue;
                }
                if byte.is_ascii_punctuation() {
                    self.word(&mut word, out);
                    word.push(byte);
                    self.word(&mut word, out);
                } else {
                    word.push(if self.lowercase { byte.to_ascii_lowercase() } else { byte });
                    if out.len() >= limit {
                        break;
                    }
                }
            }
            self.word(&mut word, out);
        }
        out.truncate(limit);
        Ok(())
    }

    /// The longest piece first, from the left; a word with a rest that no piece begins is unknown as a whole.
    fn word(&self, word: &mut Vec<u8>, out: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let before = out.len();
        if word.len() > self.longest_word {
            out.push(self.unknown);
        } else {
            let (mut start, mut map) = (0, &self.starts);
            while start < word.len() {
                let longest = word.len().min(start + self.longest);
                let found = (start + 1..=longest).rev().find_map(|end| map.get(&word[start..end]).map(|id| (*id, end)));
                let Some((id, end)) = found else {
                    out.truncate(before);
                    out.push(self.unknown);
                    break;
                };
                out.push(id);
                (start, map) = (end, &self.inner);
            }
        }
        word.clear();
    }
}

/// Multiply and rotate, eight bytes at a time (as in Firefox and rustc): the keys are a fixed vocabulary, so nobody can choose
/// them to collide.
#[derive(Default)]
struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<8>();
        for block in blocks {
            self.write_u64(u64::from_le_bytes(*block));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(last));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        // The table takes its bits from both ends.
        self.0 ^ (self.0 >> 32)
    }
}
