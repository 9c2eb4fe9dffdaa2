//! The months that totals are partitioned by, as whole hours since 1970.
//!
//! Reads no clock: months come from the data.

use std::{ops::Range, time::Instant};

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

    /// The hours in it.
    pub(super) fn hours(self) -> Range<i64> {
        first_hour(self.0)..first_hour(self.0 + 1)
    }

    /// The end of its table's name: `2026_01`.
    pub(super) fn suffix(self) -> String {
        format!("{:04}_{:02}", self.0 / 12, self.0 % 12 + 1)
    }
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

    #[test]
    fn months_and_their_hours() {
        for (hour, suffix) in [(0, "1970_01"), (31 * 24 - 1, "1970_01"), (31 * 24, "1970_02"), (490_896, "2026_01")] {
            let month = Month::of(hour).unwrap();
            assert_eq!(month.suffix(), suffix);
            assert!(month.hours().contains(&hour));
        }
        assert_eq!(Month::of(-1), None);
        assert_eq!((Month::of(i64::MAX), Month::of(i64::MIN)), (None, None));
        // They follow each other without a gap, leap years and centuries too.
        let mut hour = 0;
        while let Some(month) = Month::of(hour) {
            assert_eq!(month.hours().start, hour, "{}", month.suffix());
            assert!((28 * 24..=31 * 24).contains(&(month.hours().end - hour)));
            assert_eq!(Month::of(month.hours().end - 1), Some(month));
            hour = month.hours().end;
        }
        assert_eq!(hour, first_hour(LAST));
    }
}
