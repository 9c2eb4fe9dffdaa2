//! Where the configuration comes from: defaults, then a file, then the environment, then flags; the later wins.
//!
//! An environment variable `NEARCAST__SERVE__BUDGET_MS=50` sets `budget_ms` in `[serve]`.

use std::{
    io,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::Config;
use crate::cli::Cli;

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "nearcast.toml";
/// What the names of environment variables begin with.
const ENV_PREFIX: &str = "NEARCAST__";

/// Why there is no configuration. Each text names the place and what is allowed there.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file {path}: {message}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// An unknown key or a value of the wrong type.
    #[error("configuration: {0}; `nearcast config print` shows every key")]
    Key(String),
    /// Keys that cannot stand together.
    #[error("configuration: {0}")]
    Invalid(String),
}

/// The configuration for a command line in this environment.
pub fn load(cli: &Cli, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let mut table = Table::new();
    match &cli.config {
        Some(path) => merge(&mut table, read(path)?),
        None if Path::new(DEFAULT_FILE).exists() => merge(&mut table, read(Path::new(DEFAULT_FILE))?),
        None => {}
    }
    let mut variables: Vec<_> = env.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    variables.sort();
    for (name, value) in variables {
        let path: Vec<String> = name[ENV_PREFIX.len()..].split("__").map(str::to_lowercase).collect();
        set(&mut table, &path, scalar(&value))
            .map_err(|()| ConfigError::Key(format!("{name} names a key inside a plain value")))?;
    }
    if let Some(dir) = &cli.data_dir {
        table.insert("data_dir".into(), Value::String(dir.display().to_string()));
    }
    if let Some(level) = &cli.log {
        let _ = set(&mut table, &["log".into(), "level".into()], Value::String(level.clone()));
    }
    let config: Config = table.try_into().map_err(|e: toml::de::Error| ConfigError::Key(one_line(&e)))?;
    config.validate().map_err(ConfigError::Invalid)?;
    Ok(config)
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    // Read as a whole first: errors of keys then carry the line.
    let syntax = |e: toml::de::Error| ConfigError::Syntax { path: path.into(), message: located(&text, &e) };
    toml::from_str::<Config>(&text).map_err(syntax)?;
    toml::from_str(&text).map_err(syntax)
}

/// `line 3: unknown field …`.
fn located(text: &str, e: &toml::de::Error) -> String {
    let line = e.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
    match line {
        Some(line) => format!("line {line}: {}", one_line(e)),
        None => one_line(e),
    }
}

fn one_line(e: &toml::de::Error) -> String {
    let whole = e.to_string();
    let place = whole.lines().map(str::trim).find(|l| l.starts_with("in `"));
    match place {
        Some(place) => format!("{} {place}", e.message()),
        None => e.message().to_owned(),
    }
}

/// A value as TOML reads it, else as text.
fn scalar(text: &str) -> Value {
    toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.into()))
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(a)), Value::Table(b)) => merge(a, b),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), ()> {
    match path {
        [] => Err(()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [section, rest @ ..] => match table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => set(inner, rest, value),
            _ => Err(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn cli(args: &[&str]) -> Cli {
        Cli::parse_from([&["nearcast"], args, &["config", "check"]].concat())
    }

    fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_later_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n.toml");
        std::fs::write(&file, "listen = \"127.0.0.1:1\"\n[ingest]\nqueue = 3\nbatch_records = 5\n").unwrap();
        let file = file.display().to_string();
        let c = load(&cli(&["--config", &file, "--data-dir", "/d"]), env(&[("NEARCAST__INGEST__QUEUE", "4")])).unwrap();
        assert_eq!((c.ingest.queue, c.ingest.batch_records, c.data_dir), (4, 5, "/d".into()));
    }

    #[test]
    fn unknown_keys_are_named() {
        let e = load(&cli(&[]), env(&[("NEARCAST__INGEST__QUEU", "4")])).unwrap_err().to_string();
        assert!(e.contains("queu") && e.contains("queue"), "{e}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n.toml");
        std::fs::write(&file, "[ingest]\nqueu = 3\n").unwrap();
        let e = load(&cli(&["--config", &file.display().to_string()]), env(&[])).unwrap_err().to_string();
        assert!(e.contains("line 2") && e.contains("queu"), "{e}");
    }

    #[test]
    fn impossible_values_are_refused() {
        let e = load(&cli(&[]), env(&[("NEARCAST__INGEST__QUEUE", "0")])).unwrap_err().to_string();
        assert!(e.contains("ingest.queue"), "{e}");
    }
}
