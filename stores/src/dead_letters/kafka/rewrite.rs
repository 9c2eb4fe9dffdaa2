//! Removing letters: what stays is written anew behind everything, then everything before is deleted from the topic.
//!
//! The letters that stay and a last record that says from where on letters count are one transaction, so that others see all of it
//! or nothing. Two processes that rewrite at once have the same transactional id: the brokers let only the later one finish, and the
//! other begins anew. So nobody can bring back what another removes.

use std::time::Duration;

use nearcast_domain::{ErrorKind, StoreError, StoreResult, ports::DeadLetter};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    error::KafkaError,
    message::OwnedHeaders,
    producer::{FutureProducer, FutureRecord, Producer as _},
    types::RDKafkaErrorCode as Code,
};

use super::{
    STORE, letter,
    reading::{Reading, Step},
};
use crate::log::{
    KafkaConfig,
    kafka::{
        client::{self, Logging},
        error,
    },
};

/// How often a rewrite begins anew because another was faster.
const ATTEMPTS: u32 = 8;

/// Removes the letters for which `goes` says so; answers how many. Leaves no byte of them in the topic.
pub(super) fn without(config: &KafkaConfig, reading: &mut Reading, goes: &dyn Fn(&DeadLetter) -> bool) -> StoreResult<u64> {
    let mut attempt = 0;
    let gone = loop {
        attempt += 1;
        reading.catch_up()?;
        let mut some = false;
        reading.each(&mut |step| {
            match step {
                Step::Restart => some = false,
                Step::Letter(l, _) => some |= goes(&l),
            }
            !some
        })?;
        if !some {
            break 0;
        }
        match transaction(config, reading, goes) {
            Ok(gone) => break gone,
            Err(Failed::Fenced) if attempt < ATTEMPTS => {
                std::thread::sleep(Duration::from_millis(fastrand::u64(20..=200)));
            }
            Err(Failed::Fenced) => {
                return Err(StoreError::new(ErrorKind::Busy, STORE, "other processes are removing dead letters too"));
            }
            Err(Failed::Store(e)) => return Err(e),
        }
    };
    reading.catch_up()?;
    if reading.untidy() {
        delete_before(config, reading.base())?;
        reading.deleted(reading.base());
    }
    Ok(gone)
}

enum Failed {
    /// Another process has begun to rewrite since.
    Fenced,
    Store(StoreError),
}

impl From<KafkaError> for Failed {
    fn from(e: KafkaError) -> Self {
        let fenced = |code| {
            matches!(
                code,
                Code::Fenced
                    | Code::ProducerFenced
                    | Code::InvalidProducerEpoch
                    | Code::ConcurrentTransactions
                    | Code::InvalidTransactionalState
            )
        };
        let code = match &e {
            KafkaError::Transaction(e) => Some(e.code()),
            e => e.rdkafka_error_code(),
        };
        if code.is_some_and(fenced) { Self::Fenced } else { Self::Store(error::of(STORE, "removing dead letters", &e)) }
    }
}

impl From<StoreError> for Failed {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

fn transaction(config: &KafkaConfig, reading: &mut Reading, goes: &dyn Fn(&DeadLetter) -> bool) -> Result<u64, Failed> {
    let patience = client::patience(config).max(Duration::from_secs(10));
    let mut c = client::producer(config)?;
    c.set("transactional.id", format!("{}.rewrite", config.dead_letter_topic));
    c.set("transaction.timeout.ms", "30000");
    c.set("message.timeout.ms", "20000");
    let producer: FutureProducer<Logging> = client::make(STORE, &c, Logging)?;
    producer.init_transactions(patience)?;
    producer.begin_transaction()?;
    let written = write(config, &producer, reading, goes);
    match written {
        Ok(gone) => {
            producer.commit_transaction(patience)?;
            Ok(gone)
        }
        Err(e) => {
            // Nothing of it is seen by anyone, whether this succeeds or the brokers do it themselves in time.
            drop(producer.abort_transaction(patience));
            Err(e)
        }
    }
}

fn write(
    config: &KafkaConfig,
    producer: &FutureProducer<Logging>,
    reading: &mut Reading,
    goes: &dyn Fn(&DeadLetter) -> bool,
) -> Result<u64, Failed> {
    let (mut gone, mut failed, mut restarted) = (0, None, false);
    // As soon as the first letter is written, reading ends before it: what others put meanwhile stays where it is.
    let end = reading.each(&mut |step| {
        let (l, headers) = match step {
            Step::Restart => {
                restarted = true;
                return false;
            }
            Step::Letter(l, headers) => (l, headers),
        };
        if goes(&l) {
            gone += 1;
            return true;
        }
        let headers = headers.unwrap_or_else(|| letter::headers(&l));
        failed = send(config, producer, l.key.as_deref(), Some(&*l.bytes), headers).err();
        failed.is_none()
    })?;
    if restarted {
        return Err(Failed::Fenced);
    }
    if let Some(e) = failed {
        return Err(e.into());
    }
    send(config, producer, None, None, letter::base(end))?;
    Ok(gone)
}

fn send(
    config: &KafkaConfig,
    producer: &FutureProducer<Logging>,
    key: Option<&[u8]>,
    bytes: Option<&[u8]>,
    headers: OwnedHeaders,
) -> Result<(), KafkaError> {
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&config.dead_letter_topic).partition(0).headers(headers);
    (record.key, record.payload) = (key, bytes);
    loop {
        // The commit waits for every acknowledgement, and fails where one is missing.
        match producer.send_result(record) {
            Ok(_) => return Ok(()),
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) => record = back,
            Err((e, _)) => return Err(e),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn delete_before(config: &KafkaConfig, offset: i64) -> StoreResult<()> {
    let failed = |e: KafkaError| error::of(STORE, "deleting removed letters from the topic", &e);
    let admin: AdminClient<Logging> = client::make(STORE, &client::base(config)?, Logging)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&config.dead_letter_topic, 0, Offset::Offset(offset)).map_err(failed)?;
    let patience = Some(client::patience(config));
    let options = AdminOptions::new().request_timeout(patience).operation_timeout(patience);
    // On a thread for waiting, which belongs to the runtime.
    let done = tokio::runtime::Handle::current().block_on(admin.delete_records(&list, &options)).map_err(failed)?;
    for element in done.elements() {
        element.error().map_err(failed)?;
    }
    Ok(())
}
