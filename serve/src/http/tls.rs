//! TLS at the API's own address, by rustls. A certificate that is replaced on disk is taken up without a restart.
//!
//! One that cannot be read later changes nothing: what worked goes on.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::config::{ConfigError, TlsFiles};

/// The certificate in use.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<(Option<[SystemTime; 2]>, Arc<ServerConfig>)>,
}

impl Tls {
    /// Reads both files; `None` where none are configured. Errors: what cannot be read, or does not belong together.
    pub fn load(files: &TlsFiles) -> Result<Option<Arc<Self>>, ConfigError> {
        let Some((cert, key)) = files.both() else { return Ok(None) };
        let seen = changed(&cert, &key);
        let config = read(&cert, &key)?;
        Ok(Some(Arc::new(Self { cert, key, current: RwLock::new((seen, Arc::new(config))) })))
    }

    /// Takes a connection's handshake, with the certificate of the moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone())
    }

    /// Reads the files again if they changed. Blocks for a moment: they are small and local.
    pub fn look(&self) {
        let seen = changed(&self.cert, &self.key);
        if seen.is_none() || seen == self.current.read().unwrap_or_else(PoisonError::into_inner).0 {
            return;
        }
        let read = read(&self.cert, &self.key);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.0 = seen;
        match read {
            Ok(config) => {
                current.1 = Arc::new(config);
                tracing::info!("a new certificate is in use");
            }
            Err(e) => tracing::warn!("the certificate in use stays: {e}"),
        }
    }
}

fn changed(cert: &Path, key: &Path) -> Option<[SystemTime; 2]> {
    let of = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
    Some([of(cert)?, of(key)?])
}

fn read(cert: &Path, key: &Path) -> Result<ServerConfig, ConfigError> {
    let bad = |which: &str, path: &Path, why: &dyn std::fmt::Display| ConfigError {
        key: format!("tls.{which}_file"),
        remedy: format!("{} cannot be used ({why})", path.display()),
    };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(|e| bad("cert", cert, &e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad("key", key, &e))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("cert", cert, &e))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| bad("cert", cert, &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
