//! Where a time axis is marked: at whole hours, midnights or beginnings of months, whichever leaves room for the words.
//!
//! A month has no fixed length, so marks at months are counted in the calendar and not in microseconds. All times are UTC,
//! as everywhere.

use jiff::civil;
use jiff::tz::TimeZone;
use nexus_engine::ids::Timestamp;

/// Marks that an axis has room for.
const MARKS_MAX: usize = 5;
const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// The first Monday of the epoch, from which weeks are counted.
const MONDAY_US: i64 = 4 * DAY_US;

/// How far marks are apart.
#[derive(Clone, Copy)]
enum Step {
    Hours(i64),
    Days(i64),
    Months(i64),
}

/// From the closest to the widest.
const STEPS: [Step; 16] = [
    Step::Hours(1),
    Step::Hours(3),
    Step::Hours(6),
    Step::Hours(12),
    Step::Days(1),
    Step::Days(2),
    Step::Days(7),
    Step::Days(14),
    Step::Months(1),
    Step::Months(2),
    Step::Months(3),
    Step::Months(6),
    Step::Months(12),
    Step::Months(24),
    Step::Months(60),
    Step::Months(120),
];

/// The marks of a span of time, and what is written at them. A span of centuries has none.
pub(super) fn ticks((from, to): (Timestamp, Timestamp)) -> Vec<(Timestamp, String)> {
    let fits = |step: &Step| {
        let marks: Vec<_> = step.marks(from.micros(), to.micros()).take(MARKS_MAX + 1).collect();
        (marks.len() <= MARKS_MAX).then_some(marks)
    };
    STEPS.iter().find_map(fits).unwrap_or_default()
}

impl Step {
    fn marks(self, from: i64, to: i64) -> Box<dyn Iterator<Item = (Timestamp, String)>> {
        match self {
            Self::Hours(n) => evenly(from, to, n * HOUR_US, "%-d %b %H:%M"),
            Self::Days(n) => evenly(from, to, n * DAY_US, "%-d %b"),
            Self::Months(n) => Box::new(months(from, to, n)),
        }
    }
}

fn evenly(from: i64, to: i64, step: i64, form: &'static str) -> Box<dyn Iterator<Item = (Timestamp, String)>> {
    let first = MONDAY_US - (MONDAY_US - from).div_euclid(step) * step;
    let times = (0..).map(move |n| first + n * step).take_while(move |at| *at <= to);
    Box::new(times.filter_map(move |at| {
        let time = jiff::Timestamp::from_microsecond(at).ok()?;
        Some((Timestamp::from_micros(at), time.strftime(form).to_string()))
    }))
}

fn months(from: i64, to: i64, step: i64) -> impl Iterator<Item = (Timestamp, String)> {
    let date = |at: i64| Some(jiff::Timestamp::from_microsecond(at).ok()?.to_zoned(TimeZone::UTC).date());
    let index = |date: civil::Date| i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
    let first = date(from).map(index).unwrap_or_default();
    // Counted from a January, so that marks at several months stand at the same ones every year.
    let first = first.div_euclid(step) * step;
    let last = date(to).map(index).unwrap_or_default();
    (0..).map(move |n| first + n * step).take_while(move |month| *month <= last).filter_map(move |month| {
        let (year, month) = (i16::try_from(month.div_euclid(12)).ok()?, i8::try_from(month.rem_euclid(12) + 1).ok()?);
        let start = civil::Date::new(year, month, 1).ok()?.to_zoned(TimeZone::UTC).ok()?;
        let at = start.timestamp().as_microsecond();
        (from..=to).contains(&at).then(|| (Timestamp::from_micros(at), start.strftime("%b %Y").to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time;

    #[test]
    fn an_axis_is_marked_where_a_calendar_would_be() {
        let table: [(&str, &str, &[&str]); 7] = [
            ("2017-04-19T09:00:00Z", "2017-04-19T13:30:00Z", &["09:00", "10:00", "11:00", "12:00", "13:00"]),
            ("2017-04-19T09:00:00Z", "2017-04-20T21:00:00Z", &["12:00", "00:00", "12:00"]),
            ("2017-04-19T09:00:00Z", "2017-04-24T09:00:00Z", &["20 Apr", "21 Apr", "22 Apr", "23 Apr", "24 Apr"]),
            ("2017-04-19T09:00:00Z", "2017-05-16T00:00:00Z", &["24 Apr", "1 May", "8 May", "15 May"]),
            ("2017-04-19T09:00:00Z", "2017-07-19T00:00:00Z", &["May 2017", "Jun 2017", "Jul 2017"]),
            (
                "2017-04-19T09:00:00Z",
                "2018-02-07T15:59:59Z",
                &["May 2017", "Jul 2017", "Sep 2017", "Nov 2017", "Jan 2018"],
            ),
            ("2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z", &["00:00"]),
        ];
        for (from, to, expected) in table {
            let found = ticks((time::parse(from).expect("a time"), time::parse(to).expect("a time")));
            let is_alike = found.len() == expected.len()
                && found.iter().zip(expected).all(|((_, label), expected)| label.ends_with(expected));
            assert!(is_alike, "{from} to {to}: {found:?}");
        }
        let at = ticks((time::parse("2017-04-19T09:00:00Z").unwrap(), time::parse("2018-02-07T15:59:59Z").unwrap()));
        assert_eq!(time::format(at[0].0), "2017-05-01T00:00:00Z");
    }
}
