//! The section `[model]`: which model embeds texts, where it is computed, or which service is asked instead.
//!
//! A key of a service never stands here: only where it lies. What is given in its place is refused without being shown.

use std::{fmt, path::PathBuf, time::Duration};

use nearcast_embed::{
    DeviceKind, Running,
    hosted::{Api, HostedConfig, KeySource},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::models::AUTO;

/// What becomes of a text that is longer than the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongTexts {
    /// It ends where the model's length ends, as with sentence-transformers.
    #[default]
    Cut,
    /// It is read in windows, whose vectors are averaged by their tokens. Such vectors have a revision of their own.
    Windows,
}

/// The section `[model]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A known name, or `auto`: MiniLM where it is here or can be fetched, else the built-in static model. With `api`, what the
    /// service calls its model.
    pub name: String,
    /// A directory with a model's files, instead of a known name.
    pub dir: Option<PathBuf>,
    /// Where fetched models are kept (default: the user's cache directory).
    pub cache_dir: Option<PathBuf>,
    /// Never ask the network.
    pub offline: bool,
    /// `cpu`, `cuda` or `metal`. An accelerator that is not there, or for which the program was not built, is the CPU.
    pub device: DeviceKind,
    /// `cut` or `windows`.
    pub long_texts: LongTexts,
    /// With `windows`: so many are read of a text at most.
    pub max_windows: usize,
    /// A service that embeds instead: `openai` (and all that speak its `/v1/embeddings`), `cohere` or `tei`.
    pub api: Option<Api>,
    /// Its base address, without the path of the call (openai and cohere have a default).
    pub url: Option<String>,
    /// The length that its vectors must have.
    pub dimension: Option<usize>,
    /// Where its key lies: `env:NAME` or `file:/path`.
    pub key: Option<KeyPlace>,
    /// Requests that it may be sent in any minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens that it may be sent in any minute, as estimated (one for every three bytes).
    pub tokens_per_minute: Option<u64>,
    /// How long a call may take in milliseconds, with all its attempts and waiting. One attempt may take a sixth of it.
    pub timeout_ms: Option<u64>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            name: AUTO.into(),
            dir: None,
            cache_dir: None,
            offline: false,
            device: DeviceKind::Cpu,
            long_texts: LongTexts::Cut,
            max_windows: 8,
            api: None,
            url: None,
            dimension: None,
            key: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            timeout_ms: None,
        }
    }
}

