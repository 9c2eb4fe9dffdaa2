//! Errors of Neo4j as kinds that callers act on, in one place.
//!
//! Status codes: <https://neo4j.com/docs/status-codes/current/errors/all-errors/>.

use std::io;

use nearcast_domain::{ErrorKind, StoreError};
use neo4rs::Error;

use super::STORE;

const OLD: &str = ": Neo4j 5 or newer is needed";

/// The kind and the remedy for an error of the driver. `place` is the server's address.
pub(super) fn of(place: &str, e: &Error) -> StoreError {
    let (kind, message) = match e {
        Error::Neo4j(e) => told(e.code(), e.message()),
        // The driver wraps refusals that come with the rows or the commit in a text.
        Error::UnexpectedMessage(text) => match code_within(text) {
            Some(code) => told(code, quoted(text, "message").unwrap_or_default()),
            None => (ErrorKind::Unavailable, "the server and the driver lost track of each other".to_owned()),
        },
        Error::IOError { detail } => (io_kind(detail), detail.to_string()),
        Error::AuthenticationError(text) => login(text),
        Error::UnsupportedVersion(text) => (ErrorKind::Invalid, format!("{text}{OLD}, or this is no Neo4j server")),
        Error::ConnectionError => (ErrorKind::Unavailable, e.to_string()),
        Error::DeserializationError(_) | Error::ConversionError | Error::UnknownType(_) => {
            (ErrorKind::Corrupt, format!("{e}: what is stored is not what this program writes"))
        }
        Error::UnknownMessage(_) | Error::InvalidTypeMarker(_) => (ErrorKind::Unavailable, e.to_string()),
        _ => (ErrorKind::Invalid, e.to_string()),
    };
    StoreError::new(kind, STORE, format!("neo4j {place}: {message}"))
}

/// Whether the server itself refused, so that nothing more is to come on this connection.
pub(super) fn is_refusal(e: &Error) -> bool {
    match e {
        Error::Neo4j(_) => true,
        Error::UnexpectedMessage(text) => code_within(text).is_some(),
        _ => false,
    }
}

fn login(text: &str) -> (ErrorKind, String) {
    // The driver calls every refused greeting a refused login.
    if text.contains("unavailable") || text.contains("not available") {
        return (ErrorKind::Unavailable, text.to_owned());
    }
    (ErrorKind::Invalid, format!("{text}: check neo4j.user and neo4j.password"))
}

