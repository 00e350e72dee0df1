//! The limits of a user on the wire: every one optional in a change, every one shown in an answer.
//!
//! The names are those of the settings in lower case. A change is applied to what is in force and then held against the
//! ceilings as a whole; nothing here knows in which direction a limit is tighter, that is the engine's.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use nexus_engine::ids::Timeframe;
use nexus_engine::limits::Limits;
use nexus_engine::units::{Money, Percent, Quantity};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::decimal::WireDecimal;
use super::fields::{FieldError, Fields};

/// A change of limits. What is absent stays; nothing may be looser than the ceilings of the engine.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LimitsChange, example = json!({
    "max_daily_loss": "5.00", "max_risk_percent": "0.5", "timeframes": {"3H": 1, "6H": 1, "9H": 1}, "max_open_positions": 3
}))]
pub struct LimitsChange {
    /// The most that may be lost, at risk or in flight in one UTC day.
    pub max_daily_loss: Option<WireDecimal>,
    /// The most that one trade may risk, in percent of equity.
    pub max_risk_percent: Option<WireDecimal>,
    /// Acceptances a day for each timeframe. Replaces the whole list: what is not named may not be traded.
    #[schema(value_type = Option<BTreeMap<String, u32>>)]
    pub timeframes: Option<Counts>,
    /// How long the same symbol, side and timeframe is refused after an acceptance.
    pub duplicate_window_minutes: Option<WireDecimal>,
    /// The oldest signal that is acted on.
    pub max_signal_age_seconds: Option<WireDecimal>,
    /// How far ahead of the engine's clock a signal's time may be.
    pub future_tolerance_seconds: Option<WireDecimal>,
    /// The oldest mark that an entry may be priced from.
    pub max_mark_age_seconds: Option<WireDecimal>,
    /// How far an entry price may be from the market.
    pub price_collar_percent: Option<WireDecimal>,
    /// Positions open or being opened at once.
    pub max_open_positions: Option<WireDecimal>,
    /// Entries accepted within any 60 seconds.
    pub max_orders_per_minute: Option<WireDecimal>,
    /// The most that one order may be worth.
    pub max_order_value: Option<WireDecimal>,
    /// The most units in one order.
    pub max_order_quantity: Option<WireDecimal>,
    /// The most that all positions and working entries together may be worth.
    pub max_exposure: Option<WireDecimal>,
    /// So many losing trades in a row start a cool-down.
    pub loss_streak: Option<WireDecimal>,
    /// How long a cool-down lasts.
    pub loss_streak_cooldown_minutes: Option<WireDecimal>,
    /// Entries of the same symbol, side and quantity accepted within an hour.
    pub max_repeated_executions: Option<WireDecimal>,
    /// What a market fill may slip, in percent of its price.
    pub slippage_allowance_percent: Option<WireDecimal>,
}

impl LimitsChange {
    /// `current` with this change, or what is wrong with it: of the wrong form, or looser than `ceilings`.
    pub fn apply(&self, current: &Limits, ceilings: &Limits) -> Result<Limits, Vec<FieldError>> {
        let mut fields = Fields::default();
        let mut limits = current.clone();
        limits.version = current.version + 1;
        self.apply_amounts(&mut fields, &mut limits);
        self.apply_counts(&mut fields, &mut limits);
        self.apply_times(&mut fields, &mut limits);
        if fields.is_clean() {
            for name in limits.looser_than(ceilings) {
                fields.refuse(name, "above_ceiling", "is looser than the ceiling that the engine runs with");
            }
        }
        fields.finish(Some(limits))
    }

    fn apply_amounts(&self, fields: &mut Fields, limits: &mut Limits) {
        let mut money = |field: &str, number: &Option<WireDecimal>, to: &mut Money| match fields
            .number::<Money>(field, number.as_ref())
        {
            Some(amount) if amount < Money::ZERO => fields.refuse(field, "invalid", "must not be negative"),
            Some(amount) => *to = amount,
            None => {}
        };
        money("max_daily_loss", &self.max_daily_loss, &mut limits.max_daily_loss);
        money("max_order_value", &self.max_order_value, &mut limits.max_order_value);
        money("max_exposure", &self.max_exposure, &mut limits.max_exposure);
        let mut percent = |field: &str, number: &Option<WireDecimal>, to: &mut Percent| {
            *to = fields.number(field, number.as_ref()).unwrap_or(*to);
        };
        percent("max_risk_percent", &self.max_risk_percent, &mut limits.max_risk_percent);
        percent("price_collar_percent", &self.price_collar_percent, &mut limits.price_collar_percent);
        percent("slippage_allowance_percent", &self.slippage_allowance_percent, &mut limits.slippage_allowance_percent);
        let quantity: Option<Quantity> = fields.number("max_order_quantity", self.max_order_quantity.as_ref());
        limits.max_order_quantity = quantity.unwrap_or(limits.max_order_quantity);
    }

