//! `/health`: whether the process lives, and whether it can answer.
//!
//! A store that is away does not make the process unready: it answers without it. Only one that is stopping is unready.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri},
};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use nearcast_domain::{
    ErrorKind, ItemId, StoreResult, Tenant, Timestamp, UserId,
    ports::{Breaker, DeadLetterFilter},
};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{App, params::Params, problem::Problem};
use crate::recommend::budget::by;

/// How long a store has to show that it is there.
const PATIENCE: Duration = Duration::from_millis(250);

/// The process lives.
#[derive(Debug, Serialize, ToSchema)]
pub struct Live {
    /// Always `live`.
    status: &'static str,
}

/// Whether answers can be given, and from what.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// Whether requests are welcome.
    ready: bool,
    /// Whether the process is about to stop.
    draining: bool,
    /// Whether the process has just begun and rehearses its first answers: for some seconds at most.
    warming: bool,
    /// Each store by name.
    #[schema(value_type = std::collections::BTreeMap<String, StoreHealth>)]
    stores: BTreeMap<&'static str, StoreHealth>,
}

/// How a store is.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoreHealth {
    /// Whether it answered.
    up: bool,
    /// What kind of failure, where it did not: `unavailable`, `timeout`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// How long it took, in milliseconds.
    ms: f64,
    /// The guards of the calls to it, one a replica.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    guards: Vec<GuardHealth>,
}

/// Whether calls reach a store.
#[derive(Debug, Serialize, ToSchema)]
pub struct GuardHealth {
    /// Which replica; empty where there is one only.
    replica: String,
    /// `closed` (they do), `half_open` or `open`.
    breaker: &'static str,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// What kind of failure came last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'static str>,
}

/// Whether the process lives
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, body = Live)))]
pub async fn live() -> Json<Live> {
    Json(Live { status: "live" })
}

/// Whether answers can be given
///
/// True while any answer can be, also without some of the stores; false in the first seconds, and once the process is about to stop.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub async fn ready(State(app): State<Arc<App>>, uri: Uri) -> Result<(StatusCode, Json<Ready>), Problem> {
    Params::read(&uri, &[])?;
    let s = &app.recommender().stores;
    let (tenant, user, item) = (Tenant::default(), [UserId::trusted("?")], [ItemId::trusted("?")]);
    let one_letter = DeadLetterFilter { limit: 1, ..DeadLetterFilter::default() };
    let probes: Vec<(&'static str, BoxFuture<'_, StoreResult<()>>)> = vec![
        ("ledger", s.ledger.engaged(&tenant, &user[0], &item).map(done).boxed()),
        ("vectors", s.vectors.revision().map(done).boxed()),
        ("graph", s.graph.neighbours(&tenant, &item, 1).map(done).boxed()),
        ("engagement", s.engagement.trend_fit(&tenant).map(done).boxed()),
        ("cache", s.cache.epoch(&tenant, &user[0]).map(done).boxed()),
        ("log", s.progress.lag().map(done).boxed()),
        ("dead_letters", s.dead_letters.list(&one_letter).map(done).boxed()),
    ];
    let asked = probes.into_iter().map(|(name, probe)| async move {
        let begun = Instant::now();
        let error = by(begun + PATIENCE, name, probe).await.err().map(|e| e.kind.label());
        (name, StoreHealth { up: error.is_none(), error, ms: begun.elapsed().as_secs_f64() * 1e3, guards: Vec::new() })
    });
    let mut stores: BTreeMap<&'static str, StoreHealth> = join_all(asked).await.into_iter().collect();
    for state in s.states.states() {
        // The embedder has no probe of its own: it is up while calls reach it.
        let up = state.breaker != Breaker::Open;
        let store = stores.entry(state.store).or_insert_with(|| StoreHealth { up, error: None, ms: 0.0, guards: Vec::new() });
        store.guards.push(GuardHealth {
            replica: state.replica,
            breaker: state.breaker.label(),
            since: state.since,
            last_error: state.last_error.map(ErrorKind::label),
        });
    }
    let (draining, warming) = (app.shutdown.is_cancelled(), app.recommender().is_warming());
    let ready = !draining && !warming;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(Ready { ready, draining, warming, stores })))
}

fn done<T>(result: StoreResult<T>) -> StoreResult<()> {
    result.map(|_| ())
}
