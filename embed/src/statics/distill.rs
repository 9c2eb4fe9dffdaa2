//! Making a static model from a BERT model and ordinary text.
//!
//! 1. The states of `[CLS] token [SEP]`, averaged, for every token (model2vec: Tulkens and van Dongen 2024).
//! 2. The model's vectors of the texts; their principal directions are the axes of the table. (Those of the token states, as
//!    in model2vec, are worse: all-MiniLM-L6-v2 at 160 dimensions, STS-dev Spearman 0.791 against 0.807.)
//! 3. Each token's state on these axes, weighted `a / (a + p)` with `p` its frequency in the texts (Arora, Liang and Ma 2017).
//! 4. From there, the table that by least squares brings the mean of a text's tokens nearest to the model's vector of the
//!    text, held to the start by a ridge: tokens that are rare in the texts stay what the model says they are.
//! 5. Eight bits a number, a scale a row.

use std::sync::Arc;

use super::{
    corpus::Bags,
    file::{StaticHeader, StaticModel},
    linear::{mean, principal, project, ridge},
};
use crate::{
    EmbedError,
    bert::{BertConfig, CpuBert, Forward},
    kernels::Level,
    model::{Bert, TextModel, encode_all},
    registry::{LocalModel, Pooling},
    tokenize::Tokenizer,
};

/// How a static model is made.
#[derive(Debug, Clone, PartialEq)]
pub struct DistillOptions {
    /// What it is called.
    pub name: String,
    /// Length of its vectors: 152 keep a vocabulary of 30,522 within 5 MB.
    pub dimension: usize,
    /// `a` of the weights.
    pub smoothing: f32,
    /// How strongly the table is held to its start; a text counts 1.
    pub ridge: f32,
    /// Rounds of conjugate gradients.
    pub rounds: usize,
    /// Threads for the model.
    pub threads: usize,
}

impl Default for DistillOptions {
    fn default() -> Self {
        Self {
            name: super::BUILT_IN.to_owned(),
            dimension: 152,
            smoothing: 1e-3,
            ridge: 0.1,
            rounds: 40,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        }
    }
}

/// What is being done, for whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// In words.
    pub what: &'static str,
    /// So far, and of how many; 0 of 0 where it cannot be counted.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// How well the table fits.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct DistillReport {
    /// Texts it was fitted to.
    pub texts: usize,
    /// Their tokens, without special ones, as far as the model reads them.
    pub tokens: u64,
    /// Different tokens among them; the others stay what the model says they are.
    pub seen: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// The part of the variance of the model's vectors that the start leaves.
    pub unexplained_before: f64,
    /// The part that the table leaves.
    pub unexplained: f64,
    /// Bytes of the file.
    pub bytes: usize,
}

