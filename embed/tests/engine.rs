//! The engine for CPUs gives what the plain forward gives, for every shape of model and every level of processor here.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{collections::HashMap, path::Path, sync::Arc};

use candle_core::{Device, Tensor};
use nearcast_embed::{
    bert::{Activation, BertConfig, CpuBert, Forward, TensorBert},
    kernels::Level,
    registry::Pooling,
};
use support::cosine;

struct Shape {
    name: &'static str,
    layers: usize,
    width: usize,
    heads: usize,
    inner: usize,
    activation: Activation,
    pooling: Pooling,
}

const fn shape(name: &'static str, layers: usize, width: usize, heads: usize, inner: usize) -> Shape {
    Shape { name, layers, width, heads, inner, activation: Activation::Gelu, pooling: Pooling::Mean }
}

fn config(shape: &Shape) -> BertConfig {
    BertConfig {
        vocab_size: 50,
        hidden_size: shape.width,
        num_hidden_layers: shape.layers,
        num_attention_heads: shape.heads,
        intermediate_size: shape.inner,
        max_position_embeddings: 300,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        hidden_act: shape.activation,
        model_type: Some("bert".into()),
        position_embedding_type: None,
    }
}

/// A file of random weights, as spread as trained ones are.
fn random_weights(config: &BertConfig, path: &Path) {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize], around: f32, spread: f32| {
        let n = shape.iter().product::<usize>();
        let values = (0..n).map(|_| around + spread * (rng.f32() + rng.f32() + rng.f32() - 1.5)).collect::<Vec<_>>();
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    };
    let (w, inner) = (config.hidden_size, config.intermediate_size);
    for (part, rows) in [("word", config.vocab_size), ("position", config.max_position_embeddings), ("token_type", 2)] {
        add(format!("embeddings.{part}_embeddings.weight"), &[rows, w], 0.0, 0.1);
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for i in 0..config.num_hidden_layers {
        let at = format!("encoder.layer.{i}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            add(format!("{at}.{part}.weight"), &[w, w], 0.0, 0.12);
            add(format!("{at}.{part}.bias"), &[w], 0.0, 0.1);
        }
        add(format!("{at}.intermediate.dense.weight"), &[inner, w], 0.0, 0.12);
        add(format!("{at}.intermediate.dense.bias"), &[inner], 0.0, 0.1);
        add(format!("{at}.output.dense.weight"), &[w, inner], 0.0, 0.08);
        add(format!("{at}.output.dense.bias"), &[w], 0.0, 0.1);
        norms.extend([format!("{at}.attention.output.LayerNorm"), format!("{at}.output.LayerNorm")]);
    }
    for norm in norms {
        add(format!("{norm}.weight"), &[w], 1.0, 0.2);
        add(format!("{norm}.bias"), &[w], 0.0, 0.2);
    }
    candle_core::safetensors::save(&tensors, path).unwrap();
}

#[test]
fn as_the_plain_forward() {
    let shapes = [
        shape("MiniLM-L6", 6, 384, 12, 1536),
        shape("MiniLM-L12", 12, 384, 12, 1536),
        Shape { pooling: Pooling::Cls, ..shape("bge-small", 12, 384, 12, 1536) },
        Shape { activation: Activation::GeluNew, ..shape("heads of 64", 2, 128, 2, 512) },
        Shape { activation: Activation::Relu, ..shape("no multiples", 2, 60, 3, 101) },
    ];
    let dir = tempfile::tempdir().unwrap();
    for shape in &shapes {
        let config = config(shape);
        let path = dir.path().join("model.safetensors");
        random_weights(&config, &path);
        let mut rng = fastrand::Rng::with_seed(4);
        let sequences = [1, 2, 3, 4, 5, 17, 64, 255].map(|len| (0..len).map(|_| rng.u32(0..50)).collect::<Vec<_>>());
        let sequences = sequences.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let plain = TensorBert::load(&path, config.clone(), &Device::Cpu).unwrap();
        let want = plain.forward(&sequences, shape.pooling).unwrap();
        for &level in Level::available() {
            let model = Arc::new(CpuBert::load(&path, config.clone(), shape.pooling, level).unwrap());
            let mut forward = Forward::new(model);
            let (mut together, mut alone) = (Vec::new(), Vec::new());
            forward.run(&sequences, &mut together).unwrap();
            for (i, want) in want.chunks_exact(shape.width).enumerate() {
                let what = format!("{}, {}, {} tokens", shape.name, level.name(), sequences[i].len());
                let got = &together[i * shape.width..][..shape.width];
                let c = cosine(got, want);
                // 16-bit products round; `f32` differs in the order of sums alone.
                let bar = if level.has_i16() { 1.0 - 1e-5 } else { 1.0 - 1e-7 };
                assert!(c > bar, "{what}: cosine {c}");
                // The same bits, whatever it was batched with.
                forward.run(&sequences[i..=i], &mut alone).unwrap();
                assert_eq!(got, alone, "{what}: alone and together differ");
            }
        }
    }
}

#[test]
fn what_no_model_has_is_refused() {
    let config = config(&shape("tiny", 1, 32, 2, 64));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    random_weights(&config, &path);
    let model = Arc::new(CpuBert::load(&path, config.clone(), Pooling::Mean, Level::detect()).unwrap());
    let mut forward = Forward::new(model);
    let mut out = Vec::new();
    assert!(forward.run(&[&[49]], &mut out).is_ok());
    assert!(forward.run(&[&[50]], &mut out).is_err(), "a token beyond the vocabulary");
    assert!(forward.run(&[&[]], &mut out).is_err(), "no token");
    assert!(forward.run(&[&[1; 301]], &mut out).is_err(), "beyond the last place");
    let other = BertConfig { hidden_size: 64, ..config };
    assert!(CpuBert::load(&path, other, Pooling::Mean, Level::detect()).is_err(), "another shape");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let torn = CpuBert::load(&path, config_of_tiny(), Pooling::Mean, Level::detect()).err().unwrap().to_string();
    assert!(torn.contains("model.safetensors"), "{torn}");
}

fn config_of_tiny() -> BertConfig {
    config(&shape("tiny", 1, 32, 2, 64))
}
