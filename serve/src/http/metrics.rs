//! Figures for Prometheus, under the names that the field uses.
//!
//! Never a label that callers choose freely: routes are patterns, not paths.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use super::App;

/// Seconds: from a cache hit to the longest budget.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// The process's recorder of metrics, installed at the first call. Errors: another recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    describe_counter!("http_requests_total", "Requests by method, route and status.");
    describe_histogram!("http_request_duration_seconds", "Time from the head of a request to its answer.");
    describe_gauge!("http_requests_in_flight", "Requests under way.");
    describe_histogram!("nearcast_source_duration_seconds", "Time that a candidate source took.");
    describe_counter!("nearcast_degraded_total", "Answers in which something that was due is missing, by its name.");
    describe_counter!("nearcast_response_cache_total", "Answers by where they came from: hit, miss, stale.");
    describe_counter!("nearcast_events_total", "Events that POST /events accepted or rejected.");
    describe_counter!("nearcast_panics_total", "Requests that ended in a panic. Always 0, or there is a fault to report.");
    *installed = Some(handle.clone());
    Ok(handle)
}

/// What Prometheus reads.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Figures in Prometheus' text format", body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let Some(handle) = &app.metrics else { return String::new().into_response() };
    handle.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response()
}
