//! The months that totals are partitioned by, and the years that stand for months long past, as whole hours since 1970.
//!
//! Reads no clock: times come from whoever asks. Which of the two holds a row changes nothing that is read.

use std::{collections::BTreeSet, ops::Range, time::Instant};

/// A month, counted from January of the year 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Month(i64);

/// Months outside have no partition of their own: whoever sends times from everywhere must not make thousands of tables.
const FIRST: i64 = 1970 * 12;
const LAST: i64 = 2200 * 12;

impl Month {
    /// The month that an hour falls in; `None` where it has no partition of its own.
    pub(super) fn of(hour: i64) -> Option<Self> {
        let days = hour.div_euclid(24);
        // H. Hinnant, "chrono-compatible low-level date algorithms" (civil_from_days), for the year and month alone.
        let z = days.checked_add(719_468)?;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        // March is the first month of the counted year.
        let month = (year_of_era + era * 400).checked_mul(12)?.checked_add(from_march + 2)?;
        (FIRST..LAST).contains(&month).then_some(Self(month))
    }

    fn year(self) -> i64 {
        self.0 / 12
    }
}

/// What one partition of totals holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Span {
    Month(Month),
    /// A whole year: who brings decades of history must not make hundreds of tables.
    Year(i64),
}

impl Span {
    /// The hours in it.
    pub(super) fn hours(self) -> Range<i64> {
        match self {
            Self::Month(m) => first_hour(m.0)..first_hour(m.0 + 1),
            Self::Year(y) => first_hour(y * 12)..first_hour(y * 12 + 12),
        }
    }

    /// The name of its table: `totals_2026_01`, `totals_1997`.
    pub(super) fn table(self) -> String {
        match self {
            Self::Month(m) => format!("totals_{:04}_{:02}", m.year(), m.0 % 12 + 1),
            Self::Year(y) => format!("totals_{y:04}"),
        }
    }

    /// The months in it.
    pub(super) fn months(self) -> impl Iterator<Item = Month> {
        let months = match self {
            Self::Month(m) => m.0..m.0 + 1,
            Self::Year(y) => y * 12..y * 12 + 12,
        };
        months.map(Month)
    }
}

/// The partitions that are missing for these months where these tables are there: a year for months that ended more than a year before
/// this one, unless some month of theirs has a table already.
pub(super) fn missing(months: &[Month], there: &BTreeSet<String>, now: Month) -> BTreeSet<Span> {
    let is_there = |span: Span| there.contains(&span.table());
    let span = |month: &Month| {
        let year = Span::Year(month.year());
        if is_there(Span::Month(*month)) || is_there(year) {
            return None;
        }
        let whole = month.year() + 1 < now.year() && !year.months().any(|m| is_there(Span::Month(m)));
        Some(if whole { year } else { Span::Month(*month) })
    };
    months.iter().filter_map(span).collect()
}

/// H. Hinnant's days_from_civil for the first of a month.
fn first_hour(month: i64) -> i64 {
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) * 24
}

/// Which months have their partitions, as far as this process knows, and when making more is tried again.
#[derive(Default)]
pub(super) struct Known {
    pub(super) months: std::collections::HashSet<Month>,
    pub(super) not_before: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(hour: i64) -> Month {
        Month::of(hour).unwrap()
    }

    #[test]
    fn months_and_their_hours() {
        for (hour, suffix) in [(0, "1970_01"), (31 * 24 - 1, "1970_01"), (31 * 24, "1970_02"), (490_896, "2026_01")] {
            let span = Span::Month(month(hour));
            assert_eq!(span.table(), format!("totals_{suffix}"));
            assert!(span.hours().contains(&hour));
        }
        assert_eq!(Month::of(-1), None);
        assert_eq!((Month::of(i64::MAX), Month::of(i64::MIN)), (None, None));
        // They follow each other without a gap, leap years and centuries too.
        let mut hour = 0;
        while let Some(month) = Month::of(hour) {
            let hours = Span::Month(month).hours();
            assert_eq!(hours.start, hour, "{month:?}");
            assert!((28 * 24..=31 * 24).contains(&(hours.end - hour)));
            assert_eq!(Month::of(hours.end - 1), Some(month));
            let year = Span::Year(month.year());
            assert!(year.hours().start <= hours.start && hours.end <= year.hours().end && year.months().any(|m| m == month));
            hour = hours.end;
        }
        assert_eq!(hour, first_hour(LAST));
    }

    #[test]
    fn what_is_long_past_is_kept_by_the_year() {
        let day = |days: i64| month(days * 24);
        // 1997-05, 1997-06, 2024-12, 2025-01, and 2026-01 as now.
        let months = [day(9_990), day(10_020), day(20_062), day(20_100), day(20_454)];
        let tables = |there: &[&str]| -> Vec<String> {
            let there = there.iter().map(|t| (*t).to_owned()).collect();
            missing(&months, &there, months[4]).into_iter().map(Span::table).collect()
        };
        assert_eq!(tables(&[]), ["totals_2025_01", "totals_2026_01", "totals_1997", "totals_2024"]);
        assert_eq!(tables(&["totals_1997", "totals_2024_12"]), ["totals_2025_01", "totals_2026_01"]);
        // A table of one of its months stands in the way of the year's.
        let by_month = ["totals_1997_06", "totals_2024_12", "totals_2025", "totals_2026_01"];
        assert_eq!(
            tables(&["totals_1997_01", "totals_2024", "totals_2025", "totals_2026_01"]),
            ["totals_1997_05", "totals_1997_06"]
        );
        assert_eq!(tables(&by_month), ["totals_1997_05"]);
    }
}
