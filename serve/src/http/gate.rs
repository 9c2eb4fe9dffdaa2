//! Turning requests away at the door, before anything else is done for them.
//!
//! When far more come than can be answered, most of what a refusal costs is the way to it: routes, wrappers, an answer that is put
//! together. The refusal itself is the same as behind the door ([`super::envelope`]). Only asks for recommendations are refused here, and
//! only where nobody wants more of them than figures and a line in the log: traces and CORS are for the envelope.

use std::sync::{Arc, OnceLock};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};

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

/// See the module.
#[derive(Clone)]
pub struct Gate(Arc<App>);

/// What the gate says.
pub(super) enum Pass {
    /// It has no say in such a request.
    Unasked,
    /// It may come in.
    Allowed,
    /// It may not: this is the answer.
    Refused(Response),
}

impl Gate {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    pub(super) fn pass(&self, path: &str, method: &Method, headers: &HeaderMap, arrived: &Arrived) -> Pass {
        let app = &*self.0;
        if !path.starts_with(WEIGHED) || app.cors.is_some() || app.traces.is_some() {
            return Pass::Unasked;
        }
        if app.pressure.lets_in(open_connections()) {
            return Pass::Allowed;
        }
        let (status, took) = (StatusCode::SERVICE_UNAVAILABLE, arrived.at.elapsed());
        let (id, method) = (request_id(headers), method_label(method));
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
        Pass::Refused(response)
    }
}

/// The words of a refusal, put together once.
fn refusal() -> Bytes {
    static WORDS: OnceLock<Bytes> = OnceLock::new();
    // Our own words: writing them cannot fail.
    WORDS.get_or_init(|| serde_json::to_vec(&Problem::later(TOO_MANY, 1)).unwrap_or_default().into()).clone()
}