fn io_kind(e: &io::Error) -> ErrorKind {
    match e.kind() {
        io::ErrorKind::TimedOut => ErrorKind::Timeout,
        // A certificate that is not trusted, or no encryption where some is expected.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::NotFound => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}

fn told(code: &str, message: &str) -> (ErrorKind, String) {
    let (kind, remedy) = kind(code, message);
    (kind, format!("{message} ({code}){remedy}"))
}

fn kind(code: &str, message: &str) -> (ErrorKind, &'static str) {
    if message.contains("No space left") || message.contains("disk is full") || message.contains("out of disk space") {
        return (ErrorKind::Full, ": make room on the server's disk");
    }
    let mut parts = code.split('.').skip(1);
    match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
        (_, "Transaction", "TransactionTimedOut" | "TransactionTimedOutClientConfiguration") => (ErrorKind::Timeout, ""),
        (_, "General", "DatabaseUnavailable" | "TransactionLogUnavailable") => (ErrorKind::Unavailable, ""),
        // A deadlock, a lock that was not had in time, memory that others hold.
        ("TransientError", ..) => (ErrorKind::Busy, ""),
        (_, "Transaction", "Terminated" | "LockClientStopped" | "DeadlockDetected") => (ErrorKind::Busy, ""),
        // Two writers made the same node, or deleted the same, at once.
        (_, "Schema", "ConstraintValidationFailed") | (_, "Statement", "EntityNotFound") => (ErrorKind::Busy, ""),
        (_, "Cluster", "NotALeader") => (
            ErrorKind::Unavailable,
            ": this member does not lead; let the cluster route (neo4j.uri = \"neo4j://…\"), or name the leader",
        ),
        (_, "General", "ForbiddenOnReadOnlyDatabase" | "WriteOnReadOnlyAccessDatabase")
        | (_, "Statement", "AccessMode")
        | (_, "Request", "WriteOnReadOnlyAccess") => (ErrorKind::ReadOnly, ": neo4j.uri must name a server that takes writes"),
        (_, "Security", "Forbidden") => (ErrorKind::Invalid, ": give neo4j.user the right to read and write this database"),
        (_, "Security", "AuthorizationExpired" | "TokenExpired") => (ErrorKind::Unavailable, ""),
        (_, "Security", _) => (ErrorKind::Invalid, ": check neo4j.user and neo4j.password"),
        (_, "Database", "DatabaseNotFound") => (ErrorKind::Invalid, ": check neo4j.database"),
        (_, "Statement", "SyntaxError" | "FeatureDeprecationWarning") => (ErrorKind::Invalid, OLD),
        ("ClientError", ..) => (ErrorKind::Invalid, ""),
        _ => (ErrorKind::Unavailable, ""),
    }
}

/// The status code within the driver's own text of a refusal.
fn code_within(text: &str) -> Option<&str> {
    let code = quoted(text, "code")?;
    code.starts_with("Neo.").then_some(code)
}

/// The value of a field within the printed form of a map: `"code" }: String(BoltString { value: "…"`.
fn quoted<'t>(text: &'t str, field: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(&format!("\"{field}\" }}"))?;
    let (_, value) = after.split_once("value: \"")?;
    let mut end = None;
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        match c {
            '"' if !escaped => {
                end = Some(at);
                break;
            }
            _ => escaped = c == '\\' && !escaped,
        }
    }
    value.get(..end?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_codes() {
        for (code, want) in [
            ("Neo.TransientError.Transaction.DeadlockDetected", ErrorKind::Busy),
            ("Neo.TransientError.General.MemoryPoolOutOfMemoryError", ErrorKind::Busy),
            ("Neo.TransientError.General.DatabaseUnavailable", ErrorKind::Unavailable),
            ("Neo.ClientError.Transaction.TransactionTimedOut", ErrorKind::Timeout),
            ("Neo.ClientError.Cluster.NotALeader", ErrorKind::Unavailable),
            ("Neo.ClientError.General.ForbiddenOnReadOnlyDatabase", ErrorKind::ReadOnly),
            ("Neo.ClientError.Security.Unauthorized", ErrorKind::Invalid),
            ("Neo.ClientError.Statement.SyntaxError", ErrorKind::Invalid),
            ("Neo.DatabaseError.General.UnknownError", ErrorKind::Unavailable),
        ] {
            assert_eq!(kind(code, "").0, want, "{code}");
        }
        assert_eq!(kind("Neo.DatabaseError.Transaction.TransactionCommitFailed", "No space left on device").0, ErrorKind::Full);
    }

    #[test]
    fn a_refusal_that_came_with_the_rows_is_understood() {
        let text = "unexpected response for PULL: Ok(Failure(Failure { metadata: BoltMap { value: {BoltString { value: \"message\" }: \
                    String(BoltString { value: \"it said \\\"no\\\"\" }), BoltString { value: \"code\" }: String(BoltString { value: \
                    \"Neo.TransientError.Transaction.DeadlockDetected\" })} } }))";
        let e = Error::UnexpectedMessage(text.into());
        assert!(is_refusal(&e));
        let e = of("h:1", &e);
        assert_eq!(e.kind, ErrorKind::Busy);
        assert!(
            e.message.contains("it said") && e.message.contains("DeadlockDetected") && !e.message.contains("BoltMap"),
            "{e}"
        );
        let e = Error::UnexpectedMessage("unexpected response for RESET: Record".into());
        assert!(!is_refusal(&e));
        assert_eq!(of("h:1", &e).kind, ErrorKind::Unavailable);
    }
}
