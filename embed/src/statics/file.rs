//! The file of a static model: `NCSTAT01`, the length of the header (u32, little-endian), a JSON header, the vocabulary (a
//! piece a line), a scale a row (`f32`), the rows (`i8`), and the SHA-256 of all that.
//!
//! A file whose hash is wrong is refused, whatever it says.

use std::{path::Path, sync::Arc};

use nearcast_domain::{event::hex, ports::ModelInfo};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    EmbedError,
    kernels::{LANES, Level, at_level},
    model::{Encoder, TextModel, normalise},
    tokenize::Tokenizer,
};

const MAGIC: &[u8; 8] = b"NCSTAT01";
const HASH: usize = 32;

/// What stands at the head of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StaticHeader {
    /// What the model is called.
    pub name: String,
    /// Length of its vectors.
    pub dimension: usize,
    /// Tokens.
    pub rows: usize,
    /// Bytes of the vocabulary.
    pub vocabulary_bytes: usize,
    /// Tokens of a text that count.
    pub max_tokens: usize,
    /// The model it was made from: name and revision.
    pub made_from: String,
    /// How, in words.
    pub recipe: String,
    /// The normalizer of the tokenizer, as in a `tokenizer.json`.
    pub normalizer: serde_json::Value,
    /// The special tokens, as in a `tokenizer.json`.
    pub added_tokens: serde_json::Value,
}

/// A table of token vectors with its tokenizer.
pub struct StaticModel {
    info: ModelInfo,
    header: StaticHeader,
    tokenizer: Tokenizer,
    scales: Vec<f32>,
    table: Vec<i8>,
    level: Level,
}

impl StaticModel {
    /// Writes the file: `vocabulary` a piece a row, `rows` one after another in `f32`.
    pub fn pack(mut header: StaticHeader, vocabulary: &[String], rows: &[f32]) -> Result<Vec<u8>, EmbedError> {
        if vocabulary.len() * header.dimension != rows.len() || vocabulary.iter().any(|p| p.contains('\n')) {
            return Err(EmbedError::Unsupported("the vocabulary does not fit the table".into()));
        }
        let vocabulary = vocabulary.join("\n");
        header.rows = rows.len() / header.dimension.max(1);
        header.vocabulary_bytes = vocabulary.len();
        let head = serde_json::to_vec(&header).map_err(|e| EmbedError::Compute(e.to_string()))?;
        let mut scales = Vec::new();
        let mut table = Vec::with_capacity(rows.len());
        for row in rows.chunks_exact(header.dimension) {
            let top = row.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            let scale = if top > 0.0 && top.is_finite() { top / 127.0 } else { 0.0 };
            scales.extend_from_slice(&scale.to_le_bytes());
            table.extend(row.iter().map(|x| if scale > 0.0 { (x / scale).round() as i8 as u8 } else { 0 }));
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
        for part in [&head, vocabulary.as_bytes(), &scales, &table] {
            bytes.extend_from_slice(part);
        }
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
        Ok(bytes)
    }

    /// Reads a file on disk.
    pub fn open(path: &Path) -> Result<Self, EmbedError> {
        Self::from_bytes(&std::fs::read(path).map_err(|e| EmbedError::io(path, e))?)
    }

    /// Reads the file's content.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EmbedError> {
        let refuse = |what: &str| EmbedError::Unsupported(format!("static model: {what}"));
        let (content, hash) = bytes.split_at_checked(bytes.len().saturating_sub(HASH)).ok_or_else(|| refuse("too short"))?;
        if content.get(..8) != Some(MAGIC.as_slice()) {
            return Err(refuse("not a static model, or of another version"));
        }
        if Sha256::digest(content).as_slice() != hash {
            return Err(refuse("torn or altered: its hash is wrong"));
        }
        let mut rest = &content[8..];
        let mut take = |n: usize| -> Result<&[u8], EmbedError> {
            let (part, later) = rest.split_at_checked(n).ok_or_else(|| refuse("too short"))?;
            rest = later;
            Ok(part)
        };
        let length = take(4)?.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b) as usize);
        let header: StaticHeader = serde_json::from_slice(take(length)?).map_err(|e| refuse(&e.to_string()))?;
        let vocabulary = str::from_utf8(take(header.vocabulary_bytes)?).map_err(|e| refuse(&e.to_string()))?;
        let scales = take(4 * header.rows)?.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>();
        let table = take(header.rows * header.dimension)?.iter().map(|&b| b as i8).collect::<Vec<_>>();
        if header.dimension == 0 || vocabulary.split('\n').count() != header.rows {
            return Err(refuse("its parts do not fit each other"));
        }
        let tokenizer = tokenizer(&header, vocabulary)?;
        let info = ModelInfo { name: header.name.clone(), revision: hex(hash), dimension: header.dimension };
        Ok(Self { info, header, tokenizer, scales, table, level: Level::detect() })
    }

    /// What stands at the head of the file.
    pub fn header(&self) -> &StaticHeader {
        &self.header
    }

    /// The unit vector of a text into `out`, with working memory in `tokens`.
    pub fn vector(&self, text: &str, tokens: &mut Vec<u32>, out: &mut [f32]) -> Result<(), EmbedError> {
        tokens.clear();
        self.tokenizer.pieces(text, self.header.max_tokens, tokens)?;
        self.sum(tokens, out);
        Ok(())
    }

    fn sum(&self, tokens: &[u32], out: &mut [f32]) {
        add_rows(self.level, &self.table, &self.scales, tokens, out);
        normalise(out);
    }
}

