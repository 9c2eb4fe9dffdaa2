//! A hosted service as an [`Embedder`].

use std::{
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Vector,
    ports::{Embedder, ModelInfo, Priority},
};
use tokio::{sync::Semaphore, time::Instant};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use super::{
    api::Reply,
    breaker::Breaker,
    config::{HostedConfig, Secret},
    limiter::Limiter,
};
use crate::{
    EmbedError,
    model::{normalise, shared},
};

/// The longest answer that is read.
const MOST_BYTES: u64 = 256 << 20;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// A hosted service behind the port.
pub struct HostedEmbedder {
    info: ModelInfo,
    config: Arc<HostedConfig>,
    key: Option<Secret>,
    agent: Agent,
    limiter: Limiter,
    breaker: Breaker,
    /// Places for requests at once. Requests of people have as many of their own.
    bulk: Semaphore,
    query: Semaphore,
    /// Tokens that the service counted.
    tokens: AtomicU64,
}

/// Why an attempt failed.
enum Failure {
    /// It may succeed later; not before so long, where the service says.
    Later(StoreError, Option<Duration>),
    /// It will not.
    Never(StoreError),
}

impl HostedEmbedder {
    /// Reads the key and checks the configuration. Sends nothing.
    pub fn new(config: HostedConfig) -> Result<Self, EmbedError> {
        config.validate()?;
        let key = config.key.read()?;
        let agent = Agent::config_builder()
            .timeout_global(Some(config.attempt))
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build()
            .into();
        Ok(Self {
            // A service does not say which weights it runs: its kind, the model's name and the dimension stand for them.
            info: ModelInfo {
                name: config.model.clone(),
                revision: format!("{}-{}-{}", config.api.name(), config.model, config.dimension),
                dimension: config.dimension,
            },
            limiter: Limiter::new(config.requests_per_window, config.tokens_per_window, config.window),
            breaker: Breaker::new(config.failures, config.rest),
            bulk: Semaphore::new(config.concurrency),
            query: Semaphore::new(config.concurrency),
            tokens: AtomicU64::new(0),
            key,
            agent,
            config: Arc::new(config),
        })
    }

