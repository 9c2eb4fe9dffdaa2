//! Reading the topic of dead letters from its beginning, and what is remembered of it: of each letter 16 bytes for its id and 16 for
//! its user, so that a letter that is there is not put again and a user without letters costs no pass.
//!
//! Blocks the thread: callers run it on one for waiting.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult, Tenant, UserId, ports::DeadLetter};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::OwnedHeaders,
};
use sha2::{Digest, Sha256};

use super::{
    STORE,
    letter::{self, Found},
};
use crate::log::{
    KafkaConfig,
    kafka::{
        client::{self, Logging},
        error,
    },
};

/// How long a poll waits.
const POLL: Duration = Duration::from_millis(20);

/// What a pass over the topic comes upon.
pub(super) enum Step {
    /// A letter, the first of its id; with its headers as they are.
    Letter(DeadLetter, Option<OwnedHeaders>),
    /// Another process rewrote the topic meanwhile: the pass begins anew, and what it had so far does not count.
    Restart,
}

/// The consumer and what it has seen.
pub(super) struct Reading {
    consumer: BaseConsumer<Logging>,
    topic: String,
    patience: Duration,
    /// The first record of the topic that is still there.
    low: i64,
    /// Letters before this offset are dead.
    base: i64,
    /// Behind the last record that was seen.
    next: i64,
    ids: HashSet<u128>,
    users: HashSet<u128>,
}

fn hash(parts: &[&str]) -> u128 {
    let mut h = Sha256::new();
    for part in parts {
        h.update((part.len() as u64).to_le_bytes());
        h.update(part.as_bytes());
    }
    let mut out = [0; 16];
    out.copy_from_slice(&h.finalize()[..16]);
    u128::from_le_bytes(out)
}

impl Reading {
    pub fn new(config: &KafkaConfig) -> StoreResult<Self> {
        let mut c = client::consumer(config, &config.group)?;
        c.set("enable.partition.eof", "true");
        c.set("isolation.level", "read_committed");
        c.set("fetch.wait.max.ms", "10");
        c.set("queued.max.messages.kbytes", "8192");
        Ok(Self {
            consumer: client::make(STORE, &c, Logging)?,
            topic: config.dead_letter_topic.clone(),
            patience: client::patience(config),
            low: 0,
            base: 0,
            next: 0,
            ids: HashSet::new(),
            users: HashSet::new(),
        })
    }

    pub fn knows(&self, id: &str) -> bool {
        self.ids.contains(&hash(&[id]))
    }

    /// Whether there may be a letter of a user.
    pub fn knows_user(&self, tenant: &Tenant, user: &UserId) -> bool {
        self.users.contains(&hash(&[tenant.as_str(), user.as_str()]))
    }

    pub fn count(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Where the living letters begin.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// Whether dead letters are still in the topic because deleting them failed.
    pub fn untidy(&self) -> bool {
        self.low < self.base
    }

    /// Everything before this offset is gone from the topic.
    pub fn deleted(&mut self, upto: i64) {
        self.low = self.low.max(upto);
    }

    pub fn note(&mut self, id: &str, tenant: &Tenant, user: Option<&UserId>) {
        self.ids.insert(hash(&[id]));
        if let Some(user) = user {
            self.users.insert(hash(&[tenant.as_str(), user.as_str()]));
        }
    }

    /// Learns what was put since the last call, by whichever process.
    pub fn catch_up(&mut self) -> StoreResult<()> {
        let failed = |e| error::of(STORE, "asking for the topic's offsets", &e);
        let (low, high) = self.consumer.fetch_watermarks(&self.topic, 0, self.patience).map_err(failed)?;
        self.low = low;
        if low > self.next || high < self.next {
            // Everything known is gone, or this is another topic of the same name.
            self.forget(low);
        }
        while self.next < high {
            let mut base = self.base;
            let mut seen = Vec::new();
            let end = self.pass(self.next.max(low), &mut |message| {
                match letter::read(message) {
                    Found::Base(offset) => base = base.max(offset),
                    Found::Letter(l) => seen.push((l.id, l.tenant, l.user)),
                    Found::Foreign => {}
                }
                true
            })?;
            if base > self.base {
                self.forget(base);
                continue;
            }
            for (id, tenant, user) in seen {
                self.note(&id, &tenant, user.as_ref());
            }
            let stuck = end <= self.next;
            self.next = end.max(self.next);
            if stuck {
                // What follows belongs to a rewrite that is not finished.
                break;
            }
        }
        Ok(())
    }

    fn forget(&mut self, base: i64) {
        (self.base, self.next) = (base, base);
        self.ids.clear();
        self.users.clear();
    }

    /// Goes through all living letters in the order of the topic, until `visit` has enough (`false`). Answers where the pass ended.
    pub fn each(&mut self, visit: &mut dyn FnMut(Step) -> bool) -> StoreResult<i64> {
        loop {
            let (mut told, mut base) = (HashSet::new(), self.base);
            let end = self.pass(self.base.max(self.low), &mut |message| match letter::read(message) {
                Found::Base(offset) if offset > base => {
                    base = offset;
                    false
                }
                Found::Letter(l) => {
                    let headers = message.headers().map(rdkafka::message::BorrowedHeaders::detach);
                    !told.insert(hash(&[&l.id])) || visit(Step::Letter(l, headers))
                }
                _ => true,
            })?;
            if base == self.base {
                return Ok(end);
            }
            self.forget(base);
            if !visit(Step::Restart) {
                return Ok(end);
            }
        }
    }

    /// Reads records from an offset to the end (of what is committed), or until `visit` has enough.
    fn pass(&self, from: i64, visit: &mut dyn FnMut(&rdkafka::message::BorrowedMessage<'_>) -> bool) -> StoreResult<i64> {
        let failed = |e| error::of(STORE, "reading the dead letters", &e);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(from)).map_err(failed)?;
        self.consumer.assign(&list).map_err(failed)?;
        let outcome = self.polls(from, visit);
        self.consumer.unassign().map_err(failed)?;
        outcome
    }

    fn polls(&self, from: i64, visit: &mut dyn FnMut(&rdkafka::message::BorrowedMessage<'_>) -> bool) -> StoreResult<i64> {
        let (mut at, mut heard) = (from, Instant::now());
        loop {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    // Of an earlier pass: the library gives them out once more, now and then.
                    if message.offset() < at {
                        continue;
                    }
                    at = message.offset() + 1;
                    if !visit(&message) {
                        return Ok(at);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(self.position().unwrap_or(at).max(at)),
                Some(Err(e)) if heard.elapsed() >= self.patience => {
                    return Err(error::of(STORE, "reading the dead letters", &e));
                }
                Some(Err(e)) => {
                    let e = error::of(STORE, "reading the dead letters", &e);
                    if !e.kind.is_transient() {
                        return Err(e);
                    }
                }
                None if heard.elapsed() >= self.patience => {
                    return Err(StoreError::new(ErrorKind::Timeout, STORE, "the dead letters could not be read in time"));
                }
                None => {}
            }
        }
    }

    /// Where the consumer stands: behind marks of transactions too, which it does not give out.
    fn position(&self) -> Option<i64> {
        let list = self.consumer.position().ok()?;
        list.elements().iter().find_map(|e| if let Offset::Offset(n) = e.offset() { Some(n) } else { None })
    }
}
