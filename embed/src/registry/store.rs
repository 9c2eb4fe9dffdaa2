//! The models on this machine: found, checked, described; and pulled on demand.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use nearcast_domain::ports::ModelInfo;
use serde::{Deserialize, Serialize};

use super::{
    digests::{Digests, revision_of},
    fetch::{Fetcher, PullProgress},
    known::{FileSpec, KNOWN, KnownModel},
};
use crate::EmbedError;

/// How the states of the tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The state of the first token.
    Cls,
}

/// How a model is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What it is called.
    pub name: String,
    /// How token states become one vector.
    pub pooling: Pooling,
    /// Put before every text.
    pub prefix: String,
    /// Tokens per text, the special ones included.
    pub max_tokens: usize,
    /// How many times as many tokens of a longer text are read, in windows whose vectors are averaged. 1, as
    /// sentence-transformers does it: the text ends there.
    pub windows: usize,
}

impl Spec {
    /// What of this goes into the revision: two models that differ in it give other vectors.
    fn rule(&self) -> String {
        let pooling = match self.pooling {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
        };
        format!("{pooling}/{}/{}", self.max_tokens, self.prefix)
    }
}

impl LocalModel {
    /// The same model reading up to `windows` times as much of long texts. Its vectors of these are others, so it has a
    /// revision of its own.
    pub fn with_windows(mut self, windows: usize) -> Self {
        if windows > 1 {
            self.spec.windows = windows;
            self.info = Self::windowed_info(self.info, windows);
        }
        self
    }

    /// What a model is called that reads up to `windows` times as much of long texts.
    pub(crate) fn windowed_info(mut info: ModelInfo, windows: usize) -> ModelInfo {
        if windows > 1 {
            info.revision = revision_of(&info.revision, "windows", &windows.to_string(), "");
        }
        info
    }
}

/// A model whose files lie on this machine and are whole.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// Where.
    pub dir: PathBuf,
    /// How it is run.
    pub spec: Spec,
    /// Name, revision and dimension.
    pub info: ModelInfo,
}

/// Whether a model can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum ModelState {
    /// Its files are here and right.
    Ready,
    /// It must be pulled first.
    Absent,
    /// A file is not what it should be: which, and the remedy.
    Torn(String),
}

/// One line of `models list`.
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// `bert` or `static`.
    pub kind: &'static str,
    /// Length of its vectors.
    pub dimension: usize,
    /// Tokens per text.
    pub max_tokens: usize,
    /// Whether it can be used.
    #[serde(flatten)]
    pub state: ModelState,
    /// What its vectors are stored under; known where it is ready, or where all its files are pinned.
    pub revision: Option<String>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Where it lies, or would.
    pub dir: PathBuf,
    /// What a static model was made from, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
}

/// The models on this machine.
pub struct ModelStore {
    cache: PathBuf,
    offline: bool,
    fetcher: Fetcher,
}

const ROLES: [&str; 3] = ["model.safetensors", "tokenizer.json", "config.json"];

impl ModelStore {
    /// Models lie in `cache_dir/NAME`. With `offline`, nothing is ever fetched.
    pub fn new(cache_dir: impl Into<PathBuf>, offline: bool) -> Self {
        Self { cache: cache_dir.into(), offline, fetcher: Fetcher::from_env() }
    }

    /// The store in [`default_cache_dir`].
    pub fn in_default_dir(offline: bool) -> Self {
        Self::new(default_cache_dir(), offline)
    }

    /// Other hosts for hub and package index than the environment names.
    pub fn with_hosts(mut self, hub: &str, index: &str) -> Self {
        self.fetcher = Fetcher::new(hub.trim_end_matches('/').to_owned(), index.trim_end_matches('/').to_owned());
        self
    }

    /// Where models lie.
    pub fn cache_dir(&self) -> &Path {
        &self.cache
    }

    /// Every known model and its state, and the static ones. Reads files only where they changed since they were last hashed.
    pub fn list(&self) -> Vec<ModelStatus> {
        KNOWN.iter().map(|m| self.status(m, false)).chain(self.tables()).collect()
    }

    /// Reads every byte of a model again and says whether it is right.
    pub fn verify(&self, name: &str) -> Result<LocalModel, EmbedError> {
        self.look(name, true)
    }

    /// A model whose files are here: by name from the cache, or a directory by its path.
    pub fn open(&self, name: &str) -> Result<LocalModel, EmbedError> {
        self.look(name, false)
    }

    /// What is known of a model without its weights being read: from pinned hashes, or from those remembered.
    pub fn info(&self, name: &str) -> Result<ModelInfo, EmbedError> {
        match known(name) {
            Some(m) if m.files.iter().all(|f| f.sha256.is_some()) => pinned_info(m).ok_or_else(|| self.missing(name)),
            _ => self.open(name).map(|m| m.info),
        }
    }