impl ModelConfig {
    /// Refuses keys that cannot stand together, naming the remedy.
    pub fn validate(&self) -> Result<(), String> {
        if self.dir.is_some() && self.name != AUTO {
            return Err("model.dir and model.name exclude each other: leave one of them out".into());
        }
        if self.max_windows < 2 || self.max_windows > 256 {
            return Err(format!("model.max_windows is {}; 2 to 256 are allowed", self.max_windows));
        }
        if self.api.is_some() {
            return self.validate_hosted();
        }
        let given = [
            ("url", self.url.is_some()),
            ("dimension", self.dimension.is_some()),
            ("key", self.key.is_some()),
            ("requests_per_minute", self.requests_per_minute.is_some()),
            ("tokens_per_minute", self.tokens_per_minute.is_some()),
            ("timeout_ms", self.timeout_ms.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((key, _)) => {
                Err(format!("model.{key} is for a service: set model.api to openai, cohere or tei, or leave model.{key} out"))
            }
            None => Ok(()),
        }
    }

    fn validate_hosted(&self) -> Result<(), String> {
        let local = [
            ("dir", self.dir.is_some()),
            ("device", self.device != DeviceKind::Cpu),
            ("long_texts", self.long_texts != LongTexts::Cut),
            ("offline", self.offline),
        ];
        if let Some((key, _)) = local.iter().find(|(_, given)| *given) {
            return Err(format!(
                "model.{key} is for models that run here, and model.api asks a service: leave one of them out"
            ));
        }
        if self.name == AUTO {
            return Err("model.api needs model.name: what the service calls its model".into());
        }
        if self.dimension.is_none() {
            return Err("model.api needs model.dimension: the length of the service's vectors".into());
        }
        let Some(hosted) = self.hosted() else {
            return Err("model.api = \"tei\" needs model.url: the address of the server".into());
        };
        if hosted.key != KeySource::None && hosted.url.starts_with("http://") && !is_loopback(&hosted.url) {
            return Err("model.url sends model.key unencrypted over the network: use https://".into());
        }
        if hosted.url.contains('@') {
            return Err("model.url holds a user or password: give the key by model.key instead".into());
        }
        hosted.validate().map_err(|e| format!("model: {e}"))
    }

    /// How the service is used, where one is named.
    pub fn hosted(&self) -> Option<HostedConfig> {
        let api = self.api?;
        let url = self.url.as_deref().or(api.usual_url())?;
        let key = self.key.clone().map_or(KeySource::None, |k| k.0);
        let mut config = HostedConfig::new(api, url, &self.name, self.dimension.unwrap_or(0), key);
        config.requests_per_window = self.requests_per_minute.unwrap_or(config.requests_per_window);
        config.tokens_per_window = self.tokens_per_minute.unwrap_or(config.tokens_per_window);
        config.batch_tokens = config.batch_tokens.min(config.tokens_per_window);
        if let Some(ms) = self.timeout_ms {
            config.deadline = Duration::from_millis(ms);
            config.attempt = config.deadline / 6;
        }
        Some(config)
    }

    /// How a model that runs here is run.
    pub fn running(&self) -> Running {
        let windows = if self.long_texts == LongTexts::Windows { self.max_windows } else { 1 };
        Running { windows, device: self.device }
    }
}

fn is_loopback(url: &str) -> bool {
    let host = url.trim_start_matches("http://").split(['/', '?']).next().unwrap_or_default();
    let name = host
        .strip_prefix('[')
        .map_or_else(|| host.split(':').next().unwrap_or_default(), |h| h.split(']').next().unwrap_or_default());
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where the key of a service lies: `env:NAME` or `file:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPlace(KeySource);

impl Serialize for KeyPlace {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            KeySource::Env(name) => s.serialize_str(&format!("env:{name}")),
            KeySource::File(path) => s.serialize_str(&format!("file:{}", path.display())),
            KeySource::None => s.serialize_str(""),
        }
    }
}

impl<'de> Deserialize<'de> for KeyPlace {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // Reads any value, so that a key given in place of its place is never quoted in an error.
        d.deserialize_any(PlaceVisitor)
    }
}

struct PlaceVisitor;

const WANTED: &str = "key must be `env:NAME` or `file:/path`, never the key itself";

impl de::Visitor<'_> for PlaceVisitor {
    type Value = KeyPlace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`env:NAME` or `file:/path`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyPlace, E> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(KeyPlace(KeySource::Env(name.to_owned()))),
            Some(("file", path)) if !path.is_empty() => Ok(KeyPlace(KeySource::File(path.into()))),
            _ => Err(E::custom(WANTED)),
        }
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<KeyPlace, E> {
        Err(E::custom(WANTED))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<KeyPlace, E> {
        Err(E::custom(WANTED))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<KeyPlace, E> {
        Err(E::custom(WANTED))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<KeyPlace, E> {
        Err(E::custom(WANTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<ModelConfig, String> {
        let config: ModelConfig = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        config.validate().map(|()| config)
    }

    #[test]
    fn a_service_whole() {
        let text = "api = \"openai\"\nname = \"m\"\ndimension = 3\nkey = \"env:K\"\nrequests_per_minute = 7\ntokens_per_minute = 900\n\
                    timeout_ms = 6000";
        let config = checked(text).unwrap();
        let hosted = config.hosted().unwrap();
        assert_eq!((hosted.requests_per_window, hosted.tokens_per_window, hosted.batch_tokens), (7, 900, 900));
        assert_eq!((hosted.url.as_str(), hosted.key), ("https://api.openai.com", KeySource::Env("K".into())));
        assert_eq!((hosted.deadline.as_secs(), hosted.attempt.as_secs()), (6, 1));
        let printed = toml::to_string(&config).unwrap();
        assert!(printed.contains("env:K"), "{printed}");
        assert_eq!(toml::from_str::<ModelConfig>(&printed).unwrap(), config);
        checked("api = \"tei\"\nname = \"m\"\ndimension = 3\nurl = \"http://tei.local\"").unwrap();
        checked("api = \"tei\"\nname = \"m\"\ndimension = 3\nurl = \"http://[::1]:8000\"\nkey = \"file:/k\"").unwrap();
    }

    #[test]
    fn bad_combinations_name_the_remedy() {
        let service = "api = \"openai\"\nname = \"m\"\ndimension = 3\n";
        for (text, words) in [
            ("api = \"openai\"\ndimension = 3".to_owned(), "needs model.name"),
            ("api = \"cohere\"\nname = \"m\"".to_owned(), "needs model.dimension"),
            ("api = \"tei\"\nname = \"m\"\ndimension = 3".to_owned(), "needs model.url"),
            ("url = \"https://x\"".to_owned(), "set model.api"),
            ("requests_per_minute = 3".to_owned(), "set model.api"),
            (format!("{service}device = \"cuda\""), "model.device"),
            (format!("{service}long_texts = \"windows\""), "model.long_texts"),
            (format!("{service}offline = true"), "model.offline"),
            ("api = \"openai\"\ndir = \"/m\"\ndimension = 3".to_owned(), "model.dir"),
            ("dir = \"/m\"\nname = \"m\"".to_owned(), "exclude each other"),
            (format!("{service}url = \"ftp://x\""), "http"),
            (format!("{service}url = \"http://far.example\"\nkey = \"env:K\""), "https"),
            (format!("{service}requests_per_minute = 0"), "limits"),
            (format!("{service}tokens_per_minute = 0"), "limits"),
            (format!("{service}timeout_ms = 0"), "timeout"),
            ("api = \"other\"".to_owned(), "openai"),
            ("max_windows = 1".to_owned(), "2 to 256"),
            ("long_texts = \"half\"".to_owned(), "windows"),
            ("device = \"tpu\"".to_owned(), "cuda"),
        ] {
            let e = checked(&text).unwrap_err();
            assert!(e.contains(words), "{text}: {e}");
        }
    }

    #[test]
    fn a_key_in_the_place_of_its_place_is_not_shown() {
        for key in ["\"sk-hunter2\"", "20412345", "2.041", "true", "\"env:\""] {
            let e = checked(&format!("key = {key}")).unwrap_err();
            assert!(e.contains("env:NAME") && !e.contains("hunter2") && !e.contains("2041") && !e.contains("2.041"), "{e}");
        }
    }
}
