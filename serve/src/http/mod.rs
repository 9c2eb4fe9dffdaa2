//! The HTTP API: one file a group of routes, and what all of them share.
//!
//! Handlers translate; they decide nothing about recommending. Errors of stores never reach a caller in their own words.

mod arrival;
mod body;
mod chance;
mod cors;
mod docs;
mod envelope;
mod events;
mod finish;
mod gate;
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
mod tls;
mod turn;
mod users;
mod waited;
mod watch;
mod why_not;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
    middleware::from_fn_with_state,
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use nearcast_domain::Tenant;
use tokio::sync::{Semaphore, mpsc, watch as signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use gate::Gate;
pub use openapi::document;
pub use server::{Entrance, serve, serve_by};
pub use tls::Tls;
pub use turn::Turn;
pub use watch::Finished;

use self::{
    cors::Cors,
    keys::{Bucket, Keys},
    pressure::Pressure,
    problem::Problem,
    turn::Live,
    watch::{Lines, Traces},
};
use crate::{
    ConfigError, Recommender, ServeConfig, Stores,
    config::{Network, Quota},
    figures::Requests,
};

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
    /// A bucket an address that gave keys which are none.
    guesses: moka::sync::Cache<IpAddr, Arc<Bucket>>,
    cors: Option<Cors>,
    /// Proxies that are believed.
    proxies: Vec<Network>,
    traces: Option<Traces>,
    lines: Lines,
}

/// What there is to listen with.
pub struct Doors {
    /// The API.
    pub api: Router,
    /// Who turns away requests to it that are too many.
    pub gate: Gate,
    /// What is for operators alone, where it has an address of its own.
    pub operators: Option<Router>,
    /// Requests that are over, where a collector wants them.
    pub traces: Option<mpsc::Receiver<Finished>>,
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

    /// The answer to a key that is none: what is wrong, and after many from one address only that there were too many. A right key is
    /// taken whatever others did at its address.
    fn wrong_key(&self, caller: Option<IpAddr>) -> Problem {
        let refused = Problem::new(StatusCode::UNAUTHORIZED, "the key is not known");
        let Some(caller) = caller else { return refused };
        let bucket = self.guesses.get_with(caller, || Arc::new(Bucket::new(GUESSES)));
        bucket.take(tokio::time::Instant::now()).map_or_else(Problem::too_often, |()| refused)
    }
}

/// Tenants whose quota is remembered at once.
const QUOTAS: u64 = 65_536;
/// Keys that are none, of one address, before they are answered with 429.
const GUESSES: Quota = Quota { per_second: 1.0, burst: 50 };

/// The whole API over these stores. Keeps a last resort warm as one of `tasks` until `shutdown`, from which on the API says
/// that it is not ready. Errors: a configuration that cannot work.
pub fn doors(
    stores: Stores,
    config: ServeConfig,
    shutdown: CancellationToken,
    tasks: &TaskTracker,
) -> Result<Doors, ConfigError> {
    doors_that_turn(stores, config, shutdown, tasks, signal::Sender::new(None).subscribe())
}

/// The same, which answer with another model from each [`Turn`] on.
pub fn doors_that_turn(
    stores: Stores,
    config: ServeConfig,
    shutdown: CancellationToken,
    tasks: &TaskTracker,
    turns: signal::Receiver<Option<Turn>>,
) -> Result<Doors, ConfigError> {
    let recommender = Arc::new(Recommender::new(stores, config)?);
    recommender.begin_warming();
    let live = Arc::new(Live::new(recommender.clone()));
    let (turning, stop) = (live.clone(), shutdown.clone());
    tasks.spawn(async move { turning.keep(turns, stop).await });
    let pressure = Arc::new(Pressure::default());
    let (watched, stop) = (pressure.clone(), shutdown.clone());
    tasks.spawn(async move { watched.watch(stop).await });
    let keys = Arc::new(Keys::new(recommender.config()));
    let (watched, stop) = (keys.clone(), shutdown.clone());
    tasks.spawn(async move { watched.watch(stop).await });
    Ok(doors_of(live, shutdown, pressure, keys))
}

/// The API over a recommender that exists already.
pub fn router_of(recommender: Arc<Recommender>, shutdown: CancellationToken) -> Router {
    let keys = Arc::new(Keys::new(recommender.config()));
    doors_of(Arc::new(Live::new(recommender)), shutdown, Arc::default(), keys).api
}

fn doors_of(live: Arc<Live>, shutdown: CancellationToken, pressure: Arc<Pressure>, keys: Arc<Keys>) -> Doors {
    let recommender = live.now();
    let config = recommender.config();
    let in_flight = Semaphore::new(config.limits.in_flight);
    let metrics = metrics::install().inspect_err(|e| tracing::warn!("no metrics: {e}")).ok();
    let (traces, finished) = Traces::new(&config.traces).unzip();
    let apart = config.admin_listen.is_some();
    let app = Arc::new(App {
        cors: Cors::new(&config.cors),
        proxies: config.proxy.trusted.iter().filter_map(|n| Network::parse(n)).collect(),
        lines: Lines::new(config.log),
        traces,
        live: live.clone(),
        shutdown,
        metrics,
        in_flight,
        requests: Requests::default(),
        pressure,
        keys,
        quotas: moka::sync::Cache::new(QUOTAS),
        guesses: moka::sync::Cache::new(QUOTAS),
    });
    let health = || Router::new().route("/health/live", get(health::live)).route("/health/ready", get(health::ready));
    let mut api = health()
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
        .route("/openapi.json", get(openapi::openapi))
        .route("/docs", get(docs::docs))
        .merge(crate::page::router());
    let mut operators = None;
    if apart {
        let inside = health().route("/metrics", get(metrics::metrics)).route("/status", get(status::status));
        operators = Some(wrapped(inside, &app));
    } else {
        api = api.route("/metrics", get(metrics::metrics_for_operators)).route("/status", get(status::status));
    }
    Doors { api: wrapped(api, &app), gate: Gate::new(app), operators, traces: finished }
}

fn wrapped(routes: Router<Arc<App>>, app: &Arc<App>) -> Router {
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), envelope::envelope))
        .with_state(app.clone())
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
