//! What a process with MiniLM needs at most: the largest batches on every thread, and texts of a million symbols.
//!
//! A binary of its own with one test, so that nothing else is measured.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;

use nearcast_embed::{
    model::{Bert, TextModel, encode_all},
    statics::built_in,
};
use support::minilm;

/// The most that this process has had resident, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() >> 10
}

fn encode(model: &Arc<dyn TextModel>, texts: &[Arc<str>]) {
    let mut seen = 0;
    encode_all(model, texts, 2, &mut |_, v| {
        assert!(v.iter().all(|x| x.is_finite()));
        seen += 1;
    })
    .unwrap();
    assert_eq!(seen, texts.len());
}

#[test]
fn at_most_350_megabytes() {
    let table: Arc<dyn TextModel> = built_in().unwrap();
    let minilm: Option<Arc<dyn TextModel>> = minilm().map(|local| Arc::new(Bert::load(&local).unwrap()) as _);
    eprintln!("with its models in memory: {} MiB", peak());
    let long = vec![Arc::<str>::from("words and more words, one after another ".repeat(100)); 40];
    for model in [Some(&table), minilm.as_ref()].into_iter().flatten() {
        encode(model, &long);
        eprintln!("{}, largest batches: {} MiB", model.info().name, peak());
        for symbol in ["a", "!", "é", "日", "\u{301}", "\0", "[CLS]", "😀"] {
            encode(model, &[symbol.repeat(1_000_000).into()]);
        }
        eprintln!("{}, a million of one symbol: {} MiB", model.info().name, peak());
    }
    assert!(peak() <= 350, "{} MiB", peak());
}
