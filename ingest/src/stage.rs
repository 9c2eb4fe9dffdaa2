//! How long each stage of a batch takes: for metrics, and for whoever looks for the slowest store.

use std::time::Instant;

/// Waits for a stage and reports its time.
pub(crate) async fn timed<T>(stage: &'static str, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let out = work.await;
    let took = begun.elapsed();
    metrics::histogram!("nearcast_ingest_stage_seconds", "stage" => stage).record(took.as_secs_f64());
    tracing::debug!(stage, ms = took.as_millis() as u64, "stage done");
    out
}
