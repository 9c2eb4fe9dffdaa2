//! `nearcast embed` without the rest of the program: `embed FILE [MODEL_DIRECTORY]` writes vectors as .npy to stdout and what
//! it took to stderr.
#![allow(clippy::print_stdout)]

use std::{error::Error, fs::File, io, sync::Arc};

use nearcast_embed::{
    ModelStore, command,
    model::{Bert, TextModel},
    registry::DEFAULT_MODEL,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut input = io::BufReader::new(File::open(args.next().ok_or("which file?")?)?);
    let name = args.next().unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    let model: Arc<dyn TextModel> = Arc::new(Bert::load(&ModelStore::in_default_dir(true).open(&name)?)?);
    let threads = std::thread::available_parallelism()?.get();
    let mut output = io::BufWriter::new(io::stdout().lock());
    let stats = command::embed(&model, &mut input, &mut output, command::Format::Npy, threads)?;
    eprintln!("{}", serde_json::to_string(&stats)?);
    Ok(())
}
