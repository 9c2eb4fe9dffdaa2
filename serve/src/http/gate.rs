//! Turning requests away at the door, before anything else is done for them.
//!
//! When far more come than can be answered, most of what a refusal costs is the way to it: routes, wrappers, an answer that is put
//! together. The refusal itself is the same as behind the door ([`super::envelope`]). Only asks for recommendations are refused here, and
//! only where nobody wants more of them than figures and a line in the log: traces and CORS are for the envelope.
//!
//! A refusal says when to ask again, and the first one comes at once. Whoever asks again on the same connection before that, while there
//! is still too much, is heard only after a while and refused then: refusing takes a tenth of what answering takes, so those who insist would
//! take the time of those who can be answered. The more connections there are, the longer the while.

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

/// How long a connection that was refused is not heard again, at least: less than the second that it is told, as one connection may carry
/// the requests of many. And at most.
const HOLD: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The same for each open connection and core. A refusal takes some 14 µs, and each connection is refused twice in such a while: together
/// they take a tenth of the cores.
const EACH: Duration = Duration::from_micros(280);

/// See the module.
#[derive(Clone)]
pub struct Gate {
    app: Arc<App>,
    cores: u32,
}

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
    /// How long its connection is not heard again.
    pub(super) hold: Duration,
    id: HeaderValue,
    method: &'static str,
    arrived: Arrived,
}

impl Gate {
    pub(super) fn new(app: Arc<App>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        Self { app, cores }
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
        let app = &*self.app;
        if !path.starts_with(WEIGHED) || app.cors.is_some() || app.traces.is_some() {
            return Pass::Unasked;
        }
        let connections = open_connections();
        let refused = || Refused {
            hold: hold(connections, self.cores),
            id: request_id(headers),
            method: method_label(method),
            arrived: *arrived,
        };
        if told.is_some_and(|until| arrived.at < until) && app.pressure.is_too_much(connections) {
            return Pass::Insisted(refused());
        }
        if app.pressure.lets_in(connections, arrived.waited) { Pass::Allowed } else { Pass::Refused(refused()) }
    }

    /// The answer to one that is turned away, now.
    pub(super) fn refuse(&self, refused: Refused) -> Response {
        let app = &*self.app;
        let Refused { hold, id, method, arrived } = refused;
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
        told.insert(header::RETRY_AFTER, seconds(hold));
        told.insert(header::CACHE_CONTROL, NOT_KEPT);
        told.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        told.insert(REQUEST_ID, id);
        if arrived.closing {
            told.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// How long a connection that was refused is not heard again, where so many are open.
fn hold(connections: usize, cores: u32) -> Duration {
    EACH.saturating_mul(u32::try_from(connections).unwrap_or(u32::MAX)).div_f64(f64::from(cores.max(1))).clamp(HOLD.0, HOLD.1)
}

/// Whole seconds in which that is over.
fn seconds(hold: Duration) -> HeaderValue {
    HeaderValue::from(hold.as_millis().div_ceil(1_000) as u64)
}

/// The words of a refusal, put together once.
fn refusal() -> Bytes {
    static WORDS: OnceLock<Bytes> = OnceLock::new();
    // Our own words: writing them cannot fail.
    WORDS.get_or_init(|| serde_json::to_vec(&Problem::later(TOO_MANY, 1)).unwrap_or_default().into()).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_insist_the_longer_they_wait() {
        let told = |connections, cores| (hold(connections, cores).as_millis(), seconds(hold(connections, cores)));
        assert_eq!(told(65, 2), (250, HeaderValue::from_static("1")));
        assert_eq!(told(10_000, 2), (1_400, HeaderValue::from_static("2")));
        assert_eq!(told(10_000, 1), (2_800, HeaderValue::from_static("3")));
        assert_eq!(told(usize::MAX, 0), (5_000, HeaderValue::from_static("5")));
    }
}
