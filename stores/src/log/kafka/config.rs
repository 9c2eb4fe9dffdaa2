//! What an operator may set about Kafka: the section `[kafka]`.

use std::collections::BTreeMap;

use nearcast_domain::{Tenant, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::offsets::Offsets;
use crate::remote::{Secret, Tls};

/// The section `[kafka]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// `host:port`, several with commas: any of the cluster's brokers.
    pub brokers: String,
    /// Where events are.
    pub topic: String,
    /// Where records are kept that could not be used.
    pub dead_letter_topic: String,
    /// The consumer group of all workers: its committed offsets say how far they have come.
    pub group: String,
    /// How many partitions `setup` gives a new topic: the most workers that can share the work.
    pub partitions: i32,
    /// How many copies `setup` asks for; 0: what the brokers are set to.
    pub replication: i32,
    /// Where a group begins that has no committed offset yet.
    pub start: Start,
    /// The tenant of events that name none, in records without the header `tenant`.
    pub tenant: String,
    /// After how long without a sign of life a worker's partitions go to the others, in milliseconds.
    pub session_timeout_ms: u32,
    /// After how long without polling a worker is taken for stuck, in milliseconds. Polling goes on while stores are slow.
    pub poll_timeout_ms: u32,
    /// How long a partition that is to be given away waits for the batches under way, in milliseconds.
    pub revoke_timeout_ms: u32,
    /// How long publishing waits for the brokers' acknowledgement, in milliseconds.
    pub delivery_timeout_ms: u32,
    /// How long any other call to the brokers may take, in milliseconds.
    pub request_timeout_ms: u32,
    /// The most bytes that a source holds: waiting, and handed out but not committed yet. The library beneath holds at most a quarter
    /// of that again.
    pub buffer_bytes: usize,
    /// How records are compressed on their way: `zstd`, `lz4`, `gzip`, `snappy` or `none`.
    pub compression: String,
    /// Encryption.
    pub tls: Tls,
    /// How this client says who it is.
    pub sasl: Sasl,
}

/// The keys `kafka.sasl.…`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; empty: none.
    pub mechanism: String,
    /// Who.
    pub user: String,
    /// With which password.
    pub password: Secret,
}

/// Where to begin: `earliest`, `latest`, a time (RFC 3339), or offsets by partition (`0@17,3@44`; others from the earliest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record that there is.
    #[default]
    Earliest,
    /// Behind the newest.
    Latest,
    /// With the first record of this time or later.
    Time(Timestamp),
    /// With these records.
    Offsets(BTreeMap<i32, i64>),
}

impl Start {
    /// Reads what stands in the configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match Offsets::parse(text) {
                Some(offsets) if !offsets.is_empty() => Ok(Self::Offsets(offsets.0)),
                _ => Timestamp::parse(text).map(Self::Time).map_err(|_| {
                    format!(
                        "{text:?} is none of earliest, latest, a time such as 2026-01-02T03:04:05Z, offsets such as 0@17,3@44"
                    )
                }),
            },
        }
    }
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Time(t) => write!(f, "{t}"),
            Self::Offsets(o) => f.write_str(&Offsets(o.clone()).to_string()),
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            topic: "nearcast.events".into(),
            dead_letter_topic: "nearcast.dead-letters".into(),
            group: "nearcast".into(),
            partitions: 8,
            replication: 0,
            start: Start::Earliest,
            tenant: Tenant::default().as_str().to_owned(),
            session_timeout_ms: 10_000,
            poll_timeout_ms: 300_000,
            revoke_timeout_ms: 10_000,
            delivery_timeout_ms: 8_000,
            request_timeout_ms: 5_000,
            buffer_bytes: 64 << 20,
            compression: "lz4".into(),
            tls: Tls::default(),
            sasl: Sasl::default(),
        }
    }
}