    fn apply_counts(&self, fields: &mut Fields, limits: &mut Limits) {
        if let Some(Counts(counts)) = &self.timeframes {
            limits.timeframes.clear();
            for (name, count) in counts {
                let timeframe: Option<Timeframe> = fields.optional("timeframes", Some(name));
                let count: Option<u32> = fields.number("timeframes", Some(count));
                if let (Some(timeframe), Some(count)) = (timeframe, count)
                    && limits.timeframes.insert(timeframe, count).is_some()
                {
                    fields.refuse("timeframes", "invalid", format_args!("names {timeframe} twice"));
                }
            }
        }
        let mut count = |field: &str, number: &Option<WireDecimal>, to: &mut u32| {
            *to = fields.number(field, number.as_ref()).unwrap_or(*to);
        };
        count("max_open_positions", &self.max_open_positions, &mut limits.max_open_positions);
        count("max_orders_per_minute", &self.max_orders_per_minute, &mut limits.max_orders_per_minute);
        count("loss_streak", &self.loss_streak, &mut limits.loss_streak);
        count("max_repeated_executions", &self.max_repeated_executions, &mut limits.max_repeated_executions);
    }

    fn apply_times(&self, fields: &mut Fields, limits: &mut Limits) {
        let mut time = |field: &str, number: &Option<WireDecimal>, unit_s: u64, to: &mut Duration| {
            // 32 bits of minutes are 8,000 years: what is longer is a mistake, and products stay in range.
            let count: Option<u32> = fields.number(field, number.as_ref());
            *to = count.map_or(*to, |count| Duration::from_secs(u64::from(count) * unit_s));
        };
        time("duplicate_window_minutes", &self.duplicate_window_minutes, 60, &mut limits.duplicate_window);
        time("max_signal_age_seconds", &self.max_signal_age_seconds, 1, &mut limits.max_signal_age);
        time("future_tolerance_seconds", &self.future_tolerance_seconds, 1, &mut limits.future_tolerance);
        time("max_mark_age_seconds", &self.max_mark_age_seconds, 1, &mut limits.max_mark_age);
        time("loss_streak_cooldown_minutes", &self.loss_streak_cooldown_minutes, 60, &mut limits.loss_streak_cooldown);
    }
}

/// Counts by name; a repeated name is malformed, as a repeated field is anywhere else.
#[derive(Clone, Debug)]
pub struct Counts(Vec<(String, WireDecimal)>);

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountsVisitor;

        impl<'de> Visitor<'de> for CountsVisitor {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of counts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
                let mut seen = BTreeMap::new();
                while let Some((name, count)) = map.next_entry::<String, WireDecimal>()? {
                    if seen.insert(name, count).is_some() {
                        return Err(A::Error::custom("duplicate field in an object of counts"));
                    }
                }
                Ok(Counts(seen.into_iter().collect()))
            }
        }
        deserializer.deserialize_map(CountsVisitor)
    }
}

