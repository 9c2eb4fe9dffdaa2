//! What can be set about the edge of the program: TLS, proxies in front, browsers of other origins, a second address, what is told of
//! requests.
//!
//! Holds paths of keys, never keys.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, error, share, within};

/// TLS at the API's own address. Without both files it speaks plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// The certificate and those that vouch for it, in PEM. Read again when it changes.
    pub cert_file: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key_file: Option<PathBuf>,
}

/// Which pages of other origins may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// Origins such as `https://shop.example`, or `*` for all. None: browsers keep other origins out.
    pub origins: Vec<String>,
    /// For how many seconds a browser may remember what is allowed.
    pub max_age_s: u64,
}

/// A proxy in front.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyConfig {
    /// Addresses or networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` is believed.
    pub trusted: Vec<String>,
}

/// What is logged of requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestLog {
    /// The share of requests that get a line, 0 to 1. Slow and failed ones always do, at most ten a second.
    pub sample: f64,
    /// From how many milliseconds on a request is slow.
    pub slow_ms: u64,
    /// Whether lines name who asked: the path and the caller's address.
    pub identity: bool,
}

/// Traces of requests, sent to a collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceConfig {
    /// Where an OpenTelemetry collector takes OTLP over HTTP: `http://127.0.0.1:4318/v1/traces`. None: no traces.
    pub endpoint: Option<String>,
    /// What the service is called in them.
    pub service: String,
    /// The share of requests that is sent, 0 to 1. Slow and failed ones always are, and those that a caller's `traceparent` marks.
    pub sample: f64,
    /// From how many milliseconds on a request is slow.
    pub slow_ms: u64,
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self { origins: Vec::new(), max_age_s: 600 }
    }
}

impl Default for RequestLog {
    fn default() -> Self {
        Self { sample: 0.0, slow_ms: 100, identity: false }
    }
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { endpoint: None, service: "nearcast".into(), sample: 0.01, slow_ms: 100 }
    }
}

impl TlsFiles {
    /// Both files, where TLS is wanted.
    pub fn both(&self) -> Option<(PathBuf, PathBuf)> {
        Some((self.cert_file.clone()?, self.key_file.clone()?))
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => Err(error("tls.key_file", "must name the private key of tls.cert_file")),
            (None, Some(_)) => Err(error("tls.cert_file", "must name the certificate of tls.key_file")),
            _ => Ok(()),
        }
    }
}

impl CorsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("cors.max_age_s", self.max_age_s, 0, 86_400)?;
        let sound = |o: &str| {
            let host = o.strip_prefix("https://").or_else(|| o.strip_prefix("http://"));
            host.is_some_and(|h| !h.is_empty() && !h.contains('/') && h.bytes().all(|b| b.is_ascii_graphic()))
        };
        match self.origins.iter().find(|o| *o != "*" && !sound(o)) {
            Some(bad) => {
                Err(error("cors.origins", &format!("holds {bad:?}; an origin is https://host[:port] without a path, or *")))
            }
            None => Ok(()),
        }
    }
}

impl ProxyConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match self.trusted.iter().find(|n| Network::parse(n).is_none()) {
            Some(bad) => {
                Err(error("proxy.trusted", &format!("holds {bad:?}; an address or a network such as 10.0.0.0/8 is meant")))
            }
            None => Ok(()),
        }
    }
}

impl RequestLog {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        share("log.sample", self.sample)?;
        within("log.slow_ms", self.slow_ms, 1, 3_600_000)
    }
}

impl TraceConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        share("traces.sample", self.sample)?;
        within("traces.slow_ms", self.slow_ms, 1, 3_600_000)?;
        let address = |e: &str| e.starts_with("http://") || e.starts_with("https://");
        match &self.endpoint {
            Some(e) if !address(e) => {
                Err(error("traces.endpoint", "must be an address such as http://127.0.0.1:4318/v1/traces"))
            }
            _ => Ok(()),
        }
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// `10.0.0.0/8`, `::1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse().ok()?, Some(bits.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let most = if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether an address lies in it.
    pub fn holds(&self, other: IpAddr) -> bool {
        match (self.address, other.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(a) & mask == u32::from(b) & mask
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(a) & mask == u128::from(b) & mask
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_lies_in_them() {
        let holds = |n: &str, a: &str| Network::parse(n).unwrap().holds(a.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.9.8.7") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.1.1"), "the same address in the other notation");
        assert!(holds("0.0.0.0/0", "1.2.3.4") && holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        assert!(Network::parse("10.0.0.0/33").is_none() && Network::parse("shop").is_none());
    }

    #[test]
    fn what_cannot_work_is_named() {
        let cors = |o: &str| CorsConfig { origins: vec![o.into()], ..CorsConfig::default() }.validate();
        assert!(cors("https://shop.example").is_ok() && cors("*").is_ok());
        assert!(cors("shop.example").is_err() && cors("https://shop.example/path").is_err());
        assert!(
            TlsFiles { cert_file: Some("c".into()), key_file: None }.validate().unwrap_err().to_string().contains("key_file")
        );
        assert!(TraceConfig { endpoint: Some("collector".into()), ..TraceConfig::default() }.validate().is_err());
    }
}
