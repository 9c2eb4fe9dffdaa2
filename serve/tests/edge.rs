//! The edge: packed answers, tags, pages of other origins, a second address, timing, TLS, wrong keys.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Read as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, to_bytes},
    http::{Request, header},
};
use nearcast_serve::{
    Entrance, Freshness, Memory, ServeConfig, Tls,
    config::{CorsConfig, KeyConfig, Limits, Role, TlsFiles, TraceConfig},
    doors, serve_by,
};
use support::{Answered, Caller, Fakes, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

fn caller(config: ServeConfig) -> Caller {
    Caller::new(Fakes::new(World::sample()), config)
}

async fn get(c: &Caller, path: &str, headers: &[(&str, &str)]) -> Answered {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    c.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn answers_travel_packed_where_the_caller_takes_it() {
    let c = caller(ServeConfig::default());
    let plain = get(&c, "/recommendations/chess-fan-01?k=20", &[]).await;
    assert!(!plain.headers.contains_key(header::CONTENT_ENCODING) && plain.text.len() > 1_024);
    for name in ["gzip", "br", "zstd"] {
        let request = Request::get("/recommendations/chess-fan-01?k=20").header("accept-encoding", name);
        let response = c.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_ENCODING], name);
        let packed = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(packed.len() * 2 < plain.text.len(), "{name}: {} of {}", packed.len(), plain.text.len());
        if name == "gzip" {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
            assert!(text.contains("\"recommendations\""));
        }
    }
    let short = get(&c, "/health/live", &[("accept-encoding", "gzip")]).await;
    assert!(!short.headers.contains_key(header::CONTENT_ENCODING));
}