    /// State and place of one model.
    pub fn describe(&self, name: &str) -> Result<ModelStatus, EmbedError> {
        match known(name) {
            Some(m) => Ok(self.status(m, false)),
            None => {
                if let Some(table) = self.table_status(name) {
                    return Ok(table);
                }
                let model = self.open(name)?;
                let bytes = ROLES.iter().filter_map(|f| fs::metadata(model.dir.join(f)).ok()).map(|m| m.len()).sum();
                Ok(ModelStatus {
                    name: model.info.name,
                    kind: "bert",
                    dimension: model.info.dimension,
                    max_tokens: model.spec.max_tokens,
                    state: ModelState::Ready,
                    revision: Some(model.info.revision),
                    bytes,
                    dir: model.dir,
                    made_from: None,
                })
            }
        }
    }

    /// Fetches what is missing or wrong of a known model. Goes on where an earlier attempt stopped; does nothing where all
    /// is right. Blocks: call it from a thread that may wait.
    pub fn pull(&self, name: &str, report: &mut dyn FnMut(PullProgress<'_>)) -> Result<LocalModel, EmbedError> {
        let Some(model) = known(name) else { return self.open(name) };
        let dir = self.cache.join(model.name);
        if !self.wrong_files(model, &dir).is_empty() {
            if self.offline {
                return Err(EmbedError::Offline { name: name.to_owned(), dir });
            }
            fs::create_dir_all(&dir).map_err(|e| EmbedError::io(&dir, e))?;
            // Two processes that pull the same model: the second waits and finds it done.
            let lock_path = dir.join(".lock");
            let lock = File::create(&lock_path).map_err(|e| EmbedError::io(&lock_path, e))?;
            lock.lock().map_err(|e| EmbedError::io(&lock_path, e))?;
            let wrong = self.wrong_files(model, &dir);
            if !wrong.is_empty() {
                self.fetcher.pull(model, &dir, &wrong, report)?;
                let mut digests = Digests::of(&dir);
                digests.forget(wrong.iter().map(|f| f.path));
                digests.keep();
            }
        }
        self.look(name, false)
    }

    fn missing(&self, name: &str) -> EmbedError {
        EmbedError::Missing { name: name.to_owned() }
    }

    /// The files of a model that are absent or not what they should be.
    fn wrong_files(&self, model: &KnownModel, dir: &Path) -> Vec<FileSpec> {
        let mut digests = Digests::of(dir);
        let wrong = model.files.iter().filter(|f| {
            let want = f.sha256.map(str::to_owned).or_else(|| digests.remembered(f.path).map(str::to_owned));
            match digests.sha256(f.path, false) {
                Ok(got) => want.is_some_and(|want| want != got),
                Err(_) => true,
            }
        });
        wrong.copied().collect()
    }

    fn look(&self, name: &str, fresh: bool) -> Result<LocalModel, EmbedError> {
        let Some(model) = known(name) else { return self.look_in_dir(name, fresh) };
        let dir = self.cache.join(model.name);
        if !dir.join("model.safetensors").exists() {
            return Err(self.missing(name));
        }
        let mut digests = Digests::of(&dir);
        for file in model.files {
            let want = file.sha256.map(str::to_owned).or_else(|| digests.remembered(file.path).map(str::to_owned));
            let path = dir.join(file.path);
            if !path.exists() {
                return Err(EmbedError::torn(path, name, "is missing"));
            }
            let got = digests.sha256(file.path, fresh)?;
            if let Some(want) = want
                && want != got
            {
                let bytes = fs::metadata(&path).map_or(0, |m| m.len());
                let detail = format!("is torn or altered ({bytes} bytes, SHA-256 {} instead of {})", &got[..12], &want[..12]);
                return Err(EmbedError::torn(path, name, detail));
            }
        }
        let spec = spec_of(model);
        let info = info_of(&spec, model.dimension, &mut digests)?;
        digests.keep();
        Ok(LocalModel { dir, spec, info })
    }

    fn look_in_dir(&self, name: &str, fresh: bool) -> Result<LocalModel, EmbedError> {
        let dir = PathBuf::from(name);
        if !dir.is_dir() {
            let names = self.tables().into_iter().map(|m| m.name);
            let known = KNOWN.iter().map(|m| m.name.to_owned()).chain(names).collect::<Vec<_>>().join(", ");
            return Err(EmbedError::Unknown { name: name.to_owned(), known });
        }
        let mut digests = Digests::of(&dir);
        for file in ROLES {
            let path = dir.join(file);
            if !path.exists() {
                return Err(EmbedError::Torn {
                    path,
                    detail: "is missing".into(),
                    remedy: "a model's directory holds model.safetensors, tokenizer.json and config.json".into(),
                });
            }
            digests.sha256(file, fresh)?;
        }
        let (spec, dimension) = described(&dir)?;
        let info = info_of(&spec, dimension, &mut digests)?;
        digests.keep();
        Ok(LocalModel { dir, spec, info })
    }

    fn status(&self, model: &KnownModel, fresh: bool) -> ModelStatus {
        let dir = self.cache.join(model.name);
        let bytes = model.files.iter().filter_map(|f| fs::metadata(dir.join(f.path)).ok()).map(|m| m.len()).sum();
        let (state, revision) = match self.look(model.name, fresh) {
            Ok(local) => (ModelState::Ready, Some(local.info.revision)),
            Err(EmbedError::Missing { .. }) => (ModelState::Absent, pinned_info(model).map(|i| i.revision)),
            Err(e) => (ModelState::Torn(e.to_string()), pinned_info(model).map(|i| i.revision)),
        };
        ModelStatus {
            name: model.name.to_owned(),
            kind: "bert",
            dimension: model.dimension,
            max_tokens: model.max_tokens,
            state,
            revision,
            bytes,
            dir,
            made_from: None,
        }
    }
}

/// `$NEARCAST_MODEL_DIR`, else `nearcast/models` in the user's cache directory.
pub fn default_cache_dir() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = var("NEARCAST_MODEL_DIR") {
        return dir;
    }
    let base = var("XDG_CACHE_HOME")
        .or_else(|| var("LOCALAPPDATA"))
        .or_else(|| var("HOME").map(|h| if cfg!(target_os = "macos") { h.join("Library/Caches") } else { h.join(".cache") }))
        .unwrap_or_else(std::env::temp_dir);
    base.join("nearcast").join("models")
}

