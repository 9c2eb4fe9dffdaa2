//! Parameters of paths and queries, and whose data a call is about.
//!
//! Whatever bytes stand in a URL, the outcome is a value within its bounds or a problem that names the parameter.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, sync::Arc};

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts},
};
use nearcast_domain::{
    ItemId, Tenant, UserId,
    ids::{self, IdError},
};
use tokio::time::Instant;

use super::{App, arrival::Arrived, keys::Key, problem::Problem};
use crate::config::Role;

const ID_ALLOWED: &str = "1 to 256 bytes of UTF-8 without control characters";

/// The user of a path.
pub struct PathUser(pub UserId);

/// The item of a path.
pub struct PathItem(pub ItemId);

async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S, name: &'static str) -> Result<String, Problem> {
    Path::<String>::from_request_parts(parts, state)
        .await
        .map(|Path(text)| text)
        .map_err(|_| Problem::parameter(name, "is not valid percent-encoded UTF-8", ID_ALLOWED))
}

impl<S: Send + Sync> FromRequestParts<S> for PathUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id("user", &segment(parts, state, "user").await?, UserId::parse).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathItem {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id("item", &segment(parts, state, "item").await?, ItemId::parse).map(Self)
    }
}

/// Reads an id.
pub fn id<T>(name: &'static str, text: &str, parse: impl Fn(&str) -> Result<T, IdError>) -> Result<T, Problem> {
    parse(text).map_err(|e| Problem::parameter(name, e, ID_ALLOWED))
}

/// Whose data a call is about: decided by the API key where keys are configured, else by `X-Tenant`.
pub struct Caller(pub Tenant);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let named = named_tenant(&parts.headers)?;
        let now = Instant::now();
        let tenant = match app.keys.needed() {
            false => named.unwrap_or_default(),
            true => {
                let key = key_of(parts, app)?;
                if key.role < needed(parts) {
                    return Err(Problem::new(StatusCode::FORBIDDEN, "the key may not do this"));
                }
                key.bucket.take(now).map_err(Problem::too_often)?;
                let own = if key.tenants.len() == 1 { key.tenants.first().cloned() } else { None };
                let tenant = named.or(own).unwrap_or_default();
                if !key.tenants.is_empty() && !key.tenants.contains(&tenant) {
                    return Err(Problem::new(StatusCode::FORBIDDEN, "X-Tenant is not a tenant of the key"));
                }
                tenant
            }
        };
        app.quota(&tenant).map_or(Ok(()), |bucket| bucket.take(now)).map_err(Problem::too_often)?;
        Ok(Self(tenant))
    }
}

/// The key that a call came with.
fn key_of(parts: &Parts, app: &App) -> Result<Arc<Key>, Problem> {
    let refused = |what: &'static str| Problem::new(StatusCode::UNAUTHORIZED, what);
    let given = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| refused("Authorization: Bearer <key> is missing"))?;
    let key = given.as_bytes().strip_prefix(b"Bearer ").ok_or_else(|| refused("Authorization is not Bearer <key>"))?;
    app.keys.find(key).ok_or_else(|| {
        let arrived = parts.extensions.get::<Arrived>();
        app.wrong_key(arrived.and_then(|a| a.caller(&app.proxies, &parts.headers)))
    })
}

/// Someone who may see how the service is: anyone where no keys are configured, else a key of the role `admin`.
pub struct Operator;

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        if app.keys.needed() && key_of(parts, app)?.role < Role::Admin {
            return Err(Problem::new(StatusCode::FORBIDDEN, "the key may not do this"));
        }
        Ok(Self)
    }
}

/// What a call asks of a key.
fn needed(parts: &Parts) -> Role {
    let asks = parts.method == Method::GET || parts.method == Method::HEAD || parts.uri.path() == "/recommendations";
    if asks { Role::Read } else { Role::Write }
}

fn named_tenant(headers: &HeaderMap) -> Result<Option<Tenant>, Problem> {
    let mut given = headers.get_all("x-tenant").iter();
    let Some(first) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Problem::parameter("X-Tenant", "is given twice", "one tenant"));
    }
    let text =
        std::str::from_utf8(first.as_bytes()).map_err(|_| Problem::parameter("X-Tenant", "is not valid UTF-8", ID_ALLOWED))?;
    id("X-Tenant", text, Tenant::parse).map(Some)
}

/// The parameters of a query.
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query; parameters that are not `known` are refused, so that a slip of the pen is not silently ignored.
    pub fn read(uri: &Uri, known: &'static [&'static str]) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the query is not name=value pairs"))?;
        for (name, _) in &pairs {
            if !known.contains(&name.as_str()) {
                let shown: String = name.chars().take(40).collect();
                let allowed = if known.is_empty() { "no parameters".to_owned() } else { known.join(", ") };
                return Err(Problem::parameter(shown, "is not a parameter of this call", allowed));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter that may stand once.
    pub fn one(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut found = self.all(name);
        let first = found.next();
        if found.next().is_some() {
            return Err(Problem::parameter(name, "is given twice", "once"));
        }
        Ok(first)
    }

    /// A parameter that may be repeated.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A whole number within bounds.
    pub fn number<T>(&self, name: &'static str, range: RangeInclusive<T>) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.one(name)? else { return Ok(None) };
        text.parse().ok().filter(|n| range.contains(n)).map(Some).ok_or_else(|| out_of_range(name, text, &range))
    }

    /// `true` or `false`; `fallback` where it is not given.
    pub fn flag(&self, name: &'static str, fallback: bool) -> Result<bool, Problem> {
        match self.one(name)? {
            None => Ok(fallback),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(Problem::parameter(name, "is neither true nor false", "true, false")),
        }
    }

    /// An id.
    pub fn id<T>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, IdError>) -> Result<Option<T>, Problem> {
        self.one(name)?.map(|text| id(name, text, parse)).transpose()
    }

    /// A category.
    pub fn category(&self) -> Result<Option<Arc<str>>, Problem> {
        self.id("category", |text| ids::check(text).map(|()| Arc::from(text)))
    }
}

/// The problem of a number that is none, or out of its bounds.
pub fn out_of_range<T: Display>(name: &'static str, given: &str, range: &RangeInclusive<T>) -> Problem {
    let shown: String = given.chars().take(40).collect();
    Problem::parameter(name, format!("is {shown:?}"), format!("{} to {}", range.start(), range.end()))
}
