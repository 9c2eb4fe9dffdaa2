//! Whatever the text, a finite vector of unit length: 10^5 texts for the tokenizer and the static model, and the worst of them
//! for MiniLM.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;

use nearcast_embed::{
    command::{self, Format},
    model::{Bert, TextModel, encode_all},
    statics::built_in,
};
use support::minilm;

const ALPHABETS: [(char, char); 12] = [
    ('\0', '\u{1f}'),
    (' ', '~'),
    ('\u{80}', '\u{9f}'),
    ('À', 'ÿ'),
    ('\u{300}', '\u{36f}'),
    ('А', 'я'),
    ('\u{590}', '\u{6ff}'),
    ('ก', '๛'),
    ('\u{2000}', '\u{206f}'),
    ('一', '龯'),
    ('가', '힣'),
    ('\u{1f300}', '\u{1faff}'),
];

/// Random texts, and what JSON with an unpaired surrogate becomes.
fn texts(n: usize, seed: u64) -> Vec<Arc<str>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut text = || -> String {
        let len = if rng.u8(..) < 4 { rng.usize(200..2000) } else { rng.usize(0..24) };
        let (low, high) = ALPHABETS[rng.usize(..ALPHABETS.len())];
        let kind = rng.u8(0..4);
        match kind {
            0 => (0..len).map(|_| rng.char(low..=high)).collect(),
            1 => (0..len).map(|_| rng.char(..)).collect(),
            2 => String::from_utf8_lossy(&(0..len).map(|_| rng.u8(..)).collect::<Vec<_>>()).into_owned(),
            _ => (0..len).map(|_| if rng.bool() { rng.char('a'..='z') } else { rng.char(low..=high) }).collect(),
        }
    };
    (0..n).map(|_| text().into()).collect()
}

fn extremes() -> Vec<Arc<str>> {
    let million = ["a", "!", " ", "é", "日", "\u{301}", "\0", "[CLS]", "a ", "😀"].map(|s| s.repeat(1_000_000));
    let surrogate = String::from_utf8_lossy(b"\xed\xa0\xbd unpaired").into_owned();
    million.into_iter().chain([String::new(), surrogate, "\u{fffd}".into(), "\u{10ffff}".into()]).map(Arc::from).collect()
}

fn check(model: &Arc<dyn TextModel>, texts: &[Arc<str>]) {
    let mut seen = 0;
    encode_all(model, texts, 2, &mut |i, v| {
        assert!(v.iter().all(|x| x.is_finite()), "{:?}", texts[i]);
        let norm = v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((norm - 1.0).abs() < 1e-5, "{norm} for {:?}", texts[i]);
        seen += 1;
    })
    .unwrap();
    assert_eq!(seen, texts.len());
}

#[test]
fn the_static_model_takes_anything() {
    let model: Arc<dyn TextModel> = built_in().unwrap();
    check(&model, &texts(100_000, 1));
    check(&model, &extremes());
}

#[test]
fn minilm_takes_anything() {
    let Some(local) = minilm() else { return };
    let model: Arc<dyn TextModel> = Arc::new(Bert::load(&local).unwrap());
    check(&model, &texts(3_000, 2));
    check(&model, &extremes());
}

/// As many for MiniLM too: some minutes, so only when it is asked for.
#[test]
#[ignore = "10^5 texts through MiniLM take minutes: cargo test --release -p nearcast-embed --test fuzz -- --ignored"]
fn minilm_takes_a_hundred_thousand() {
    let Some(local) = minilm() else { return };
    let model: Arc<dyn TextModel> = Arc::new(Bert::load(&local).unwrap());
    check(&model, &texts(100_000, 3));
}

#[test]
fn the_command_takes_any_bytes() {
    let model: Arc<dyn TextModel> = built_in().unwrap();
    let mut input = b"one\n\nthree \xff\xfe bytes\r\nlast without end".as_slice();
    let mut out = Vec::new();
    let stats = command::embed(&model, &mut input, &mut out, Format::Ndjson, 2).unwrap();
    assert_eq!(stats.texts, 4);
    let lines = String::from_utf8(out).unwrap();
    let vectors = lines.lines().map(|l| serde_json::from_str::<Vec<f32>>(l).unwrap()).collect::<Vec<_>>();
    assert_eq!((vectors.len(), vectors[3].len()), (4, 152));

    let mut input = b"one\n\nthree \xff\xfe bytes\r\nlast without end\n".as_slice();
    let mut npy = Vec::new();
    command::embed(&model, &mut input, &mut npy, Format::Npy, 1).unwrap();
    let header = usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    assert_eq!((10 + header) % 64, 0);
    assert!(String::from_utf8_lossy(&npy[10..10 + header]).contains("'shape': (4, 152)"));
    let numbers = npy[10 + header..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>();
    assert_eq!(numbers, vectors.concat());

    let mut none = b"".as_slice();
    let mut out = Vec::new();
    assert_eq!(command::embed(&model, &mut none, &mut out, Format::Ndjson, 2).unwrap().texts, 0);
    assert!(out.is_empty());
}