impl KafkaConfig {
    /// Refuses what cannot work, naming the key and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if self.brokers.split(',').any(|b| !is_address(b.trim())) {
            return Err(format!("kafka.brokers is {:?}: addresses such as host:9092, with commas between them", self.brokers));
        }
        for (key, topic) in [("topic", &self.topic), ("dead_letter_topic", &self.dead_letter_topic)] {
            let legal = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
            if !(1..=249).contains(&topic.len()) || !topic.bytes().all(legal) || matches!(&**topic, "." | "..") {
                return Err(format!(
                    "kafka.{key} is {topic:?}: 1 to 249 of the characters a-z A-Z 0-9 . _ - are a topic's name"
                ));
            }
        }
        if self.topic == self.dead_letter_topic {
            return Err(
                "kafka.dead_letter_topic must be another topic than kafka.topic: dead letters would be read as events".into()
            );
        }
        if self.group.is_empty() {
            return Err("kafka.group is empty: all workers of one installation need the same name here".into());
        }
        Tenant::parse(&self.tenant).map_err(|e| format!("kafka.tenant {e}"))?;
        let within = |key: &str, value: i64, from: i64, to: i64| {
            if (from..=to).contains(&value) { Ok(()) } else { Err(format!("kafka.{key} must lie between {from} and {to}")) }
        };
        within("partitions", i64::from(self.partitions), 1, 10_000)?;
        within("replication", i64::from(self.replication), 0, 100)?;
        within("session_timeout_ms", i64::from(self.session_timeout_ms), 1_000, 1_800_000)?;
        within("poll_timeout_ms", i64::from(self.poll_timeout_ms), i64::from(self.session_timeout_ms), 86_400_000)?;
        within("revoke_timeout_ms", i64::from(self.revoke_timeout_ms), 0, i64::from(self.poll_timeout_ms) / 2)?;
        within("delivery_timeout_ms", i64::from(self.delivery_timeout_ms), 100, 900_000)?;
        within("request_timeout_ms", i64::from(self.request_timeout_ms), 100, 300_000)?;
        within("buffer_bytes", i64::try_from(self.buffer_bytes).unwrap_or(i64::MAX), 1 << 20, 2_000_000_000)?;
        if !["zstd", "lz4", "gzip", "snappy", "none"].contains(&&*self.compression) {
            return Err("kafka.compression must be zstd, lz4, gzip, snappy or none".into());
        }
        let sasl = &self.sasl;
        if !["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&&*sasl.mechanism) {
            return Err("kafka.sasl.mechanism must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or be left out".into());
        }
        if sasl.mechanism.is_empty() != (sasl.user.is_empty() && sasl.password.is_empty())
            || sasl.user.is_empty() != sasl.password.is_empty()
        {
            return Err("kafka.sasl.mechanism, kafka.sasl.user and kafka.sasl.password go together: give all or none".into());
        }
        self.tls.validate("kafka")
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_and_written() {
        for text in ["earliest", "latest", "2026-01-02T03:04:05Z", "0@17,3@44"] {
            assert_eq!(Start::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "17", "yesterday", "0@", "0@-1", "0@1,0@2"] {
            assert!(Start::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        KafkaConfig::default().validate().unwrap();
        let refused = |change: fn(&mut KafkaConfig)| {
            let mut c = KafkaConfig::default();
            change(&mut c);
            c.validate().unwrap_err()
        };
        assert!(refused(|c| c.brokers = "localhost".into()).contains("kafka.brokers"));
        assert!(refused(|c| c.brokers = "a:1,,b:2".into()).contains("kafka.brokers"));
        assert!(refused(|c| c.topic = "a b".into()).contains("kafka.topic"));
        assert!(refused(|c| c.dead_letter_topic = c.topic.clone()).contains("another topic"));
        assert!(refused(|c| c.buffer_bytes = 1).contains("kafka.buffer_bytes"));
        assert!(refused(|c| c.sasl.user = "u".into()).contains("kafka.sasl"));
        assert!(refused(|c| c.sasl.mechanism = "PLAIN".into()).contains("kafka.sasl"));
        assert!(refused(|c| c.tls.ca_file = Some("x".into())).contains("kafka.tls"));
    }
}
