//! What is counted on the way of a request, in plain atomics: counting costs a few nanoseconds, and nothing grows until it is read.
//!
//! Written out in Prometheus' text format. Never a label that callers choose freely.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use nearcast_domain::{
    candidate::Source,
    ports::{Breaker, StoreState},
};

use crate::recommend::stages::Stage;

/// Seconds: from a cache hit to the longest budget, close around the targets.
const BOUNDS: [f64; 17] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 1.0, 10.0];
/// What an answer should take at most, in seconds.
const OBJECTIVE: f64 = 0.1;

/// Counts by how long something took.
#[derive(Debug, Default)]
pub struct Times {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Times {
    /// One more.
    pub fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.partition_point(|b| *b < seconds);
        self.counts[at].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(took.as_micros() as u64, Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let counts: Vec<u64> = self.counts.iter().map(|c| c.load(Relaxed)).collect();
        write_buckets(out, name, labels, &BOUNDS, &counts, self.sum_us.load(Relaxed) as f64 / 1e6);
    }
}

fn write_buckets(out: &mut String, name: &str, labels: &str, bounds: &[f64], counts: &[u64], sum: f64) {
    let mut total = 0;
    for (bound, count) in bounds.iter().zip(counts) {
        total += count;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
    }
    total = counts.iter().sum();
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}");
}

/// What recommending counts.
#[derive(Debug, Default)]
pub struct Figures {
    sources: [Times; Source::ALL.len()],
    failed: [AtomicU64; Source::ALL.len()],
    cache: [AtomicU64; 3],
    stages: [Times; Stage::ALL.len()],
}

impl Figures {
    /// A source took so long.
    pub fn source(&self, source: Source, took: Duration, answered: bool) {
        self.sources[source as usize].add(took);
        self.failed[source as usize].fetch_add(u64::from(!answered), Relaxed);
    }

