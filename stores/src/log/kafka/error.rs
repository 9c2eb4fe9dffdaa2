//! From the library's errors to kinds that a caller can act on, with the remedy where there is one.

use nearcast_domain::{ErrorKind, StoreError};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

/// The name of this store in errors.
pub(crate) const LOG: &str = "log";

/// An error of the log.
pub(crate) fn error(doing: &str, e: &KafkaError) -> StoreError {
    of(LOG, doing, e)
}

/// An error of `store` while `doing` something.
pub(crate) fn of(store: &'static str, doing: &str, e: &KafkaError) -> StoreError {
    let Some(code) = code(e) else {
        // A client that cannot even be made: a file that is missing, a setting that the library refuses.
        let reason = match e {
            // Without the value: it may be a password.
            KafkaError::ClientConfig(_, reason, key, _) => format!("{key}: {reason}"),
            e => e.to_string(),
        };
        return StoreError::new(ErrorKind::Invalid, store, format!("{doing}: {reason}"));
    };
    let (kind, remedy) = kind(code);
    StoreError::new(kind, store, format!("{doing}: {code}{remedy}"))
}

fn code(e: &KafkaError) -> Option<Code> {
    match e {
        KafkaError::Transaction(e) => Some(e.code()),
        KafkaError::AdminOp(code) => Some(*code),
        KafkaError::Canceled | KafkaError::NoMessageReceived => Some(Code::OperationTimedOut),
        KafkaError::PauseResume(_) | KafkaError::Seek(_) => Some(Code::State),
        e => e.rdkafka_error_code(),
    }
}

/// An error that belongs to one topic or partition of an answer.
pub(crate) fn of_code(store: &'static str, doing: &str, code: Code) -> StoreError {
    let (kind, remedy) = kind(code);
    StoreError::new(kind, store, format!("{doing}: {code}{remedy}"))
}

fn kind(code: Code) -> (ErrorKind, &'static str) {
    match code {
        Code::QueueFull | Code::ThrottlingQuotaExceeded => (ErrorKind::Busy, ""),
        Code::MessageTimedOut | Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => {
            (ErrorKind::Timeout, "")
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            (ErrorKind::Unavailable, "; create the topics with `nearcast setup`")
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => (ErrorKind::Invalid, "; raise the topic's max.message.bytes"),
        Code::TopicAuthorizationFailed | Code::TransactionalIdAuthorizationFailed | Code::GroupAuthorizationFailed => {
            (ErrorKind::ReadOnly, "; give this user the right on the topics, the group and the transactional id")
        }
        Code::ClusterAuthorizationFailed => (ErrorKind::ReadOnly, "; this user may not change the cluster"),
        Code::SaslAuthenticationFailed | Code::Authentication | Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
            (ErrorKind::Unavailable, "; check kafka.sasl")
        }
        Code::SSL => (ErrorKind::Unavailable, "; check kafka.tls"),
        Code::UnsupportedVersion | Code::UnsupportedFeature => {
            (ErrorKind::Invalid, "; the brokers are too old: Kafka 2.5 or newer is needed")
        }
        Code::InvalidArgument
        | Code::InvalidConfig
        | Code::InvalidReplicationFactor
        | Code::InvalidPartitions
        | Code::InvalidTopic => (ErrorKind::Invalid, ""),
        Code::KafkaStorageError => (ErrorKind::Full, "; a broker's disk is full or broken"),
        _ => (ErrorKind::Unavailable, ""),
    }
}
