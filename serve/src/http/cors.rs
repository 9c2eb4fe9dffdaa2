//! Pages of other origins: off unless origins are configured.
//!
//! Never allows credentials: keys travel in a header that a page must set itself.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};

use crate::config::CorsConfig;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, content-encoding, x-tenant, x-request-id, x-server-timing, traceparent",
);
const EXPOSED: HeaderValue = HeaderValue::from_static("x-request-id, server-timing, retry-after, etag");

/// What is allowed.
pub struct Cors {
    all: bool,
    origins: Vec<HeaderValue>,
    max_age: HeaderValue,
}

impl Cors {
    /// `None` where no origin is configured.
    pub fn new(config: &CorsConfig) -> Option<Self> {
        if config.origins.is_empty() {
            return None;
        }
        let all = config.origins.iter().any(|o| o == "*");
        let origins = config.origins.iter().filter_map(|o| o.parse().ok()).collect();
        Some(Self { all, origins, max_age: HeaderValue::from(config.max_age_s) })
    }

    /// The origin to name in the answer, where it may read it.
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        match self.all {
            true => Some(HeaderValue::from_static("*")),
            false => self.origins.iter().find(|o| *o == origin).cloned(),
        }
    }

    /// The answer to a browser that asks what it may.
    pub fn preflight(&self, request: &Request, origin: Option<&HeaderValue>) -> Option<Response> {
        let asks = request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || origin.is_none() {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        Some(response)
    }

    /// Lets the page read an answer.
    pub fn mark(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}
