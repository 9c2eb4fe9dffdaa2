//! What a member of the group does when partitions come and go. Runs on the thread that polls.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nearcast_domain::StoreResult;
use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};

use super::{
    super::{KafkaConfig, Start, client, error, setup, tracker::by_partition},
    held::Shared,
};

/// How often the group's offsets are asked for before the worker is told.
const ATTEMPTS: u32 = 5;

/// A member.
pub(super) struct Group {
    pub config: KafkaConfig,
    pub shared: Arc<Shared>,
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        client::log(level, fac, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, e: KafkaError, reason: &str) {
        client::log_error(&e, reason);
    }
}

impl ConsumerContext for Group {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: BTreeSet<i32> = list.elements().iter().map(|e| e.partition()).collect();
        let (kind, outcome) = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                match self.places(consumer, list) {
                    Ok(committed) => self.shared.assigned(&committed),
                    // Beginning at the wrong place would pass over records: the worker begins anew instead.
                    Err(e) => self.shared.fail(e),
                }
                ("assigned", consumer.incremental_assign(list))
            }
            _ => {
                let lost = consumer.assignment_lost();
                self.shared.revoke(&partitions, lost, Duration::from_millis(u64::from(self.config.revoke_timeout_ms)));
                (if lost { "lost" } else { "revoked" }, consumer.incremental_unassign(list))
            }
        };
        if !partitions.is_empty() {
            tracing::info!(kind, ?partitions, "partitions of the event log");
            metrics::counter!("nearcast_kafka_rebalances_total", "kind" => kind).increment(1);
        }
        if let Err(e) = outcome {
            self.shared.fail(error::error(&format!("partitions {kind}"), &e));
        }
    }
}

impl Group {
    /// Where each new partition goes on. Where the group never committed, the place that the configuration names is found and
    /// committed at once: another member that gets the partition later begins there too.
    fn places(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> StoreResult<BTreeMap<i32, Option<i64>>> {
        let failed = |e| error::error("asking for the group's offsets", &e);
        if list.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let mut attempt = 1;
        let mut committed = loop {
            match consumer.committed_offsets(list.clone(), client::patience(&self.config)) {
                Ok(committed) => break by_partition(&committed),
                // The group's coordinator may be moving just now.
                Err(e) if attempt < ATTEMPTS && !self.shared.closing() => {
                    attempt += 1;
                    tracing::warn!(error = %e, "asking for the group's offsets will be tried again");
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(e) => return Err(failed(e)),
            }
        };
        let fresh: Vec<i32> = committed.iter().filter(|(_, o)| o.is_none()).map(|(p, _)| *p).collect();
        if !fresh.is_empty() && self.config.start != Start::Earliest {
            let mut begin = TopicPartitionList::new();
            for partition in fresh {
                begin.add_partition(&self.config.topic, partition);
            }
            setup::resolve(consumer, &self.config, &self.config.start, &mut begin)?;
            consumer.commit(&begin, CommitMode::Sync).map_err(failed)?;
            committed.extend(by_partition(&begin));
        }
        let set = |list: &mut TopicPartitionList| -> KafkaResult<()> {
            for (partition, offset) in &committed {
                if let Some(offset) = offset {
                    list.set_partition_offset(&self.config.topic, *partition, Offset::Offset(*offset))?;
                }
            }
            Ok(())
        };
        set(list).map_err(failed)?;
        Ok(committed)
    }
}
