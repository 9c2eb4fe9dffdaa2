//! Requests that somebody watches: `Server-Timing` for a caller that asks, traces for a collector, lines in the log.
//!
//! Names routes by their pattern; never a path, a query or an address unless that is configured.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request},
};
use tokio::{sync::mpsc, time::Instant};

use super::chance;
use crate::{
    config::{RequestLog, TraceConfig},
    recommend::stages::{Part, Parts},
};

/// Asks for `Server-Timing` in the answer, whatever its value.
const ASKED: HeaderName = HeaderName::from_static("x-server-timing");
const PARENT: HeaderName = HeaderName::from_static("traceparent");
const TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Traces that wait for the collector; more are dropped and counted.
const WAITING: usize = 4_096;
/// Lines of slow and failed requests in a second.
const LINES: u64 = 10;

/// A request that is over, for a collector.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The trace it belongs to.
    pub trace: u128,
    /// Its own number in it.
    pub span: u64,
    /// The caller's, where it said so.
    pub parent: Option<u64>,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// The pattern of its path.
    pub route: &'static str,
    /// Its method.
    pub method: &'static str,
    /// What it was answered with.
    pub status: u16,
    /// Where the time went.
    pub parts: Vec<Part>,
}

/// Where finished requests are sent.
pub struct Traces {
    config: TraceConfig,
    to: mpsc::Sender<Finished>,
}

impl Traces {
    /// And what they are received from; `None` where no collector is configured.
    pub fn new(config: &TraceConfig) -> Option<(Self, mpsc::Receiver<Finished>)> {
        config.endpoint.as_ref()?;
        let (to, from) = mpsc::channel(WAITING);
        Some((Self { config: config.clone(), to }, from))
    }

    fn finished(&self, request: Finished, marked: bool) {
        let slow = request.took >= Duration::from_millis(self.config.slow_ms);
        if (marked || slow || request.status >= 500 || chance::falls_within(self.config.sample))
            && self.to.try_send(request).is_err()
        {
            metrics::counter!("nearcast_traces_dropped_total").increment(1);
        }
    }
}

/// One that is watched, from its beginning.
pub struct Watched {
    /// Where the time goes.
    pub parts: Arc<Parts>,
    timing: bool,
    parent: Option<Parent>,
}

/// What `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl Watched {
    /// `None` where nobody wants to know: most requests.
    pub fn of(headers: &HeaderMap, traces: Option<&Traces>, at: Instant) -> Option<Self> {
        let timing = headers.contains_key(ASKED);
        if !timing && traces.is_none() {
            return None;
        }
        let parent = headers.get(PARENT).and_then(|v| v.to_str().ok()).and_then(parent);
        Some(Self { parts: Parts::since(at), timing, parent })
    }

    /// Ends it: writes the header that was asked for, hands the trace on.
    pub fn ended(
        self,
        headers: &mut HeaderMap,
        traces: Option<&Traces>,
        (route, method, status): (&'static str, &'static str, u16),
        took: Duration,
    ) {
        let parts = self.parts.taken();
        if self.timing
            && let Ok(value) = HeaderValue::try_from(timing(&parts, took))
        {
            headers.insert(TIMING, value);
        }
        let Some(traces) = traces else { return };
        let (trace, parent) = match self.parent {
            Some(p) => (p.trace, Some(p.span)),
            None => (u128::from(chance::number()) << 64 | u128::from(chance::number()), None),
        };
        let span = chance::number().max(1);
        let began = SystemTime::now() - took;
        let marked = self.parent.is_some_and(|p| p.sampled);
        traces.finished(Finished { trace, span, parent, began, took, route, method, status, parts }, marked);
    }
}

/// `sources;dur=1.2, graph;dur=0.9, total;dur=2.1`: milliseconds.
fn timing(parts: &[Part], took: Duration) -> String {
    let mut out = String::new();
    for part in parts {
        let late = if part.ok { "" } else { ";desc=\"no answer\"" };
        // Writing to a string does not fail.
        let _ = write!(out, "{};dur={:.3}{late}, ", part.name, part.took.as_secs_f64() * 1e3);
    }
    let _ = write!(out, "total;dur={:.3}", took.as_secs_f64() * 1e3);
    out
}

