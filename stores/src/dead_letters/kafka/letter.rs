//! A dead letter as a record of Kafka, and back.
//!
//! Headers: `id`, `reason`, `origin`, `tenant`, `user` (where it is known), `at` (RFC 3339), and for people and other programs
//! `topic`, `partition`, `offset` where the record came from Kafka. A record with the header `base` is no letter: everything before
//! that offset is dead.

use nearcast_domain::{Tenant, Timestamp, UserId, ports::DeadLetter};
use rdkafka::{
    Message as _,
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders},
};

/// The header of the record that ends a rewrite.
const BASE: &str = "base";

/// The headers of a letter.
pub(super) fn headers(l: &DeadLetter) -> OwnedHeaders {
    let at = l.at.to_string();
    let mut all =
        vec![("id", &*l.id), ("reason", &*l.reason), ("origin", &*l.origin), ("tenant", l.tenant.as_str()), ("at", &*at)];
    all.extend(l.user.as_ref().map(|u| ("user", u.as_str())));
    if let Some((topic, partition, offset)) = place(&l.origin) {
        all.extend([("topic", topic), ("partition", partition), ("offset", offset)]);
    }
    let headers = OwnedHeaders::new_with_capacity(all.len());
    all.into_iter().fold(headers, |h, (key, value)| h.insert(Header { key, value: Some(value) }))
}

/// Topic, partition and offset out of `kafka:topic/partition@offset`.
fn place(origin: &str) -> Option<(&str, &str, &str)> {
    let (topic, rest) = origin.strip_prefix("kafka:")?.rsplit_once('/')?;
    let (partition, offset) = rest.split_once('@')?;
    Some((topic, partition, offset))
}

/// The headers of the record that ends a rewrite.
pub(super) fn base(offset: i64) -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key: BASE, value: Some(&offset.to_string()) })
}

/// What a record of the topic is.
pub(super) enum Found {
    /// A letter.
    Letter(DeadLetter),
    /// Everything before this offset is dead.
    Base(i64),
    /// Something that this program did not put here.
    Foreign,
}

/// Reads a record.
pub(super) fn read(message: &BorrowedMessage<'_>) -> Found {
    let header = |name: &str| -> Option<&str> {
        let found = message.headers()?.iter().find(|h| h.key == name)?;
        std::str::from_utf8(found.value?).ok()
    };
    if let Some(offset) = header(BASE).and_then(|o| o.parse().ok()) {
        return Found::Base(offset);
    }
    let letter = || {
        Some(DeadLetter {
            id: header("id")?.to_owned(),
            tenant: Tenant::parse(header("tenant")?).ok()?,
            user: header("user").and_then(|u| UserId::parse(u).ok()),
            reason: header("reason")?.to_owned(),
            origin: header("origin")?.to_owned(),
            bytes: message.payload().unwrap_or_default().into(),
            key: message.key().map(Into::into),
            at: Timestamp::parse(header("at")?).ok()?,
        })
    };
    letter().map_or(Found::Foreign, Found::Letter)
}
