//! Traces to an OpenTelemetry collector: OTLP over HTTP, in JSON.
//!
//! Never keeps a request waiting: what a collector does not take is dropped. Holds nothing that names a person.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nearcast_serve::{Finished, config::TraceConfig};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

/// The most requests in one call.
const BATCH: usize = 256;
/// How long a batch is waited for to fill.
const EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a collector that is away is told of.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Sends what finishes, until told to stop; then once more.
pub async fn send(config: TraceConfig, mut finished: mpsc::Receiver<Finished>, stop: CancellationToken) {
    let Some(endpoint) = config.endpoint else { return };
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let mut told: Option<SystemTime> = None;
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        let last = tokio::select! {
            () = stop.cancelled() => true,
            () = fill(&mut finished, &mut batch) => false,
        };
        while batch.len() < BATCH
            && let Ok(more) = finished.try_recv()
        {
            batch.push(more);
        }
        if !batch.is_empty() {
            let (agent, endpoint, body) = (agent.clone(), endpoint.clone(), body(&config.service, &batch).to_string());
            let post = move || agent.post(&endpoint).header("content-type", "application/json").send(body).map(drop);
            let sent = tokio::task::spawn_blocking(post).await;
            if let Ok(Err(e)) = sent
                && told.is_none_or(|at| at.elapsed().is_ok_and(|since| since > TELL_EVERY))
            {
                told = Some(SystemTime::now());
                tracing::warn!("the collector takes no traces: {e}");
            }
        }
        if last {
            return;
        }
    }
}

/// Until the batch is full, or time is over.
async fn fill(finished: &mut mpsc::Receiver<Finished>, batch: &mut Vec<Finished>) {
    let _ = timeout(EVERY, async {
        while batch.len() < BATCH {
            match finished.recv().await {
                Some(one) => batch.push(one),
                // Nothing comes any more: the end is awaited elsewhere.
                None => std::future::pending().await,
            }
        }
    })
    .await;
}

/// The body of a call: a span a request, and one for each part of it.
fn body(service: &str, batch: &[Finished]) -> Value {
    let spans: Vec<Value> = batch.iter().flat_map(spans).collect();
    json!({"resourceSpans":[{
        "resource":{"attributes":[text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))]},
        "scopeSpans":[{"scope":{"name":"nearcast"},"spans":spans}]}]})
}

fn spans(one: &Finished) -> Vec<Value> {
    let (trace, began) = (format!("{:032x}", one.trace), nanos(one.began));
    let code = if one.status >= 500 { 2 } else { 0 };
    let mut request = json!({
        "traceId":trace, "spanId":format!("{:016x}", one.span), "kind":2, "name":format!("{} {}", one.method, one.route),
        "startTimeUnixNano":began.to_string(), "endTimeUnixNano":(began + one.took.as_nanos()).to_string(),
        "attributes":[text("http.request.method", one.method), text("http.route", one.route),
            json!({"key":"http.response.status_code","value":{"intValue":one.status.to_string()}})],
        "status":{"code":code}});
    if let Some(parent) = one.parent {
        request["parentSpanId"] = format!("{parent:016x}").into();
    }
    let mut all = vec![request];
    let stage = one.parts.iter().position(|p| p.name == "sources").map(|n| child(one, n));
    for (n, part) in one.parts.iter().enumerate() {
        // Sources are asked within their stage.
        let parent = if part.source { stage.unwrap_or(one.span) } else { one.span };
        let from = began + part.begun.as_nanos();
        all.push(json!({
            "traceId":trace, "spanId":format!("{:016x}", child(one, n)), "parentSpanId":format!("{parent:016x}"), "kind":1,
            "name":part.name, "startTimeUnixNano":from.to_string(), "endTimeUnixNano":(from + part.took.as_nanos()).to_string(),
            "status":{"code":if part.ok { 0 } else { 2 }}}));
    }
    all
}

/// The number of a part's span: as unlikely to meet another as the request's own.
fn child(one: &Finished, n: usize) -> u64 {
    one.span.wrapping_add((n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1)
}

fn nanos(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos())
}

fn text(key: &str, value: &str) -> Value {
    json!({"key":key,"value":{"stringValue":value}})
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// One call of a collector: its body.
    fn collector() -> (String, std::thread::JoinHandle<Value>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let call = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut text, mut buffer) = (Vec::new(), [0; 4_096]);
            loop {
                let n = stream.read(&mut buffer).unwrap();
                text.extend_from_slice(&buffer[..n]);
                let whole = String::from_utf8_lossy(&text).into_owned();
                if let Some((head, body)) = whole.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str(body)
                {
                    assert!(head.starts_with("POST /v1/traces HTTP/1.1") && head.to_lowercase().contains("application/json"));
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
                    return body;
                }
            }
        });
        (endpoint, call)
    }

    #[tokio::test]
    async fn a_collector_is_told_of_requests_and_their_parts() {
        let (endpoint, call) = collector();
        let (to, from) = mpsc::channel(8);
        let part = |name, source, ok| nearcast_serve::recommend::stages::Part {
            name,
            source,
            begun: Duration::from_millis(1),
            took: Duration::from_millis(2),
            ok,
        };
        let one = Finished {
            trace: 7,
            span: 9,
            parent: Some(5),
            began: UNIX_EPOCH + Duration::from_secs(1),
            took: Duration::from_millis(4),
            route: "/recommendations/{user}",
            method: "GET",
            status: 200,
            parts: vec![part("sources", false, true), part("graph", true, false)],
        };
        to.send(one).await.unwrap();
        let stop = CancellationToken::new();
        let config = TraceConfig { endpoint: Some(endpoint), ..TraceConfig::default() };
        let sending = tokio::spawn(send(config, from, stop.clone()));
        let body = tokio::task::spawn_blocking(move || call.join().unwrap()).await.unwrap();
        stop.cancel();
        sending.await.unwrap();
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(spans.as_array().unwrap().len(), 3);
        assert_eq!(spans[0]["name"], "GET /recommendations/{user}");
        assert_eq!(
            (&spans[0]["traceId"], &spans[0]["parentSpanId"]),
            (&json!(format!("{:032x}", 7)), &json!(format!("{:016x}", 5)))
        );
        assert_eq!(
            (&spans[0]["startTimeUnixNano"], &spans[0]["endTimeUnixNano"]),
            (&json!("1000000000"), &json!("1004000000"))
        );
        assert_eq!(spans[2]["parentSpanId"], spans[1]["spanId"], "a source lies within its stage");
        assert_eq!(spans[2]["status"]["code"], 2);
    }
}