/// The limits that a user trades under.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Limits)]
pub struct LimitsBody {
    /// Rises with every change.
    pub version: u64,
    /// The most that may be lost, at risk or in flight in one UTC day.
    pub max_daily_loss: String,
    /// The most that one trade may risk, in percent of equity.
    pub max_risk_percent: String,
    /// Acceptances a day for each timeframe.
    pub timeframes: BTreeMap<String, u32>,
    /// How long the same symbol, side and timeframe is refused after an acceptance.
    pub duplicate_window_minutes: u64,
    /// The oldest signal that is acted on.
    pub max_signal_age_seconds: u64,
    /// How far ahead of the engine's clock a signal's time may be.
    pub future_tolerance_seconds: u64,
    /// The oldest mark that an entry may be priced from.
    pub max_mark_age_seconds: u64,
    /// How far an entry price may be from the market.
    pub price_collar_percent: String,
    /// Positions open or being opened at once.
    pub max_open_positions: u32,
    /// Entries accepted within any 60 seconds.
    pub max_orders_per_minute: u32,
    /// The most that one order may be worth.
    pub max_order_value: String,
    /// The most units in one order.
    pub max_order_quantity: String,
    /// The most that all positions and working entries together may be worth.
    pub max_exposure: String,
    /// So many losing trades in a row start a cool-down.
    pub loss_streak: u32,
    /// How long a cool-down lasts.
    pub loss_streak_cooldown_minutes: u64,
    /// Entries of the same symbol, side and quantity accepted within an hour.
    pub max_repeated_executions: u32,
    /// What a market fill may slip, in percent of its price.
    pub slippage_allowance_percent: String,
}

impl LimitsBody {
    /// Shows limits.
    pub fn of(limits: &Limits) -> Self {
        Self {
            version: limits.version,
            max_daily_loss: limits.max_daily_loss.to_string(),
            max_risk_percent: limits.max_risk_percent.to_string(),
            timeframes: limits.timeframes.iter().map(|(timeframe, count)| (timeframe.to_string(), *count)).collect(),
            duplicate_window_minutes: limits.duplicate_window.as_secs() / 60,
            max_signal_age_seconds: limits.max_signal_age.as_secs(),
            future_tolerance_seconds: limits.future_tolerance.as_secs(),
            max_mark_age_seconds: limits.max_mark_age.as_secs(),
            price_collar_percent: limits.price_collar_percent.to_string(),
            max_open_positions: limits.max_open_positions,
            max_orders_per_minute: limits.max_orders_per_minute,
            max_order_value: limits.max_order_value.to_string(),
            max_order_quantity: limits.max_order_quantity.to_string(),
            max_exposure: limits.max_exposure.to_string(),
            loss_streak: limits.loss_streak,
            loss_streak_cooldown_minutes: limits.loss_streak_cooldown.as_secs() / 60,
            max_repeated_executions: limits.max_repeated_executions,
            slippage_allowance_percent: limits.slippage_allowance_percent.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    fn check(body: &str, expected: &[(&str, &str)]) -> Option<Limits> {
        let change: LimitsChange = json::decode(body.as_bytes()).expect("well-formed");
        let result = change.apply(&Limits::default(), &Limits::default());
        let errors = result.as_ref().err().cloned().unwrap_or_default();
        let found: Vec<_> = errors.iter().map(|e| (e.field.as_str(), e.code)).collect();
        assert_eq!(found, expected, "{body}");
        result.ok()
    }

    #[test]
    fn limits_are_tightened_and_never_raised() {
        let tightened =
            check(r#"{"max_daily_loss":"5.00","timeframes":{"3H":1},"loss_streak":2}"#, &[]).expect("taken");
        assert_eq!(tightened.max_daily_loss, Money::whole(5));
        assert_eq!(tightened.timeframes, [(Timeframe::hours(3), 1)].into());
        assert_eq!((tightened.loss_streak, tightened.version), (2, 2));
        check(r#"{"max_daily_loss":"10"}"#, &[("max_daily_loss", "above_ceiling")]);
        check(r#"{"timeframes":{"1H":1}}"#, &[("timeframes", "above_ceiling")]);
        check(r#"{"duplicate_window_minutes":1}"#, &[("duplicate_window_minutes", "above_ceiling")]);
        check(r#"{"slippage_allowance_percent":0}"#, &[("slippage_allowance_percent", "above_ceiling")]);
        check(r#"{"max_daily_loss":-1}"#, &[("max_daily_loss", "invalid")]);
        check(r#"{"max_risk_percent":"-1"}"#, &[("max_risk_percent", "invalid")]);
        check(r#"{"max_open_positions":1.5}"#, &[("max_open_positions", "invalid")]);
        check(r#"{"timeframes":{"180M":1,"3H":1}}"#, &[("timeframes", "invalid")]);
        check(r#"{"timeframes":{"soon":1}}"#, &[("timeframes", "invalid")]);
        assert!(json::decode::<LimitsChange>(br#"{"timeframes":{"3H":1,"3H":1}}"#).is_err());
    }
}
