//! Logs of the process. Set up once, before anything is opened.
//!
//! Logs go to standard error: standard output belongs to the results of commands.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging; a filter that cannot be read is named.
pub fn logging(config: &LogConfig) -> anyhow::Result<()> {
    // The graph's library tells of every build at `info`.
    let filter = EnvFilter::try_new(format!("hnsw_rs=warn,{}", config.level)).map_err(|e| {
        anyhow::anyhow!("log.level {:?} is no level and no filter ({e}); try info or nearcast=debug", config.level)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match config.format {
        LogFormat::Pretty => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|e| anyhow::anyhow!("{e}"))
}
