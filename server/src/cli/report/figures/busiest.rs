//! The largest share that was ever used of each limit, by whom and when.
//!
//! Looked at where a limit can only rise: at acceptances. What is open at once is counted from the first word of a
//! decision to the end of its position, as the engine counts it; what came to nothing uses up nothing here.

use std::collections::BTreeMap;

use nexus_engine::ids::{Day, Timeframe, Timestamp};
use nexus_engine::units::{Money, Percent};

use super::lots::{Lot, Lots};
use super::percent_up;

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
    /// What is limited.
    pub(in super::super) limit: String,
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
}

/// A minute, in microseconds.
const MINUTE_US: i64 = 60_000_000;

/// For each limit the user who used most of it; of equals the first.
pub(super) fn of_all(lots: &[Lots<'_>]) -> Vec<Busiest> {
    let mut largest: Vec<Busiest> = Vec::new();
    for found in lots.iter().flat_map(of_account) {
        match largest.iter_mut().find(|known| known.limit == found.limit) {
            Some(known) if found.share() > known.share() => *known = found,
            Some(_) => {}
            None => largest.push(found),
        }
    }
    largest
}

fn of_account(lots: &Lots<'_>) -> Vec<Busiest> {
    let limits = &lots.account.limits;
    let all: Vec<&Lot<'_>> = lots.all.iter().filter(|lot| !lot.came_to_nothing()).collect();
    let mut uses = Vec::new();
    let mut of_day: BTreeMap<(Timeframe, Day), i64> = BTreeMap::new();
    for (n, lot) in all.iter().enumerate() {
        let (at, plan) = (lot.decision.at, lot.plan);
        let mut add = |limit: String, unit: Unit, used: i64, allowed: i64| {
            uses.push(Busiest { limit, user: lots.account.username.clone(), at, unit, used, allowed });
        };
        let admitted = plan.used_before.plus(plan.risk);
        add("loss admitted in a day".into(), Unit::Money, admitted.steps(), plan.cap.steps());
        let percent = percent_up(plan.risk.steps(), plan.equity.steps(), 1);
        add("risk of one trade".into(), Unit::Percent, percent.steps(), limits.max_risk_percent.steps());
        let count = of_day.entry((plan.timeframe, at.day())).or_insert(0);
        *count += 1;
        let allowed = limits.timeframes.get(&plan.timeframe).copied().unwrap_or(0);
        add(format!("{} trades in a day", plan.timeframe), Unit::Count, *count, allowed.into());
        let open: Vec<&&Lot<'_>> = all[..=n].iter().filter(|other| other.is_open_at(at)).collect();
        add("positions at once".into(), Unit::Count, count_of(open.len()), limits.max_open_positions.into());
        let worth = open.iter().fold(Money::ZERO, |sum, lot| sum.plus(lot.plan.quantity.value_up(lot.plan.sized_at)));
        add("exposure".into(), Unit::Money, worth.steps(), limits.max_exposure.steps());
        let in_minute = all[..=n].iter().filter(|other| at.micros() - other.decision.at.micros() < MINUTE_US);
        add("orders in a minute".into(), Unit::Count, count_of(in_minute.count()), limits.max_orders_per_minute.into());
    }
    uses
}

impl Lot<'_> {
    /// Whether it was decided by then and not closed before.
    fn is_open_at(&self, at: Timestamp) -> bool {
        let closed_at = self.position.and_then(|position| position.closed_at);
        self.decision.at <= at && closed_at.is_none_or(|closed_at| closed_at > at)
    }
}

fn count_of(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
