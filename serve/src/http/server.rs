//! Connections: accepts them, bounds how long a head may take, and lets open requests end when the program stops.
//!
//! HTTP/1.1 only; TLS where it is configured.

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::Request, response::Response};
use futures_util::future::{BoxFuture, Either, FutureExt, Ready, ready};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{Instant, interval, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    arrival::Arrived,
    gate::{Gate, Pass},
    pressure::FEW,
    tls::Tls,
    waited::{Socket, since_data, socket},
};
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

/// How long the first request of a new connection is waited for at the end.
const FIRST: Duration = Duration::from_secs(1);
/// How often the certificate's files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Serves until `cancel`. Then goes on for `limits.linger_ms`, with answers that ask to connect anew, so that nobody's request meets a
/// closed connection; then lets requests under way end for as long as `limits.drain_ms`.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, cancel: CancellationToken) -> io::Result<()> {
    serve_by(listener, router.into(), limits, cancel).await
}

/// What connections lead to.
pub struct Entrance {
    /// Who answers.
    pub router: Router,
    /// Who turns requests away before that, when there are too many.
    pub gate: Option<Gate>,
    /// With it, connections are by TLS.
    pub tls: Option<Arc<Tls>>,
}

impl From<Router> for Entrance {
    fn from(router: Router) -> Self {
        Self { router, gate: None, tls: None }
    }
}

/// The same through a gate and by TLS, where there are any.
pub async fn serve_by(listener: TcpListener, entrance: Entrance, limits: Limits, cancel: CancellationToken) -> io::Result<()> {
    let Entrance { router, gate, tls } = entrance;
    let door = Door {
        router,
        gate,
        limits,
        tls,
        connections: TaskTracker::new(),
        closing: Arc::default(),
        ending: CancellationToken::new(),
        cut: CancellationToken::new(),
    };
    let mut looks = interval(LOOK_EVERY);
    let mut until: Option<Instant> = None;
    loop {
        if until.is_some() && door.connections.is_empty() {
            // Nobody is left; whoever knocked a moment ago is let in.
            until = Some(Instant::now());
        }
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled(), if until.is_none() => {
                door.closing.store(true, Ordering::Relaxed);
                until = Some(Instant::now() + Duration::from_millis(limits.linger_ms));
                continue;
            }
            accepted = listener.accept() => accepted,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break,
            () = sleep(BREATHE), if until.is_some() => continue,
            _ = looks.tick(), if door.tls.is_some() => {
                if let Some(tls) = &door.tls {
                    tls.look();
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => door.take(stream, peer.ip()),
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(e) => {
                tracing::warn!("no connection can be accepted: {e}");
                sleep(BREATHE).await;
            }
        }
    }
    // Whoever is connected already, and not yet taken in, is.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                door.take(stream, peer.ip());
            }
        }
    }
    door.ending.cancel();
    door.connections.close();
    if timeout(Duration::from_millis(limits.drain_ms), door.connections.wait()).await.is_err() {
        tracing::warn!(open = door.connections.len(), "requests did not end in time and are cut off");
        door.cut.cancel();
        door.connections.wait().await;
    }
    Ok(())
}

/// What connections share.
struct Door {
    router: Router,
    gate: Option<Gate>,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    connections: TaskTracker,
    /// Whether answers say that their connection ends.
    closing: Arc<AtomicBool>,
    /// Cancelled when connections end as soon as nothing is under way on them.
    ending: CancellationToken,
    /// Cancelled when they end at once.
    cut: CancellationToken,
}

impl Door {
    /// Answers on a connection until it ends.
    fn take(&self, stream: TcpStream, peer: IpAddr) {
        // Small answers must not wait for more to come; where it cannot be set, they do.
        let _ = stream.set_nodelay(true);
        let (closing, asked, told) = (self.closing.clone(), Arc::default(), Cell::default());
        let inner = TowerToHyperService::new(self.router.clone());
        let service = Arriving { inner, gate: self.gate.clone(), peer, socket: socket(&stream), closing, asked, told };
        let (limits, tls) = (self.limits, self.tls.as_ref().map(|t| t.acceptor()));
        let (ending, cut) = (self.ending.clone(), self.cut.clone());
        let open = Open::new();
        self.connections.spawn(async move {
            let _open = open;
            let connection = async {
                match tls {
                    None => connection(stream, service, limits, ending).await,
                    Some(tls) => match timeout(Duration::from_millis(limits.header_timeout_ms), tls.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, service, limits, ending).await,
                        Ok(Err(e)) => tracing::trace!("no handshake: {e}"),
                        Err(_) => tracing::trace!("no handshake in time"),
                    },
                }
            };
            tokio::select! {
                () = connection => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

/// Takes down when and from where each request of a connection came.
#[derive(Clone)]
struct Arriving {
    inner: TowerToHyperService<Router>,
    gate: Option<Gate>,
    peer: IpAddr,
    /// Owned by the connection that this serves.
    socket: Socket,
    closing: Arc<AtomicBool>,
    /// Whether there was a request on the connection.
    asked: Arc<AtomicBool>,
    /// Until when it was told not to ask again.
    told: Cell<Option<Instant>>,
}

type Answering = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;
type Answered = Result<Response, Infallible>;
/// An answer that is there, or one that is held back.
type Refusal = Either<Ready<Answered>, BoxFuture<'static, Answered>>;

impl Service<Request<Incoming>> for Arriving {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = Either<Refusal, Answering>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let closing = self.closing.load(Ordering::Relaxed);
        self.asked.store(true, Ordering::Relaxed);
        let waited = if open_connections() > FEW { since_data(self.socket) } else { None };
        let now = Instant::now();
        let at = now.checked_sub(waited.unwrap_or_default()).unwrap_or(now);
        let mut arrived = Arrived { at, waited, peer: Some(self.peer), closing, let_in: false };
        if let Some(gate) = &self.gate {
            match gate.pass(request.uri().path(), request.method(), request.headers(), &arrived, self.told.get()) {
                Pass::Refused(refused) => {
                    self.told.set(Some(Instant::now() + refused.hold));
                    return Either::Left(Either::Left(ready(Ok(gate.refuse(refused)))));
                }
                Pass::Insisted(refused) => {
                    let (gate, until) = (gate.clone(), self.told.take());
                    let held = async move {
                        sleep_until(until.unwrap_or(arrived.at)).await;
                        Ok(gate.refuse(refused))
                    };
                    return Either::Left(Either::Right(held.boxed()));
                }
                Pass::Allowed => arrived.let_in = true,
                Pass::Unasked => {}
            }
        }
        request.extensions_mut().insert(arrived);
        Either::Right(self.inner.call(request))
    }
}

async fn connection<S>(stream: S, service: Arriving, limits: Limits, ending: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let asked = service.asked.clone();
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(limits.header_timeout_ms))
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.cancelled() => {
            // Whoever connected a moment ago is about to ask: closed now, their request would meet a closed connection.
            let until = Instant::now() + FIRST;
            while !asked.load(Ordering::Relaxed) && Instant::now() < until {
                if timeout(BREATHE, connection.as_mut()).await.is_ok() {
                    return;
                }
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        // Callers that hang up or send garbage are no news.
        tracing::trace!("a connection ended: {e}");
    }
}
