//! `nearcast embed FILE|-`: a text a line to vectors on standard output.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    sync::Arc,
    time::Instant,
};

use anyhow::Context;
use nearcast_domain::ports::{Embedder as _, Priority};
use nearcast_embed::{
    EmbedError,
    command::{Format, embed, embed_with},
    hosted::{HostedConfig, HostedEmbedder},
    model::EncodeStats,
};

use crate::{cli::EmbedArgs, config::ModelConfig, models};

/// Embeds on all cores, or by the configured service. The last line on standard error says what it took, where that is asked
/// for.
pub fn run(args: &EmbedArgs, config: &ModelConfig) -> anyhow::Result<()> {
    let mut input: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&args.file).with_context(|| args.file.display().to_string())?))
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let format = if args.format == "npy" { Format::Npy } else { Format::Ndjson };
    let stats = match config.hosted() {
        Some(hosted) if args.model.is_none() => by_service(hosted, &mut *input, &mut output, format)?,
        _ => {
            let model = models::load(config, args.model.as_deref())?;
            let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            embed(&model, &mut *input, &mut output, format, threads)?
        }
    };
    if args.stats {
        eprintln!("{}", serde_json::to_string(&stats)?);
    }
    Ok(())
}

/// A block at a time; tokens are those that the service counted.
fn by_service(
    config: HostedConfig,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    format: Format,
) -> anyhow::Result<EncodeStats> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dimension = config.dimension;
    let embedder = models::service(config)?;
    let stats = embed_with(dimension, input, output, format, &mut |texts, vectors| {
        let (begun, before) = (Instant::now(), embedder.tokens());
        let made = runtime.block_on(asked(&embedder, texts))?;
        made.iter().for_each(|v| vectors.extend_from_slice(v));
        Ok(EncodeStats {
            texts: texts.len() as u64,
            tokens: embedder.tokens() - before,
            seconds: begun.elapsed().as_secs_f64(),
        })
    })?;
    Ok(stats)
}

/// Texts that one call asks for: a deadline is for a call, and a long file takes as many calls as it needs.
const CALL: usize = 512;

async fn asked(embedder: &HostedEmbedder, texts: &[Arc<str>]) -> Result<Vec<nearcast_domain::Vector>, EmbedError> {
    let mut vectors = Vec::with_capacity(texts.len());
    for part in texts.chunks(CALL) {
        let made = embedder.embed(part, Priority::Bulk).await;
        vectors.extend(made.map_err(|e| EmbedError::Service {
            service: "model.api".into(),
            message: e.to_string(),
            kind: e.kind,
        })?);
    }
    Ok(vectors)
}
