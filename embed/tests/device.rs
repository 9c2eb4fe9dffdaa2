//! The path that an accelerator takes, on the CPU: against a forward written out number by number in `f64`, and against the
//! engine made for CPUs. (On a GPU it was not run: none was at hand.)
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{collections::HashMap, path::Path, sync::Arc};

use candle_core::{Device, Tensor};
use nearcast_embed::{
    DeviceKind, ModelStore, Running,
    bert::{Activation, BertConfig, DeviceForward, TensorBert},
    model::{Bert, TextModel, encode_all},
    registry::{DEFAULT_MODEL, Pooling},
    text_model,
};
use support::{cosine, minilm, pairs};

type Weights = HashMap<String, Vec<f64>>;

const WIDTH: usize = 24;
const HEADS: usize = 3;
const INNER: usize = 40;
const TOKENS: usize = 30;
const PLACES: usize = 20;
const EPS: f64 = 1e-12;

fn config() -> BertConfig {
    BertConfig {
        vocab_size: TOKENS,
        hidden_size: WIDTH,
        num_hidden_layers: 2,
        num_attention_heads: HEADS,
        intermediate_size: INNER,
        max_position_embeddings: PLACES,
        type_vocab_size: 2,
        layer_norm_eps: EPS,
        hidden_act: Activation::Relu,
        model_type: Some("bert".into()),
        position_embedding_type: None,
    }
}

/// Random weights in a file, and the same in `f64`.
fn random_weights(path: &Path) -> Weights {
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut tensors, mut weights) = (HashMap::new(), Weights::new());
    let mut add = |name: String, shape: &[usize], around: f32| {
        let values = (0..shape.iter().product()).map(|_| around + 0.4 * (rng.f32() - 0.5)).collect::<Vec<_>>();
        weights.insert(name.clone(), values.iter().map(|x| f64::from(*x)).collect());
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    };
    for (part, rows) in [("word", TOKENS), ("position", PLACES), ("token_type", 2)] {
        add(format!("embeddings.{part}_embeddings.weight"), &[rows, WIDTH], 0.0);
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for i in 0..2 {
        let at = format!("encoder.layer.{i}");
        let linear = [
            ("attention.self.query", WIDTH, WIDTH),
            ("attention.self.key", WIDTH, WIDTH),
            ("attention.self.value", WIDTH, WIDTH),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", INNER, WIDTH),
            ("output.dense", WIDTH, INNER),
        ];
        for (part, n, k) in linear {
            add(format!("{at}.{part}.weight"), &[n, k], 0.0);
            add(format!("{at}.{part}.bias"), &[n], 0.0);
        }
        norms.extend([format!("{at}.attention.output.LayerNorm"), format!("{at}.output.LayerNorm")]);
    }
    for norm in norms {
        add(format!("{norm}.weight"), &[WIDTH], 1.0);
        add(format!("{norm}.bias"), &[WIDTH], 0.0);
    }
    candle_core::safetensors::save(&tensors, path).unwrap();
    weights
}

fn linear(w: &Weights, name: &str, x: &[f64]) -> Vec<f64> {
    let (weight, bias) = (&w[&format!("{name}.weight")], &w[&format!("{name}.bias")]);
    let row = |(n, b): (usize, &f64)| b + weight[n * x.len()..][..x.len()].iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
    bias.iter().enumerate().map(row).collect()
}

