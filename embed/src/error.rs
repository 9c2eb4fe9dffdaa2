//! What can go wrong with a model, with the remedy in words. Never carries a secret.

use std::path::PathBuf;

use nearcast_domain::{ErrorKind, StoreError};

/// A failure of the registry, of a model's files or of the computation.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// No such model is known and no directory of that name exists.
    #[error("no model is called `{name}`; known: {known}; or give a directory that holds one")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names that exist, separated by commas.
        known: String,
    },
    /// A model that is known but whose files are not on this machine.
    #[error("the model `{name}` is not on this machine; fetch it with `nearcast models pull {name}`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A file that is truncated, altered or not what it says.
    #[error("{}: {detail}; {remedy}", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
        /// What to do.
        remedy: String,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No source could deliver the model.
    #[error("the model `{name}` could not be fetched: {tried}")]
    Unreachable {
        /// Its name.
        name: String,
        /// Each source with its failure.
        tried: String,
    },
    /// Something has to be fetched and fetching is switched off.
    #[error("`{name}` would have to be fetched, but the program runs offline; copy its files to {}", dir.display())]
    Offline {
        /// The model.
        name: String,
        /// Where its files belong.
        dir: PathBuf,
    },
    /// The files are whole, but this engine cannot run what they describe.
    #[error("this model cannot be run: {0}")]
    Unsupported(String),
    /// The computation failed.
    #[error("computing vectors failed: {0}")]
    Compute(String),
    /// A hosted service failed.
    #[error("{service}: {message}")]
    Service {
        /// Which.
        service: String,
        /// What it answered, without secrets.
        message: String,
        /// What a caller can act on.
        kind: ErrorKind,
    },
}

impl EmbedError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn torn(path: impl Into<PathBuf>, name: &str, detail: impl Into<String>) -> Self {
        Self::Torn {
            path: path.into(),
            detail: detail.into(),
            remedy: format!("fetch it again with `nearcast models pull {name}`"),
        }
    }

    /// What a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } | Self::Unsupported(_) => ErrorKind::Invalid,
            Self::Missing { .. } | Self::Unreachable { .. } | Self::Offline { .. } => ErrorKind::Unavailable,
            Self::Torn { .. } => ErrorKind::Corrupt,
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull => ErrorKind::Full,
                std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => ErrorKind::ReadOnly,
                _ => ErrorKind::Unavailable,
            },
            Self::Compute(_) => ErrorKind::Unavailable,
            Self::Service { kind, .. } => *kind,
        }
    }
}

impl From<EmbedError> for StoreError {
    fn from(e: EmbedError) -> Self {
        Self::new(e.kind(), "embedder", e)
    }
}

impl From<candle_core::Error> for EmbedError {
    fn from(e: candle_core::Error) -> Self {
        Self::Compute(e.to_string())
    }
}
