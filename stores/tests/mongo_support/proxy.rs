//! A proxy that counts commands which write, and cuts every connection before or behind the n-th.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

struct Shared {
    server: String,
    writes: AtomicUsize,
    cut_at: AtomicUsize,
    behind: AtomicBool,
    up: watch::Sender<bool>,
}

/// In front of one server.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.up.send_replace(false);
        self.task.abort();
    }
}

impl Proxy {
    pub async fn new(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            writes: AtomicUsize::new(0),
            cut_at: AtomicUsize::new(usize::MAX),
            behind: AtomicBool::new(false),
            up: watch::Sender::new(true),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self { port, shared, task }
    }

    /// From now on: the server goes away at the n-th write (from 1), before it gets it or behind it.
    pub fn cut_at(&self, n: usize, behind: bool) {
        self.shared.writes.store(0, Ordering::SeqCst);
        self.shared.behind.store(behind, Ordering::SeqCst);
        self.shared.cut_at.store(n, Ordering::SeqCst);
    }

    /// Writes since the last [`Proxy::cut_at`].
    pub fn writes(&self) -> usize {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// Cuts everything, or lets it through again.
    pub fn set_up(&self, up: bool) {
        self.shared.up.send_replace(up);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        if *shared.up.borrow() {
            connections.spawn(carry(client, shared.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// One request after the other, until the connection ends or is cut.
async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let mut up = shared.up.subscribe();
    let Ok(mut server) = TcpStream::connect(&shared.server).await else { return };
    let talk = async {
        while let Some(request) = message(&mut client).await {
            let cut =
                is_write(&request) && shared.writes.fetch_add(1, Ordering::SeqCst) + 1 >= shared.cut_at.load(Ordering::SeqCst);
            if cut && !shared.behind.load(Ordering::SeqCst) {
                shared.up.send_replace(false);
                return;
            }
            if server.write_all(&request).await.is_err() {
                return;
            }
            let Some(reply) = message(&mut server).await else { return };
            if cut {
                shared.up.send_replace(false);
                return;
            }
            if client.write_all(&reply).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = talk => {}
        _ = up.wait_for(|up| !up) => {}
    }
}

/// A message of MongoDB's protocol, with its header.
pub async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let whole = usize::try_from(u32::from_le_bytes(length)).ok().filter(|n| (16..1 << 26).contains(n))?;
    let mut all = vec![0; whole];
    all[..4].copy_from_slice(&length);
    stream.read_exact(&mut all[4..]).await.ok()?;
    Some(all)
}

/// The name of a command is the first field of its document: behind header, flags, kind of section, length and type.
fn is_write(message: &[u8]) -> bool {
    let name = message.get(26..).unwrap_or_default().split(|b| *b == 0).next().unwrap_or_default();
    matches!(name, b"insert" | b"update" | b"delete" | b"findAndModify")
}