fn norm(w: &Weights, name: &str, x: &[f64]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
    let (weight, bias) = (&w[&format!("{name}.weight")], &w[&format!("{name}.bias")]);
    x.iter().zip(weight.iter().zip(bias)).map(|(x, (w, b))| (x - mean) / (variance + EPS).sqrt() * w + b).collect()
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// One text, as Devlin et al. (2018) and Vaswani et al. (2017) write it down.
fn reference(w: &Weights, tokens: &[u32], pooling: Pooling) -> Vec<f32> {
    let row = |part: &str, i: usize| w[&format!("embeddings.{part}_embeddings.weight")][i * WIDTH..][..WIDTH].to_vec();
    let first = |(place, &token): (usize, &u32)| {
        let sum = add(&add(&row("word", token as usize), &row("position", place)), &row("token_type", 0));
        norm(w, "embeddings.LayerNorm", &sum)
    };
    let mut x = tokens.iter().enumerate().map(first).collect::<Vec<_>>();
    let size = WIDTH / HEADS;
    for i in 0..2 {
        let at = |part: &str| format!("encoder.layer.{i}.{part}");
        let of = |part: &str| x.iter().map(|x| linear(w, &at(part), x)).collect::<Vec<_>>();
        let (q, k, v) = (of("attention.self.query"), of("attention.self.key"), of("attention.self.value"));
        let mut next = Vec::new();
        for (row, q) in x.iter().zip(&q) {
            let mut context = vec![0.0; WIDTH];
            for head in 0..HEADS {
                let part = head * size..(head + 1) * size;
                let scores = k.iter().map(|k| {
                    let dot = q[part.clone()].iter().zip(&k[part.clone()]).map(|(a, b)| a * b).sum::<f64>();
                    (dot / (size as f64).sqrt()).exp()
                });
                let scores = scores.collect::<Vec<_>>();
                let sum = scores.iter().sum::<f64>();
                for (s, v) in scores.iter().zip(&v) {
                    context[part.clone()].iter_mut().zip(&v[part.clone()]).for_each(|(c, v)| *c += s / sum * v);
                }
            }
            let attended = linear(w, &at("attention.output.dense"), &context);
            let row = norm(w, &at("attention.output.LayerNorm"), &add(row, &attended));
            let mut hidden = linear(w, &at("intermediate.dense"), &row);
            hidden.iter_mut().for_each(|h| *h = h.max(0.0));
            let fed = linear(w, &at("output.dense"), &hidden);
            next.push(norm(w, &at("output.LayerNorm"), &add(&row, &fed)));
        }
        x = next;
    }
    let pooled = match pooling {
        Pooling::Cls => x[0].clone(),
        Pooling::Mean => {
            let n = x.len() as f64;
            x.iter().fold(vec![0.0; WIDTH], |sum, row| add(&sum, row)).iter().map(|s| s / n).collect()
        }
    };
    pooled.iter().map(|x| *x as f32).collect()
}

#[test]
fn number_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let weights = random_weights(&path);
    let mut rng = fastrand::Rng::with_seed(12);
    let sequences = (0..40).map(|i| (0..1 + i % 19).map(|_| rng.u32(0..TOKENS as u32)).collect()).collect::<Vec<Vec<u32>>>();
    let sequences = sequences.iter().map(Vec::as_slice).collect::<Vec<_>>();
    for pooling in [Pooling::Mean, Pooling::Cls] {
        for room in [1, 30, 100_000] {
            let bert = Arc::new(TensorBert::load(&path, config(), &Device::Cpu).unwrap());
            let mut forward = DeviceForward::new(bert, pooling, room);
            let mut out = Vec::new();
            forward.run(&sequences, &mut out).unwrap();
            for (s, got) in sequences.iter().zip(out.chunks_exact(WIDTH)) {
                let want = reference(&weights, s, pooling);
                let far = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(far < 1e-4, "{pooling:?}, {room}, {} tokens: {far}", s.len());
            }
            assert!(forward.run(&[&[TOKENS as u32]], &mut out).is_err(), "a token beyond the vocabulary");
            assert!(forward.run(&[&[]], &mut out).is_err(), "no token");
            assert!(forward.run(&[&[1; PLACES + 1]], &mut out).is_err(), "beyond the last place");
        }
    }
}

#[test]
fn as_the_engine_for_cpus() {
    let Some(local) = minilm() else { return };
    let words = ["trail", "kernel", "bread", "telescope", "the", "of", "quiet", "Überraschung", "日本", "!"];
    let mut rng = fastrand::Rng::with_seed(13);
    let mut texts = pairs().iter().map(|p| Arc::clone(&p.text)).collect::<Vec<_>>();
    texts.extend((0..9).map(|i| (0..1 + i * 40).map(|_| words[rng.usize(..words.len())]).collect::<Vec<_>>().join(" ").into()));
    for windows in [1, 3] {
        let local = local.clone().with_windows(windows);
        let vectors = |model: Bert| {
            let (model, mut out): (Arc<dyn TextModel>, _) = (Arc::new(model), Vec::new());
            encode_all(&model, &texts, 1, &mut |_, v| out.push(v.to_vec())).unwrap();
            out
        };
        let ours = vectors(Bert::load(&local).unwrap());
        let plain = vectors(Bert::load_on(&local, &Device::Cpu).unwrap());
        let worst = ours.iter().zip(&plain).map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
        eprintln!("worst cosine of {} texts, {windows} windows: {worst:.7}", texts.len());
        assert!(worst >= 0.9999, "{worst}");
        if windows == 1 {
            for (pair, v) in pairs().iter().zip(&plain) {
                assert!(cosine(v, &pair.vector) >= 0.9999, "{:?}", pair.text);
            }
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_the_cpu() {
    if minilm().is_none() || DeviceKind::Cuda.compiled() {
        return;
    }
    let store = ModelStore::in_default_dir(true);
    let running = Running { device: DeviceKind::Cuda, ..Running::default() };
    let model = text_model(&store, DEFAULT_MODEL, running).unwrap();
    assert_eq!(*model.info(), running.info(&store, DEFAULT_MODEL).unwrap());
    assert_eq!(model.batch_tokens(), 256, "the engine made for CPUs");
}
