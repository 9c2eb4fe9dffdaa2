//! Over real connections on loopback: requests under way end, new ones are refused, and a head that never ends is cut off.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use nearcast_serve::{ServeConfig, config::Limits, serve};
use support::{Caller, Fakes, Fault, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

async fn started(limits: Limits) -> (Caller, std::net::SocketAddr, JoinHandle<std::io::Result<()>>) {
    let c = Caller::new(Fakes::new(World::sample()), ServeConfig { limits, ..ServeConfig::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, c.router.clone(), limits, c.shutdown.clone()));
    (c, address, server)
}

async fn ask(address: std::net::SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_under_way_are_answered_before_the_end() {
    let (c, address, server) = started(Limits::default()).await;
    assert!(ask(address, "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.contains("200 OK"));
    c.fakes.break_store("graph", Fault::Slow(Duration::from_millis(300)));
    let slow = tokio::spawn(ask(address, "GET /recommendations/chess-fan-01?budget_ms=2000 HTTP/1.1\r\nhost: x\r\n\r\n"));
    // Until the request is in the middle of its sources.
    while !c.fakes.world.lock().unwrap().calls.contains_key("engagement.trending") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    c.shutdown.cancel();
    let answer = slow.await.unwrap();
    assert!(answer.contains("200 OK") && answer.contains("recommendations"), "{answer}");
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let (c, address, server) = started(Limits { header_timeout_ms: 100, ..Limits::default() }).await;
    // Ends only because the server closes.
    ask(address, "GET /health/live HTTP/1.1\r\nx-slow: ").await;
    c.shutdown.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_hangs_at_the_end_is_cut_off() {
    let (c, address, server) = started(Limits { drain_ms: 50, body_timeout_ms: 3_600_000, ..Limits::default() }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    assert!(ask(address, "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.contains("200 OK"));
    c.shutdown.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn garbage_on_the_wire() {
    let (c, address, server) = started(Limits { header_timeout_ms: 200, ..Limits::default() }).await;
    for text in [
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        "POST /events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "GET /recommendations/\u{7f}x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ] {
        let answer = ask(address, text).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{text:?}: {answer}");
    }
    assert!(ask(address, "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.contains("200 OK"));
    c.shutdown.cancel();
    server.await.unwrap().unwrap();
}
