//! MiniLM gives the vectors that sentence-transformers gives, however it is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;

use candle_core::Device;
use nearcast_domain::ports::{Embedder as _, Priority};
use nearcast_embed::{
    EngineHandle, LazyEmbedder, LocalModel, ModelStore, SchedulerConfig,
    bert::{BertConfig, TensorBert},
    model::{Bert, TextModel, encode_all},
    registry::DEFAULT_MODEL,
    tokenize::Tokenizer,
};
use support::{cosine, minilm, pairs};

/// What "correct" means.
const BAR: f64 = 0.9999;

#[test]
fn as_sentence_transformers() {
    let Some(local) = minilm() else { return };
    let model: Arc<dyn TextModel> = Arc::new(Bert::load(&local).unwrap());
    let pairs = pairs();
    assert_eq!(pairs.len(), 32);
    let texts = pairs.iter().map(|p| Arc::clone(&p.text)).collect::<Vec<_>>();
    let mut seen = 0;
    let mut worst = 1.0_f64;
    encode_all(&model, &texts, 2, &mut |i, v| {
        let c = cosine(v, &pairs[i].vector);
        assert!(c >= BAR, "{:?}: cosine {c}", pairs[i].text);
        worst = worst.min(c);
        seen += 1;
    })
    .unwrap();
    eprintln!("worst cosine of 32: {worst:.7}");
    assert_eq!(seen, 32);
}

#[test]
fn the_plain_forward_agrees_too() {
    let Some(local) = minilm() else { return };
    let config = BertConfig::read(&local.dir.join("config.json")).unwrap();
    let plain = TensorBert::load(&local.dir.join("model.safetensors"), config, &Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&local.dir.join("tokenizer.json"), 256, "").unwrap();
    for pair in pairs() {
        let mut ids = Vec::new();
        tokenizer.encode(&pair.text, &mut ids).unwrap();
        let v = plain.forward(&[&ids], local.spec.pooling).unwrap();
        let c = cosine(&v, &pair.vector);
        assert!(c >= BAR, "{:?}: cosine {c}", pair.text);
    }
}

#[test]
fn long_texts_end_or_are_read_in_windows() {
    let Some(local) = minilm() else { return };
    let embed = |local: &LocalModel, text: &str| {
        let model: Arc<dyn TextModel> = Arc::new(Bert::load(local).unwrap());
        let mut out = Vec::new();
        let stats = encode_all(&model, &[text.into(), "short".into()], 1, &mut |_, v| out.push(v.to_vec())).unwrap();
        assert_eq!(out.len(), 2);
        (out, stats.tokens)
    };
    let (beginning, end) = ("the dog sleeps in the sun ".repeat(43), " quarterly tax returns of companies".repeat(60));
    let text = format!("{beginning}{end}");
    let (cut, tokens) = embed(&local, &text);
    assert_eq!(tokens, 256 + 3);
    assert!(cosine(&cut[0], &embed(&local, &beginning).0[0]) > 0.999, "what is beyond 256 tokens is not read");
    let windowed = local.clone().with_windows(4);
    assert_ne!(windowed.info.revision, local.info.revision);
    let (whole, tokens) = embed(&windowed, &text);
    assert!(tokens > 500, "{tokens}");
    let about_tax = embed(&local, &end).0;
    assert!(cosine(&whole[0], &about_tax[0]) > cosine(&cut[0], &about_tax[0]) + 0.2);
    assert!(cosine(&whole[1], &cut[1]) > 0.999_999, "a short text is what it was");
    assert!((cosine(&whole[0], &whole[0]) - 1.0).abs() < 1e-6);
}

#[tokio::test]
async fn through_the_queue() {
    let Some(local) = minilm() else { return };
    let store = Arc::new(ModelStore::in_default_dir(true));
    let embedder: LazyEmbedder = EngineHandle::of_store(store, DEFAULT_MODEL, SchedulerConfig::default()).unwrap();
    assert_eq!(*embedder.model(), local.info);
    assert_eq!(embedder.model().dimension, 384);
    let pairs = pairs();
    let texts = pairs.iter().map(|p| Arc::clone(&p.text)).collect::<Vec<_>>();
    for priority in [Priority::Bulk, Priority::Query] {
        let vectors = embedder.embed(&texts, priority).await.unwrap();
        for (pair, v) in pairs.iter().zip(&vectors) {
            assert!(cosine(v, &pair.vector) >= BAR, "{:?}", pair.text);
        }
    }
    embedder.shutdown().await;
    assert!(embedder.embed(&["after the end".into()], Priority::Query).await.is_err());
}
