//! Figures for Prometheus, under the names that the field uses.
//!
//! Never a label that callers choose freely: routes are patterns, not paths.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use metrics::describe_counter;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use super::{App, params::Operator, problem::Problem};
use crate::figures::write_stores;

static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// The process's recorder of metrics, installed at the first call. Errors: another recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new().install_recorder()?;
    describe_counter!("nearcast_degraded_total", "Answers in which something that was due is missing, by its name.");
    describe_counter!("nearcast_events_total", "Events that POST /events accepted or rejected.");
    describe_counter!("nearcast_traces_dropped_total", "Traces that a collector did not take in time.");
    describe_counter!("nearcast_panics_total", "Requests that ended in a panic. Always 0, or there is a fault to report.");
    *installed = Some(handle.clone());
    Ok(handle)
}

/// What Prometheus reads
///
/// Where keys are configured and operators have no address of their own, it needs a key of the role `admin`.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Figures in Prometheus' text format", body = String, content_type = "text/plain"),
        (status = 401, body = Problem, content_type = "application/problem+json")))]
pub async fn metrics_for_operators(_: Operator, app: State<Arc<App>>) -> Response {
    metrics(app).await
}

/// The same at the operators' own address.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut out = String::new();
    if let Some(handle) = &app.metrics {
        handle.run_upkeep();
        out = handle.render();
    }
    app.requests.write(&mut out);
    app.recommender().figures.write(&mut out);
    let _ = std::fmt::Write::write_fmt(
        &mut out,
        format_args!(
            "# HELP nearcast_let_in_share The share of requests that is let in; below 1 there are more than can be answered.\n# TYPE \
             nearcast_let_in_share gauge\nnearcast_let_in_share {}\n",
            app.pressure.share()
        ),
    );
    write_stores(&mut out, &app.recommender().stores.states.states());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response()
}
