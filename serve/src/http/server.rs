//! Connections: accepts them, bounds how long a head may take, and lets open requests end when the program stops.
//!
//! HTTP/1.1 only; TLS ends in front of it.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::Limits;

/// Connections that this process has open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// How many connections are open.
pub fn open_connections() -> usize {
    OPEN.load(Ordering::Relaxed)
}

/// One of them, until it is dropped.
struct Open;

impl Open {
    fn new() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long to wait when no connection can be accepted (out of file handles).
const BREATHE: Duration = Duration::from_millis(50);

/// Serves until `cancel`, then lets requests under way end for as long as `limits.drain_ms`.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, cancel: CancellationToken) -> io::Result<()> {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone(), limits, cancel.clone());
                let cut = cut.clone();
                let open = Open::new();
                connections.spawn(async move {
                    let _open = open;
                    tokio::select! {
                        () = connection => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(e) => {
                tracing::warn!("no connection can be accepted: {e}");
                sleep(BREATHE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(Duration::from_millis(limits.drain_ms), connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "requests did not end in time and are cut off");
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, cancel: CancellationToken) {
    // Small answers must not wait for more to come; where it cannot be set, they do.
    let _ = stream.set_nodelay(true);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(limits.header_timeout_ms))
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        // Callers that hang up or send garbage are no news.
        tracing::trace!("a connection ended: {e}");
    }
}