#[inline(always)]
fn add_rows_body<const FMA: bool>(table: &[i8], scales: &[f32], tokens: &[u32], out: &mut [f32]) {
    let width = out.len();
    out.fill(0.0);
    for &token in tokens {
        let token = token as usize;
        let (Some(row), Some(&scale)) = (table.get(token * width..(token + 1) * width), scales.get(token)) else { continue };
        let (blocks, rest) = row.as_chunks::<LANES>();
        let (out_blocks, out_rest) = out.as_chunks_mut::<LANES>();
        for (o, block) in out_blocks.iter_mut().zip(blocks) {
            for i in 0..LANES {
                o[i] += f32::from(block[i]) * scale;
            }
        }
        for (o, &x) in out_rest.iter_mut().zip(rest) {
            *o += f32::from(x) * scale;
        }
    }
}

at_level! {
    /// The sum of the rows of these tokens.
    pub fn add_rows(table: &[i8], scales: &[f32], tokens: &[u32], out: &mut [f32]) = add_rows_body
}

/// BERT's tokenizer over this vocabulary, without special tokens around a text.
fn tokenizer(header: &StaticHeader, vocabulary: &str) -> Result<Tokenizer, EmbedError> {
    let vocab = vocabulary.split('\n').enumerate().map(|(i, piece)| (piece.to_owned(), json!(i))).collect();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": header.added_tokens,
        "normalizer": header.normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": serde_json::Value::Object(vocab),
        },
    });
    Tokenizer::from_bytes(file.to_string().as_bytes(), header.max_tokens, "")
}

impl TextModel for StaticModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenize(&self, text: &str, out: &mut Vec<u32>) -> Result<(), EmbedError> {
        self.tokenizer.encode(text, out)
    }

    fn encoder(self: Arc<Self>) -> Box<dyn Encoder> {
        Box::new(StaticEncoder(self))
    }

    fn batch_tokens(&self) -> usize {
        4096
    }
}

struct StaticEncoder(Arc<StaticModel>);

impl Encoder for StaticEncoder {
    fn encode(&mut self, sequences: &[&[u32]], out: &mut Vec<f32>) -> Result<(), EmbedError> {
        let width = self.0.info.dimension;
        out.clear();
        out.resize(sequences.len() * width, 0.0);
        for (sequence, out) in sequences.iter().zip(out.chunks_exact_mut(width)) {
            self.0.sum(sequence, out);
        }
        Ok(())
    }
}
