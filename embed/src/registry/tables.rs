//! Static models among the models of this machine: the one that is built in, and those that `models distill` made.
//!
//! A directory that holds `model.ncstatic` is one. Its name is that of its directory, its revision the hash of its file.

use std::{fs, path::PathBuf, sync::Arc};

use super::store::{ModelState, ModelStatus, ModelStore};
use crate::{
    EmbedError,
    model::TextModel as _,
    registry::KNOWN,
    statics::{BUILT_IN, StaticModel, built_in},
};

/// The file of a static model.
pub const TABLE: &str = "model.ncstatic";

impl ModelStore {
    /// The static model of this name, or in this directory. `None` where the name means no static model.
    pub fn table(&self, name: &str) -> Result<Option<Arc<StaticModel>>, EmbedError> {
        if name == BUILT_IN {
            return built_in().map(Some);
        }
        self.table_file(name).map(|path| StaticModel::open(&path).map(Arc::new)).transpose()
    }

    /// Where the static model of this name lies, or would: in the cache, beside fetched ones.
    pub fn table_dir(&self, name: &str) -> PathBuf {
        self.cache_dir().join(name)
    }

    fn table_file(&self, name: &str) -> Option<PathBuf> {
        if KNOWN.iter().any(|m| m.name == name) {
            return None;
        }
        let own = PathBuf::from(name);
        let dir = if own.is_dir() { own } else { self.table_dir(name) };
        Some(dir.join(TABLE)).filter(|path| path.is_file())
    }

    /// State and place of a static model.
    pub(super) fn table_status(&self, name: &str) -> Option<ModelStatus> {
        if name == BUILT_IN {
            let bytes = crate::statics::built_in_bytes() as u64;
            return Some(status(name, built_in(), bytes, PathBuf::from("(built in)")));
        }
        let path = self.table_file(name)?;
        let bytes = fs::metadata(&path).map_or(0, |m| m.len());
        let dir = path.parent().map(PathBuf::from).unwrap_or_default();
        Some(status(name, StaticModel::open(&path).map(Arc::new), bytes, dir))
    }

    /// Every static model: the one that is built in, then those in the cache, by name.
    pub(super) fn tables(&self) -> Vec<ModelStatus> {
        let found = fs::read_dir(self.cache_dir()).into_iter().flatten().filter_map(Result::ok);
        let mut names = found.map(|d| d.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>();
        names.retain(|n| self.table_dir(n).join(TABLE).is_file());
        names.sort_unstable();
        names.insert(0, BUILT_IN.to_owned());
        names.iter().filter_map(|n| self.table_status(n)).collect()
    }
}

fn status(name: &str, model: Result<Arc<StaticModel>, EmbedError>, bytes: u64, dir: PathBuf) -> ModelStatus {
    let (dimension, max_tokens, state, revision, made_from) = match model {
        Ok(m) => {
            let header = m.header();
            let made = format!("{}: {}", header.made_from, header.recipe);
            (m.info().dimension, header.max_tokens, ModelState::Ready, Some(m.info().revision.clone()), Some(made))
        }
        Err(e) => (0, 0, ModelState::Torn(e.to_string()), None, None),
    };
    ModelStatus { name: name.to_owned(), kind: "static", dimension, max_tokens, state, revision, bytes, dir, made_from }
}
