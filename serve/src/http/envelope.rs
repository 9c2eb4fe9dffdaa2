//! What every request goes through, whatever it asks: an id, a bound on how many run at once, figures, one line in the
//! log, and an answer even when the program is at fault.
//!
//! Logs the route's pattern, never a path, a query or a body: those name people.

use std::{
    hash::{BuildHasher, RandomState},
    panic::AssertUnwindSafe,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tracing::Instrument;

use super::{App, problem::Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id of a request that is taken over from a caller.
const MAX_REQUEST_ID: usize = 128;
/// Routes that answer however much is going on.
const ALWAYS: [&str; 3] = ["/health/live", "/health/ready", "/metrics"];

/// Wraps every route.
pub async fn envelope(State(app): State<Arc<App>>, matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request_id(&request);
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str).to_owned();
    let method = method_label(request.method());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method, route);
    let mut response = if ALWAYS.contains(&route.as_str()) {
        caught(next.run(request)).instrument(span.clone()).await
    } else {
        match app.in_flight.try_acquire() {
            Ok(_permit) => caught(next.run(request)).instrument(span.clone()).await,
            Err(_) => Problem::later("too many requests are under way", 1).into_response(),
        }
    };
    response.headers_mut().insert(REQUEST_ID, id);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    span.in_scope(|| tracing::debug!(status, ms = took.as_secs_f64() * 1e3, "answered"));
    let code = response.status().as_str().to_owned();
    metrics::counter!("http_requests_total", "method" => method, "route" => route.clone(), "status" => code.clone())
        .increment(1);
    metrics::histogram!("http_request_duration_seconds", "route" => route, "status" => code).record(took);
    response
}

/// A fault of the program becomes a 500 without its words.
async fn caught(answer: impl Future<Output = Response>) -> Response {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let what = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let what = what.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            tracing::error!("a request ended in a panic: {what}");
            metrics::counter!("nearcast_panics_total").increment(1);
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the program is at fault; its log says more").into_response()
        }
    }
}

/// The caller's id of the request, where it has a sensible one, else a new one.
fn request_id(request: &Request) -> HeaderValue {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let given = request.headers().get(REQUEST_ID);
    if let Some(id) = given.filter(|v| (1..=MAX_REQUEST_ID).contains(&v.len()) && v.to_str().is_ok()) {
        return id.clone();
    }
    let id = format!("{:016x}", SEED.hash_one(NEXT.fetch_add(1, Ordering::Relaxed)));
    HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("none"))
}

/// A label with few values: methods are the caller's choice.
fn method_label(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        _ => "other",
    }
}