    /// A stage took so long.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].add(took);
    }

    /// An answer from the cache.
    pub fn hit(&self) {
        self.cache[0].fetch_add(1, Relaxed);
    }

    /// An answer that was made.
    pub fn miss(&self) {
        self.cache[1].fetch_add(1, Relaxed);
    }

    /// An old answer.
    pub fn stale(&self) {
        self.cache[2].fetch_add(1, Relaxed);
    }

    /// All of it.
    pub fn write(&self, out: &mut String) {
        head(out, "nearcast_source_duration_seconds", "histogram", "Time that a candidate source took.");
        for source in Source::ALL {
            self.sources[source as usize].write(
                out,
                "nearcast_source_duration_seconds",
                &format!("source=\"{}\"", source.name()),
            );
        }
        head(out, "nearcast_stage_duration_seconds", "histogram", "Time that a stage of an answer took.");
        for stage in Stage::ALL {
            let labels = format!("stage=\"{}\"", stage.name());
            self.stages[stage as usize].write(out, "nearcast_stage_duration_seconds", &labels);
        }
        head(out, "nearcast_source_errors_total", "counter", "Requests in which a source gave nothing in time.");
        for source in Source::ALL {
            let n = self.failed[source as usize].load(Relaxed);
            let _ = writeln!(out, "nearcast_source_errors_total{{source=\"{}\"}} {n}", source.name());
        }
        head(out, "nearcast_response_cache_total", "counter", "Answers by where they came from: hit, miss, stale.");
        for (result, n) in ["hit", "miss", "stale"].iter().zip(&self.cache) {
            let _ = writeln!(out, "nearcast_response_cache_total{{result=\"{result}\"}} {}", n.load(Relaxed));
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// What is counted of one kind of answer: a route, a method, a status.
#[derive(Debug, Default)]
struct Kind {
    times: Times,
}

/// Requests by route, method and status.
#[derive(Debug, Default)]
pub struct Requests {
    kinds: RwLock<HashMap<&'static str, Arc<Route>, RandomState>>,
    in_flight: AtomicU64,
    asked: AtomicU64,
    in_time: AtomicU64,
}

#[derive(Debug, Default)]
struct Route(RwLock<Vec<(&'static str, u16, Arc<Kind>)>>);

impl Requests {
    /// A request ended. `objective`: it counts for the promise that answers are there in time.
    pub fn ended(&self, route: &'static str, method: &'static str, status: u16, took: Duration, objective: bool) {
        if objective {
            self.asked.fetch_add(1, Relaxed);
            self.in_time.fetch_add(u64::from(status < 500 && took.as_secs_f64() <= OBJECTIVE), Relaxed);
        }
        self.kind(route, method, status).times.add(took);
    }

    fn kind(&self, route: &'static str, method: &'static str, status: u16) -> Arc<Kind> {
        let known = self.kinds.read().unwrap_or_else(PoisonError::into_inner).get(route).cloned();
        let route = known
            .unwrap_or_else(|| self.kinds.write().unwrap_or_else(PoisonError::into_inner).entry(route).or_default().clone());
        let find = |all: &[(&'static str, u16, Arc<Kind>)]| {
            all.iter().find(|(m, s, _)| *m == method && *s == status).map(|(_, _, k)| k.clone())
        };
        if let Some(kind) = find(&route.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return kind;
        }
        let mut all = route.0.write().unwrap_or_else(PoisonError::into_inner);
        find(&all).unwrap_or_else(|| {
            let kind = Arc::<Kind>::default();
            all.push((method, status, kind.clone()));
            kind
        })
    }

    /// A request is under way until what is handed out is dropped.
    pub fn begin(&self) -> UnderWay<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        UnderWay(self)
    }

    /// All of it.
    pub fn write(&self, out: &mut String) {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<(&str, &str, u16, Arc<Kind>)> = Vec::new();
        for (route, of) in kinds.iter() {
            let of = of.0.read().unwrap_or_else(PoisonError::into_inner);
            rows.extend(of.iter().map(|(m, s, k)| (*route, *m, *s, k.clone())));
        }
        rows.sort_by_key(|(route, method, status, _)| (*route, *method, *status));
        head(out, "http_requests_total", "counter", "Requests by method, route and status.");
        for (route, method, status, kind) in &rows {
            let n: u64 = kind.times.counts.iter().map(|c| c.load(Relaxed)).sum();
            let _ = writeln!(out, "http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {n}");
        }
        head(out, "http_request_duration_seconds", "histogram", "Time from the head of a request to its answer.");
        for (route, method, status, kind) in &rows {
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            kind.times.write(out, "http_request_duration_seconds", &labels);
        }
        head(out, "http_requests_in_flight", "gauge", "Requests under way.");
        let _ = writeln!(out, "http_requests_in_flight {}", self.in_flight.load(Relaxed));
        head(out, "nearcast_slo_requests_total", "counter", "Requests for recommendations that were taken on.");
        let _ = writeln!(out, "nearcast_slo_requests_total {}", self.asked.load(Relaxed));
        head(out, "nearcast_slo_within_100ms_total", "counter", "Those of them that were answered within 100 ms.");
        let _ = writeln!(out, "nearcast_slo_within_100ms_total {}", self.in_time.load(Relaxed));
    }
}

/// See [`Requests::begin`].
pub struct UnderWay<'a>(&'a Requests);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The states of guarded stores.
pub fn write_stores(out: &mut String, states: &[StoreState]) {
    if states.is_empty() {
        return;
    }
    let labels = |s: &StoreState| format!("store=\"{}\",replica=\"{}\"", s.store, escaped(&s.replica));
    head(out, "nearcast_store_breaker", "gauge", "Whether calls reach a store: 0 closed (they do), 1 half open, 2 open.");
    for s in states {
        let n = match s.breaker {
            Breaker::Closed => 0,
            Breaker::HalfOpen => 1,
            Breaker::Open => 2,
        };
        let _ = writeln!(out, "nearcast_store_breaker{{{}}} {n}", labels(s));
    }
    head(out, "nearcast_store_calls_total", "counter", "Calls to a store by outcome.");
    for s in states {
        for (outcome, n) in &s.calls {
            let _ = writeln!(out, "nearcast_store_calls_total{{{},outcome=\"{outcome}\"}} {n}", labels(s));
        }
    }
    head(out, "nearcast_store_hedged_total", "counter", "Second attempts at reads that took long.");
    for s in states {
        let _ = writeln!(out, "nearcast_store_hedged_total{{{}}} {}", labels(s), s.hedged);
    }
    head(out, "nearcast_store_in_flight", "gauge", "Calls to a store under way.");
    for s in states {
        let _ = writeln!(out, "nearcast_store_in_flight{{{}}} {}", labels(s), s.in_flight);
    }
    head(out, "nearcast_store_duration_seconds", "histogram", "Time that calls to a store took.");
    for s in states {
        write_buckets(out, "nearcast_store_duration_seconds", &labels(s), s.latency.bounds, &s.latency.counts, s.latency.sum);
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_they_were_taken_down() {
        let r = Requests::default();
        let way = r.begin();
        r.ended("/x", "GET", 200, Duration::from_millis(3), true);
        r.ended("/x", "GET", 200, Duration::from_millis(300), true);
        r.ended("/x", "GET", 503, Duration::from_micros(10), false);
        let mut out = String::new();
        r.write(&mut out);
        drop(way);
        for line in [
            "http_requests_total{method=\"GET\",route=\"/x\",status=\"200\"} 2",
            "http_request_duration_seconds_bucket{method=\"GET\",route=\"/x\",status=\"200\",le=\"0.005\"} 1",
            "http_request_duration_seconds_bucket{method=\"GET\",route=\"/x\",status=\"200\",le=\"+Inf\"} 2",
            "http_requests_in_flight 1",
            "nearcast_slo_requests_total 2",
            "nearcast_slo_within_100ms_total 1",
        ] {
            assert!(out.lines().any(|l| l == line), "{line} is missing in\n{out}");
        }
    }
}
