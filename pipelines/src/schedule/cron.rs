//! Cron lines in UTC, and what is due by them. Never asks a clock.

use std::{fmt, str::FromStr, time::Duration};

use nearcast_domain::Timestamp;

/// Times that were missed are counted up to here.
const MOST: u64 = 10_000;

/// Five fields (minute, hour, day of the month, month, day of the week), or six with seconds before them. UTC.
#[derive(Clone)]
pub struct Cron {
    line: String,
    times: croner::Cron,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// The newest time that is due and not too late.
    pub run: Option<Timestamp>,
    /// How many before it, the first and the last of them.
    pub missed: Option<(u64, Timestamp, Timestamp)>,
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let parser = croner::parser::CronParser::builder().build();
        let times = parser.parse(line).map_err(|e| e.to_string())?;
        let cron = Self { line: line.to_owned(), times };
        // The 30th of February is a line without a time.
        match cron.next(Timestamp::ZERO) {
            Some(_) => Ok(cron),
            None => Err("there is no such time".into()),
        }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl Cron {
    /// The first time after this one.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_millisecond(after.millis()).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
        let next = self.times.find_next_occurrence(&after, false).ok()?;
        Some(Timestamp::from_millis(next.timestamp().as_millisecond()))
    }

    /// What is due `now` of what lies after `handled`. Times that are up to `late` ago may still be begun: the newest of them is run.
    pub fn due(&self, handled: Timestamp, now: Timestamp, late: Duration) -> Due {
        let oldest = now.plus_millis(-i64::try_from(late.as_millis()).unwrap_or(i64::MAX));
        let (mut at, mut due) = (handled, Due::default());
        while let Some(next) = self.next(at).filter(|n| *n <= now) {
            at = next;
            // One that could be run is overtaken by the next.
            if let Some(before) = due.run.take() {
                miss(&mut due, before);
            }
            if next >= oldest {
                due.run = Some(next);
            } else {
                miss(&mut due, next);
                if due.missed.is_some_and(|(n, ..)| n >= MOST) && oldest > at {
                    // Enough counted: on with what is not too late.
                    at = oldest.plus_millis(-1);
                }
            }
        }
        due
    }
}

fn miss(due: &mut Due, at: Timestamp) {
    due.missed = Some(match due.missed {
        None => (1, at, at),
        Some((n, first, _)) => ((n + 1).min(MOST), first, at),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn times_are_utc() {
        let nightly: Cron = "0 3 * * *".parse().unwrap();
        assert_eq!(nightly.next(at("2026-01-02T03:00:00Z")), Some(at("2026-01-03T03:00:00Z")));
        assert_eq!(nightly.next(at("2026-01-02T02:59:59.999Z")), Some(at("2026-01-02T03:00:00Z")));
        // The day that begins summer time elsewhere has three o'clock here.
        assert_eq!(nightly.next(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T03:00:00Z")));
        let mondays: Cron = "30 6 * * MON".parse().unwrap();
        assert_eq!(mondays.next(at("2026-01-01T00:00:00Z")), Some(at("2026-01-05T06:30:00Z")));
        let seconds: Cron = "*/20 * * * * *".parse().unwrap();
        assert_eq!(seconds.next(at("2026-01-01T00:00:01Z")), Some(at("2026-01-01T00:00:20Z")));
    }

    #[test]
    fn bad_lines_are_refused() {
        for line in ["", "at three", "61 * * * *", "* * * *", "0 0 30 2 *", "0 25 * * *"] {
            assert!(line.parse::<Cron>().is_err(), "{line:?}");
        }
    }

    #[test]
    fn what_is_due_and_what_was_missed() {
        let (hourly, late) = ("0 * * * *".parse::<Cron>().unwrap(), Duration::from_secs(120));
        let begun = at("2026-01-01T00:30:00Z");
        assert_eq!(hourly.due(begun, at("2026-01-01T00:59:59Z"), late), Due::default());
        let one = at("2026-01-01T01:00:00Z");
        assert_eq!(hourly.due(begun, at("2026-01-01T01:02:00Z"), late), Due { run: Some(one), missed: None });
        assert_eq!(hourly.due(begun, at("2026-01-01T01:02:01Z"), late), Due { run: None, missed: Some((1, one, one)) });
        let four = at("2026-01-01T04:00:00Z");
        let three = at("2026-01-01T03:00:00Z");
        assert_eq!(hourly.due(begun, four, late), Due { run: Some(four), missed: Some((3, one, three)) });
        // Two within the time that may be late: the newer is run.
        let each: Cron = "* * * * *".parse().unwrap();
        let due = each.due(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:02:00Z"), late);
        assert_eq!(due.run, Some(at("2026-01-01T00:02:00Z")));
        assert_eq!(due.missed.map(|m| m.0), Some(1));
    }

    #[test]
    fn years_away_are_counted_up_to_a_bound() {
        let each: Cron = "* * * * * *".parse().unwrap();
        let due = each.due(at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"), Duration::from_secs(5));
        assert_eq!(due.run, Some(at("2026-01-01T00:00:00Z")));
        let (runs, first, last) = due.missed.unwrap();
        assert_eq!((runs, first, last), (MOST, at("2020-01-01T00:00:01Z"), at("2025-12-31T23:59:59Z")));
    }
}
