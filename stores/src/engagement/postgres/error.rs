//! Errors of PostgreSQL as kinds that callers act on, in one place.
//!
//! Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use std::io;

use nearcast_domain::{ErrorKind, StoreError};

use super::STORE;

/// The kind and the remedy for an error of the driver. `place` is the server's address.
pub(super) fn of(place: &str, e: &sqlx::Error) -> StoreError {
    let (kind, remedy) = match e {
        sqlx::Error::Database(d) => kind(&d.code().unwrap_or_default(), d.message()),
        sqlx::Error::Io(e) => io_kind(e),
        sqlx::Error::Tls(_) => (ErrorKind::Invalid, ": check postgres.tls and whether the server offers encryption"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            (ErrorKind::Corrupt, ": what is stored is not what this program writes")
        }
        sqlx::Error::Encode(_) | sqlx::Error::Configuration(_) => (ErrorKind::Invalid, ""),
        _ => (ErrorKind::Unavailable, ""),
    };
    let what = match e {
        sqlx::Error::Database(d) => format!("{} ({})", d.message(), d.code().unwrap_or_default()),
        e => e.to_string(),
    };
    StoreError::new(kind, STORE, format!("{place}: {what}{remedy}"))
}

fn io_kind(e: &io::Error) -> (ErrorKind, &'static str) {
    match e.kind() {
        io::ErrorKind::TimedOut => (ErrorKind::Timeout, ""),
        io::ErrorKind::NotFound => (ErrorKind::Invalid, ": check the files of postgres.tls"),
        _ => (ErrorKind::Unavailable, ""),
    }
}

fn kind(code: &str, message: &str) -> (ErrorKind, &'static str) {
    if message.contains("No space left") {
        return (ErrorKind::Full, ": make room on the server's disk");
    }
    match code {
        // Serialization failure, deadlock, a lock that was not had in time.
        "40001" | "40P01" | "55P03" => (ErrorKind::Busy, ""),
        // A cancelled statement, or one that ran out of its time.
        "57014" | "25P03" => (ErrorKind::Timeout, ""),
        "53300" => (ErrorKind::Busy, ": the server takes no more connections; lower postgres.connections or use pgbouncer"),
        "53100" => (ErrorKind::Full, ": make room on the server's disk"),
        "25006" => (ErrorKind::ReadOnly, ": postgres.uri must name the primary, which takes writes"),
        "28000" | "28P01" => (ErrorKind::Invalid, ": check postgres.user and postgres.password"),
        "3D000" => (ErrorKind::Invalid, ": create the database first, or name another in postgres.uri"),
        "42501" => (ErrorKind::Invalid, ": give the user the right to create and use the schema postgres.schema"),
        "42P01" | "3F000" | "42703" => (ErrorKind::Invalid, ": run `nearcast setup` first"),
        "XX001" | "XX002" => (ErrorKind::Corrupt, ": restore it from a backup, or have it made again by `rebuild`"),
        _ => match code.get(..2).unwrap_or_default() {
            // Lost connections, a server that starts or stops, memory and other limits.
            "08" | "57" => (ErrorKind::Unavailable, ""),
            "53" | "54" => (ErrorKind::Busy, ""),
            "22" | "42" | "0A" | "28" => (ErrorKind::Invalid, ""),
            "23" => (ErrorKind::Corrupt, ": what is stored is not what this program writes"),
            _ => (ErrorKind::Unavailable, ""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_codes() {
        for (code, want) in [
            ("40P01", ErrorKind::Busy),
            ("53300", ErrorKind::Busy),
            ("53100", ErrorKind::Full),
            ("53200", ErrorKind::Busy),
            ("25006", ErrorKind::ReadOnly),
            ("57P01", ErrorKind::Unavailable),
            ("57P03", ErrorKind::Unavailable),
            ("57014", ErrorKind::Timeout),
            ("08006", ErrorKind::Unavailable),
            ("28P01", ErrorKind::Invalid),
            ("42P01", ErrorKind::Invalid),
            ("XX001", ErrorKind::Corrupt),
            ("XX000", ErrorKind::Unavailable),
        ] {
            assert_eq!(kind(code, "").0, want, "{code}");
        }
        assert_eq!(kind("58030", "could not extend file: No space left on device").0, ErrorKind::Full);
    }
}