    /// Tokens that the service has counted (where it does not say: as estimated) since the start.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Texts that fit one request, from the front.
    fn batches(&self, texts: &[Arc<str>]) -> Vec<Vec<Arc<str>>> {
        let mut batches = Vec::new();
        let mut rest = texts;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fit = rest.iter().take(self.config.batch_texts).take_while(|t| {
                tokens += self.config.tokens(t);
                tokens <= self.config.batch_tokens
            });
            let (batch, later) = rest.split_at(fit.count().max(1));
            batches.push(batch.to_vec());
            rest = later;
        }
        batches
    }

    async fn batch(&self, texts: Vec<Arc<str>>, priority: Priority, deadline: Instant) -> StoreResult<Vec<Vector>> {
        let places = if priority == Priority::Query { &self.query } else { &self.bulk };
        let _place = places.acquire().await.map_err(|e| self.error(ErrorKind::Unavailable, e))?;
        let tokens = texts.iter().map(|t| self.config.tokens(t)).sum();
        let mut wait = FIRST_WAIT;
        loop {
            if let Err(until) = self.breaker.ask() {
                if until > deadline {
                    return Err(self.error(ErrorKind::Unavailable, "it has failed repeatedly and is left alone for a while"));
                }
                tokio::time::sleep_until(until).await;
                continue;
            }
            let attempt = {
                let _pass = self.limiter.pass(tokens).await;
                self.attempt(&texts).await
            };
            let (error, asked) = match attempt {
                Ok(vectors) => {
                    self.breaker.succeeded();
                    return Ok(vectors);
                }
                Err(Failure::Never(e)) => {
                    // The service works; it is this request that does not.
                    self.breaker.succeeded();
                    return Err(e);
                }
                Err(Failure::Later(e, asked)) => (e, asked),
            };
            metrics::counter!("nearcast_embed_hosted_retries_total", "model" => self.info.name.clone()).increment(1);
            // A service that asks for time is not a sick one.
            if asked.is_none() {
                self.breaker.failed();
            }
            let until = Instant::now() + asked.unwrap_or_else(|| wait.mul_f64(0.5 + jitter()));
            if asked.is_some() {
                self.limiter.shut(until);
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            if until >= deadline {
                return Err(error);
            }
            tokio::time::sleep_until(until).await;
        }
    }

    async fn attempt(&self, texts: &[Arc<str>]) -> Result<Vec<Vector>, Failure> {
        let body = {
            let texts = texts.iter().map(|t| &**t).collect::<Vec<_>>();
            self.config.api.request(&self.config.model, &texts).to_string()
        };
        let (agent, config, key) = (self.agent.clone(), Arc::clone(&self.config), self.key.clone());
        let sent = tokio::task::spawn_blocking(move || send(&agent, &config, key.as_ref(), &body)).await;
        let (status, retry_after, answer) = match sent {
            Ok(Ok(answer)) => answer,
            Ok(Err(e)) => {
                let kind = if matches!(e, ureq::Error::Timeout(_)) { ErrorKind::Timeout } else { ErrorKind::Unavailable };
                return Err(Failure::Later(self.error(kind, e), None));
            }
            Err(e) => return Err(Failure::Later(self.error(ErrorKind::Unavailable, e), None)),
        };
        let model = || self.info.name.clone();
        metrics::counter!("nearcast_embed_hosted_requests_total", "model" => model(), "status" => status.to_string())
            .increment(1);
        match status {
            200..300 => {}
            408 | 425 | 429 | 500..600 => {
                let kind = if status == 429 { ErrorKind::Busy } else { ErrorKind::Unavailable };
                return Err(Failure::Later(self.error(kind, format!("answered {status}")), retry_after));
            }
            401 | 403 => {
                return Err(Failure::Never(self.error(ErrorKind::Invalid, format!("answered {status}: it refuses the key"))));
            }
            _ => return Err(Failure::Never(self.error(ErrorKind::Invalid, format!("answered {status}")))),
        }
        let reply: Reply = self.config.api.reply(&answer, texts.len(), self.config.dimension).map_err(|what| {
            // A wrong dimension is a wrong configuration; anything else may be a hiccup of a proxy, but must not be trusted.
            Failure::Never(self.error(ErrorKind::Invalid, format!("sent {what}")))
        })?;
        let tokens = reply.tokens.unwrap_or_else(|| texts.iter().map(|t| self.config.tokens(t)).sum());
        metrics::counter!("nearcast_embed_hosted_tokens_total", "model" => model()).increment(tokens);
        metrics::counter!("nearcast_embed_hosted_texts_total", "model" => model()).increment(texts.len() as u64);
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        let unit = |mut v: Vec<f32>| {
            normalise(&mut v);
            shared(&v)
        };
        Ok(reply.vectors.into_iter().map(unit).collect())
    }

    fn error(&self, kind: ErrorKind, message: impl std::fmt::Display) -> StoreError {
        let service = format!("{} ({})", self.config.api.name(), self.config.model);
        EmbedError::Service { service, message: message.to_string(), kind }.into()
    }
}

type Answer = (u16, Option<Duration>, Vec<u8>);

fn send(agent: &Agent, config: &HostedConfig, key: Option<&Secret>, body: &str) -> Result<Answer, ureq::Error> {
    let mut request = agent.post(format!("{}{}", config.url, config.api.path())).header("Content-Type", "application/json");
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {}", key.expose()));
    }
    let mut response = request.send(body)?;
    let asked = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse::<f64>().ok());
    let asked = asked.filter(|s| s.is_finite() && *s >= 0.0).map(|s| Duration::from_secs_f64(s.min(3600.0)));
    let status = response.status().as_u16();
    let mut answer = Vec::new();
    response.body_mut().with_config().limit(MOST_BYTES).reader().read_to_end(&mut answer)?;
    Ok((status, asked, answer))
}

/// Between 0 and 1; spreads those who wait. Not for secrets: a fresh hasher's seed is random enough.
fn jitter() -> f64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let n = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (n >> 11) as f64 / (1_u64 << 53) as f64
}

#[async_trait]
impl Embedder for HostedEmbedder {
    async fn embed(&self, texts: &[Arc<str>], priority: Priority) -> StoreResult<Vec<Vector>> {
        let deadline = Instant::now() + self.config.deadline;
        let calls = self.batches(texts).into_iter().map(|batch| self.batch(batch, priority, deadline));
        let vectors = stream::iter(calls).buffered(self.config.concurrency).try_concat();
        match tokio::time::timeout_at(deadline, vectors).await {
            Ok(done) => done,
            Err(_) => Err(self.error(ErrorKind::Timeout, format!("no answer within {:?}", self.config.deadline))),
        }
    }

    fn model(&self) -> &ModelInfo {
        &self.info
    }
}
