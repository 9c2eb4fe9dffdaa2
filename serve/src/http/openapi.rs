//! The contract as OpenAPI 3.1, made from the code that answers.

use axum::{http::header, response::IntoResponse};
use std::sync::LazyLock;
use utoipa::OpenApi;

use super::{events, health, items, metrics, recommendations, status, users, why_not};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Nearcast",
        description = "Events in, recommendations out. Errors are `application/problem+json`; answers that lack a source \
            name it in `degraded`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        recommendations::for_user,
        recommendations::for_session,
        events::publish,
        users::list,
        users::one,
        users::similar,
        users::erase,
        why_not::why_not,
        items::list,
        items::one,
        items::similar,
        items::trending,
        status::status,
        health::live,
        health::ready,
        metrics::metrics_for_operators,
        openapi,
        super::docs::docs,
    ),
    tags(
        (name = "recommendations", description = "What to show to someone"),
        (name = "events", description = "What happened"),
        (name = "users", description = "Who there is"),
        (name = "items", description = "What there is"),
        (name = "operations", description = "How the service is")
    )
)]
struct Contract;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| Contract::openapi().to_json().unwrap_or_default());

/// The OpenAPI document as JSON.
pub fn document() -> &'static str {
    &DOCUMENT
}

/// This contract
#[utoipa::path(get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document())
}
