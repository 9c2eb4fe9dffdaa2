//! Requests over many connections from one thread: as fast as answers come, or at a rate whether they come or not.
//!
//! At a rate, the time of an answer counts from when its request was due: one that is slow makes those behind it late, and they say so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::histogram::Histogram;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Paths, one request after another.
pub type Paths = Arc<dyn Fn(&mut fastrand::Rng) -> String + Send + Sync>;

/// What is sent.
#[derive(Clone)]
pub struct Load {
    /// The port on loopback.
    pub port: u16,
    /// Connections at once.
    pub connections: usize,
    /// For how long.
    pub time: Duration,
    /// Requests a second of all connections together; none: as fast as answers come.
    pub rate: Option<f64>,
    /// What is asked.
    pub paths: Paths,
}

/// What came of it.
#[derive(Default, Clone)]
pub struct Outcome {
    /// Answers with 200: from when they were due.
    pub good: Histogram,
    /// Answers with 200: from when they were sent.
    pub sent: Histogram,
    /// Answers with 503 or 429.
    pub turned_away: Histogram,
    /// Other answers.
    pub other: u64,
    /// Connections that failed or ended.
    pub broken: u64,
    /// Answers with 200 whose `degraded` is not empty.
    pub degraded: u64,
    /// Answers with 200 that recommend nothing.
    pub empty: u64,
    /// How long it went on.
    pub seconds: f64,
}

impl Outcome {
    /// Answers with 200 a second.
    pub fn per_second(&self) -> f64 {
        self.good.count() as f64 / self.seconds
    }

    /// Answers with 200 a second that came within 100 ms of being sent.
    pub fn goodput(&self) -> f64 {
        self.sent.within(Duration::from_millis(100)) as f64 / self.seconds
    }

    /// Adds another round to this one.
    pub fn merge(&mut self, other: &Self) {
        self.good.merge(&other.good);
        self.sent.merge(&other.sent);
        self.turned_away.merge(&other.turned_away);
        self.other += other.other;
        self.broken += other.broken;
        self.degraded += other.degraded;
        self.empty += other.empty;
        self.seconds += other.seconds;
    }

    /// For the report.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({"per_second":self.per_second(),"goodput":self.goodput(),"good":self.good.json(),"sent":self.sent.json(),
            "turned_away":self.turned_away.json(),"other":self.other,"broken":self.broken,"degraded":self.degraded,
            "empty":self.empty,"seconds":self.seconds})
    }
}

/// Runs it to the end, on a runtime of one thread.
pub fn run(load: &Load) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(drive(load))
}

/// See the module.
pub async fn drive(load: &Load) -> anyhow::Result<Outcome> {
    let mut tasks = JoinSet::new();
    let begin = Instant::now() + Duration::from_millis(20 + load.connections as u64 / 20);
    let open = Arc::new(AtomicUsize::new(0));
    for n in 0..load.connections {
        let (load, open) = (load.clone(), open.clone());
        tasks.spawn(async move {
            let outcome = one(&load, n, begin).await;
            open.fetch_add(1, Relaxed);
            outcome
        });
    }
    let mut all = Outcome::default();
    while let Some(done) = tasks.join_next().await {
        all.merge(&done?);
    }
    all.seconds = load.time.as_secs_f64();
    Ok(all)
}

/// One connection, opened again when it ends.
async fn one(load: &Load, number: usize, begin: Instant) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(number as u64);
    let mut out = Outcome::default();
    let end = begin + load.time;
    let step = load.rate.map(|r| Duration::from_secs_f64(load.connections as f64 / r));
    // Connections take turns.
    let mut due = begin + step.map_or(Duration::ZERO, |s| s.mul_f64(number as f64 / load.connections as f64));
    let mut wire: Option<Wire> = None;
    while due < end && Instant::now() < end {
        // A sleep costs up to a millisecond even where nothing is left of it.
        if step.is_some() && due > Instant::now() {
            sleep_until(due).await;
        }
        let mut connection = match wire.take() {
            Some(wire) => wire,
            None => match Wire::connect(load.port).await {
                Ok(wire) => wire,
                Err(_) => {
                    out.broken += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    due = step.map_or_else(Instant::now, |s| due + s);
                    continue;
                }
            },
        };
        let path = (load.paths)(&mut rng);
        let sent = Instant::now();
        match timeout(PATIENCE, connection.ask(&path)).await {
            Ok(Ok(answer)) => {
                let now = Instant::now();
                match answer.status {
                    200 => {
                        out.good.add(now - if step.is_some() { due } else { sent });
                        out.sent.add(now - sent);
                        out.degraded += u64::from(answer.degraded);
                        out.empty += u64::from(answer.empty);
                    }
                    429 | 503 => out.turned_away.add(now - sent),
                    _ => out.other += 1,
                }
                if !answer.last {
                    wire = Some(connection);
                }
            }
            _ => out.broken += 1,
        }
        due = match step {
            None => Instant::now(),
            Some(step) => due + step,
        };
    }
    out
}

/// A connection and what was read of it.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    request: Vec<u8>,
}

struct Answer {
    status: u16,
    last: bool,
    degraded: bool,
    empty: bool,
}

impl Wire {
    async fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4_096), request: Vec::with_capacity(256) })
    }

    async fn ask(&mut self, path: &str) -> std::io::Result<Answer> {
        let bad = |what: &str| std::io::Error::other(what.to_owned());
        self.request.clear();
        self.request.extend_from_slice(b"GET ");
        self.request.extend_from_slice(path.as_bytes());
        self.request.extend_from_slice(b" HTTP/1.1\r\nhost: bench\r\n\r\n");
        self.stream.write_all(&self.request).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(bad("the connection ended"));
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head]).map_err(|_| bad("a head that is no text"))?;
        let status = text.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(|| bad("no status"))?;
        let (mut length, mut last) = (0, false);
        for line in text.split("\r\n") {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(|_| bad("no length"))?;
            } else if name.eq_ignore_ascii_case("connection") {
                last = value.trim().eq_ignore_ascii_case("close");
            }
        }
        while self.buffer.len() < head + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(bad("the connection ended"));
            }
        }
        let body = &self.buffer[head..];
        let holds = |what: &[u8]| body.windows(what.len()).any(|w| w == what);
        // Looked at in a few only where it is fast enough not to matter: the end of an answer holds it, the list comes before.
        let tail = &body[body.len().saturating_sub(300)..];
        let degraded = tail.windows(12).any(|w| w == b"\"degraded\":[") && !tail.windows(13).any(|w| w == b"\"degraded\":[]");
        let empty = length < 400 && holds(b"\"recommendations\":[]");
        Ok(Answer { status, last, degraded, empty })
    }
}
