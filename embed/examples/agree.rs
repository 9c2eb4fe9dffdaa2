//! How near each level of processor comes to the plain forward in `f32`, over the lines of a file.
#![allow(clippy::print_stdout, clippy::unwrap_used)]
use std::sync::Arc;

use candle_core::Device;
use nearcast_embed::{
    ModelStore,
    kernels::Level,
    model::{Bert, TextModel, encode_all},
    registry::DEFAULT_MODEL,
};

fn main() {
    let local = ModelStore::in_default_dir(true).open(DEFAULT_MODEL).unwrap();
    let text = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    let texts = text.lines().take(256).map(Arc::from).collect::<Vec<Arc<str>>>();
    let plain: Arc<dyn TextModel> = Arc::new(Bert::load_on(&local, &Device::Cpu).unwrap());
    let mut want = Vec::new();
    encode_all(&plain, &texts, 1, &mut |_, v| want.push(v.to_vec())).unwrap();
    for level in Level::available() {
        let model: Arc<dyn TextModel> = Arc::new(Bert::load_at(&local, *level).unwrap());
        let (mut worst, mut sum) = (1.0_f64, 0.0);
        let stats = encode_all(&model, &texts, 2, &mut |i, v| {
            let c = v.iter().zip(&want[i]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            worst = worst.min(c);
            sum += c;
        })
        .unwrap();
        println!(
            "{}: worst 1 - {:.1e}, mean 1 - {:.1e}, {:.0} tokens/s",
            level.name(),
            1.0 - worst,
            1.0 - sum / texts.len() as f64,
            stats.tokens as f64 / stats.seconds
        );
    }
}
