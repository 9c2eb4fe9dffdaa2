//! The HTTP API: one file a group of routes, and what all of them share.
//!
//! Handlers translate; they decide nothing about recommending. Errors of stores never reach a caller in their own words.

mod body;
mod docs;
mod envelope;
mod events;
mod health;
mod items;
mod keys;
pub mod metrics;
mod openapi;
mod params;
mod pressure;
pub mod problem;
mod recommendations;
mod server;
mod shared;
mod status;
mod turn;
mod users;
mod why_not;

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
    middleware::from_fn_with_state,
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use nearcast_domain::Tenant;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use openapi::document;
pub use server::serve;
pub use turn::Turn;

use self::{
    keys::{Bucket, Keys},
    pressure::Pressure,
    problem::Problem,
    turn::Live,
};
use crate::{ConfigError, Recommender, ServeConfig, Stores, figures::Requests};

/// What handlers share.
pub struct App {
    live: Arc<Live>,
    /// Cancelled when the program is about to stop.
    shutdown: CancellationToken,
    metrics: Option<PrometheusHandle>,
    in_flight: Semaphore,
    requests: Requests,
    pressure: Arc<Pressure>,
    keys: Arc<Keys>,
    /// A bucket a tenant, where tenants have a quota.
    quotas: moka::sync::Cache<Tenant, Arc<Bucket>>,
}

impl App {
    /// What answers now. A request takes it once.
    fn recommender(&self) -> Arc<Recommender> {
        self.live.now()
    }

    /// The quota of a tenant, where there is one.
    fn quota(&self, tenant: &Tenant) -> Option<Arc<Bucket>> {
        let quota = self.recommender().config().tenant_quota;
        (quota.per_second > 0.0).then(|| self.quotas.get_with_by_ref(tenant, || Arc::new(Bucket::new(quota))))
    }
}

/// Tenants whose quota is remembered at once.
const QUOTAS: u64 = 65_536;

/// The whole API over these stores. Keeps a last resort warm as one of `tasks` until `shutdown`, from which on the API says
/// that it is not ready. Errors: a configuration that cannot work.
pub fn router(
    stores: Stores,
    config: ServeConfig,
    shutdown: CancellationToken,
    tasks: &TaskTracker,
) -> Result<Router, ConfigError> {
    router_that_turns(stores, config, shutdown, tasks, watch::Sender::new(None).subscribe())
}

/// The same, which answers with another model from each [`Turn`] on.
pub fn router_that_turns(
    stores: Stores,
    config: ServeConfig,
    shutdown: CancellationToken,
    tasks: &TaskTracker,
    turns: watch::Receiver<Option<Turn>>,
) -> Result<Router, ConfigError> {
    let recommender = Arc::new(Recommender::new(stores, config)?);
    let live = Arc::new(Live::new(recommender.clone()));
    let (turning, stop) = (live.clone(), shutdown.clone());
    tasks.spawn(async move { turning.keep(turns, stop).await });
    let pressure = Arc::new(Pressure::default());
    let (watched, stop) = (pressure.clone(), shutdown.clone());
    tasks.spawn(async move { watched.watch(stop).await });
    let keys = Arc::new(Keys::new(recommender.config()));
    let (watched, stop) = (keys.clone(), shutdown.clone());
    tasks.spawn(async move { watched.watch(stop).await });
    Ok(router_under(live, shutdown, pressure, keys))
}

/// The API over a recommender that exists already.
pub fn router_of(recommender: Arc<Recommender>, shutdown: CancellationToken) -> Router {
    let keys = Arc::new(Keys::new(recommender.config()));
    router_under(Arc::new(Live::new(recommender)), shutdown, Arc::default(), keys)
}

fn router_under(live: Arc<Live>, shutdown: CancellationToken, pressure: Arc<Pressure>, keys: Arc<Keys>) -> Router {
    let in_flight = Semaphore::new(live.now().config().limits.in_flight);
    let metrics = metrics::install().inspect_err(|e| tracing::warn!("no metrics: {e}")).ok();
    let app = Arc::new(App {
        live,
        shutdown,
        metrics,
        in_flight,
        requests: Requests::default(),
        pressure,
        keys,
        quotas: moka::sync::Cache::new(QUOTAS),
    });
    Router::new()
        .route("/recommendations/{user}", get(recommendations::for_user))
        .route("/recommendations", post(recommendations::for_session))
        .route("/users", get(users::list))
        .route("/users/{user}", get(users::one).delete(users::erase))
        .route("/users/{user}/similar", get(users::similar))
        .route("/users/{user}/why-not/{item}", get(why_not::why_not))
        .route("/items", get(items::list))
        .route("/items/{item}", get(items::one))
        .route("/items/{item}/similar", get(items::similar))
        .route("/trending", get(items::trending))
        .route("/events", post(events::publish))
        .route("/status", get(status::status))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/docs", get(docs::docs))
        .merge(crate::page::router())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), envelope::envelope))
        .with_state(app)
}

async fn unknown_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing under this path; GET /openapi.json lists what there is")
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let allowed = match uri.path() {
        p if p.starts_with("/events") || p == "/recommendations" => "POST",
        p if p.starts_with("/users/") && p.matches('/').count() == 2 => "GET, DELETE",
        _ => "GET",
    };
    let shown: String = method.as_str().chars().take(20).collect();
    Problem::parameter("method", format!("{shown} is not allowed here"), allowed).status(StatusCode::METHOD_NOT_ALLOWED)
}
