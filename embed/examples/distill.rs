//! Makes a static model: `distill OUT TEXTS` (a text a line). `nearcast models distill` does the same.
#![allow(clippy::print_stdout)]

use std::{error::Error, sync::Arc};

use nearcast_embed::{
    ModelStore,
    registry::DEFAULT_MODEL,
    statics::{DistillOptions, distill},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (out, texts) = (args.next().ok_or("where to?")?, args.next().ok_or("which texts?")?);
    let ridge = args.next().and_then(|r| r.parse().ok()).unwrap_or(DistillOptions::default().ridge);
    let texts = std::fs::read_to_string(texts)?.lines().map(Arc::from).collect::<Vec<Arc<str>>>();
    let local = ModelStore::in_default_dir(true).open(DEFAULT_MODEL)?;
    let options = DistillOptions { ridge, ..DistillOptions::default() };
    let (bytes, report) = distill(&local, &texts, &options, &mut |_| ())?;
    std::fs::write(out, bytes)?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
