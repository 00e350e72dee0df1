//! The hard limits of one user, and the ceilings above which nobody raises them through the API.
//!
//! Whoever runs the machine sets the ceilings; the API may only tighten. The defaults are those of the product's
//! promise: 9.99 a day, 1 % a trade, two trades a day on 9H and 6H, one on 3H, no repetition within an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Timeframe;
use crate::units::{Money, Percent, Quantity};

/// Every limit that a decision is held against. Amounts are in the account's currency.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Rises with every change, so that a turn can say which limits it was decided under.
    pub version: u64,
    /// The most that may be lost, at risk or in flight in one UTC day.
    pub max_daily_loss: Money,
    /// The most that one trade may risk, in percent of equity.
    pub max_risk_percent: Percent,
    /// Acceptances a day for each timeframe; a timeframe that is not named may not be traded.
    pub timeframes: BTreeMap<Timeframe, u32>,
    /// How long the same symbol, side and timeframe is refused after an acceptance.
    pub duplicate_window: Duration,
    /// The oldest signal that is still acted on.
    pub max_signal_age: Duration,
    /// How far ahead of our clock a signal's or a mark's time may be.
    pub future_tolerance: Duration,
    /// The oldest mark that an entry may be priced from.
    pub max_mark_age: Duration,
    /// How far an entry price may be from the market, in percent.
    pub price_collar_percent: Percent,
    /// Positions open or being opened at once.
    pub max_open_positions: u32,
    /// Entries accepted within any 60 seconds.
    pub max_orders_per_minute: u32,
    /// The most that one order may be worth.
    pub max_order_value: Money,
    /// The most units in one order.
    pub max_order_quantity: Quantity,
    /// The most that all positions and working entries together may be worth.
    pub max_exposure: Money,
    /// So many losing trades in a row start a cool-down.
    pub loss_streak: u32,
    /// How long a cool-down lasts.
    pub loss_streak_cooldown: Duration,
    /// Entries of the same symbol, side and quantity accepted within an hour (RTS 6 art. 15(3): repeated execution).
    pub max_repeated_executions: u32,
    /// What a market fill may slip, in percent of its price; part of every worst case.
    pub slippage_allowance_percent: Percent,
}

impl Default for Limits {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            version: 1,
            max_daily_loss: Money::from_steps(999_000_000),
            max_risk_percent: Percent::whole(1),
            timeframes: [(Timeframe::hours(3), 1), (Timeframe::hours(6), 2), (Timeframe::hours(9), 2)].into(),
            duplicate_window: minutes(60),
            max_signal_age: Duration::from_secs(120),
            future_tolerance: Duration::from_secs(5),
            max_mark_age: Duration::from_secs(60),
            price_collar_percent: Percent::whole(2),
            max_open_positions: 5,
            max_orders_per_minute: 60,
            max_order_value: Money::whole(100_000),
            max_order_quantity: Quantity::whole(1_000_000),
            max_exposure: Money::whole(250_000),
            loss_streak: 5,
            loss_streak_cooldown: minutes(60),
            max_repeated_executions: 10,
            slippage_allowance_percent: Percent::from_steps(2_000_000),
        }
    }
}

impl Limits {
    /// The names of the limits in `self` that are looser than `ceiling`; empty when none is.
    pub fn looser_than(&self, ceiling: &Limits) -> Vec<&'static str> {
        let timeframes = self
            .timeframes
            .iter()
            .all(|(timeframe, count)| ceiling.timeframes.get(timeframe).is_some_and(|top| count <= top));
        let held = [
            ("max_daily_loss", self.max_daily_loss <= ceiling.max_daily_loss),
            ("max_risk_percent", self.max_risk_percent <= ceiling.max_risk_percent),
            ("timeframes", timeframes),
            ("duplicate_window_minutes", self.duplicate_window >= ceiling.duplicate_window),
            ("max_signal_age_seconds", self.max_signal_age <= ceiling.max_signal_age),
            ("future_tolerance_seconds", self.future_tolerance <= ceiling.future_tolerance),
            ("max_mark_age_seconds", self.max_mark_age <= ceiling.max_mark_age),
            ("price_collar_percent", self.price_collar_percent <= ceiling.price_collar_percent),
            ("max_open_positions", self.max_open_positions <= ceiling.max_open_positions),
            ("max_orders_per_minute", self.max_orders_per_minute <= ceiling.max_orders_per_minute),
            ("max_order_value", self.max_order_value <= ceiling.max_order_value),
            ("max_order_quantity", self.max_order_quantity <= ceiling.max_order_quantity),
            ("max_exposure", self.max_exposure <= ceiling.max_exposure),
            ("loss_streak", self.loss_streak <= ceiling.loss_streak),
            ("loss_streak_cooldown_minutes", self.loss_streak_cooldown >= ceiling.loss_streak_cooldown),
            ("max_repeated_executions", self.max_repeated_executions <= ceiling.max_repeated_executions),
            ("slippage_allowance_percent", self.slippage_allowance_percent >= ceiling.slippage_allowance_percent),
        ];
        held.iter().filter(|(_, ok)| !ok).map(|(name, _)| *name).collect()
    }

    /// The tighter of both, limit by limit: what holds when the operator lowers a ceiling below what a user has.
    #[must_use]
    pub fn tightened_to(&self, ceiling: &Limits) -> Limits {
        let timeframes = self
            .timeframes
            .iter()
            .filter_map(|(timeframe, count)| Some((*timeframe, *count.min(ceiling.timeframes.get(timeframe)?))))
            .collect();
        Limits {
            version: self.version,
            max_daily_loss: self.max_daily_loss.min(ceiling.max_daily_loss),
            max_risk_percent: self.max_risk_percent.min(ceiling.max_risk_percent),
            timeframes,
            duplicate_window: self.duplicate_window.max(ceiling.duplicate_window),
            max_signal_age: self.max_signal_age.min(ceiling.max_signal_age),
            future_tolerance: self.future_tolerance.min(ceiling.future_tolerance),
            max_mark_age: self.max_mark_age.min(ceiling.max_mark_age),
            price_collar_percent: self.price_collar_percent.min(ceiling.price_collar_percent),
            max_open_positions: self.max_open_positions.min(ceiling.max_open_positions),
            max_orders_per_minute: self.max_orders_per_minute.min(ceiling.max_orders_per_minute),
            max_order_value: self.max_order_value.min(ceiling.max_order_value),
            max_order_quantity: self.max_order_quantity.min(ceiling.max_order_quantity),
            max_exposure: self.max_exposure.min(ceiling.max_exposure),
            loss_streak: self.loss_streak.min(ceiling.loss_streak),
            loss_streak_cooldown: self.loss_streak_cooldown.max(ceiling.loss_streak_cooldown),
            max_repeated_executions: self.max_repeated_executions.min(ceiling.max_repeated_executions),
            slippage_allowance_percent: self.slippage_allowance_percent.max(ceiling.slippage_allowance_percent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_may_be_tightened_and_never_raised() {
        let ceiling = Limits::default();
        assert!(ceiling.looser_than(&ceiling).is_empty());
        let mut raised = ceiling.clone();
        raised.max_daily_loss = Money::whole(10);
        raised.timeframes.insert(Timeframe::hours(1), 1);
        raised.duplicate_window = Duration::from_secs(60);
        assert_eq!(raised.looser_than(&ceiling), ["max_daily_loss", "timeframes", "duplicate_window_minutes"]);
        assert_eq!(raised.tightened_to(&ceiling), ceiling);
    }
}
