//! Turning requests away at the door, before anything else is done for them.
//!
//! When far more come than can be answered, most of what a refusal costs is the way to it: routes, wrappers, an answer that is put
//! together. The refusal itself is the same as behind the door ([`super::envelope`]). Only asks for recommendations are refused here, and
//! only where nobody wants more of them than figures and a line in the log: traces and CORS are for the envelope.
//!
//! A refusal says when to ask again, and the first one comes at once. Whoever asks again on the same connection before that, while there
//! is still too much, is heard only after a while ([`HOLD`]) and refused then: refusing takes a tenth of what answering takes, so those who
//! insist would take the time of those who can be answered.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use tokio::time::Instant;

use super::{
    App,
    arrival::Arrived,
    envelope::{REQUEST_ID, TOO_MANY, method_label, request_id},
    finish::NOT_KEPT,
    problem::Problem,
    server::open_connections,
};

/// Under this path requests are weighed at the gate,
const WEIGHED: &str = "/recommendations/";
/// which is this route in figures and in the log.
const ROUTE: &str = "/recommendations/{user}";

/// How long a connection that was refused is not heard again. Less than the second that it is told: one connection may carry the requests
/// of many.
pub(super) const HOLD: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Clone)]
pub struct Gate(Arc<App>);

/// What the gate says.
pub(super) enum Pass {
    /// It has no say in such a request.
    Unasked,
    /// It may come in.
    Allowed,
    /// It may not.
    Refused(Refused),
    /// It may not, and was told so a moment ago.
    Insisted(Refused),
}

/// Who is turned away.
pub(super) struct Refused {
    id: HeaderValue,
    method: &'static str,
    arrived: Arrived,
}

impl Gate {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    /// Whether a request may come in; `told`: until when its connection was told not to ask.
    pub(super) fn pass(
        &self,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
        arrived: &Arrived,
        told: Option<Instant>,
    ) -> Pass {
        let app = &*self.0;
        if !path.starts_with(WEIGHED) || app.cors.is_some() || app.traces.is_some() {
            return Pass::Unasked;
        }
        let refused = || Refused { id: request_id(headers), method: method_label(method), arrived: *arrived };
        let connections = open_connections();
        if told.is_some_and(|until| arrived.at < until) && app.pressure.is_too_much(connections) {
            return Pass::Insisted(refused());
        }
        if app.pressure.lets_in(connections) { Pass::Allowed } else { Pass::Refused(refused()) }
    }

    /// The answer to one that is turned away, now.
    pub(super) fn refuse(&self, refused: Refused) -> Response {
        let app = &*self.0;
        let Refused { id, method, arrived } = refused;
        let (status, took) = (StatusCode::SERVICE_UNAVAILABLE, arrived.at.elapsed());
        if app.lines.wanted(status.as_u16(), took) {
            let ms = took.as_secs_f64() * 1e3;
            tracing::info!(
                method,
                route = ROUTE,
                status = status.as_u16(),
                ms,
                id = id.to_str().unwrap_or_default(),
                "answered"
            );
        }
        app.pressure.ended();
        app.requests.ended(ROUTE, method, status.as_u16(), took, false);
        let mut response = Response::new(Body::from(refusal()));
        *response.status_mut() = status;
        let told = response.headers_mut();
        told.reserve(6);
        told.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        told.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        told.insert(header::CACHE_CONTROL, NOT_KEPT);
        told.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        told.insert(REQUEST_ID, id);
        if arrived.closing {
            told.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The words of a refusal, put together once.
fn refusal() -> Bytes {
    static WORDS: OnceLock<Bytes> = OnceLock::new();
    // Our own words: writing them cannot fail.
    WORDS.get_or_init(|| serde_json::to_vec(&Problem::later(TOO_MANY, 1)).unwrap_or_default().into()).clone()
}
