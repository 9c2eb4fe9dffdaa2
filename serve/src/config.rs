//! What can be set about serving, with defaults that are sound on one machine.
//!
//! Holds no secrets: API keys stand here as their SHA-256 only.

mod edge;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use nearcast_domain::{Tenant, candidate::Source};
use serde::{Deserialize, Serialize};

use crate::recommend::ExploreConfig;

pub(crate) use edge::Network;
pub use edge::{CorsConfig, ProxyConfig, RequestLog, TlsFiles, TraceConfig};

/// The largest `k` that a caller may ask for.
pub const MAX_K: usize = 100;
/// The largest `budget_ms` that a caller may ask for.
pub const MAX_BUDGET_MS: u64 = 10_000;

/// A setting that cannot be used, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("serve.{key}: {remedy}")]
pub struct ConfigError {
    /// Which setting, without the section's name.
    pub key: String,
    /// What is allowed.
    pub remedy: String,
}

/// Section `serve` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// How long a request for recommendations may take, in milliseconds, unless it says otherwise.
    pub budget_ms: u64,
    /// How many recommendations are given where the caller does not say.
    pub default_k: usize,
    /// Whether items that the user engaged with may be recommended again.
    pub recommend_engaged: bool,
    /// How strongly items of a category that was already chosen are held back, 0 (not at all) to 1.
    pub diversity: f32,
    /// A chance for new items.
    pub explore: ExploreConfig,
    /// How much each source counts.
    pub weights: Weights,
    /// How much each source looks at.
    pub sources: SourceLimits,
    /// Cached answers.
    pub cache: CacheConfig,
    /// What this process remembers of items.
    pub items: ItemMemoryConfig,
    /// Bounds on what callers send.
    pub limits: Limits,
    /// Where what rises and what is new is written down from time to time, for an instance that starts while every store is away.
    /// Where it is not set: in the data directory, if there is one.
    pub snapshot_file: Option<PathBuf>,
    /// API keys: the lower-case hexadecimal SHA-256 of a key, and the tenant it belongs to. Without any, calls need none.
    pub api_keys: BTreeMap<String, String>,
    /// API keys with roles and quotas. Without any key, calls need none.
    pub keys: Vec<KeyConfig>,
    /// A file with more of them, a JSON array, read again when it changes.
    pub keys_file: Option<PathBuf>,
    /// How often a tenant may call, whatever keys it has.
    pub tenant_quota: Quota,
    /// A second address, for operators alone: `/metrics` and `/status` are then answered there and no longer at the first.
    pub admin_listen: Option<SocketAddr>,
    /// TLS at the API's own address.
    pub tls: TlsFiles,
    /// Proxies in front.
    pub proxy: ProxyConfig,
    /// Pages of other origins.
    pub cors: CorsConfig,
    /// What is logged of requests.
    pub log: RequestLog,
    /// Traces of requests.
    pub traces: TraceConfig,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ask.
    #[default]
    Read,
    /// Ask, send events, erase.
    Write,
    /// Everything.
    Admin,
}

/// An API key: only its digest is known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// For people.
    pub name: String,
    /// The SHA-256 of the key, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Whose data it opens; none: everyone's.
    pub tenants: Vec<String>,
    /// What it may do.
    pub role: Role,
    /// How often.
    pub quota: Quota,
}

/// How often someone may call: a bucket that fills steadily.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Requests a second in the long run; 0: as many as they like.
    pub per_second: f64,
    /// Requests at once.
    pub burst: u32,
}

impl KeyConfig {
    /// Refuses what cannot be a key. Never shows the digest.
    pub fn validate(&self) -> Result<(), String> {
        let of = |what: &str| format!("the key {:?} {what}", self.name);
        digest_of(&self.sha256).ok_or_else(|| of("needs its SHA-256 in 64 lower-case hexadecimal digits"))?;
        for tenant in &self.tenants {
            Tenant::parse(tenant).map_err(|e| of(&format!("names a tenant that {e}")))?;
        }
        if !(self.quota.per_second.is_finite() && self.quota.per_second >= 0.0) {
            return Err(of("needs a quota of 0 or more a second"));
        }
        Ok(())
    }
}