#[tokio::test]
async fn whoever_has_an_answer_is_spared_it() {
    let c = caller(ServeConfig::default());
    let path = "/recommendations/chess-fan-01";
    get(&c, path, &[]).await;
    let kept = get(&c, path, &[]).await;
    assert_eq!(kept.headers[header::CACHE_CONTROL], "private, no-cache");
    let tag = kept.headers[header::ETAG].to_str().unwrap().to_owned();
    let spared = get(&c, path, &[("if-none-match", &tag), ("accept-encoding", "gzip")]).await;
    assert_eq!((spared.status.as_u16(), spared.text.len()), (304, 0));
    assert_eq!(get(&c, path, &[("if-none-match", "W/\"other\"")]).await.status, 200);
    let event = r#"{"type":"engagement","user_id":"chess-fan-01","item_id":"chess-01","kind":"like"}"#;
    assert_eq!(c.post("/events", event).await.status, 202);
    assert_eq!(get(&c, path, &[("if-none-match", &tag)]).await.status, 200, "an event ends it");
    let contract = get(&c, "/openapi.json", &[]).await;
    let tag = contract.headers[header::ETAG].to_str().unwrap();
    assert_eq!(get(&c, "/openapi.json", &[("if-none-match", tag)]).await.status, 304);
    assert_eq!(get(&c, "/health/ready", &[]).await.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(get(&c, "/nothing", &[]).await.headers[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn other_origins_are_kept_out_unless_they_are_configured() {
    let origin = ("origin", "https://shop.example");
    let none = caller(ServeConfig::default());
    assert!(!get(&none, "/trending", &[origin]).await.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    let cors = CorsConfig { origins: vec![origin.1.into()], ..CorsConfig::default() };
    let c = caller(ServeConfig { cors, ..ServeConfig::default() });
    assert_eq!(get(&c, "/trending", &[origin]).await.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], origin.1);
    let other = get(&c, "/trending", &[("origin", "https://evil.example")]).await;
    assert!(!other.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    let ask = |origin: &'static str| {
        let request = Request::options("/events").header("origin", origin).header("access-control-request-method", "POST");
        c.send(request.body(Body::empty()).unwrap())
    };
    let allowed = ask(origin.1).await;
    assert_eq!(allowed.status, 204);
    assert!(allowed.headers[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap().contains("x-tenant"));
    ask("https://evil.example").await.problem(405);
}

#[tokio::test]
async fn where_the_time_went_is_told_to_who_asks() {
    let c = caller(ServeConfig::default());
    let asked = get(&c, "/recommendations/chess-fan-02", &[("x-server-timing", "1")]).await;
    let timing = asked.headers["server-timing"].to_str().unwrap();
    for part in ["cache;dur=", "sources;dur=", "graph;dur=", "filter;dur=", "score;dur=", "total;dur="] {
        assert!(timing.contains(part), "{part} is not in {timing}");
    }
    assert!(!get(&c, "/recommendations/chess-fan-02", &[]).await.headers.contains_key("server-timing"));
    assert!(c.get("/metrics").await.text.contains("nearcast_stage_duration_seconds_count{stage=\"sources\"}"));
}

#[tokio::test]
async fn operators_have_an_address_of_their_own_and_traces_are_handed_out() {
    let fakes = Fakes::new(World::sample());
    let config = ServeConfig {
        admin_listen: Some(([127, 0, 0, 1], 0).into()),
        traces: TraceConfig { endpoint: Some("http://127.0.0.1:1/v1/traces".into()), sample: 1.0, ..TraceConfig::default() },
        ..ServeConfig::default()
    };
    let stores = fakes.stores(Memory::new(Freshness::Shared { max_age: Duration::from_millis(500) }, &config.items));
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let doors = doors(stores, config, stop.clone(), &tasks).unwrap();
    let (inside, mut traces) = (doors.operators.unwrap(), doors.traces.unwrap());
    let status = |router: &axum::Router, path: &'static str| {
        let router = router.clone();
        async move { router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap().status().as_u16() }
    };
    for path in ["/metrics", "/status"] {
        assert_eq!((status(&doors.api, path).await, status(&inside, path).await), (404, 200), "{path}");
    }
    assert_eq!((status(&doors.api, "/health/live").await, status(&inside, "/health/live").await), (200, 200));
    assert_eq!(status(&inside, "/recommendations/u").await, 404);
    assert_eq!(status(&doors.api, "/recommendations/chess-fan-01").await, 200);
    let one = std::iter::from_fn(|| traces.try_recv().ok()).find(|t| t.route == "/recommendations/{user}").unwrap();
    assert_eq!(one.status, 200);
    assert!(one.parts.iter().any(|p| p.name == "graph" && p.source && p.ok), "{:?}", one.parts);
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

/// The SHA-256 of "open sesame".
const SESAME: &str = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";

#[tokio::test]
async fn guessing_keys_is_answered_with_429_and_a_right_key_is_taken_all_the_same() {
    let keys = vec![KeyConfig { name: "app".into(), sha256: SESAME.into(), role: Role::Read, ..KeyConfig::default() }];
    let c = caller(ServeConfig { keys, ..ServeConfig::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve_by(listener, c.router.clone().into(), Limits::default(), c.shutdown.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut ask = async |key: &str, path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = vec![0; 65_536];
        let n = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[9..n.min(12)]).into_owned()
    };
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for n in 0..200 {
        *seen.entry(ask(&format!("guess-{n}"), "/trending").await).or_default() += 1;
    }
    assert!(seen["401"] >= 50 && seen["429"] >= 100 && seen.len() == 2, "{seen:?}");
    assert_eq!(ask("open sesame", "/trending").await, "200");
    assert_eq!(ask("open sesame", "/metrics").await, "403", "figures are for operators");
    drop(stream);
    c.shutdown.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_too_much_is_refused_at_the_door() {
    let fakes = Fakes::new(World::sample());
    let config = ServeConfig::default();
    let stores = fakes.stores(Memory::new(Freshness::Shared { max_age: Duration::from_millis(500) }, &config.items));
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let doors = doors(stores, config, stop.clone(), &tasks).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let entrance = Entrance { gate: Some(doors.gate), ..doors.api.into() };
    let server = tokio::spawn(serve_by(listener, entrance, Limits::default(), stop.clone()));
    // Few connections are never too many.
    let mut streams = Vec::new();
    for _ in 0..80 {
        streams.push(TcpStream::connect(address).await.unwrap());
    }
    let mut stream = streams.pop().unwrap();
    let mut ask = async |path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = vec![0; 65_536];
        let n = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..n]).into_owned()
    };
    assert!(ask("/recommendations/chess-fan-01").await.starts_with("HTTP/1.1 200"));
    // Whoever keeps the CPU to himself makes every task late.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(60));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut refused = None;
    for _ in 0..40 {
        let answer = ask("/recommendations/chess-fan-01").await;
        assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 503"), "{answer}");
        if answer.starts_with("HTTP/1.1 503") {
            refused = Some(answer);
            break;
        }
    }
    let answer = refused.expect("some are turned away");
    let told = Instant::now();
    assert!(ask("/health/live").await.starts_with("HTTP/1.1 200"), "however much is going on");
    assert!(ask("/recommendations/chess-fan-01").await.starts_with("HTTP/1.1 503"));
    assert!(told.elapsed() > Duration::from_millis(150), "who insists is not heard at once");
    for line in ["retry-after: 1", "content-type: application/problem+json", "x-request-id: mine", "cache-control: no-store"] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    assert!(answer.contains(r#""status":503"#), "{answer}");
    let figures = ask("/metrics").await;
    assert!(figures.contains(r#"route="/recommendations/{user}""#) && figures.contains(r#"status="503""#), "{figures}");
    stop.cancel();
    drop(streams);
    server.await.unwrap().unwrap();
    tasks.close();
    tasks.wait().await;
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

#[tokio::test]
async fn answers_by_tls() {
    let files = TlsFiles { cert_file: Some(file("cert.pem")), key_file: Some(file("key.pem")) };
    let tls = Tls::load(&files).unwrap();
    let c = caller(ServeConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let entrance = Entrance { tls, ..c.router.clone().into() };
    let server = tokio::spawn(serve_by(listener, entrance, Limits::default(), c.shutdown.clone()));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("cert.pem")).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET /recommendations/chess-fan-01 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"recommendations\""), "{answer}");
    // One that speaks plainly is not understood, and one that says nothing is cut off with the server.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    c.shutdown.cancel();
    server.await.unwrap().unwrap();
    let missing = TlsFiles { cert_file: Some(file("none.pem")), ..files };
    assert!(Tls::load(&missing).err().unwrap().to_string().starts_with("serve.tls.cert_file"));
}
