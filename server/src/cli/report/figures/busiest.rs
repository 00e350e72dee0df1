//! The largest share that was ever used of each limit, by whom and when.
//!
//! Looked at where a limit can only rise: at acceptances. What is open at once is counted from the first word of a
//! decision to the end of its position, as the engine counts it. What came to nothing gives all back that it used up,
//! but for its place in the minute: an order that was sent was sent.

use std::collections::BTreeMap;
use std::fmt;

use nexus_engine::ids::{Day, Timeframe, Timestamp};
use nexus_engine::units::{Money, Percent};

use super::lots::{Lot, Lots};
use super::percent_up;

/// What is limited, in the order in which it is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in super::super) enum Limit {
    /// The worst loss that was admitted of the day's cap.
    DailyLoss,
    TradeRisk,
    /// Trades of a timeframe in a day.
    Trades(Timeframe),
    Positions,
    Exposure,
    OrdersPerMinute,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DailyLoss => f.write_str("loss admitted in a day"),
            Self::TradeRisk => f.write_str("risk of one trade"),
            Self::Trades(timeframe) => write!(f, "{timeframe} trades in a day"),
            Self::Positions => f.write_str("positions at once"),
            Self::Exposure => f.write_str("exposure"),
            Self::OrdersPerMinute => f.write_str("orders in a minute"),
        }
    }
}

/// In what a limit is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Unit {
    /// In the account's currency; steps of 1e-8.
    Money,
    /// In percent; steps of 1e-8.
    Percent,
    /// In pieces.
    Count,
}

/// The largest use of one limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Busiest {
    pub(in super::super) limit: Limit,
    pub(in super::super) user: String,
    pub(in super::super) at: Timestamp,
    pub(in super::super) unit: Unit,
    pub(in super::super) used: i64,
    pub(in super::super) allowed: i64,
}

impl Busiest {
    /// How much of what is allowed was used, rounded up to a hundredth of a percent.
    pub(in super::super) fn share(&self) -> Percent {
        percent_up(self.used, self.allowed, super::HUNDREDTH)
    }

    /// Whether a larger share was used than of `other`: by the shares themselves, since near a limit all of them round to
    /// the whole of it. A use of what is not allowed at all exceeds every use of what is.
    fn exceeds(&self, other: &Self) -> bool {
        i128::from(self.used) * i128::from(other.allowed) > i128::from(other.used) * i128::from(self.allowed)
    }
}

/// A minute, in microseconds.
const MINUTE_US: i64 = 60_000_000;

/// For each limit the user who used most of it; of equals the first.
pub(super) fn of_all(lots: &[Lots<'_>]) -> Vec<Busiest> {
    let mut largest: Vec<Busiest> = Vec::new();
    for found in lots.iter().flat_map(of_account) {
        match largest.iter_mut().find(|known| known.limit == found.limit) {
            Some(known) if found.exceeds(known) => *known = found,
            Some(_) => {}
            None => largest.push(found),
        }
    }
    largest.sort_by_key(|busiest| busiest.limit);
    largest
}

fn of_account(lots: &Lots<'_>) -> Vec<Busiest> {
    let limits = &lots.account.limits;
    let mut uses = Vec::new();
    let mut of_day: BTreeMap<(Timeframe, Day), i64> = BTreeMap::new();
    for (n, lot) in lots.all.iter().enumerate() {
        let (at, plan, until_now) = (lot.decision.at, lot.plan, &lots.all[..=n]);
        let mut add = |limit: Limit, unit: Unit, used: i64, allowed: i64| {
            uses.push(Busiest { limit, user: lots.account.username.clone(), at, unit, used, allowed });
        };
        let in_minute = until_now.iter().filter(|other| at.micros() - other.decision.at.micros() < MINUTE_US);
        add(Limit::OrdersPerMinute, Unit::Count, count_of(in_minute.count()), limits.max_orders_per_minute.into());
        if lot.came_to_nothing() {
            continue;
        }
        let admitted = plan.used_before.plus(plan.risk);
        add(Limit::DailyLoss, Unit::Money, admitted.steps(), plan.cap.steps());
        let percent = percent_up(plan.risk.steps(), plan.equity.steps(), 1);
        add(Limit::TradeRisk, Unit::Percent, percent.steps(), limits.max_risk_percent.steps());
        let count = of_day.entry((plan.timeframe, at.day())).or_insert(0);
        *count += 1;
        let allowed = limits.timeframes.get(&plan.timeframe).copied().unwrap_or(0);
        add(Limit::Trades(plan.timeframe), Unit::Count, *count, allowed.into());
        let open: Vec<&Lot<'_>> = until_now.iter().filter(|other| other.is_open_at(at)).collect();
        add(Limit::Positions, Unit::Count, count_of(open.len()), limits.max_open_positions.into());
        let worth = open.iter().fold(Money::ZERO, |sum, lot| sum.plus(lot.plan.quantity.value_up(lot.plan.sized_at)));
        add(Limit::Exposure, Unit::Money, worth.steps(), limits.max_exposure.steps());
    }
    uses
}

impl Lot<'_> {
    /// Whether it was decided by then, was not closed before, and came to something.
    fn is_open_at(&self, at: Timestamp) -> bool {
        let closed_at = self.position.and_then(|position| position.closed_at);
        self.decision.at <= at && !self.came_to_nothing() && closed_at.is_none_or(|closed_at| closed_at > at)
    }
}

fn count_of(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_a_limit_the_larger_use_is_still_told_from_the_smaller() {
        let busiest = |used, allowed| Busiest {
            limit: Limit::DailyLoss,
            user: "ann".to_owned(),
            at: Timestamp::ZERO,
            unit: Unit::Money,
            used,
            allowed,
        };
        // 9.98997844 and 9.98940339 of 9.99: both are 100.00 % when rounded up.
        let (more, less) = (busiest(998_997_844, 999_000_000), busiest(998_940_339, 999_000_000));
        assert_eq!(more.share(), less.share());
        assert!(more.exceeds(&less) && !less.exceeds(&more) && !more.exceeds(&more));
        assert!(busiest(3, 4).exceeds(&busiest(5, 7)), "shares are compared, not amounts");
        assert!(busiest(1, 0).exceeds(&busiest(4, 4)) && !busiest(0, 0).exceeds(&busiest(1, 4)));
    }
}
