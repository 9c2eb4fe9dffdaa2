//! Tokens are those of the library, text for text.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead as _, BufReader};

use nearcast_embed::tokenize::Tokenizer;
use support::{data, minilm, pairs};
use tokenizers::{Tokenizer as Library, TruncationParams};

struct Both {
    ours: Tokenizer,
    library: Library,
}

impl Both {
    fn new() -> Option<Self> {
        let path = minilm()?.dir.join("tokenizer.json");
        let mut library = Library::from_file(&path).unwrap();
        library.with_padding(None);
        library.with_truncation(Some(TruncationParams { max_length: 256, ..TruncationParams::default() })).unwrap();
        Some(Self { ours: Tokenizer::load(&path, 256, "").unwrap(), library })
    }

    fn check(&self, text: &str) {
        let mut ours = Vec::new();
        self.ours.encode(text, &mut ours).unwrap();
        let library = self.library.encode_fast(text, true).unwrap();
        assert_eq!(ours, library.get_ids(), "{text:?}");
    }
}

#[test]
fn on_chosen_texts() {
    let Some(both) = Both::new() else { return };
    pairs().iter().for_each(|p| both.check(&p.text));
    for text in
        ["##ing", "a##b", "[cls]", "[CLS][SEP]", "x[MASK]y", "\u{1}a\u{7f}b\u{c}c", "a\u{85}b", "I'm can't", "\0", "..."]
    {
        both.check(text);
    }
}

#[test]
fn on_random_texts() {
    let Some(both) = Both::new() else { return };
    let mut rng = fastrand::Rng::with_seed(11);
    let words = [
        "run", "Running", "un", "believ", "able", "##s", "[SEP]", "'", "-", "é", "日本", "ß", "\u{301}", "\t", "\r\n",
        "\u{a0}", "\u{200b}",
    ];
    for _ in 0..100_000 {
        let mut text = String::new();
        for _ in 0..rng.usize(0..12) {
            match rng.u8(0..6) {
                0 => text.push(rng.char('\0'..='\u{7f}')),
                1 => text.push(rng.char(..)),
                2 => text.push(' '),
                3 => text.push_str(rng.choice(words).unwrap_or_default()),
                4 => (0..rng.usize(1..9)).for_each(|_| text.push(rng.lowercase())),
                _ => (0..rng.usize(1..4)).for_each(|_| text.push(rng.char('!'..='~'))),
            }
        }
        both.check(&text);
    }
}

#[test]
fn on_real_chat() {
    let (Some(both), Some(path)) = (Both::new(), data("ubuntu-irc.events.jsonl.gz")) else { return };
    let lines = BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())).lines();
    for line in lines.map(Result::unwrap).step_by(3) {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let Some(text) = event.get("text").or_else(|| event.get("message")).and_then(|t| t.as_str()) {
            both.check(text);
        }
    }
}
