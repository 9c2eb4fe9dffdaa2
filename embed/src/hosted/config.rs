//! How a hosted service is used, and the key it wants.

use std::{fmt, path::PathBuf, time::Duration};

use nearcast_domain::ErrorKind;

use super::api::Api;
use crate::EmbedError;

/// Where the key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In an environment variable of this name.
    Env(String),
    /// In a file, on its first line.
    File(PathBuf),
    /// The service wants none.
    None,
}

/// A key. Shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// For the one header that carries it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl KeySource {
    /// Reads the key. An error names the place, never the content.
    pub fn read(&self) -> Result<Option<Secret>, EmbedError> {
        let fail =
            |message: String| EmbedError::Service { service: "hosted embedding".into(), message, kind: ErrorKind::Invalid };
        let text = match self {
            Self::None => return Ok(None),
            Self::Env(name) => {
                std::env::var(name).map_err(|_| fail(format!("the variable {name}, which holds the key, is not set")))?
            }
            Self::File(path) => std::fs::read_to_string(path).map_err(|e| EmbedError::io(path, e))?,
        };
        let key = text.lines().next().unwrap_or_default().trim();
        // What cannot stand in a header would be reported by the client, with the key in the report.
        if key.is_empty() || !key.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
            return Err(fail("the key is empty or holds characters that no key has".into()));
        }
        Ok(Some(Secret(key.to_owned())))
    }
}

/// How a hosted service is used.
#[derive(Debug, Clone, PartialEq)]
pub struct HostedConfig {
    /// Which kind of service.
    pub api: Api,
    /// Its base address, without the path of the call: `https://api.openai.com`.
    pub url: String,
    /// The model asked for.
    pub model: String,
    /// The length its vectors must have.
    pub dimension: usize,
    /// Where the key lies.
    pub key: KeySource,
    /// Requests in any [`Self::window`]; the service's limit or less.
    pub requests_per_window: u32,
    /// Tokens in any [`Self::window`], as estimated (a token every three bytes, at least one a text).
    pub tokens_per_window: u64,
    /// What the limits are counted over: a minute.
    pub window: Duration,
    /// Texts in a request.
    pub batch_texts: usize,
    /// Tokens in a request, as estimated.
    pub batch_tokens: u64,
    /// Requests at once.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub attempt: Duration,
    /// How long a call may take with all its attempts and waiting.
    pub deadline: Duration,
    /// Failures in a row after which the service is left alone for [`Self::rest`].
    pub failures: u32,
    /// How long.
    pub rest: Duration,
}

impl HostedConfig {
    /// Cautious limits for a service.
    pub fn new(api: Api, url: &str, model: &str, dimension: usize, key: KeySource) -> Self {
        Self {
            api,
            url: url.trim_end_matches('/').to_owned(),
            model: model.to_owned(),
            dimension,
            key,
            requests_per_window: 500,
            tokens_per_window: 1_000_000,
            window: Duration::from_secs(60),
            batch_texts: api.most_texts(),
            batch_tokens: 50_000,
            concurrency: 4,
            attempt: Duration::from_secs(20),
            deadline: Duration::from_secs(120),
            failures: 8,
            rest: Duration::from_secs(5),
        }
    }

    /// Refuses what could never send a request.
    pub fn validate(&self) -> Result<(), EmbedError> {
        let refuse = |what: &str| Err(EmbedError::Unsupported(format!("hosted embedding: {what}")));
        if !(self.url.starts_with("http://") || self.url.starts_with("https://")) {
            return refuse("the address must begin with http:// or https://");
        }
        if self.dimension == 0 || self.batch_texts == 0 || self.batch_texts > self.api.most_texts() {
            return refuse("the dimension must be above 0 and a batch within what the service takes");
        }
        if self.requests_per_window == 0 || self.concurrency == 0 || self.batch_tokens > self.tokens_per_window {
            return refuse("a request must fit the limits");
        }
        if self.batch_tokens == 0 {
            return refuse("the limits must let a token through");
        }
        if self.attempt.is_zero() || self.deadline.is_zero() {
            return refuse("the timeout must be above 0");
        }
        Ok(())
    }

    /// How many tokens a text is taken for. Over rather than under: services count what they like.
    pub(crate) fn tokens(&self, text: &str) -> u64 {
        (text.len() as u64 / 3 + 1).min(self.batch_tokens)
    }
}