/// Reads `00-<32 hex>-<16 hex>-<2 hex>`.
fn parent(text: &str) -> Option<Parent> {
    let mut pieces = text.split('-');
    let (version, trace, span, flags) = (pieces.next()?, pieces.next()?, pieces.next()?, pieces.next()?);
    let hex = |t: &str, digits: usize| t.len() == digits && t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !(hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|n| *n != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|n| *n != 0)?;
    Some(Parent { trace, span, sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1 })
}

/// Where the handlers write down how long things took, if anybody watches.
pub struct Watching(pub Option<Arc<Parts>>);

impl<S: Sync> FromRequestParts<S> for Watching {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<Arc<Parts>>().cloned()))
    }
}

/// Which requests get a line in the log.
pub struct Lines {
    config: RequestLog,
    /// The second, and how many lines it has.
    written: AtomicU64,
}

impl Lines {
    /// As configured.
    pub fn new(config: RequestLog) -> Self {
        Self { config, written: AtomicU64::new(0) }
    }

    /// Whether lines name who asked.
    pub fn identity(&self) -> bool {
        self.config.identity
    }

    /// Whether this request gets one.
    pub fn wanted(&self, status: u16, took: Duration) -> bool {
        let telling = status >= 500 || took >= Duration::from_millis(self.config.slow_ms);
        if !telling {
            return chance::falls_within(self.config.sample);
        }
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let before = self.written.load(Relaxed);
        if before >> 8 != second {
            // Whoever comes second in this moment costs a line more at most.
            self.written.store(second << 8 | 1, Relaxed);
            return true;
        }
        before & 0xff < LINES && self.written.fetch_add(1, Relaxed) & 0xff < LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_read_and_nonsense_is_not() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let p = parent(text).unwrap();
        assert_eq!((p.trace >> 64, p.span, p.sampled), (0x4bf9_2f35_77b3_4da6, 0x00f0_67aa_0ba9_02b7, true));
        for bad in ["", "00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &text.replace('4', "g"), &text[..50]] {
            assert_eq!(parent(bad), None, "{bad}");
        }
        assert_eq!(parent("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), None);
    }

    #[test]
    fn slow_and_failed_requests_get_a_line_but_not_without_end() {
        let lines = Lines::new(RequestLog::default());
        assert!(!lines.wanted(200, Duration::from_millis(5)));
        assert!(lines.wanted(500, Duration::ZERO));
        let many = (0..1_000).filter(|_| lines.wanted(200, Duration::from_secs(1))).count();
        assert!((9..=40).contains(&many), "{many}");
        let all = Lines::new(RequestLog { sample: 1.0, ..RequestLog::default() });
        assert!((0..100).all(|_| all.wanted(200, Duration::ZERO)));
    }

    #[test]
    fn slow_failed_and_marked_requests_are_always_sent() {
        let config = TraceConfig { endpoint: Some("http://c".into()), sample: 0.0, ..TraceConfig::default() };
        let (traces, mut from) = Traces::new(&config).unwrap();
        let end = |parent: Option<&str>, status, ms| {
            let mut headers = HeaderMap::new();
            parent.map(|p| headers.insert(PARENT, p.parse().unwrap()));
            let watched = Watched::of(&headers, Some(&traces), Instant::now()).unwrap();
            watched.ended(&mut headers, Some(&traces), ("/x", "GET", status), Duration::from_millis(ms));
        };
        end(None, 200, 1);
        end(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), 200, 1);
        assert!(from.try_recv().is_err());
        end(None, 500, 1);
        end(None, 200, 100);
        end(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), 200, 1);
        let sent: Vec<Finished> = std::iter::from_fn(|| from.try_recv().ok()).collect();
        assert_eq!(sent.iter().map(|f| f.status).collect::<Vec<_>>(), [500, 200, 200]);
        assert_eq!(sent[2].parent, Some(0x00f0_67aa_0ba9_02b7));
        assert!(Traces::new(&TraceConfig::default()).is_none());
    }
}
