//! Points in time as milliseconds since 1970 in UTC: one representation for every store.
//!
//! Never asks the system for the time, save in [`Timestamp::now`], which only the edges call.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Milliseconds since 1970-01-01T00:00:00Z. Finer parts of a second are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// One hour in milliseconds.
pub const HOUR_MS: i64 = 3_600_000;
/// One day in milliseconds.
pub const DAY_MS: i64 = 24 * HOUR_MS;

impl Timestamp {
    /// The start of the epoch.
    pub const ZERO: Self = Self(0);

    /// From milliseconds since the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The system's time. For edges only (arrival, expiry, `generated_at`): derived state never calls it.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// Reads RFC 3339 (`2026-01-02T03:04:05Z`, any offset). A time without an offset is taken as UTC.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(t) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(t.as_millisecond()));
        }
        text.parse::<jiff::civil::DateTime>()
            .ok()
            .and_then(|t| t.to_zoned(jiff::tz::TimeZone::UTC).ok())
            .map(|t| Self(t.timestamp().as_millisecond()))
            .ok_or_else(|| "is not an RFC 3339 time such as 2026-01-02T03:04:05Z".to_owned())
    }

    /// This time plus so many milliseconds, kept within range.
    pub const fn plus_millis(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc3339() {
        let t = Timestamp::parse("2026-01-02T03:04:05Z").unwrap();
        assert_eq!(t.to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(Timestamp::parse("2026-01-02T04:04:05+01:00").unwrap(), t);
        assert_eq!(Timestamp::parse("2026-01-02T03:04:05").unwrap(), t);
        assert!(Timestamp::parse("yesterday").is_err());
    }
}
