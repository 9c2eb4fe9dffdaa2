//! What every request goes through, whatever it asks: an id, a bound on how many run at once, figures, one line in the
//! log, and an answer even when the program is at fault.
//!
//! Logs the route's pattern, never a path, a query or a body: those name people.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    panic::AssertUnwindSafe,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use super::{App, problem::Problem, server::open_connections};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id of a request that is taken over from a caller.
const MAX_REQUEST_ID: usize = 128;
/// Every route's pattern, as figures and logs name it, and whether it answers however much is going on.
const ROUTES: [(&str, bool); 17] = [
    ("/recommendations/{user}", false),
    ("/recommendations", false),
    ("/users", false),
    ("/users/{user}", false),
    ("/users/{user}/similar", false),
    ("/items", false),
    ("/items/{item}", false),
    ("/items/{item}/similar", false),
    ("/trending", false),
    ("/events", false),
    ("/status", false),
    ("/health/live", true),
    ("/health/ready", true),
    ("/metrics", true),
    ("/openapi.json", false),
    ("/docs", false),
    ("/", false),
];

/// When the head of a request was there: its budget counts from then.
#[derive(Debug, Clone, Copy)]
pub struct Arrived(pub Instant);

impl<S: Sync> FromRequestParts<S> for Arrived {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or_else(|| Self(Instant::now())))
    }
}

/// Wraps every route.
pub async fn envelope(State(app): State<Arc<App>>, matched: Option<MatchedPath>, mut request: Request, next: Next) -> Response {
    // The connection says when the head was there; without one it is there now.
    let begun = match request.extensions().get::<Arrived>() {
        Some(arrived) => arrived.0,
        None => {
            let now = Instant::now();
            request.extensions_mut().insert(Arrived(now));
            now
        }
    };
    let _under_way = app.requests.begin();
    let id = request_id(&request);
    let (route, always) = match &matched {
        None => ("unmatched", false),
        Some(m) => ROUTES.iter().find(|(r, _)| *r == m.as_str()).copied().unwrap_or(("/page", false)),
    };
    let method = method_label(request.method());
    let span = tracing::debug_span!("request", id = id.to_str().unwrap_or_default(), method, route);
    let logged = !span.is_disabled();
    let answer = async {
        match always {
            true => caught(next.run(request)).await,
            false => match app.in_flight.try_acquire() {
                Ok(_permit) if app.pressure.lets_in(open_connections()) => caught(next.run(request)).await,
                _ => Problem::later("too many requests are under way", 1).into_response(),
            },
        }
    };
    let mut response = if logged { answer.instrument(span.clone()).await } else { answer.await };
    response.headers_mut().insert(REQUEST_ID, id);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    if logged {
        span.in_scope(|| tracing::debug!(status, ms = took.as_secs_f64() * 1e3, "answered"));
    }
    app.requests.ended(route, method, status, took, route.starts_with("/recommendations") && status != 503);
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
    let mut id = [0_u8; 16];
    let mut n = SEED.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
    for digit in id.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(n & 15) as usize];
        n >>= 4;
    }
    HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("none"))
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
