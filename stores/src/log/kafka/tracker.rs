//! How far the group of workers has come, asked of the brokers by one thread for everyone who waits.
//!
//! What this process publishes and commits itself is known at once and without asking; what others do is asked every few
//! milliseconds while someone waits for a token, and only when asked for otherwise. It never joins the group.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::IsError,
};
use tokio::sync::{oneshot, watch};

use super::{
    KafkaConfig,
    client::{self, Logging},
    error::{self, LOG},
    offsets::Offsets,
};

/// Between two questions to the brokers while someone waits for a token.
const POLL: Duration = Duration::from_millis(4);
/// The same while the brokers do not answer.
const BACKOFF: Duration = Duration::from_millis(200);
/// How often what waits is counted for the metrics, once a source was opened.
const WATCH: Duration = Duration::from_secs(5);
/// How old a count of what waits may be.
const FRESH: Duration = Duration::from_millis(250);

impl ConsumerContext for Logging {}

/// One partition as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    /// The first record that is there.
    low: i64,
    /// Behind the last.
    high: i64,
    /// The first that is not done yet, where the group ever committed.
    committed: Option<i64>,
    /// Whether this process moved it since the brokers were asked last.
    moved: bool,
}

impl Head {
    fn lag(&self) -> u64 {
        self.high.saturating_sub(self.committed.unwrap_or(0).max(self.low)).max(0).unsigned_abs()
    }
}

#[derive(Default)]
struct State {
    heads: BTreeMap<i32, Head>,
    asked: Option<Instant>,
}

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    waiters: AtomicUsize,
}

enum Request {
    /// Everything anew.
    All(oneshot::Sender<StoreResult<()>>),
    /// Someone waits for a token.
    Wake,
    /// A source was opened: the metrics are to say from now on what waits.
    Watch,
    Stop,
}

/// The thread and what it knows.
pub(super) struct Tracker {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Someone waits, until it is dropped.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracker {
    /// Starts the thread. The brokers are not asked before someone asks here.
    pub fn start(config: &KafkaConfig) -> StoreResult<Self> {
        let consumer: BaseConsumer<Logging> = client::make(LOG, &client::consumer(config, &config.group)?, Logging)?;
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: watch::Sender::new(()), waiters: AtomicUsize::new(0) });
        let (requests, rx) = mpsc::channel();
        let asking =
            Asking { consumer, topic: config.topic.clone(), patience: client::patience(config), shared: shared.clone() };
        let thread = std::thread::Builder::new().name("kafka-progress".into()).spawn(move || asking.run(&rx));
        let thread = thread.map_err(|e| StoreError::new(ErrorKind::Busy, LOG, format!("no thread can be started: {e}")))?;
        Ok(Self { shared, requests, thread: Mutex::new(Some(thread)) })
    }

    /// This process published up to these offsets.
    pub fn published(&self, offsets: &Offsets) {
        let mut state = self.shared.lock();
        for (partition, offset) in &offsets.0 {
            let head = state.heads.entry(*partition).or_default();
            (head.high, head.moved) = (head.high.max(offset + 1), true);
        }
    }

    /// The group committed; everything before this offset has had its effect.
    pub fn committed(&self, offsets: &BTreeMap<i32, i64>) {
        let mut state = self.shared.lock();
        for (partition, offset) in offsets {
            let head = state.heads.entry(*partition).or_default();
            (head.committed, head.high, head.moved) = (Some(*offset), head.high.max(*offset), true);
        }
        drop(state);
        self.shared.changed.send_replace(());
    }

    /// The group was moved to another place: what was known of it holds no more, not even for the short time that an answer may be old.
    pub fn rewound(&self) {
        let mut state = self.shared.lock();
        state.asked = None;
        for head in state.heads.values_mut() {
            (head.committed, head.moved) = (None, false);
        }
    }

    /// Waits until the group has done the records at these offsets. Records that are not there (yet) are refused.
    pub async fn reached(&self, offsets: &Offsets) -> StoreResult<()> {
        if !self.there(offsets) {
            self.ask().await?;
            if !self.there(offsets) {
                return Err(StoreError::new(ErrorKind::Invalid, LOG, format!("there are no records at {offsets} in this log")));
            }
        }
        let mut changed = self.shared.changed.subscribe();
        if self.passed(offsets) {
            return Ok(());
        }
        self.shared.waiters.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.shared);
        self.send(Request::Wake)?;
        while !self.passed(offsets) {
            // The sender lives as long as this tracker: waiting cannot fail.
            drop(changed.changed().await);
        }
        Ok(())
    }

    /// Has what waits counted for the metrics from now on.
    pub fn watch(&self) {
        drop(self.send(Request::Watch));
    }

    /// How many records wait, in all partitions.
    pub async fn lag(&self) -> StoreResult<u64> {
        let fresh = |s: &State| s.asked.is_some_and(|t| t.elapsed() < FRESH);
        if !fresh(&self.shared.lock()) {
            self.ask().await?;
        }
        Ok(self.shared.lock().heads.values().map(Head::lag).sum())
    }

    /// Asks the brokers for everything, once for all who ask meanwhile.
    async fn ask(&self) -> StoreResult<()> {
        let (tx, rx) = oneshot::channel();
        self.send(Request::All(tx))?;
        rx.await.map_err(|_| closed())?
    }

    fn send(&self, request: Request) -> StoreResult<()> {
        self.requests.send(request).map_err(|_| closed())
    }

    fn there(&self, offsets: &Offsets) -> bool {
        let state = self.shared.lock();
        offsets.0.iter().all(|(p, o)| state.heads.get(p).is_some_and(|h| *o < h.high))
    }

    fn passed(&self, offsets: &Offsets) -> bool {
        let state = self.shared.lock();
        offsets.0.iter().all(|(p, o)| state.heads.get(p).and_then(|h| h.committed).is_some_and(|c| c > *o))
    }

    /// Ends the thread and waits for it, on this thread.
    pub fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            drop(self.send(Request::Stop));
            if thread.join().is_err() {
                tracing::warn!("the thread that asks Kafka for progress had died");
            }
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn closed() -> StoreError {
    StoreError::new(ErrorKind::Unavailable, LOG, "the log is closed")
}

