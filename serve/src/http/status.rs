//! `GET /status`: how much there is, and how far the worker has come.

use std::sync::Arc;

use axum::{Json, extract::State, http::Uri};
use futures_util::join;
use nearcast_domain::{Tenant, ports::Collection};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    params::{Caller, Params},
    problem::Problem,
    shared::{Missing, soon},
};

/// How much there is; null where the store did not answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// Whose data.
    #[schema(value_type = String)]
    tenant: Tenant,
    /// Users with at least one event.
    users: Option<u64>,
    /// Items with a state.
    items: Option<u64>,
    /// Messages and engagements.
    events: Option<u64>,
    /// Users with a profile.
    profiles: Option<u64>,
    /// Items with a vector.
    item_vectors: Option<u64>,
    /// Who engaged with what, pairs.
    edges: Option<u64>,
    /// Events that wait for the worker, of all tenants.
    lag: Option<u64>,
    /// Records that could not be used, of all tenants.
    dead_letters: Option<u64>,
    /// The embedding model: name and the beginning of its revision.
    model: String,
    /// The version of the program.
    version: &'static str,
    /// What did not answer.
    #[schema(value_type = Vec<String>)]
    degraded: Vec<&'static str>,
}

/// How much there is
#[utoipa::path(get, path = "/status", tag = "operations",
    params(("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = Status), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub async fn status(State(app): State<Arc<App>>, Caller(tenant): Caller, uri: Uri) -> Result<Json<Status>, Problem> {
    Params::read(&uri, &[])?;
    let s = &app.recommender().stores;
    let (counts, profiles, item_vectors, edges, lag, letters) = join!(
        soon("ledger", s.ledger.counts(&tenant)),
        soon("vectors", s.vectors.count(&tenant, Collection::Users)),
        soon("vectors", s.vectors.count(&tenant, Collection::Items)),
        soon("graph", s.graph.count(&tenant)),
        soon("log", s.progress.lag()),
        soon("dead_letters", s.dead_letters.count()),
    );
    let mut missing = Missing::default();
    let counts = missing.or_default("ledger", counts.map(Some));
    Ok(Json(Status {
        users: counts.map(|c| c.users),
        items: counts.map(|c| c.items),
        events: counts.map(|c| c.events),
        profiles: missing.or_default("vectors", profiles.map(Some)),
        item_vectors: missing.or_default("vectors", item_vectors.map(Some)),
        edges: missing.or_default("graph", edges.map(Some)),
        lag: missing.or_default("log", lag.map(Some)),
        dead_letters: missing.or_default("dead_letters", letters.map(Some)),
        model: s.embedder.model().label(),
        version: env!("CARGO_PKG_VERSION"),
        degraded: missing.0,
        tenant,
    }))
}
