//! What Kafka must hold before the first event: the topics. And where the group stands, for going back in time.
//!
//! May be repeated: what is there stays as it is.

use std::time::Duration;

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::IsError,
    types::RDKafkaErrorCode as Code,
};

use super::{
    KafkaConfig, Start,
    client::{self, Logging, MAX_MESSAGE_BYTES},
    error::{self, LOG},
    tracker::by_partition,
};

/// Makes the topics that are missing; says of each what it found or did.
pub(super) async fn topics(config: &KafkaConfig) -> StoreResult<Vec<String>> {
    let admin: AdminClient<Logging> = client::make(LOG, &client::base(config)?, Logging)?;
    let copies = if config.replication == 0 { -1 } else { config.replication };
    let replication = || TopicReplication::Fixed(copies);
    let largest = MAX_MESSAGE_BYTES.to_string();
    let events = NewTopic::new(&config.topic, config.partitions, replication()).set("max.message.bytes", &largest);
    // Dead letters are kept until someone removes them.
    let letters = NewTopic::new(&config.dead_letter_topic, 1, replication())
        .set("max.message.bytes", &largest)
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1")
        .set("cleanup.policy", "delete");
    let patience = client::patience(config).max(Duration::from_secs(10));
    let options = AdminOptions::new().request_timeout(Some(patience)).operation_timeout(Some(patience));
    let made = admin.create_topics([&events, &letters], &options).await.map_err(|e| error::error("creating topics", &e))?;
    let mut lines = Vec::new();
    for outcome in made {
        match outcome {
            Ok(topic) => lines.push(format!("topic {topic} created")),
            Err((topic, Code::TopicAlreadyExists)) => lines.push(existing(config, topic).await?),
            Err((topic, code)) => return Err(error::of_code(LOG, &format!("creating topic {topic}"), code)),
        }
    }
    Ok(lines)
}

/// What is to be said of a topic that is there already.
async fn existing(config: &KafkaConfig, topic: String) -> StoreResult<String> {
    let (wanted, letters) = (config.partitions as usize, topic == config.dead_letter_topic);
    let partitions = {
        let (config, topic) = (config.clone(), topic.clone());
        blocking(move || {
            let consumer: BaseConsumer<Logging> = client::make(LOG, &client::base(&config)?, Logging)?;
            partitions(&consumer, &config, &topic).map(|p| p.len())
        })
        .await?
    };
    if letters && partitions != 1 {
        let message = format!("topic {topic} has {partitions} partitions; dead letters need a topic with one: name another");
        return Err(StoreError::new(ErrorKind::Invalid, "dead_letters", message));
    }
    if letters || partitions == wanted {
        return Ok(format!("topic {topic} is there, with {partitions} partition{}", if partitions == 1 { "" } else { "s" }));
    }
    Ok(format!(
        "topic {topic} is there, with {partitions} partitions (kafka.partitions is {wanted}: it stays as it is, because more \
         partitions would move users to other ones while their events wait)"
    ))
}

/// The partitions of a topic.
pub(crate) fn partitions(consumer: &BaseConsumer<Logging>, config: &KafkaConfig, topic: &str) -> StoreResult<Vec<i32>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), client::patience(config))
        .map_err(|e| error::error(&format!("asking for topic {topic}"), &e))?;
    let found = metadata.topics().first();
    if let Some(code) = found.and_then(|t| t.error()).filter(IsError::is_error) {
        return Err(error::of_code(LOG, &format!("topic {topic}"), code.into()));
    }
    Ok(found.into_iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect())
}

/// Moves the group to another place. Refused while any worker runs.
pub(super) async fn rewind(config: &KafkaConfig, start: &Start) -> StoreResult<()> {
    let (config, start) = (config.clone(), start.clone());
    blocking(move || {
        let consumer: BaseConsumer<Logging> = client::make(LOG, &client::consumer(&config, &config.group)?, Logging)?;
        let mut list = TopicPartitionList::new();
        for partition in partitions(&consumer, &config, &config.topic)? {
            list.add_partition(&config.topic, partition);
        }
        resolve(&consumer, &config, &start, &mut list)?;
        consumer.commit(&list, CommitMode::Sync).map_err(|e| match e.rdkafka_error_code() {
            Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress) => {
                let message =
                    format!("the group {} is at work: stop every `nearcast run` and `nearcast ingest` first", config.group);
                StoreError::new(ErrorKind::Invalid, LOG, message)
            }
            _ => error::error("setting the group's offsets", &e),
        })
    })
    .await
}

/// Sets the offsets of a list to where `start` points.
pub(super) fn resolve<C: rdkafka::consumer::ConsumerContext>(
    consumer: &BaseConsumer<C>,
    config: &KafkaConfig,
    start: &Start,
    list: &mut TopicPartitionList,
) -> StoreResult<()> {
    let patience = client::patience(config);
    let failed = |e| error::error("looking for the place to start at", &e);
    let ask = |what: Offset| {
        let mut times = list.clone();
        times.set_all_offsets(what).and_then(|()| consumer.offsets_for_times(times, patience)).map(|l| by_partition(&l))
    };
    let (low, high) = (ask(Offset::Beginning).map_err(failed)?, ask(Offset::End).map_err(failed)?);
    let found = match start {
        Start::Earliest => low.clone(),
        Start::Latest => high.clone(),
        Start::Time(t) => ask(Offset::Offset(t.millis())).map_err(failed)?,
        Start::Offsets(given) => low.iter().map(|(p, o)| (*p, given.get(p).copied().or(*o))).collect(),
    };
    let partitions: Vec<i32> = low.keys().copied().collect();
    for partition in partitions {
        let at = |map: &std::collections::BTreeMap<i32, Option<i64>>| map.get(&partition).copied().flatten();
        let (from, to) = (at(&low).unwrap_or(0), at(&high).unwrap_or(i64::MAX));
        // A time behind the last record has no offset: the end.
        let offset = at(&found).unwrap_or(to).clamp(from, to.max(from));
        list.set_partition_offset(&config.topic, partition, Offset::Offset(offset)).map_err(failed)?;
    }
    Ok(())
}

/// Runs a call of the library that waits for the brokers.
pub(crate) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> StoreResult<T> + Send + 'static) -> StoreResult<T> {
    let fault = |e| StoreError::new(ErrorKind::Unavailable, LOG, format!("a call to Kafka died: {e}"));
    tokio::task::spawn_blocking(call).await.map_err(fault)?
}