/// What the thread has.
struct Asking {
    consumer: BaseConsumer<Logging>,
    topic: String,
    patience: Duration,
    shared: Arc<Shared>,
}

impl Asking {
    fn run(self, requests: &mpsc::Receiver<Request>) {
        let (mut pause, mut watch) = (POLL, false);
        loop {
            let waiting = self.shared.waiters.load(Ordering::SeqCst) > 0;
            let first = match requests.recv_timeout(if waiting { pause } else { WATCH }) {
                Ok(request) => Some(request),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            if first.is_none() && !waiting && !watch {
                continue;
            }
            let count = first.is_none() && !waiting;
            let mut asked = Vec::new();
            for request in first.into_iter().chain(requests.try_iter()) {
                match request {
                    Request::All(tx) => asked.push(tx),
                    Request::Wake => {}
                    Request::Watch => watch = true,
                    Request::Stop => return,
                }
            }
            // Errors that the library reports by events; there are no records, as nothing is subscribed to.
            drop(self.consumer.poll(Duration::ZERO));
            let outcome = if asked.is_empty() && !count { self.ask_committed() } else { self.ask_all() };
            pause = if outcome.is_ok() { POLL } else { BACKOFF };
            for tx in asked {
                drop(tx.send(outcome.clone()));
            }
            self.shared.changed.send_replace(());
        }
    }

    fn list(&self, partitions: impl Iterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        list
    }

    fn ask_committed(&self) -> StoreResult<()> {
        let list = {
            let mut state = self.shared.lock();
            state.heads.values_mut().for_each(|h| h.moved = false);
            self.list(state.heads.keys().copied())
        };
        let committed = by_partition(&self.committed_of(list)?);
        let mut state = self.shared.lock();
        for (partition, offset) in committed {
            if let Some(head) = state.heads.get_mut(&partition) {
                // What this process committed while the brokers answered is newer than the answer.
                head.committed = if head.moved { head.committed.max(offset) } else { offset };
            }
        }
        Ok(())
    }

    fn committed_of(&self, list: TopicPartitionList) -> StoreResult<TopicPartitionList> {
        if list.count() == 0 {
            return Ok(list);
        }
        let failed = |e| error::error("asking for the group's offsets", &e);
        self.consumer.committed_offsets(list, self.patience).map_err(failed)
    }

    fn ask_all(&self) -> StoreResult<()> {
        let failed = |e| error::error("asking for the topic's offsets", &e);
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), self.patience).map_err(failed)?;
        let topic = metadata.topics().first();
        if let Some(code) = topic.and_then(|t| t.error()).filter(IsError::is_error) {
            return Err(error::of_code(LOG, &format!("topic {}", self.topic), code.into()));
        }
        let partitions: Vec<i32> = topic.into_iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
        self.shared.lock().heads.values_mut().for_each(|h| h.moved = false);
        let list = || self.list(partitions.iter().copied());
        // Before the ends, so that what is counted as waiting was never negative.
        let committed = by_partition(&self.committed_of(list())?);
        let times = |what: Offset| {
            let mut list = list();
            list.set_all_offsets(what).and_then(|()| self.consumer.offsets_for_times(list, self.patience)).map_err(failed)
        };
        let (low, high) = (by_partition(&times(Offset::Beginning)?), by_partition(&times(Offset::End)?));
        let mut state = self.shared.lock();
        state.heads.retain(|p, _| partitions.contains(p));
        for partition in partitions {
            let head = state.heads.entry(partition).or_default();
            let at = |map: &BTreeMap<i32, Option<i64>>| map.get(&partition).copied().flatten();
            head.low = at(&low).unwrap_or(head.low);
            if let Some(high) = at(&high) {
                head.high = if head.moved { head.high.max(high) } else { high };
            }
            head.committed = if head.moved { head.committed.max(at(&committed)) } else { at(&committed) };
            let label = partition.to_string();
            metrics::gauge!("nearcast_kafka_lag", "partition" => label).set(head.lag() as f64);
        }
        state.asked = Some(Instant::now());
        Ok(())
    }
}

/// The offsets of a list; `None` where there is none.
pub(super) fn by_partition(list: &TopicPartitionList) -> BTreeMap<i32, Option<i64>> {
    let offset = |o| if let Offset::Offset(n) = o { Some(n) } else { None };
    list.elements().iter().map(|e| (e.partition(), offset(e.offset()))).collect()
}
