//! How fast a model is: `speed FILE [THREADS] [ROUNDS] [MODEL]` prints tokens and texts a second over the lines of a file, and the
//! time of one short text.
#![allow(clippy::print_stdout)]

use std::{sync::Arc, time::Instant};

use nearcast_embed::{
    EmbedError, ModelStore,
    model::{Bert, TextModel, encode_all},
    registry::DEFAULT_MODEL,
    statics::{BUILT_IN, built_in},
};

fn main() -> Result<(), EmbedError> {
    let mut args = std::env::args().skip(1);
    let file = args.next().unwrap_or_default();
    let threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    let name = args.next().unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    let start = Instant::now();
    let model: Arc<dyn TextModel> =
        if name == BUILT_IN { built_in()? } else { Arc::new(Bert::load(&ModelStore::in_default_dir(true).open(&name)?)?) };
    println!("loaded in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let texts = text.lines().map(Arc::from).collect::<Vec<Arc<str>>>();
    for _ in 0..rounds {
        let stats = encode_all(&model, &texts, threads, &mut |_, _| ())?;
        let (tokens, count) = (stats.tokens as f64 / stats.seconds, stats.texts as f64 / stats.seconds);
        println!("{} texts, {} tokens: {tokens:.0} tokens/s, {count:.0} texts/s", stats.texts, stats.tokens);
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
    println!("one short text on one thread: p50 {:.3} ms", times[100]);
    Ok(())
}