/// Makes the file of a static model from a model with BERT's tokenizer and texts, the more and the more various the better.
/// `say` is told what is being done. Takes as long as the model takes for the texts.
pub fn distill(
    local: &LocalModel,
    texts: &[Arc<str>],
    options: &DistillOptions,
    say: &mut dyn FnMut(Step),
) -> Result<(Vec<u8>, DistillReport), EmbedError> {
    let (vocabulary, normalizer, added_tokens) = read_tokenizer(local)?;
    let tokenizer = Tokenizer::load(&local.dir.join("tokenizer.json"), local.spec.max_tokens, "")?;
    let keep = options.dimension;
    if keep == 0 || keep > local.info.dimension || texts.is_empty() {
        return Err(EmbedError::Unsupported(format!("{keep} dimensions of {} texts cannot be made", texts.len())));
    }
    let states = token_states(local, &tokenizer, vocabulary.len(), say)?;
    let model: Arc<dyn TextModel> = Arc::new(Bert::load(local)?);
    let mut vectors = Vec::with_capacity(texts.len() * local.info.dimension);
    encode_all(&model, texts, options.threads, &mut |i, v| {
        vectors.extend_from_slice(v);
        say(Step { what: "the model's vectors of the texts", done: i as u64 + 1, total: texts.len() as u64 });
    })?;
    let mut bags = Vec::with_capacity(texts.len());
    for text in texts {
        let mut tokens = Vec::new();
        tokenizer.pieces(text, tokenizer.room(), &mut tokens)?;
        bags.push(tokens);
    }
    let bags = Bags::new(&bags, vocabulary.len());
    say(Step { what: "the axes", done: 0, total: 0 });
    let centre = mean(&vectors, local.info.dimension);
    let axes = principal(&vectors, &centre, keep);
    let targets = project(&vectors, &centre, &axes, keep);
    drop(vectors);
    let mut start = project(&states, &mean(&states, local.info.dimension), &axes, keep);
    for (row, p) in start.chunks_exact_mut(keep).zip(bags.frequencies()) {
        let weight = options.smoothing / (options.smoothing + p);
        row.iter_mut().for_each(|x| *x *= weight);
    }
    // As long as the targets are, in the mean.
    let fitted = bags.times(&start, keep);
    let scale = (dot(&fitted, &targets) / dot(&fitted, &fitted).max(1e-30)) as f32;
    start.iter_mut().for_each(|x| *x *= scale);
    say(Step { what: "the table", done: 0, total: 0 });
    let table = ridge(&bags, &targets, &start, keep, options.ridge, options.rounds);
    let header = StaticHeader {
        name: options.name.clone(),
        dimension: keep,
        rows: 0,
        vocabulary_bytes: 0,
        max_tokens: 512,
        made_from: local.info.label(),
        recipe: format!(
            "token states on the principal axes of {} texts, a/(a+p) with a = {}, fitted with ridge {} in {} rounds",
            texts.len(),
            options.smoothing,
            options.ridge,
            options.rounds
        ),
        normalizer,
        added_tokens,
    };
    let bytes = StaticModel::pack(header, &vocabulary, &table)?;
    let left = |table: &[f32]| {
        let fitted = bags.times(table, keep);
        let rest = targets.iter().zip(&fitted).map(|(t, f)| f64::from(t - f).powi(2)).sum::<f64>();
        rest / dot(&targets, &targets).max(1e-30)
    };
    let report = DistillReport {
        texts: texts.len(),
        tokens: bags.tokens(),
        seen: bags.seen(),
        vocabulary: vocabulary.len(),
        unexplained_before: left(&start),
        unexplained: left(&table),
        bytes: bytes.len(),
    };
    Ok((bytes, report))
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The mean state of each token between the special ones.
fn token_states(
    local: &LocalModel,
    tokenizer: &Tokenizer,
    rows: usize,
    say: &mut dyn FnMut(Step),
) -> Result<Vec<f32>, EmbedError> {
    let config = BertConfig::read(&local.dir.join("config.json"))?;
    let model = CpuBert::load(&local.dir.join("model.safetensors"), config, Pooling::Mean, Level::detect())?;
    let mut forward = Forward::new(Arc::new(model));
    let (before, behind) = tokenizer.frame();
    let mut states = Vec::with_capacity(rows * local.info.dimension);
    let mut out = Vec::new();
    let tokens = (0..rows as u32).collect::<Vec<_>>();
    for part in tokens.chunks(64) {
        let sequences = part.iter().map(|&t| [before, &[t], behind].concat()).collect::<Vec<_>>();
        let sequences = sequences.iter().map(Vec::as_slice).collect::<Vec<_>>();
        forward.run(&sequences, &mut out)?;
        states.extend_from_slice(&out);
        say(Step { what: "the states of every token", done: u64::from(part[part.len() - 1]) + 1, total: rows as u64 });
    }
    Ok(states)
}

type TokenizerParts = (Vec<String>, serde_json::Value, serde_json::Value);

/// The vocabulary in order, the normalizer and the special tokens of a BERT tokenizer.
fn read_tokenizer(local: &LocalModel) -> Result<TokenizerParts, EmbedError> {
    let path = local.dir.join("tokenizer.json");
    let bytes = std::fs::read(&path).map_err(|e| EmbedError::io(&path, e))?;
    let refuse = |what: &str| EmbedError::Unsupported(format!("{}: {what}", path.display()));
    let mut file: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| refuse(&e.to_string()))?;
    let is_bert = file["pre_tokenizer"]["type"] == "BertPreTokenizer" && file["model"]["unk_token"] == "[UNK]";
    let vocab = file["model"]["vocab"].as_object().filter(|_| is_bert).ok_or_else(|| refuse("not BERT's tokenizer"))?;
    let mut pieces = vec![String::new(); vocab.len()];
    for (piece, id) in vocab {
        let id = id.as_u64().and_then(|i| pieces.get_mut(i as usize)).ok_or_else(|| refuse("its numbers have gaps"))?;
        id.clone_from(piece);
    }
    Ok((pieces, file["normalizer"].take(), file["added_tokens"].take()))
}
