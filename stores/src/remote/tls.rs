//! How a connection is encrypted, for every backend alike.
//!
//! There is no switch that turns the check of certificates off: a private authority is named by its file instead.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The keys `tls.…` of a store's section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Whether connections are encrypted.
    pub enabled: bool,
    /// The authority that signed the server's certificate (PEM); none: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate (PEM), where the server asks for one.
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
}

impl Tls {
    /// Checks the keys together. `section` is named in the error.
    pub fn validate(&self, section: &str) -> Result<(), String> {
        let given = self.ca_file.is_some() || self.cert_file.is_some() || self.key_file.is_some();
        if given && !self.enabled {
            return Err(format!("{section}.tls names files but is off: set {section}.tls.enabled = true, or leave them out"));
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err(format!("{section}.tls.cert_file and {section}.tls.key_file go together: give both or neither"));
        }
        Ok(())
    }
}
