//! Errors as callers see them: `application/problem+json` (RFC 9457), apart from the errors of stores.
//!
//! A problem never carries a store's text; what a store said goes to the log. It names the parameter and what is allowed.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use nearcast_domain::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

use super::keys::Empty;

/// What is wrong with a request, or why it cannot be served now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the title says what the status says.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "about:blank")]
    kind: AboutBlank,
    /// The name of the status.
    #[schema(value_type = String, example = "Bad Request")]
    title: &'static str,
    /// The HTTP status.
    #[schema(value_type = u16, example = 400)]
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    /// What is wrong, in words.
    #[schema(value_type = String, example = "k is 0; 1 to 100 is allowed")]
    detail: Cow<'static, str>,
    /// The parameter, header or field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "k")]
    parameter: Option<Cow<'static, str>>,
    /// What is allowed for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1 to 100")]
    allowed: Option<Cow<'static, str>>,
    #[serde(skip)]
    retry_after: Option<u32>,
    /// How many calls fit at once, where there were too many.
    #[serde(skip)]
    limit: Option<u32>,
}

/// The one type a problem has here; without a size, so that a `Result` with a problem stays small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AboutBlank;

impl Serialize for AboutBlank {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("about:blank")
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem with a status and words for it.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: AboutBlank,
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            detail: detail.into(),
            parameter: None,
            allowed: None,
            retry_after: None,
            limit: None,
        }
    }

    /// A parameter, header or field that cannot be used: `name` followed by `what` is the detail.
    pub fn parameter(
        name: impl Into<Cow<'static, str>>,
        what: impl std::fmt::Display,
        allowed: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (name, allowed) = (name.into(), allowed.into());
        let detail = format!("{name} {what}; allowed: {allowed}");
        Self { parameter: Some(name), allowed: Some(allowed), ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    /// The body as a whole cannot be used.
    pub fn body(what: impl Into<Cow<'static, str>>) -> Self {
        Self { parameter: Some("body".into()), ..Self::new(StatusCode::BAD_REQUEST, what) }
    }

    /// Too much at once, or something away: worth trying again.
    pub fn later(detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// A key or a tenant calls more often than its quota allows.
    pub fn too_often(empty: Empty) -> Self {
        let detail = "more calls than the quota allows";
        let later = Self::new(StatusCode::TOO_MANY_REQUESTS, detail);
        Self { retry_after: Some(empty.seconds), limit: Some(empty.limit), ..later }
    }

    /// The same with another status.
    pub fn status(mut self, status: StatusCode) -> Self {
        (self.status, self.title) = (status, status.canonical_reason().unwrap_or("Error"));
        self
    }

    /// A store did not do what the request cannot do without. Its words go to the log only.
    pub fn store(error: &StoreError, what: &'static str) -> Self {
        tracing::warn!(store = error.store, kind = error.kind.label(), "{what}: {}", error.message);
        Self::later(what, 1)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry, limit) = (self.status, self.retry_after, self.limit);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            if let Some(limit) = limit {
                headers.insert("ratelimit-limit", HeaderValue::from(limit));
                headers.insert("ratelimit-remaining", HeaderValue::from(0));
                headers.insert("ratelimit-reset", HeaderValue::from(seconds));
            }
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
