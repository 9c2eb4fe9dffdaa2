//! How long a request's text waits while ingestion keeps the model busy: `queue FILE [SECONDS]`.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nearcast_domain::ports::{Embedder as _, Priority};
use nearcast_embed::{EngineHandle, ModelStore, SchedulerConfig, registry::DEFAULT_MODEL};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let text = std::fs::read_to_string(args.next().ok_or("which file?")?)?;
    let seconds = args.next().and_then(|s| s.parse().ok()).unwrap_or(10);
    let texts = text.lines().map(Arc::from).collect::<Vec<Arc<str>>>();
    let config = SchedulerConfig { cache_entries: 0, ..SchedulerConfig::default() };
    let store = Arc::new(ModelStore::in_default_dir(true));
    let engine = Arc::new(EngineHandle::of_store(store, DEFAULT_MODEL, config)?);
    engine.embed(&texts[..1], Priority::Query).await?;
    for busy in [false, true] {
        let stop = Arc::new(AtomicBool::new(!busy));
        let done = Arc::new(AtomicU64::new(0));
        let flood = tokio::spawn({
            let (engine, texts, stop, done) = (Arc::clone(&engine), texts.clone(), Arc::clone(&stop), Arc::clone(&done));
            async move {
                while !stop.load(Ordering::SeqCst) {
                    let made = engine.embed(&texts, Priority::Bulk).await.map_or(0, |v| v.len());
                    done.fetch_add(made as u64, Ordering::SeqCst);
                }
            }
        });
        let start = Instant::now();
        let mut times = Vec::new();
        while start.elapsed() < Duration::from_secs(seconds) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let query: Arc<str> = format!("trail shoes for wet rock {}", times.len()).into();
            let asked = Instant::now();
            engine.embed(&[query], Priority::Query).await?;
            times.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        let elapsed = start.elapsed().as_secs_f64();
        stop.store(true, Ordering::SeqCst);
        times.sort_by(f64::total_cmp);
        let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
        println!(
            "{}: {} requests, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; in bulk {:.0} texts/s",
            if busy { "busy" } else { "idle" },
            times.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            done.load(Ordering::SeqCst) as f64 / elapsed
        );
        flood.await?;
    }
    engine.shutdown().await;
    Ok(())
}
