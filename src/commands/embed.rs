//! `nearcast embed FILE|-`: a text a line to vectors on standard output.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter},
};

use anyhow::Context;
use nearcast_embed::command::{Format, embed};

use crate::{cli::EmbedArgs, config::ModelConfig, models};

/// Embeds on all cores. The last line on standard error says what it took, where that is asked for.
pub fn run(args: &EmbedArgs, config: &ModelConfig) -> anyhow::Result<()> {
    let model = models::load(config, args.model.as_deref())?;
    let mut input: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&args.file).with_context(|| args.file.display().to_string())?))
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let format = if args.format == "npy" { Format::Npy } else { Format::Ndjson };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let stats = embed(&model, &mut *input, &mut output, format, threads)?;
    if args.stats {
        eprintln!("{}", serde_json::to_string(&stats)?);
    }
    Ok(())
}
