//! Tokens a second of the engine over the lines of a file: `speed FILE [THREADS] [ROUNDS]`, and the time of one short query.
#![allow(clippy::print_stdout)]

use std::{sync::Arc, time::Instant};

use nearcast_embed::{
    EmbedError, ModelStore,
    model::{Bert, TextModel, encode_all},
    registry::DEFAULT_MODEL,
};

fn main() -> Result<(), EmbedError> {
    let mut args = std::env::args().skip(1);
    let file = args.next().unwrap_or_default();
    let threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    let start = Instant::now();
    let model: Arc<dyn TextModel> = Arc::new(Bert::load(&ModelStore::in_default_dir(true).open(DEFAULT_MODEL)?)?);
    println!("loaded in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let texts = text.lines().map(Arc::from).collect::<Vec<Arc<str>>>();
    for _ in 0..rounds {
        let stats = encode_all(&model, &texts, threads, &mut |_, _| ())?;
        println!("{} texts, {} tokens: {:.0} tokens/s", stats.texts, stats.tokens, stats.tokens as f64 / stats.seconds);
    }
    let mut encoder = Arc::clone(&model).encoder();
    let mut out = Vec::new();
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        let mut ids = Vec::new();
        model.tokenize("trail shoes for wet rock", &mut ids)?;
        encoder.encode(&[&ids], &mut out)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("one short text on one thread: p50 {:.2} ms", times[100]);
    Ok(())
}