fn known(name: &str) -> Option<&'static KnownModel> {
    KNOWN.iter().find(|m| m.name == name)
}

fn spec_of(m: &KnownModel) -> Spec {
    Spec { name: m.name.to_owned(), pooling: m.pooling, prefix: m.prefix.to_owned(), max_tokens: m.max_tokens, windows: 1 }
}

fn info_of(spec: &Spec, dimension: usize, digests: &mut Digests) -> Result<ModelInfo, EmbedError> {
    let mut hash = |file| digests.sha256(file, false);
    let [weights, tokenizer, config] = [hash(ROLES[0])?, hash(ROLES[1])?, hash(ROLES[2])?];
    Ok(ModelInfo { name: spec.name.clone(), revision: revision_of(&weights, &tokenizer, &config, &spec.rule()), dimension })
}

fn pinned_info(m: &KnownModel) -> Option<ModelInfo> {
    let hash = |role: &str| m.files.iter().find(|f| f.path == role)?.sha256;
    let spec = spec_of(m);
    let revision = revision_of(hash(ROLES[0])?, hash(ROLES[1])?, hash(ROLES[2])?, &spec.rule());
    Some(ModelInfo { name: spec.name, revision, dimension: m.dimension })
}

/// How a model in a directory of the user's own is run, as its sentence-transformers files say.
fn described(dir: &Path) -> Result<(Spec, usize), EmbedError> {
    let read = |file: &str| fs::read(dir.join(file)).ok().and_then(|b| serde_json::from_slice::<serde_json::Value>(&b).ok());
    let config =
        read("config.json").ok_or_else(|| EmbedError::Unsupported(format!("{}/config.json is not JSON", dir.display())))?;
    let number = |v: &serde_json::Value, key: &str| v.get(key).and_then(serde_json::Value::as_u64).map(|n| n as usize);
    let dimension =
        number(&config, "hidden_size").ok_or_else(|| EmbedError::Unsupported("config.json has no hidden_size".into()))?;
    let positions = number(&config, "max_position_embeddings").unwrap_or(512);
    let max_tokens =
        read("sentence_bert_config.json").and_then(|v| number(&v, "max_seq_length")).unwrap_or(positions).min(positions);
    let pooling = match read("1_Pooling/config.json") {
        Some(p) if p.get("pooling_mode_cls_token").and_then(serde_json::Value::as_bool) == Some(true) => Pooling::Cls,
        _ => Pooling::Mean,
    };
    let prefix = read("config_sentence_transformers.json")
        .and_then(|v| v.get("prompts")?.get(v.get("default_prompt_name")?.as_str()?)?.as_str().map(str::to_owned))
        .unwrap_or_default();
    let name = dir.file_name().map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned());
    Ok((Spec { name, pooling, prefix, max_tokens, windows: 1 }, dimension))
}
