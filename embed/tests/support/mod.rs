//! What the tests of this crate share.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used)]

pub mod server;

use std::{path::PathBuf, sync::Arc};

use nearcast_embed::{LocalModel, ModelStore, registry::DEFAULT_MODEL};

pub struct Pair {
    pub text: Arc<str>,
    pub vector: Vec<f32>,
}

/// The 32 texts with the vectors sentence-transformers gives them.
pub fn pairs() -> Vec<Pair> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/pairs.jsonl");
    let lines = std::fs::read_to_string(path).unwrap();
    let pair = |line: &str| {
        let v: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = base64(v["vector"].as_str().unwrap());
        let vector = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        Pair { text: v["text"].as_str().unwrap().into(), vector }
    };
    lines.lines().map(pair).collect()
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|&x| x == c);
    let digits = text.bytes().filter_map(value).collect::<Vec<_>>();
    let mut out = Vec::new();
    for chunk in digits.chunks(4) {
        let n = chunk.iter().enumerate().fold(0, |n, (i, d)| n | (*d << (18 - 6 * i)));
        out.extend_from_slice(&[(n >> 16) as u8, (n >> 8) as u8, n as u8][..chunk.len() - 1]);
    }
    out
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// MiniLM, from the cache or fetched once. `None`, said aloud, where it can be had from nowhere (a failure under CI=true).
pub fn minilm() -> Option<LocalModel> {
    match ModelStore::in_default_dir(false).pull(DEFAULT_MODEL, &mut |_| ()) {
        Ok(model) => Some(model),
        Err(e) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{e}");
            eprintln!("not run: {e}");
            None
        }
    }
}

/// The public data named by NEARCAST_TEST_DATA. `None`, said aloud, where there is none (a failure under CI=true).
pub fn data(file: &str) -> Option<PathBuf> {
    let path = std::env::var_os("NEARCAST_TEST_DATA").map(|d| PathBuf::from(d).join(file)).filter(|p| p.exists());
    if path.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{file} is not in NEARCAST_TEST_DATA");
        eprintln!("not run: needs {file} in the directory that NEARCAST_TEST_DATA names");
    }
    path
}
