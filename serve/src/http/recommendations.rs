//! `GET /recommendations/{user}` and `POST /recommendations`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use nearcast_domain::{ItemId, decode::MAX_TEXT_BYTES, ids, ports::Token};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App,
    arrival::Arrived,
    body,
    finish::tag,
    params::{Caller, Params, PathUser, id, out_of_range},
    problem::Problem,
    watch::Watching,
};
use crate::{
    Query, Session,
    config::{Limits, MAX_BUDGET_MS, MAX_K},
    recommend::{Answer, Given},
};

const KNOWN: &[&str] = &["k", "top", "category", "exclude", "explain", "budget_ms", "after", "cache"];
/// The most items in `exclude` or in a session.
const MAX_ITEMS: usize = 1_000;
/// The longest token.
const MAX_TOKEN: usize = 1_024;

/// Recommendations for a user
///
/// Someone unknown gets what rises. A store that is away is named in `degraded` and costs its part of the answer only.
#[utoipa::path(get, path = "/recommendations/{user}", tag = "recommendations",
    params(
        ("user" = String, Path, description = "The user's id", max_length = 256),
        ("k" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many; 10 where it is not given"),
        ("top" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Another name of `k`"),
        ("category" = Option<String>, Query, description = "Only items of this category"),
        ("exclude" = Option<Vec<String>>, Query, description = "None of these items; may be repeated"),
        ("explain" = Option<bool>, Query, description = "Also tell what was removed and why, and each source's own score"),
        ("budget_ms" = Option<u64>, Query, minimum = 1, maximum = 10000, description = "How long it may take"),
        ("after" = Option<String>, Query, description = "A token of POST /events: the answer reflects those events"),
        ("cache" = Option<bool>, Query, description = "false: neither read nor write cached answers"),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given"),
        ("X-Server-Timing" = Option<String>, Header, description = "Asks for `Server-Timing` in the answer: each stage's milliseconds")),
    responses((status = 200, body = Answer), (status = 304, description = "What `If-None-Match` names is still right"), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")))]
pub async fn for_user(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    PathUser(user): PathUser,
    arrived: Arrived,
    Watching(parts): Watching,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query { parts, ..query(&app, &uri)? };
    let given = app.recommender().respond(&tenant, &user, &query, arrived.at).await.map_err(bad_token)?;
    Ok(match given {
        Given::Bytes(bytes) => kept(bytes),
        Given::Answer(answer) => written(&answer),
    })
}

/// An answer that was made just now.
fn written(answer: &Answer) -> Response {
    let mut bytes = Vec::with_capacity(512 * (1 + answer.recommendations.len()));
    if let Err(e) = serde_json::to_writer(&mut bytes, answer) {
        tracing::error!("an answer cannot be written: {e}");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    json(Body::from(bytes))
}

/// An answer that was kept: it is the same until something changes, so it has a tag.
fn kept(bytes: Bytes) -> Response {
    let tag = tag(&bytes);
    let mut response = json(Body::from(bytes));
    response.headers_mut().insert(header::ETAG, tag);
    response
}

fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn bad_token(e: crate::recommend::BadToken) -> Problem {
    Problem::parameter("after", e, "the token of an answer of POST /events")
}

fn query(app: &App, uri: &Uri) -> Result<Query, Problem> {
    let p = Params::read(uri, KNOWN)?;
    let (k, top) = (p.number("k", 1..=MAX_K)?, p.number("top", 1..=MAX_K)?);
    if k.is_some() && top.is_some() && k != top {
        return Err(Problem::parameter("top", "and k are two names of one parameter", "one of them"));
    }
    let exclude: Vec<ItemId> = p.all("exclude").map(|i| id("exclude", i, ItemId::parse)).collect::<Result<_, _>>()?;
    if exclude.len() > MAX_ITEMS {
        return Err(Problem::parameter("exclude", "is given too often", format!("at most {MAX_ITEMS} times")));
    }
    Ok(Query {
        k: k.or(top).unwrap_or(app.recommender().config().default_k),
        category: p.category()?,
        exclude,
        explain: p.flag("explain", false)?,
        budget: p.number("budget_ms", 1..=MAX_BUDGET_MS)?.map(Duration::from_millis),
        after: p.one("after")?.map(token).transpose()?,
        cache: p.flag("cache", true)?,
        watch: None,
        parts: None,
        explore: None,
    })
}

fn token(text: &str) -> Result<Token, Problem> {
    if text.is_empty() || text.len() > MAX_TOKEN {
        return Err(Problem::parameter("after", "is empty or too long", "the token of an answer of POST /events"));
    }
    Ok(Token(text.to_owned()))
}

/// What `POST /recommendations` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// A search, a text, a message: at most 32 KiB.
    text: Option<String>,
    /// Items of the session, newest first: at most 1000.
    items: Option<Vec<String>>,
    /// How many; 10 where it is not given.
    #[schema(minimum = 1, maximum = 100)]
    k: Option<u64>,
    /// Another name of `k`.
    #[schema(minimum = 1, maximum = 100)]
    top: Option<u64>,
    /// Only items of this category.
    category: Option<String>,
    /// None of these items.
    exclude: Option<Vec<String>>,
    /// Also tell what was removed and why, and each source's own score.
    explain: Option<bool>,
    /// How long it may take.
    #[schema(minimum = 1, maximum = 10000)]
    budget_ms: Option<u64>,
    /// A token of `POST /events`: the answer reflects those events.
    after: Option<String>,
}

/// Recommendations for someone never seen
///
/// For a session, a search or a text. The items given are not recommended back. Never cached.
#[utoipa::path(post, path = "/recommendations", tag = "recommendations", request_body = SessionRequest,
    params(("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = Answer), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")))]
pub async fn for_session(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    arrived: Arrived,
    Watching(parts): Watching,
    uri: Uri,
    request: Request<Body>,
) -> Result<Json<Answer>, Problem> {
    Params::read(&uri, &[])?;
    let recommender = app.recommender();
    let limits = &recommender.config().limits;
    let asked = session_request(request, limits).await?;
    let k = match (asked.k, asked.top) {
        (Some(k), Some(top)) if k != top => {
            return Err(Problem::parameter("top", "and k are two names of one parameter", "one of them"));
        }
        (k, top) => within("k", k.or(top), MAX_K as u64)?,
    };
    let ids = |name: &'static str, given: Option<Vec<String>>| -> Result<Vec<ItemId>, Problem> {
        let given = given.unwrap_or_default();
        if given.len() > MAX_ITEMS {
            return Err(Problem::parameter(name, "holds too many items", format!("at most {MAX_ITEMS}")));
        }
        given.iter().map(|i| id(name, i, ItemId::parse)).collect()
    };
    let session = Session { text: asked.text.map(text).transpose()?.flatten(), items: ids("items", asked.items)? };
    let query = Query {
        k: k.map_or(app.recommender().config().default_k, |k| k as usize),
        category: asked.category.map(|c| id("category", &c, |t| ids::check(t).map(|()| Arc::from(t)))).transpose()?,
        exclude: ids("exclude", asked.exclude)?,
        explain: asked.explain.unwrap_or(false),
        budget: within("budget_ms", asked.budget_ms, MAX_BUDGET_MS)?.map(Duration::from_millis),
        after: asked.after.as_deref().map(token).transpose()?,
        cache: false,
        watch: None,
        parts,
        explore: None,
    };
    app.recommender().respond_session(&tenant, &session, &query, arrived.at).await.map(Json).map_err(bad_token)
}

async fn session_request(request: Request<Body>, limits: &Limits) -> Result<SessionRequest, Problem> {
    let packed = body::packed(request.headers())?;
    let bytes = body::read(request.into_body(), limits).await?;
    let bytes = body::unpack(bytes, packed, limits.body_bytes)?;
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::body("the body is not a JSON object such as {\"text\":\"…\",\"k\":10}"));
    }
    serde_json::from_slice(&bytes).map_err(|e| {
        let what: String = e.to_string().chars().take(200).collect();
        Problem::body(format!("the body cannot be read: {what}"))
    })
}

fn within(name: &'static str, given: Option<u64>, high: u64) -> Result<Option<u64>, Problem> {
    match given {
        Some(n) if !(1..=high).contains(&n) => Err(out_of_range(name, &n.to_string(), &(1..=high))),
        other => Ok(other),
    }
}

/// A text to embed; `None` where it is blank.
fn text(given: String) -> Result<Option<Arc<str>>, Problem> {
    if given.len() > MAX_TEXT_BYTES {
        return Err(Problem::parameter("text", "is too long", format!("at most {MAX_TEXT_BYTES} bytes")));
    }
    Ok((!given.trim().is_empty()).then(|| given.into()))
}
