//! A line to a server that a test can cut, and make silent.
#![allow(dead_code)]

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Everything goes through.
    Open,
    /// Nobody is there: open lines are cut, new ones are closed at once.
    Gone,
    /// Lines open, but nothing comes back on them, nor on those that were open.
    Silent,
}

pub struct Proxy {
    pub address: SocketAddr,
    state: watch::Sender<Line>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// In front of `host:port`.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, seen) = watch::channel(Line::Open);
        let server = server.to_owned();
        let task = tokio::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                lines.spawn(line(client, server.clone(), seen.clone()));
            }
        });
        Self { address, state, task }
    }

    pub fn set(&self, line: Line) {
        self.state.send(line).unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn line(mut client: TcpStream, server: String, mut state: watch::Receiver<Line>) {
    let now = *state.borrow_and_update();
    match now {
        Line::Gone => {}
        // Held open until something changes.
        Line::Silent => drop(state.changed().await),
        Line::Open => {
            let Ok(mut upstream) = TcpStream::connect(&server).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut upstream) => return,
                _ = state.changed() => {}
            }
            // Not a byte more on this line, whatever comes next.
            if *state.borrow_and_update() == Line::Silent {
                drop(state.changed().await);
            }
        }
    }
}
