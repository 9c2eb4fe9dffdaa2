//! Dead letters in a Kafka topic of one partition: key and bytes as they came, everything else in headers.
//!
//! Adding one costs what publishing costs. Finding one reads the topic: the number of letters is what a person looks through, not a
//! second event log. Removing letters, and erasing a user's, writes what stays anew and deletes everything before it from the topic
//! (`rewrite`); so it costs a whole pass, which is made only when there is something to remove. Readers pass over a letter that
//! stands there twice. No letter is ever lost: what stays is durable before anything is deleted.

mod letter;
mod reading;
mod rewrite;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, Timestamp, UserId,
    ports::{DeadLetter, DeadLetterFilter, DeadLetters},
};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use self::reading::{Reading, Step};
use crate::log::{
    KafkaConfig,
    kafka::{
        client::{self, Logging},
        error,
        setup::blocking,
    },
};

/// The name of this store in errors.
const STORE: &str = "dead_letters";

/// The topic `kafka.dead_letter_topic`. Clones share the clients.
#[derive(Clone)]
pub struct KafkaDeadLetters(Arc<Inner>);

struct Inner {
    config: KafkaConfig,
    producer: FutureProducer<Logging>,
    reading: Mutex<Reading>,
}

impl KafkaDeadLetters {
    /// Letters as configured. Fails only where the configuration cannot be used: brokers are not asked.
    pub fn new(config: &KafkaConfig) -> StoreResult<Self> {
        config.validate().map_err(|e| StoreError::new(ErrorKind::Invalid, STORE, e))?;
        let producer = client::make(STORE, &client::producer(config)?, Logging)?;
        Ok(Self(Arc::new(Inner { config: config.clone(), producer, reading: Mutex::new(Reading::new(config)?) })))
    }

    /// Sends what is still under way.
    pub async fn close(&self) {
        let inner = self.0.clone();
        let patience = client::patience(&inner.config);
        let flushed = tokio::task::spawn_blocking(move || inner.producer.flush(patience)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("not every dead letter was acknowledged by Kafka; whoever put them was told so");
        }
    }

    /// Reads the topic on a thread for waiting; one caller at a time.
    async fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inner, &mut Reading) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let inner = self.0.clone();
        blocking(move || {
            let mut reading = inner.reading.lock().unwrap_or_else(PoisonError::into_inner);
            call(&inner, &mut reading)
        })
        .await
    }

    /// Removes the letters for which `goes` says so; answers how many.
    async fn sweep(&self, goes: impl Fn(&DeadLetter) -> bool + Send + 'static) -> StoreResult<u64> {
        self.read(move |inner, reading| rewrite::without(&inner.config, reading, &goes)).await
    }
}

#[async_trait]
impl DeadLetters for KafkaDeadLetters {
    async fn put(&self, letters: &[DeadLetter]) -> StoreResult<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = letters.iter().map(|l| l.id.clone()).collect();
        let known = self
            .read(move |_, reading| {
                reading.catch_up()?;
                Ok(ids.iter().map(|id| reading.knows(id)).collect::<Vec<bool>>())
            })
            .await?;
        let mut new = BTreeMap::new();
        for (letter, _) in letters.iter().zip(known).filter(|(_, known)| !known) {
            new.entry(&letter.id).or_insert(letter);
        }
        let sent = new.values().map(|l| async {
            let key = l.key.as_deref().unwrap_or_default();
            let mut record: FutureRecord<'_, [u8], [u8]> =
                FutureRecord::to(&self.0.config.dead_letter_topic).partition(0).payload(&*l.bytes).headers(letter::headers(l));
            record.key = Some(key).filter(|k| !k.is_empty());
            let patience = client::patience(&self.0.config);
            self.0.producer.send(record, patience).await.map_err(|(e, _)| error::of(STORE, "keeping a dead letter", &e))
        });
        try_join_all(sent).await?;
        let placed: Vec<(String, Tenant, Option<UserId>)> =
            new.values().map(|l| (l.id.clone(), l.tenant.clone(), l.user.clone())).collect();
        self.read(move |_, reading| {
            for (id, tenant, user) in &placed {
                reading.note(id, tenant, user.as_ref());
            }
            Ok(())
        })
        .await
    }

    async fn list(&self, filter: &DeadLetterFilter) -> StoreResult<Vec<DeadLetter>> {
        let filter = filter.clone();
        self.read(move |_, reading| {
            reading.catch_up()?;
            let after = match &filter.after {
                None => None,
                Some(id) => {
                    let found = find(reading, id)?.ok_or_else(|| {
                        StoreError::new(ErrorKind::Invalid, STORE, format!("there is no dead letter {id:?} to go on behind"))
                    })?;
                    Some((found.at, found.id))
                }
            };
            let mut page: BTreeMap<(Timestamp, String), DeadLetter> = BTreeMap::new();
            if filter.limit == 0 {
                return Ok(Vec::new());
            }
            reading.each(&mut |step| {
                let l = match step {
                    Step::Restart => {
                        page.clear();
                        return true;
                    }
                    Step::Letter(l, _) => l,
                };
                let key = (l.at, l.id.clone());
                let wanted = filter.reason.as_ref().is_none_or(|r| l.reason.contains(r))
                    && filter.since.is_none_or(|s| l.at >= s)
                    && after.as_ref().is_none_or(|a| key > *a);
                if wanted {
                    page.insert(key, l);
                    if page.len() > filter.limit {
                        page.pop_last();
                    }
                }
                true
            })?;
            Ok(page.into_values().collect())
        })
        .await
    }

    async fn get(&self, id: &str) -> StoreResult<Option<DeadLetter>> {
        let id = id.to_owned();
        self.read(move |_, reading| {
            reading.catch_up()?;
            find(reading, &id)
        })
        .await
    }

    async fn remove(&self, ids: &[String]) -> StoreResult<()> {
        let ids: BTreeSet<String> = ids.iter().cloned().collect();
        let wanted = ids.clone();
        let some = self
            .read(move |_, reading| {
                reading.catch_up()?;
                Ok(wanted.iter().any(|id| reading.knows(id)) || reading.untidy())
            })
            .await?;
        if some { self.sweep(move |l| ids.contains(&l.id)).await.map(drop) } else { Ok(()) }
    }

    async fn count(&self) -> StoreResult<u64> {
        self.read(|_, reading| {
            reading.catch_up()?;
            Ok(reading.count())
        })
        .await
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        let (tenant, user) = (tenant.clone(), user.clone());
        let (t, u) = (tenant.clone(), user.clone());
        let some = self
            .read(move |_, reading| {
                reading.catch_up()?;
                Ok(reading.knows_user(&t, &u) || reading.untidy())
            })
            .await?;
        if some { self.sweep(move |l| l.tenant == tenant && l.user.as_ref() == Some(&user)).await } else { Ok(0) }
    }
}

fn find(reading: &mut Reading, id: &str) -> StoreResult<Option<DeadLetter>> {
    if !reading.knows(id) {
        return Ok(None);
    }
    let mut found = None;
    reading.each(&mut |step| {
        match step {
            Step::Restart => found = None,
            Step::Letter(l, _) if l.id == id => found = Some(l),
            Step::Letter(..) => {}
        }
        found.is_none()
    })?;
    Ok(found)
}
