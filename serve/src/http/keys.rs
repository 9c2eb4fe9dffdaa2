//! Who may call, and how often: API keys of which only digests are known, their roles and tenants, and quotas.
//!
//! A key is compared with all of them in the same time, whichever it is or is not. The file of keys is read again when it changes; one
//! that cannot be read changes nothing. Never logs a key or a digest.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use nearcast_domain::Tenant;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    ServeConfig,
    config::{KeyConfig, Quota, Role, digest_of},
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A bucket that fills steadily and from which each request takes one.
#[derive(Debug)]
pub struct Bucket {
    quota: Quota,
    state: Mutex<(f64, Instant)>,
}

/// Why a request must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Empty {
    /// How many fit at once.
    pub limit: u32,
    /// After how many seconds there is one again.
    pub seconds: u32,
}

impl Bucket {
    /// A full one.
    pub fn new(quota: Quota) -> Self {
        Self { quota, state: Mutex::new((f64::from(quota.burst.max(1)), Instant::now())) }
    }

    /// Takes one, if there is one.
    pub fn take(&self, now: Instant) -> Result<(), Empty> {
        if self.quota.per_second <= 0.0 {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, at) = *state;
        let held = (held + now.saturating_duration_since(at).as_secs_f64() * self.quota.per_second)
            .min(f64::from(self.quota.burst.max(1)));
        let enough = held >= 1.0;
        *state = (if enough { held - 1.0 } else { held }, now.max(at));
        if enough {
            return Ok(());
        }
        let seconds = ((1.0 - held) / self.quota.per_second).ceil().clamp(1.0, 86_400.0);
        Err(Empty { limit: self.quota.burst.max(1), seconds: seconds as u32 })
    }
}

/// A key, without the key.
#[derive(Debug)]
pub struct Key {
    /// Its name, for people.
    pub name: String,
    digest: [u8; 32],
    /// Whose data it opens; none: everyone's.
    pub tenants: Vec<Tenant>,
    /// What it may do.
    pub role: Role,
    /// How often.
    pub bucket: Bucket,
}

/// All keys, the configured ones and those of the file.
pub struct Keys {
    configured: Vec<KeyConfig>,
    file: Option<PathBuf>,
    known: RwLock<Arc<Vec<Arc<Key>>>>,
    read: Mutex<Option<SystemTime>>,
}

impl Keys {
    /// Those of the configuration; the file, where one is named, is read at once.
    pub fn new(config: &ServeConfig) -> Self {
        let mut configured = config.keys.clone();
        configured.extend(config.api_keys.iter().map(|(sha256, tenant)| KeyConfig {
            name: tenant.clone(),
            sha256: sha256.clone(),
            tenants: vec![tenant.clone()],
            role: Role::Admin,
            ..KeyConfig::default()
        }));
        let keys = Self { configured, file: config.keys_file.clone(), known: RwLock::default(), read: Mutex::default() };
        keys.set(Vec::new());
        keys.look();
        keys
    }

    /// Whether calls need a key at all.
    pub fn needed(&self) -> bool {
        self.file.is_some() || !self.configured.is_empty()
    }

    fn all(&self) -> Arc<Vec<Arc<Key>>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key that a caller gave, if it is one. Looks at every key, in the same time.
    pub fn find(&self, given: &[u8]) -> Option<Arc<Key>> {
        let digest: [u8; 32] = Sha256::digest(given).into();
        let mut found = None;
        for key in self.all().iter() {
            let differs = key.digest.iter().zip(&digest).fold(0_u8, |d, (a, b)| d | (a ^ b));
            if std::hint::black_box(differs) == 0 {
                found = Some(key.clone());
            }
        }
        found
    }

    /// Takes over a list of keys beside the configured ones. A key that stays keeps what is left of its quota.
    fn set(&self, of_file: Vec<KeyConfig>) {
        let before = self.all();
        let wanted = self.configured.iter().chain(&of_file).filter_map(|k| Some((k, digest_of(&k.sha256)?)));
        let keys = wanted.map(|(k, digest)| {
            let tenants: Vec<Tenant> = k.tenants.iter().map(|t| Tenant::trusted(t.as_str())).collect();
            let same = before.iter().find(|b| {
                b.digest == digest && b.tenants == tenants && b.role == k.role && b.bucket.quota == k.quota && b.name == k.name
            });
            same.cloned().unwrap_or_else(|| {
                Arc::new(Key { name: k.name.clone(), digest, tenants, role: k.role, bucket: Bucket::new(k.quota) })
            })
        });
        let keys = Arc::new(keys.collect());
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Reads the file if it changed. Blocks for a moment: the file is small and local.
    fn look(&self) {
        let Some(path) = &self.file else { return };
        let changed = std::fs::metadata(path).and_then(|m| m.modified());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match changed {
            Ok(at) if *read == Some(at) => return,
            Ok(at) => at,
            Err(e) => {
                tracing::warn!("the file of keys cannot be read, so the keys stay as they are: {e}");
                return;
            }
        };
        *read = Some(at);
        let parsed = std::fs::read(path).map_err(|e| e.to_string()).and_then(|text| {
            let keys: Vec<KeyConfig> =
                serde_json::from_slice(&text).map_err(|e| format!("line {}, column {}", e.line(), e.column()))?;
            keys.iter().try_for_each(KeyConfig::validate).map(|()| keys)
        });
        match parsed {
            Ok(keys) => self.set(keys),
            Err(e) => tracing::warn!("the file of keys is not usable, so the keys stay as they are: {e}"),
        }
    }

    /// Looks at the file until told to stop.
    pub async fn watch(&self, stop: CancellationToken) {
        if self.file.is_none() {
            return;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => self.look(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nearcast_domain::event::hex;

    use super::*;

    fn config(name: &str, key: &str) -> KeyConfig {
        KeyConfig { name: name.into(), sha256: hex(&Sha256::digest(key)), ..KeyConfig::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_what_it_holds_and_fills_again() {
        let b = Bucket::new(Quota { per_second: 2.0, burst: 3 });
        let now = Instant::now();
        assert!((0..3).all(|_| b.take(now).is_ok()));
        assert_eq!(b.take(now), Err(Empty { limit: 3, seconds: 1 }));
        assert!(b.take(now + Duration::from_millis(500)).is_ok());
        assert!(b.take(now + Duration::from_millis(600)).is_err());
        let free = Bucket::new(Quota::default());
        assert!((0..100).all(|_| free.take(now).is_ok()));
    }

    #[tokio::test]
    async fn keys_are_found_by_digest_and_the_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        let write = |keys: &[KeyConfig], second: u64| {
            std::fs::write(&file, serde_json::to_vec(keys).unwrap()).unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + second);
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
        };
        write(&[config("old", "one")], 0);
        let keys = Keys::new(&ServeConfig {
            keys: vec![config("fixed", "zero")],
            keys_file: Some(file.clone()),
            ..ServeConfig::default()
        });
        let name = |key: &str| keys.find(key.as_bytes()).map(|k| k.name.clone());
        assert_eq!((name("zero"), name("one"), name("two")), (Some("fixed".into()), Some("old".into()), None));
        write(&[config("new", "two")], 1);
        keys.look();
        assert_eq!((name("zero"), name("one"), name("two")), (Some("fixed".into()), None, Some("new".into())));
        std::fs::write(&file, "[{").unwrap();
        keys.look();
        assert_eq!(name("two"), Some("new".into()), "a broken file changes nothing");
    }
}
