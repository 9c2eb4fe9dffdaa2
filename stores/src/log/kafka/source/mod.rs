//! A worker's source: one member of the consumer group.
//!
//! A thread of its own polls the brokers, whatever the worker does, so that a slow store is never taken for a dead worker. What it
//! reads waits here, bounded in bytes. Only what the worker has acknowledged is committed, and a partition is given away only when
//! what is under way on it is committed, or is dropped and never written ([`nearcast_domain::ports::Claim`]).

mod group;
mod held;
mod reader;
mod waiting;

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult,
    ports::{EventSource, SourceBatch},
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    types::RDKafkaErrorCode as Code,
};

use self::{
    group::Group,
    held::{Shared, Taken},
};
use super::{
    KafkaLog, client,
    error::{self, LOG},
    offsets::Offsets,
    setup::blocking,
};

pub use held::Usage;

/// What the brokers say while the group is being shared out anew.
const UNSETTLED: [Code; 5] =
    [Code::UnknownMemberId, Code::IllegalGeneration, Code::RebalanceInProgress, Code::FencedInstanceId, Code::AssignmentLost];
/// Between two attempts to commit then,
const SHARED_OUT: Duration = Duration::from_millis(50);
/// and how long there are any, before the worker is told.
const COMMITTED_WITHIN: Duration = Duration::from_secs(60);

/// Reads the partitions that the group gives it. Dropping it leaves the group.
pub struct KafkaSource {
    log: KafkaLog,
    shared: Arc<Shared>,
    consumer: Arc<BaseConsumer<Group>>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaSource {
    /// Joins the group.
    pub(super) fn open(log: KafkaLog) -> StoreResult<Self> {
        let config = &log.0.config;
        let shared = Arc::new(Shared::new(config.buffer_bytes));
        let mut c = client::consumer(config, &config.group)?;
        c.set("partition.assignment.strategy", "cooperative-sticky");
        c.set("session.timeout.ms", config.session_timeout_ms.to_string());
        c.set("heartbeat.interval.ms", (config.session_timeout_ms / 4).clamp(100, 3000).to_string());
        c.set("max.poll.interval.ms", config.poll_timeout_ms.max(config.session_timeout_ms).to_string());
        c.set("topic.metadata.refresh.interval.ms", "10000");
        // What the library reads ahead is bounded too: a quarter of what this source holds.
        let ahead = config.buffer_bytes / 4;
        let fetch = ahead.clamp(64 << 10, 1 << 20);
        c.set("queued.max.messages.kbytes", (ahead >> 10).max(64).to_string());
        c.set("fetch.max.bytes", ahead.max(1 << 20).to_string());
        c.set("message.max.bytes", (1 << 20).to_string());
        c.set("max.partition.fetch.bytes", fetch.to_string());
        c.set("fetch.queue.backoff.ms", "20");
        let group = Group { config: config.clone(), shared: shared.clone() };
        let consumer: Arc<BaseConsumer<Group>> = Arc::new(client::make(LOG, &c, group)?);
        consumer.subscribe(&[&config.topic]).map_err(|e| error::error("joining the group", &e))?;
        let reader = reader::Reader { consumer: consumer.clone(), shared: shared.clone(), config: config.clone() };
        let thread = std::thread::Builder::new().name("kafka-source".into()).spawn(move || reader.run());
        let thread = thread.map_err(|e| StoreError::new(ErrorKind::Busy, LOG, format!("no thread can be started: {e}")))?;
        log.0.tracker.watch();
        Ok(Self { log, shared, consumer, thread: Some(thread) })
    }

    /// What it holds just now.
    pub fn usage(&self) -> Usage {
        self.shared.usage()
    }

    /// Commits once. `false`: the group is being shared out anew, so that it does not count.
    async fn try_commit(&self, list: BTreeMap<i32, i64>) -> StoreResult<bool> {
        let (consumer, topic) = (self.consumer.clone(), self.log.0.config.topic.clone());
        blocking(move || {
            let failed = |e| error::error("committing", &e);
            let mut offsets = TopicPartitionList::new();
            for (partition, offset) in list {
                offsets.add_partition_offset(&topic, partition, Offset::Offset(offset)).map_err(failed)?;
            }
            match consumer.commit(&offsets, CommitMode::Sync) {
                Ok(()) => Ok(true),
                Err(e) if e.rdkafka_error_code().is_some_and(|code| UNSETTLED.contains(&code)) => {
                    tracing::debug!(error = %e, "a commit has to wait until the group is shared out");
                    Ok(false)
                }
                Err(e) => Err(failed(e)),
            }
        })
        .await
    }
}

#[async_trait]
impl EventSource for KafkaSource {
    async fn next(&mut self, max_records: usize, max_bytes: usize) -> StoreResult<Option<SourceBatch>> {
        loop {
            let arrived = self.shared.arrived();
            // Nothing waits between taking and returning: a call that is dropped loses nothing.
            match self.shared.take(max_records, max_bytes)? {
                Taken::Batch(batch) => return Ok(Some(batch)),
                Taken::Later(when) => tokio::time::sleep_until(when.into()).await,
                Taken::Nothing => arrived.await,
            }
        }
    }

    async fn commit(&mut self, position: &str) -> StoreResult<()> {
        let invalid = || StoreError::new(ErrorKind::Invalid, LOG, format!("{position:?} is not a position of this log"));
        let offsets = Offsets::parse(position).filter(|o| !o.is_empty()).ok_or_else(invalid)?;
        let mut ahead = self.shared.ahead(&offsets)?;
        let until = Instant::now() + COMMITTED_WITHIN;
        while !ahead.is_empty() {
            if self.try_commit(ahead.clone()).await? {
                self.shared.committed(&ahead);
                self.log.0.tracker.committed(&ahead);
                return Ok(());
            }
            // The group is being shared out anew. What stays here is committed once that is over: nobody else will. What went away is
            // read again by whoever has it now.
            if Instant::now() >= until {
                let message = "the group of workers does not come to rest, so nothing can be committed";
                return Err(StoreError::new(ErrorKind::Unavailable, LOG, message));
            }
            tokio::time::sleep(SHARED_OUT).await;
            ahead = self.shared.ahead(&offsets).unwrap_or_default();
        }
        Ok(())
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // The thread leaves the group, so that the others need not wait for the session to run out.
            drop(thread.join());
        }
    }
}
