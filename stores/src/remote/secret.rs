//! A password or a key: given as it is, or as `file:/path` whose first line holds it.
//!
//! Shows itself to nobody: printing, logging and serialising give `(secret)`.

use std::fmt;

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use serde::{Deserialize, Serialize, Serializer};

/// A secret, or the file that holds it. The default is none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret as it is, or `file:/path`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret itself, read anew from its file where it is in one: a rotated one is seen when connecting again. Errors name the
    /// file, never what is in it.
    pub fn read(&self, store: &'static str) -> StoreResult<String> {
        let Some(path) = self.0.strip_prefix("file:") else { return Ok(self.0.clone()) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| StoreError::new(ErrorKind::Invalid, store, format!("the secret in {path} cannot be read: {e}")))?;
        let line = text.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            return Err(StoreError::new(ErrorKind::Invalid, store, format!("{path} holds no secret on its first line")));
        }
        Ok(line.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(secret)" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // A file's name is no secret, and tells an operator where to look.
        s.serialize_str(match &*self.0 {
            "" => "",
            text if text.starts_with("file:") => text,
            _ => "(secret)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_itself_to_nobody() {
        let s = Secret::new("hunter2");
        assert_eq!(format!("{s:?}"), "(secret)");
        assert_eq!(serde_json::to_string(&s).unwrap(), "\"(secret)\"");
        assert_eq!(s.read("x").unwrap(), "hunter2");
    }

    #[test]
    fn is_read_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "hunter2\nmore\n").unwrap();
        let s = Secret::new(format!("file:{}", path.display()));
        assert_eq!(s.read("x").unwrap(), "hunter2");
        std::fs::remove_file(&path).unwrap();
        let e = s.read("x").unwrap_err().to_string();
        assert!(e.contains("key") && !e.contains("hunter2"), "{e}");
    }
}