/// The bytes of a digest in lower-case hexadecimal digits.
pub(crate) fn digest_of(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|b| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|d| d[0] << 4 | d[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

/// What a source's word counts in the blend; 0 switches it off. Where a blend was learned, it counts in its place, times what stands
/// here over the default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Items next to the user's own.
    pub graph: f32,
    /// Items that follow from the user's own, where weights were learned.
    pub learned: f32,
    /// What people engaged with next after the user's latest items, where that was learned.
    pub next: f32,
    /// What near users engaged with.
    pub similar_users: f32,
    /// Items whose text is near.
    pub similar_text: f32,
    /// What rises, times the share that fits the tenant and the person ([`crate::recommend::formulas::trending_share`]).
    pub trending: f32,
    /// What is new: only fills what the others leave empty.
    pub newest: f32,
}

/// How far the sources look, and the exponents of their formulas ([`crate::recommend::formulas`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceLimits {
    /// Share of the budget after which sources are no longer waited for, above 0, below 1.
    pub share: f64,
    /// The newest of the user's own items that are read at all: those that sources leave out, and that stay left out
    /// while the ledger is away.
    pub known_items: usize,
    /// The newest of those that `graph` starts from.
    pub own_items: usize,
    /// Neighbours read for each of them.
    pub neighbours: usize,
    /// How fast the user's older items lose weight: item number `r` from the newest counts `(1 + r)^-recency`.
    pub recency: f32,
    /// Near users that `similar_users` asks.
    pub users: usize,
    /// The newest items of each of them.
    pub items_per_user: usize,
    /// How fast the older items of near users lose weight, as `recency`.
    pub others_recency: f32,
    /// The best of each source that go on to the filters; half as many where learned lists bring theirs beside the others.
    pub candidates: usize,
    /// Items that `similar_text` proposes.
    pub texts: usize,
    /// Items that `trending` proposes.
    pub trending: usize,
    /// How many rising items are kept at hand to fill an answer.
    pub trending_depth: usize,
    /// The half-life of trending in hours for a tenant whose own was not fitted yet.
    pub half_life_hours: f64,
    /// The share of trending in the blend, 0 to 1, for a tenant whose own was not fitted yet.
    pub trending_share: f32,
    /// What trending weighs more for someone of whom nothing is known; for `h` known items, `1/(1 + h)` of it.
    pub newcomer_share: f32,
    /// How long what rises is taken as known, in milliseconds.
    pub trending_fresh_ms: u64,
    /// How old it may be, in milliseconds, to be given while it is read again.
    pub trending_tolerated_ms: u64,
    /// How long what a search of the vector index found for a user may be used again, in milliseconds, where other processes write the
    /// stores too; an event of theirs or any erasure ends it sooner.
    pub near_fresh_ms: u64,
}

/// How answers are cached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// How long an answer is fresh, in milliseconds; 0 caches nothing. As long again it is given once more while another is made.
    pub ttl_ms: u64,
    /// How long it is kept for times when nothing better can be made, in milliseconds.
    pub stale_ms: u64,
    /// How long an answer that lacks a source is given again to who asks the same, in milliseconds, where the stores are servers; 0: each
    /// request asks them anew.
    pub partial_ms: u64,
    /// Each answer lives up to this share longer, so that answers made together do not end together. 0 to 1.
    pub jitter: f64,
}

/// What this process remembers of items between requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ItemMemoryConfig {
    /// At most about so many items of each tenant.
    pub entries: usize,
    /// After how many milliseconds what was read is read again where other processes write the stores too: how late a hidden item may
    /// disappear.
    pub fresh_ms: u64,
    /// Memory for users' own items and what is near them, of each tenant, in MiB.
    pub users_mib: usize,
}

