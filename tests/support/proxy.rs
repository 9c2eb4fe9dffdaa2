//! A TCP proxy that can be made to misbehave, between the program and a store.
//!
//! Knows no protocol. Every thread of it ends with it.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// What the proxy does with connections, those that are open and new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything on.
    None,
    /// Closes what is open and every new connection at once.
    Refuse,
    /// Resets: what is open when it begins, and every connection at the first byte of an answer.
    Reset,
    /// Takes everything and passes nothing on.
    Stall,
    /// Every piece of an answer comes half a second late.
    Slow,
    /// One byte of an answer a second.
    Trickle,
    /// Ends each connection in the middle of its first answer.
    HalfWay,
}

/// All that can go wrong.
pub const FAULTS: [Fault; 6] = [Fault::Refuse, Fault::Reset, Fault::Stall, Fault::Slow, Fault::Trickle, Fault::HalfWay];

/// A proxy on a port of its own.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    fault: Mutex<Fault>,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
}

const TICK: Duration = Duration::from_millis(10);

impl Proxy {
    /// In front of a server on loopback.
    pub fn new(target: SocketAddr) -> Self {
        assert!(target.ip().is_loopback());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            target,
            fault: Mutex::new(Fault::None),
            ended: AtomicBool::new(false),
            open: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let accepting = shared.clone();
        let acceptor = std::thread::spawn(move || accepting.accept(&listener));
        Self { port, shared, acceptor: Some(acceptor) }
    }

    /// The port to connect to instead of the server's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Misbehaves from now on, or behaves again.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        if matches!(fault, Fault::Refuse | Fault::Reset) {
            self.shared.cut();
        }
    }

    /// How many connections are open through it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.cut();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut pumps: Vec<JoinHandle<()>> = Vec::new();
        while !self.ended.load(Ordering::Relaxed) {
            pumps.retain(|p| !p.is_finished());
            let Ok((client, _)) = listener.accept() else {
                std::thread::sleep(TICK);
                continue;
            };
            client.set_nonblocking(false).unwrap();
            if self.fault() == Fault::Refuse {
                continue;
            }
            let Ok(server) = TcpStream::connect_timeout(&self.target, Duration::from_secs(1)) else { continue };
            for s in [&client, &server] {
                let _ = s.set_nodelay(true);
                self.open.lock().unwrap().push(s.try_clone().unwrap());
            }
            let (c2, s2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (there, back) = (self.clone(), self.clone());
            self.connections.fetch_add(1, Ordering::Relaxed);
            pumps.push(std::thread::spawn(move || there.requests(client, server)));
            pumps.push(std::thread::spawn(move || {
                back.answers(s2, c2);
                back.connections.fetch_sub(1, Ordering::Relaxed);
            }));
        }
        self.cut();
        for pump in pumps {
            let _ = pump.join();
        }
    }

    /// Waits while nothing may pass; `false` when the proxy ends.
    fn pass(&self) -> bool {
        while self.fault() == Fault::Stall {
            if self.ended.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(TICK);
        }
        !self.ended.load(Ordering::Relaxed)
    }

    fn requests(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 65_536];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if !self.pass() || to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    fn answers(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 65_536];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let whole = &buffer[..n];
            let sent = match self.fault() {
                Fault::Refuse | Fault::Reset => break,
                Fault::HalfWay => {
                    let _ = to.write_all(&whole[..n / 2]);
                    break;
                }
                Fault::Slow => {
                    std::thread::sleep(Duration::from_millis(500));
                    to.write_all(whole)
                }
                Fault::Trickle => self.trickle(&mut to, whole),
                Fault::None | Fault::Stall => {
                    if !self.pass() {
                        break;
                    }
                    to.write_all(whole)
                }
            };
            if sent.is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    fn trickle(&self, to: &mut TcpStream, whole: &[u8]) -> std::io::Result<()> {
        for (i, byte) in whole.iter().enumerate() {
            if self.fault() != Fault::Trickle {
                return to.write_all(&whole[i..]);
            }
            to.write_all(std::slice::from_ref(byte))?;
            for _ in 0..100 {
                if self.ended.load(Ordering::Relaxed) || self.fault() != Fault::Trickle {
                    break;
                }
                std::thread::sleep(TICK);
            }
        }
        Ok(())
    }
}
