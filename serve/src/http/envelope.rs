//! What every request goes through, whatever it asks: an id, a bound on how many run at once, figures, one line in the
//! log, and an answer even when the program is at fault.
//!
//! Logs the route's pattern, never a path, a query or a body: those name people. Where it is configured, the path and the caller's
//! address, too.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tracing::Instrument;

use super::{
    App,
    arrival::Arrived,
    chance,
    finish::{Wishes, finish},
    problem::Problem,
    server::open_connections,
    watch::Watched,
};

/// What a request is told that is turned away because there are too many.
pub(super) const TOO_MANY: &str = "too many requests are under way";
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
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

/// Wraps every route.
pub async fn envelope(State(app): State<Arc<App>>, matched: Option<MatchedPath>, mut request: Request, next: Next) -> Response {
    // The connection says when the head was there; without one it is there now.
    let arrived = match request.extensions().get::<Arrived>() {
        Some(arrived) => *arrived,
        None => {
            let now = Arrived::now();
            request.extensions_mut().insert(now);
            now
        }
    };
    let _under_way = app.requests.begin();
    let id = request_id(request.headers());
    let (route, always) = match &matched {
        None => ("unmatched", false),
        Some(m) => ROUTES.iter().find(|(r, _)| *r == m.as_str()).copied().unwrap_or(("/page", false)),
    };
    let method = method_label(request.method());
    let wishes = Wishes::of(&request);
    let watched = Watched::of(request.headers(), app.traces.as_ref(), arrived.at);
    if let Some(watched) = &watched {
        request.extensions_mut().insert(watched.parts.clone());
    }
    let who = app.lines.identity().then(|| {
        (
            request.uri().path().to_owned(),
            arrived.caller(&app.proxies, request.headers()).map(|a| a.to_string()).unwrap_or_default(),
        )
    });
    let origin = app.cors.as_ref().map(|cors| (cors, cors.allowed(request.headers())));
    let preflight = origin.as_ref().and_then(|(cors, origin)| cors.preflight(&request, origin.as_ref()));
    let span = tracing::debug_span!("request", id = id.to_str().unwrap_or_default(), method, route);
    let logged = !span.is_disabled();
    let answer = async {
        if let Some(preflight) = preflight {
            return preflight;
        }
        match always {
            true => caught(next.run(request)).await,
            false => match app.in_flight.try_acquire() {
                Ok(_permit) if arrived.let_in || app.pressure.lets_in(open_connections(), arrived.waited) => {
                    caught(next.run(request)).await
                }
                _ => Problem::later(TOO_MANY, 1).into_response(),
            },
        }
    };
    let response = if logged { answer.instrument(span.clone()).await } else { answer.await };
    let recommends = route.starts_with("/recommendations");
    // What is recommended anew never has the same tag; what was kept has its own already.
    let mut response = finish(response, &wishes, always, !recommends).await;
    let (status, took) = (response.status().as_u16(), arrived.at.elapsed());
    let headers = response.headers_mut();
    if let Some(watched) = watched {
        watched.ended(headers, app.traces.as_ref(), (route, method, status), took);
    }
    if app.lines.wanted(status, took) {
        let ms = took.as_secs_f64() * 1e3;
        let (path, caller) = who.unwrap_or_default();
        let id = id.to_str().unwrap_or_default();
        if path.is_empty() {
            tracing::info!(method, route, status, ms, id, "answered");
        } else {
            tracing::info!(method, route, status, ms, id, path, caller, "answered");
        }
    } else if logged {
        span.in_scope(|| tracing::debug!(status, ms = took.as_secs_f64() * 1e3, "answered"));
    }
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if arrived.closing {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some((cors, origin)) = origin {
        cors.mark(headers, origin);
    }
    app.pressure.ended();
    app.requests.ended(route, method, status, took, recommends && status != 503);
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
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID);
    if let Some(id) = given.filter(|v| (1..=MAX_REQUEST_ID).contains(&v.len()) && v.to_str().is_ok()) {
        return id.clone();
    }
    let mut id = [0_u8; 16];
    let mut n = chance::number();
    for digit in id.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(n & 15) as usize];
        n >>= 4;
    }
    HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("none"))
}

/// A label with few values: methods are the caller's choice.
pub(super) fn method_label(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        _ => "other",
    }
}
