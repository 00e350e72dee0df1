//! Equity where something was realised, its drawdowns, and what each day made.
//!
//! What is realised at the same time is one point, because the record does not order it, and a figure must not depend on
//! the order in which two fills of one mark were written.

use std::collections::BTreeMap;

use nexus_engine::ids::{Day, Timestamp};
use nexus_engine::units::{Money, Percent};

use super::{HUNDREDTH, percent_up};

/// Equity over time, as steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Curve {
    /// Before anything was realised.
    pub(in super::super) start: Money,
    /// From when, how much.
    pub(in super::super) points: Vec<(Timestamp, Money)>,
}

/// A fall of equity from a peak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Drawdown {
    /// How deep, as a positive amount.
    pub(in super::super) amount: Money,
    /// In percent of the peak, rounded up to a hundredth.
    pub(in super::super) percent: Percent,
    /// When the peak was reached; none when it is what the account began with.
    pub(in super::super) from: Option<Timestamp>,
    /// When it was deepest.
    pub(in super::super) to: Timestamp,
}

/// What a day made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct DayResult {
    pub(in super::super) day: Day,
    pub(in super::super) net: Money,
}

/// What each day made.
pub(super) struct Days(BTreeMap<Day, Money>);

impl Curve {
    /// The curve that begins with `start`; what was realised may come in any order.
    pub(super) fn of(start: Money, realized: impl Iterator<Item = (Timestamp, Money)>) -> Self {
        let mut changes: BTreeMap<Timestamp, Money> = BTreeMap::new();
        for (at, amount) in realized {
            let change = changes.entry(at).or_default();
            *change = change.plus(amount);
        }
        let mut equity = start;
        let points = changes.into_iter().map(|(at, change)| {
            equity = equity.plus(change);
            (at, equity)
        });
        Self { start, points: points.collect() }
    }

    /// How far below its last peak the equity is at each point; zero at a peak, never positive.
    pub(in super::super) fn falls(&self) -> Vec<(Timestamp, Money)> {
        let mut peak = self.start;
        let fall = |(at, equity): &(Timestamp, Money)| {
            peak = peak.max(*equity);
            (*at, equity.minus(peak))
        };
        self.points.iter().map(fall).collect()
    }

    /// The deepest fall, the first of equals; none when equity never fell.
    pub(super) fn largest_drawdown(&self) -> Option<Drawdown> {
        let (mut peak, mut from) = (self.start, None);
        let mut largest: Option<Drawdown> = None;
        for (at, equity) in &self.points {
            if *equity > peak {
                (peak, from) = (*equity, Some(*at));
            }
            let amount = peak.minus(*equity);
            if amount > largest.map_or(Money::ZERO, |drawdown| drawdown.amount) {
                let percent = percent_up(amount.steps(), peak.steps(), HUNDREDTH);
                largest = Some(Drawdown { amount, percent, from, to: *at });
            }
        }
        largest
    }
}

impl Days {
    pub(super) fn of(realized: impl Iterator<Item = (Timestamp, Money)>) -> Self {
        let mut days: BTreeMap<Day, Money> = BTreeMap::new();
        for (at, amount) in realized {
            let net = days.entry(at.day()).or_default();
            *net = net.plus(amount);
        }
        Self(days)
    }

    /// The day that made the least, the first of equals.
    pub(super) fn worst(&self) -> Option<DayResult> {
        self.0.iter().map(|(day, net)| DayResult { day: *day, net: *net }).min_by_key(|result| result.net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_micros(hours * 3_600_000_000)
    }

    #[test]
    fn a_drawdown_runs_from_its_peak_to_its_deepest_point() {
        let whole = Money::whole;
        // (realised at hours, amount, percent, peak at, deepest at)
        type Expected = Option<(i64, &'static str, Option<i64>, i64)>;
        let table: [(&[(i64, i64)], Expected); 6] = [
            (&[], None),
            (&[(1, 10), (2, 5)], None),
            (&[(1, -10)], Some((10, "10.0", None, 1))),
            // 100, 110, 105, 99, 120, 110: from 110 at 1 down to 99 at 3, by 11 of 110; the later fall of 10 is smaller.
            (&[(1, 10), (2, -5), (3, -6), (30, 21), (31, -10)], Some((11, "10.0", Some(1), 3))),
            // At one time it is what it comes to: 100 - 7, not 100 - 20.
            (&[(1, -20), (1, 13)], Some((7, "7.0", None, 1))),
            // A third of a percent is rounded up: 1 of 300.
            (&[(1, 200), (2, -1)], Some((1, "0.34", Some(1), 2))),
        ];
        for (realized, expected) in table {
            let curve = Curve::of(whole(100), realized.iter().map(|(hour, amount)| (at(*hour), whole(*amount))));
            let expected = expected.map(|(amount, percent, from, to)| Drawdown {
                amount: whole(amount),
                percent: percent.parse().expect("a percentage"),
                from: from.map(at),
                to: at(to),
            });
            assert_eq!(curve.largest_drawdown(), expected, "{realized:?}");
        }
    }

    #[test]
    fn falls_are_counted_from_the_last_peak() {
        let realized = [(1, 10), (2, -5), (3, -6), (4, 20)];
        let curve = Curve::of(Money::whole(100), realized.iter().map(|(h, amount)| (at(*h), Money::whole(*amount))));
        let falls: Vec<i64> = curve.falls().iter().map(|(_, fall)| fall.steps() / Money::whole(1).steps()).collect();
        assert_eq!(falls, [0, -5, -11, 0]);
    }

    #[test]
    fn a_day_is_worst_by_its_sum() {
        let realized = [(1, -3), (23, 2), (25, -2), (49, -2)];
        let days = Days::of(realized.iter().map(|(h, amount)| (at(*h), Money::whole(*amount))));
        assert_eq!(days.worst(), Some(DayResult { day: Day(1), net: Money::whole(-2) }));
    }
}