/// Bounds on what callers send.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest body, before and after decompression, in bytes.
    pub body_bytes: usize,
    /// The most events in one call.
    pub events: usize,
    /// How long a body may take to arrive, in milliseconds.
    pub body_timeout_ms: u64,
    /// How long the head of a request may take to arrive, in milliseconds.
    pub header_timeout_ms: u64,
    /// Requests under way at once; more are turned away with 503.
    pub in_flight: usize,
    /// How long requests are still taken after shutdown began, in milliseconds: each answer then ends its connection.
    pub linger_ms: u64,
    /// How long open requests may take to end after that, in milliseconds.
    pub drain_ms: u64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            budget_ms: 80,
            default_k: 10,
            recommend_engaged: false,
            diversity: 0.0,
            explore: ExploreConfig::default(),
            weights: Weights::default(),
            sources: SourceLimits::default(),
            cache: CacheConfig::default(),
            items: ItemMemoryConfig::default(),
            limits: Limits::default(),
            snapshot_file: None,
            api_keys: BTreeMap::new(),
            keys: Vec::new(),
            keys_file: None,
            tenant_quota: Quota::default(),
            admin_listen: None,
            tls: TlsFiles::default(),
            proxy: ProxyConfig::default(),
            cors: CorsConfig::default(),
            log: RequestLog::default(),
            traces: TraceConfig::default(),
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self { graph: 1.0, learned: 1.0, next: 1.0, similar_users: 0.1, similar_text: 0.3, trending: 1.0, newest: 0.001 }
    }
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            share: 0.65,
            known_items: 1_000,
            candidates: 300,
            own_items: 50,
            neighbours: 100,
            recency: 0.75,
            // 100 and 50 cost four times as much and gave the same NDCG@10 (0.1696 and 0.1695; 0.1098 and 0.1100).
            users: 30,
            items_per_user: 20,
            others_recency: 0.5,
            texts: 200,
            trending: 200,
            trending_depth: 400,
            half_life_hours: 24.0 * 30.0,
            trending_share: 0.05,
            newcomer_share: 0.6,
            trending_fresh_ms: 1_000,
            trending_tolerated_ms: 10_000,
            near_fresh_ms: 300_000,
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { ttl_ms: 300_000, stale_ms: 3_600_000, partial_ms: 500, jitter: 1.0 }
    }
}

impl Default for ItemMemoryConfig {
    fn default() -> Self {
        Self { entries: 250_000, fresh_ms: 500, users_mib: 64 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 * 1024 * 1024,
            events: 100_000,
            body_timeout_ms: 30_000,
            header_timeout_ms: 10_000,
            in_flight: 1_024,
            linger_ms: 1_000,
            drain_ms: 10_000,
        }
    }
}

impl Weights {
    /// The weight of a source.
    pub const fn of(&self, source: Source) -> f32 {
        match source {
            Source::Graph => self.graph,
            Source::Learned => self.learned,
            Source::Next => self.next,
            Source::SimilarUsers => self.similar_users,
            Source::SimilarText => self.similar_text,
            Source::Trending => self.trending,
            Source::Newest => self.newest,
        }
    }
}

impl ServeConfig {
    /// The budget of a request that names none.
    pub const fn budget(&self) -> Duration {
        Duration::from_millis(self.budget_ms)
    }

