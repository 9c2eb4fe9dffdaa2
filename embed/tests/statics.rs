//! The static model that is built in: good enough by human judgement, quick, the same every time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{path::Path, sync::Arc};

use nearcast_domain::ports::{Embedder as _, Priority};
use nearcast_embed::{
    LocalModel,
    model::{Bert, TextModel},
    statics::{DistillOptions, Pairs, StaticEmbedder, StaticModel, built_in, distill},
};
use support::{cosine, data, minilm};

#[test]
fn agrees_with_people() {
    let Some(path) = data("sts/sts-dev.csv") else { return };
    let sts = Pairs::read(&path).unwrap();
    assert_eq!(sts.len(), 1500);
    let table: Arc<dyn TextModel> = built_in().unwrap();
    let table = sts.spearman(&table, 2).unwrap();
    eprintln!("STS-dev Spearman of the static model: {table:.4}");
    assert!(table >= 0.80, "{table}");
    let Some(local) = minilm() else { return };
    let whole: Arc<dyn TextModel> = Arc::new(Bert::load(&local).unwrap());
    let whole = sts.spearman(&whole, 2).unwrap();
    eprintln!("STS-dev Spearman of MiniLM: {whole:.4}");
    assert!((whole - 0.867).abs() < 0.001, "{whole}");
}

#[tokio::test]
async fn as_an_embedder() {
    let embedder = StaticEmbedder::built_in().unwrap();
    assert_eq!(embedder.model().dimension, 152);
    let texts = (0..5000)
        .map(|i| format!("text number {i} about {}", ["shoes", "bread", "linux"][i % 3]).into())
        .collect::<Vec<Arc<str>>>();
    let many = embedder.embed(&texts, Priority::Bulk).await.unwrap();
    for (i, v) in many.iter().enumerate().step_by(97) {
        let alone = embedder.embed(&texts[i..=i], Priority::Query).await.unwrap();
        assert_eq!(alone[0], *v);
    }
    let words = ["running shoes", "trail sneakers", "kernel module"].map(Arc::from);
    let v = embedder.embed(&words, Priority::Query).await.unwrap();
    assert!(cosine(&v[0], &v[1]) > cosine(&v[0], &v[2]) + 0.1);
}

#[test]
fn a_torn_file_is_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/static-minilm-152/model.ncstatic");
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.len() <= 5_000_000);
    assert_eq!(StaticModel::from_bytes(&bytes).unwrap().info(), built_in().unwrap().info());
    let mut other = bytes.clone();
    other[3_000_000] ^= 1;
    let refused = |bytes: &[u8]| StaticModel::from_bytes(bytes).err().unwrap().to_string();
    assert!(refused(&other).contains("torn"), "{}", refused(&other));
    for len in [0, 7, 12, 40, 1000, bytes.len() - 1] {
        refused(&bytes[..len]);
    }
}

#[test]
fn a_table_is_made_from_a_model() {
    let Some(local) = minilm() else { return };
    // A vocabulary of 3,000 tokens makes the same way in seconds.
    let dir = tempfile::tempdir().unwrap();
    let small = cut_vocabulary(&local, dir.path(), 3000);
    let texts = (0..400)
        .map(|i| format!("they said that {} was {}", i % 37, ["good", "over", "new"][i % 3]).into())
        .collect::<Vec<Arc<str>>>();
    let options = DistillOptions { name: "small".into(), dimension: 48, rounds: 10, ..DistillOptions::default() };
    let (bytes, report) = distill(&small, &texts, &options, &mut |_| ()).unwrap();
    assert!(report.unexplained < report.unexplained_before && report.unexplained < 0.2, "{report:?}");
    let model = Arc::new(StaticModel::from_bytes(&bytes).unwrap());
    assert_eq!((model.header().rows, model.info().dimension), (3000, 48));
    let (again, _) = distill(&small, &texts, &options, &mut |_| ()).unwrap();
    assert_eq!(bytes, again, "the same texts give the same file");
}

/// The model with the first tokens of its vocabulary only.
fn cut_vocabulary(local: &LocalModel, dir: &Path, keep: usize) -> LocalModel {
    let json = |file: &str| serde_json::from_slice::<serde_json::Value>(&std::fs::read(local.dir.join(file)).unwrap()).unwrap();
    let mut tokenizer = json("tokenizer.json");
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    vocab.retain(|_, id| (id.as_u64().unwrap() as usize) < keep);
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::copy(local.dir.join("config.json"), dir.join("config.json")).unwrap();
    std::fs::copy(local.dir.join("model.safetensors"), dir.join("model.safetensors")).unwrap();
    LocalModel { dir: dir.to_path_buf(), ..local.clone() }
}
