//! The driver's errors as the kinds that callers act on.
//!
//! Codes are those of MongoDB's `error_codes.yml`. A message never holds a password: the driver puts none into its errors.

use mongodb::error::{Error, ErrorKind as Driver, WriteFailure};
use nearcast_domain::{ErrorKind, StoreError};

/// A second document under a unique key.
pub(crate) const DUPLICATE_KEY: i32 = 11000;

/// Maps an error of the driver.
pub(crate) fn map(store: &'static str, e: &Error) -> StoreError {
    let (kind, message) = match e.kind.as_ref() {
        Driver::Command(c) => coded(c.code, &c.code_name, &c.message),
        Driver::Write(WriteFailure::WriteError(w)) => coded(w.code, w.code_name.as_deref().unwrap_or(""), &w.message),
        Driver::Write(WriteFailure::WriteConcernError(w)) => coded(w.code, &w.code_name, &w.message),
        Driver::InsertMany(many) => match (many.write_errors.iter().flatten().next(), &many.write_concern_error) {
            (Some(w), _) => coded(w.code, w.code_name.as_deref().unwrap_or(""), &w.message),
            (None, Some(w)) => coded(w.code, &w.code_name, &w.message),
            (None, None) => (ErrorKind::Unavailable, e.kind.to_string()),
        },
        Driver::Authentication { message, .. } => (ErrorKind::Invalid, refused(message)),
        Driver::InvalidArgument { message, .. } => (ErrorKind::Invalid, message.clone()),
        Driver::InvalidTlsConfig { message, .. } => (ErrorKind::Invalid, format!("mongodb.tls: {message}")),
        Driver::IncompatibleServer { message, .. } => (ErrorKind::Invalid, too_old(message)),
        Driver::ServerSelection { message, .. } => selection(message),
        Driver::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => (ErrorKind::Timeout, io.to_string()),
        Driver::Bson(e) => (ErrorKind::Corrupt, e.to_string()),
        other => (ErrorKind::Unavailable, other.to_string()),
    };
    StoreError::new(kind, store, message)
}

/// Maps what a server says.
pub(crate) fn coded(code: i32, name: &str, message: &str) -> (ErrorKind, String) {
    let kind = match code {
        // NetworkTimeout, ExceededTimeLimit, MaxTimeMSExpired, NetworkInterfaceExceededTimeLimit, WriteConcernFailed.
        89 | 262 | 50 | 202 | 64 => ErrorKind::Timeout,
        // LockTimeout, WriteConflict, TemporarilyUnavailable, IngressRequestRateLimitExceeded.
        24 | 112 | 365 | 462 => ErrorKind::Busy,
        // OutOfDiskSpace.
        14031 => ErrorKind::Full,
        // UserWritesBlocked: an administrator or a migration has forbidden writes.
        371 => ErrorKind::ReadOnly,
        // Unauthorized, AuthenticationFailed.
        13 | 18 => return (ErrorKind::Invalid, refused(message)),
        // BadValue, FailedToParse, TypeMismatch, CommandNotFound, InvalidNamespace, IndexOptionsConflict, IndexKeySpecsConflict,
        // BSONObjectTooLarge, NotImplemented.
        2 | 9 | 14 | 59 | 73 | 85 | 86 | 10334 | 238 => ErrorKind::Invalid,
        // FerretDB hands on what PostgreSQL says.
        _ if message.contains("SQLSTATE 53100") => ErrorKind::Full,
        _ if message.contains("SQLSTATE 25006") => ErrorKind::ReadOnly,
        _ if message.contains("SQLSTATE 57014") => ErrorKind::Timeout,
        // NotWritablePrimary, InterruptedAtShutdown, PrimarySteppedDown, … and whatever is new: worth trying again.
        _ => ErrorKind::Unavailable,
    };
    let told = match kind {
        ErrorKind::Full => format!("{message} ({name}, code {code}): make room on the server's disk"),
        ErrorKind::ReadOnly => format!("{message} ({name}, code {code}): the server takes no writes"),
        _ => format!("{message} ({name}, code {code})"),
    };
    (kind, told)
}

fn refused(message: &str) -> String {
    format!(
        "{message}: check mongodb.user, mongodb.password and mongodb.auth_source; the user needs the role readWrite on the database"
    )
}

/// The remedy for a server of an old version.
pub(super) fn too_old(found: &str) -> String {
    format!("{found}: MongoDB 6.0 or newer is needed")
}

/// While no server can be chosen the driver tells the last error of each: a wrong password and an untrusted certificate stand there.
fn selection(message: &str) -> (ErrorKind, String) {
    if message.contains("Authentication") || message.contains("SCRAM failure") {
        return (ErrorKind::Invalid, refused(message));
    }
    let remedy = if message.contains("certificate") { "; check mongodb.tls" } else { "" };
    (ErrorKind::Unavailable, format!("{message}{remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_kinds() {
        for (code, message, kind) in [
            (14031, "disk", ErrorKind::Full),
            (10107, "not primary", ErrorKind::Unavailable),
            (11602, "stepped down", ErrorKind::Unavailable),
            (371, "blocked", ErrorKind::ReadOnly),
            (13, "not authorized", ErrorKind::Invalid),
            (18, "Authentication failed.", ErrorKind::Invalid),
            (50, "time", ErrorKind::Timeout),
            (1, "ERROR: could not extend file (SQLSTATE 53100)", ErrorKind::Full),
            (1, "cannot execute INSERT in a read-only transaction (SQLSTATE 25006)", ErrorKind::ReadOnly),
            (1, "anything", ErrorKind::Unavailable),
        ] {
            assert_eq!(coded(code, "x", message).0, kind, "{code} {message}");
        }
        assert!(coded(18, "AuthenticationFailed", "Authentication failed.").1.contains("mongodb.password"));
        assert!(coded(14031, "OutOfDiskSpace", "full").1.contains("disk"));
    }
}