    /// Refuses what cannot work, naming the key and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let s = &self.sources;
        within("budget_ms", self.budget_ms, 1, MAX_BUDGET_MS)?;
        within("default_k", self.default_k as u64, 1, MAX_K as u64)?;
        share("diversity", f64::from(self.diversity))?;
        for source in Source::ALL {
            let w = self.weights.of(source);
            if !(w.is_finite() && (0.0..=1_000.0).contains(&w)) {
                return Err(error(&format!("weights.{}", source.name()), "must lie between 0 and 1000"));
            }
        }
        if !(s.share > 0.0 && s.share < 1.0) {
            return Err(error("sources.share", "must lie above 0 and below 1"));
        }
        self.explore.validate().map_err(|(key, why)| error(key, why))?;
        for (key, n) in [
            ("known_items", s.known_items),
            ("candidates", s.candidates),
            ("own_items", s.own_items),
            ("neighbours", s.neighbours),
            ("users", s.users),
            ("items_per_user", s.items_per_user),
            ("texts", s.texts),
            ("trending", s.trending),
            ("trending_depth", s.trending_depth),
        ] {
            within(&format!("sources.{key}"), n as u64, 1, 10_000)?;
        }
        for (key, x) in [("recency", s.recency), ("others_recency", s.others_recency)] {
            if !(0.0..=64.0).contains(&x) {
                return Err(error(&format!("sources.{key}"), "must lie between 0 and 64"));
            }
        }
        if !(s.half_life_hours.is_finite() && s.half_life_hours > 0.0) {
            return Err(error("sources.half_life_hours", "must be above 0"));
        }
        share("sources.trending_share", f64::from(s.trending_share))?;
        share("sources.newcomer_share", f64::from(s.newcomer_share))?;
        within("sources.trending_fresh_ms", s.trending_fresh_ms, 1, 3_600_000)?;
        within("sources.trending_tolerated_ms", s.trending_tolerated_ms, 0, 3_600_000)?;
        within("cache.ttl_ms", self.cache.ttl_ms, 0, 86_400_000)?;
        within("cache.stale_ms", self.cache.stale_ms, self.cache.ttl_ms, 7 * 86_400_000)?;
        within("cache.partial_ms", self.cache.partial_ms, 0, 60_000)?;
        share("cache.jitter", self.cache.jitter)?;
        within("items.entries", self.items.entries as u64, 1_000, 100_000_000)?;
        within("sources.near_fresh_ms", s.near_fresh_ms, 0, 86_400_000)?;
        within("items.users_mib", self.items.users_mib as u64, 1, 1 << 20)?;
        within("items.fresh_ms", self.items.fresh_ms, 0, 3_600_000)?;
        let l = &self.limits;
        within("limits.body_bytes", l.body_bytes as u64, 1_024, 1 << 30)?;
        within("limits.events", l.events as u64, 1, 10_000_000)?;
        within("limits.body_timeout_ms", l.body_timeout_ms, 100, 3_600_000)?;
        within("limits.header_timeout_ms", l.header_timeout_ms, 100, 3_600_000)?;
        within("limits.in_flight", l.in_flight as u64, 1, 1_000_000)?;
        within("limits.linger_ms", l.linger_ms, 0, 600_000)?;
        within("limits.drain_ms", l.drain_ms, 0, 3_600_000)?;
        for (n, key) in self.keys.iter().enumerate() {
            key.validate().map_err(|e| error(&format!("keys[{n}]"), &e))?;
        }
        if !(self.tenant_quota.per_second.is_finite() && self.tenant_quota.per_second >= 0.0) {
            return Err(error("tenant_quota.per_second", "must be 0 or more"));
        }
        for (hash, tenant) in &self.api_keys {
            if digest_of(hash).is_none() {
                return Err(error("api_keys", "each name must be the SHA-256 of a key in 64 lower-case hexadecimal digits"));
            }
            Tenant::parse(tenant).map_err(|e| error("api_keys", &format!("the tenant of a key {e}")))?;
        }
        self.tls.validate()?;
        self.proxy.validate()?;
        self.cors.validate()?;
        self.log.validate()?;
        self.traces.validate()
    }

    /// Everything that changes an answer, as text: answers that were made under another are not given.
    pub(crate) fn answering(&self) -> String {
        let what = (&self.weights, &self.sources, self.diversity, self.explore, self.recommend_engaged);
        serde_json::to_string(&what).unwrap_or_default()
    }
}

fn error(key: &str, remedy: &str) -> ConfigError {
    ConfigError { key: key.to_owned(), remedy: remedy.to_owned() }
}

fn within(key: &str, value: u64, low: u64, high: u64) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) { Ok(()) } else { Err(error(key, &format!("must lie between {low} and {high}"))) }
}

fn share(key: &str, value: f64) -> Result<(), ConfigError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(error(key, "must lie between 0 and 1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_unknown_keys_are_not() {
        ServeConfig::default().validate().unwrap();
        assert!(serde_json::from_str::<ServeConfig>(r#"{"budget":80}"#).is_err());
        assert_eq!(serde_json::from_str::<ServeConfig>(r#"{"budget_ms":90}"#).unwrap().budget_ms, 90);
    }

    #[test]
    fn impossible_settings_name_their_key() {
        let bad = ServeConfig { weights: Weights { graph: f32::NAN, ..Weights::default() }, ..ServeConfig::default() };
        assert_eq!(bad.validate().unwrap_err().key, "weights.graph");
        let bad = ServeConfig { api_keys: [("secret".into(), "t".into())].into(), ..ServeConfig::default() };
        assert!(!bad.validate().unwrap_err().to_string().contains("secret"));
    }
}
