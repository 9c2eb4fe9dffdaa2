//! `/users`: who there is, what they wrote and did, who is like them, and their wish to be forgotten.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri},
};
use nearcast_domain::{
    Erasure, Event, ItemId, Timestamp, UserId,
    ids::MAX_ID_BYTES,
    ports::{Collection, HistoryLimit, VectorQuery},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    events::Published,
    params::{Caller, Params, PathUser},
    problem::Problem,
    shared::{ItemCard, MAX_PAGE, Missing, deadline, soon},
};
use crate::config::MAX_K;

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserPage {
    /// Ids in order.
    #[schema(value_type = Vec<String>)]
    users: Vec<UserId>,
    /// Give this as `after` to go on; null at the end.
    #[schema(value_type = Option<String>)]
    next: Option<UserId>,
    /// What did not answer.
    #[schema(value_type = Vec<String>)]
    degraded: Vec<&'static str>,
}

/// Users by id
#[utoipa::path(get, path = "/users", tag = "users",
    params(
        ("prefix" = Option<String>, Query, description = "Only ids that begin so"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "How many; 50 where it is not given"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = UserPage), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(app): State<Arc<App>>, Caller(tenant): Caller, uri: Uri) -> Result<Json<UserPage>, Problem> {
    let p = Params::read(&uri, &["prefix", "limit", "after"])?;
    let prefix = p.one("prefix")?.unwrap_or_default();
    if prefix.len() > MAX_ID_BYTES || prefix.contains('\0') {
        return Err(Problem::parameter("prefix", "cannot begin an id", "at most 256 bytes without NUL"));
    }
    let limit = p.number("limit", 1..=MAX_PAGE)?.unwrap_or(50);
    let after = p.id("after", UserId::parse)?;
    let mut missing = Missing::default();
    let found = soon("ledger", app.recommender().stores.ledger.users(&tenant, prefix, after.as_ref(), limit)).await;
    let users = missing.or_default("ledger", found);
    let next = (users.len() == limit).then(|| users.last().cloned()).flatten();
    Ok(Json(UserPage { users, next, degraded: missing.0 }))
}

/// Something a user did.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneView {
    /// With what.
    #[serde(flatten)]
    item: ItemCard,
    /// `view`, `click`, `purchase`, …; `message` for something written about it.
    #[schema(value_type = String)]
    kind: Arc<str>,
    /// Stars, amount, seconds.
    value: f64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

/// Something a user wrote.
#[derive(Debug, Serialize, ToSchema)]
pub struct WrittenView {
    /// The message.
    #[schema(value_type = String)]
    text: Arc<str>,
    /// About what.
    #[schema(value_type = Option<String>)]
    item_id: Option<ItemId>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

/// A user's latest events.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserView {
    /// Who.
    #[schema(value_type = String)]
    user_id: UserId,
    /// What they did, newest first.
    engagements: Vec<DoneView>,
    /// What they wrote, newest first.
    messages: Vec<WrittenView>,
    /// What did not answer.
    #[schema(value_type = Vec<String>)]
    degraded: Vec<&'static str>,
}

/// What a user wrote and did
///
/// The latest of each, newest first. Someone unknown wrote and did nothing.
#[utoipa::path(get, path = "/users/{user}", tag = "users",
    params(
        ("user" = String, Path, description = "The user's id", max_length = 256),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "How many of each; 50 where it is not given"),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = UserView), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub async fn one(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    PathUser(user): PathUser,
    uri: Uri,
) -> Result<Json<UserView>, Problem> {
    let limit = Params::read(&uri, &["limit"])?.number("limit", 1..=MAX_PAGE)?.unwrap_or(50);
    let r = &app.recommender();
    let mut missing = Missing::default();
    let limit = HistoryLimit { engagements: limit, messages: limit };
    let found = soon("ledger", r.stores.ledger.histories(&tenant, std::slice::from_ref(&user), limit, None)).await;
    let history = missing.or_default("ledger", found).into_iter().next().unwrap_or_default();
    let ids: Vec<ItemId> = history.engagements.iter().map(|e| e.item.clone()).collect();
    let (cards, _) = r.cards(&tenant, &ids, deadline()).await;
    let engagements = history
        .engagements
        .into_iter()
        .zip(cards)
        .map(|(e, card)| DoneView {
            item: ItemCard::of(e.item, card.as_deref()),
            kind: e.kind,
            value: e.value,
            timestamp: e.timestamp,
        })
        .collect();
    let messages =
        history.messages.into_iter().map(|m| WrittenView { text: m.text, item_id: m.item, timestamp: m.timestamp }).collect();
    Ok(Json(UserView { user_id: user, engagements, messages, degraded: missing.0 }))
}

/// A user who is near.
#[derive(Debug, Serialize, ToSchema)]
pub struct NearUser {
    /// Who.
    user_id: String,
    /// Cosine of the two profiles, -1 to 1.
    score: f32,
}

/// Users near a user.
#[derive(Debug, Serialize, ToSchema)]
pub struct NearUsers {
    /// Whose neighbours.
    #[schema(value_type = String)]
    user_id: UserId,
    /// The nearest first.
    similar: Vec<NearUser>,
    /// What did not answer.
    #[schema(value_type = Vec<String>)]
    degraded: Vec<&'static str>,
}

/// Users like this one
///
/// By the cosine of their profiles. Someone without a profile has none.
#[utoipa::path(get, path = "/users/{user}/similar", tag = "users",
    params(
        ("user" = String, Path, description = "The user's id", max_length = 256),
        ("k" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many; 10 where it is not given"),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = NearUsers), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub async fn similar(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    PathUser(user): PathUser,
    uri: Uri,
) -> Result<Json<NearUsers>, Problem> {
    let limit = Params::read(&uri, &["k"])?.number("k", 1..=MAX_K)?.unwrap_or(app.recommender().config().default_k);
    let vectors = &app.recommender().stores.vectors;
    let mut missing = Missing::default();
    let near = soon("vectors", async {
        let own = vectors.get(&tenant, Collection::Users, &[user.as_str().to_owned()]).await?;
        let Some(vector) = own.into_iter().next().flatten() else { return Ok(Vec::new()) };
        let query = VectorQuery { vector, limit, label: None, exclude: vec![user.as_str().to_owned()] };
        vectors.search(&tenant, Collection::Users, query).await
    });
    let near = missing.or_default("similar_users", near.await);
    let similar = near.into_iter().map(|h| NearUser { user_id: h.id, score: h.score }).collect();
    Ok(Json(NearUsers { user_id: user, similar, degraded: missing.0 }))
}

/// Forget a user
///
/// Publishes an erasure: everything known of the user is removed, and stays removed whatever is replayed.
#[utoipa::path(delete, path = "/users/{user}", tag = "users",
    params(
        ("user" = String, Path, description = "The user's id", max_length = 256),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 202, body = Published), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")))]
pub async fn erase(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    PathUser(user): PathUser,
    uri: Uri,
) -> Result<(StatusCode, Json<Published>), Problem> {
    Params::read(&uri, &[])?;
    let event = Event::Erasure(Erasure { tenant: tenant.clone(), user_id: user, timestamp: Timestamp::now() });
    let bytes = serde_json::to_vec(&event)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the erasure cannot be written down"))?;
    let records = [(event.key().to_owned(), Arc::from(bytes))];
    let token = super::events::send(&app, &tenant, &records).await?;
    Ok((StatusCode::ACCEPTED, Json(Published { accepted: 1, rejected: Vec::new(), token: Some(token) })))
}
