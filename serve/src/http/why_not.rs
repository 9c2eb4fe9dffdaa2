//! `GET /users/{user}/why-not/{item}`: what removed an item, or where it ranked and what it lacked.
//!
//! Answered by the very stages that make recommendations, with an eye on one item.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::Uri,
};
use nearcast_domain::{ItemId, UserId};

use super::{
    App,
    params::{Caller, Params, id},
    problem::Problem,
};
use crate::{Query, config::MAX_K, recommend::WhyNot};

/// Why an item is not recommended to a user
///
/// What removed it, or where it stood among the candidates and which sources did not name it. An item that is recommended is said to be.
#[utoipa::path(get, path = "/users/{user}/why-not/{item}", tag = "recommendations",
    params(
        ("user" = String, Path, description = "The user's id", max_length = 256),
        ("item" = String, Path, description = "The item's id", max_length = 256),
        ("k" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Among how many; 10 where it is not given"),
        ("category" = Option<String>, Query, description = "As it would be asked for"),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = WhyNot), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub async fn why_not(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    uri: Uri,
) -> Result<Json<WhyNot>, Problem> {
    let Path((user, item)) = path.map_err(|_| Problem::parameter("path", "cannot be read", "two ids in UTF-8"))?;
    let (user, item) = (id("user", &user, UserId::parse)?, id("item", &item, ItemId::parse)?);
    let p = Params::read(&uri, &["k", "category"])?;
    let query = Query {
        k: p.number("k", 1..=MAX_K)?.unwrap_or(app.recommender().config().default_k),
        category: p.category()?,
        explain: true,
        cache: false,
        ..Query::default()
    };
    Ok(Json(app.recommender().why_not(&tenant, &user, item, query).await))
}
