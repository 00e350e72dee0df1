//! A signal, parsed once at the edge.
//!
//! `RawSignal` is what arrived, as texts; `Signal::parse` turns it into a value that needs no further checking of form,
//! or says everything that is wrong with it. Whether the signal makes sense *now* (market, limits, duplicates) is a
//! decision, not a matter of form, and belongs to the rules.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::ids::{FeedId, SignalId, Symbol, Timeframe, Timestamp, UserId};
use crate::units::{Multiple, Price};

/// Buy or sell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Long.
    Buy,
    /// Short.
    Sell,
}

impl Side {
    /// The side that closes a position of this side.
    #[must_use]
    pub const fn opposite(self) -> Side {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }

    /// The name used in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }
}

/// How an order meets the market.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// At whatever the market gives.
    Market,
    /// At this price or better.
    Limit(Price),
    /// As a market order once the market has traded through this price.
    Stop(Price),
}

impl OrderKind {
    /// The name used in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Market => "market",
            Self::Limit(_) => "limit",
            Self::Stop(_) => "stop",
        }
    }

    /// The price it names, if any.
    pub const fn price(self) -> Option<Price> {
        match self {
            Self::Market => None,
            Self::Limit(price) | Self::Stop(price) => Some(price),
        }
    }
}

/// How the stop of a position moves. All parts are optional: without any, stop and target stay where they are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProtectionPlan {
    /// At this profit, in multiples of the initial risk, the stop goes to the entry price.
    pub breakeven_at: Option<Multiple>,
    /// The stop follows the market at this distance …
    pub trail_distance: Option<Price>,
    /// … once the profit has reached this multiple of the initial risk (at once when absent).
    pub trail_after: Option<Multiple>,
    /// The position is closed when it is this old.
    pub max_hold: Option<Duration>,
}

/// A signal whose form is right.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signal {
    /// Derived from feed and key.
    pub id: SignalId,
    /// Who sent it.
    pub feed: FeedId,
    /// What the feed calls it.
    pub key: CompactString,
    /// What to trade.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// The period it was computed from.
    pub timeframe: Timeframe,
    /// Market or limit.
    pub kind: OrderKind,
    /// Where the feed expects to get in; for a limit order, the limit.
    pub entry_price: Option<Price>,
    /// Where the trade is given up.
    pub stop_loss: Price,
    /// Where the trade is won.
    pub take_profit: Price,
    /// How the stop moves.
    pub protection: ProtectionPlan,
    /// Only this subscriber.
    pub only_user: Option<UserId>,
    /// When the feed made it; its arrival when it did not say.
    pub issued_at: Timestamp,
    /// Whether the feed said when it made it.
    pub issued_at_given: bool,
}

impl Signal {
    /// Whether a repeat under the same key says the same thing. The time of arrival is not part of what is said.
    pub fn says_the_same_as(&self, other: &Signal) -> bool {
        let time_agrees = self.issued_at_given == other.issued_at_given
            && (!self.issued_at_given || self.issued_at == other.issued_at);
        time_agrees
            && self.id == other.id
            && (&self.symbol, self.side, self.timeframe, self.kind)
                == (&other.symbol, other.side, other.timeframe, other.kind)
            && (self.entry_price, self.stop_loss, self.take_profit)
                == (other.entry_price, other.stop_loss, other.take_profit)
            && (self.protection, self.only_user) == (other.protection, other.only_user)
    }
}

/// A signal as it arrived: the values are texts, not yet looked at.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RawSignal {
    /// `symbol`
    pub symbol: Option<String>,
    /// `side`: `buy` or `sell`
    pub side: Option<String>,
    /// `timeframe`, as in `3H`
    pub timeframe: Option<String>,
    /// `order_type`: `market` (the default) or `limit`
    pub order_type: Option<String>,
    /// `entry_price`
    pub entry_price: Option<String>,
    /// `stop_loss`
    pub stop_loss: Option<String>,
    /// `take_profit`
    pub take_profit: Option<String>,
    /// `issued_at`
    pub issued_at: Option<Timestamp>,
    /// `protection.breakeven_at_r`
    pub breakeven_at_r: Option<String>,
    /// `protection.trail_distance`
    pub trail_distance: Option<String>,
    /// `protection.trail_after_r`
    pub trail_after_r: Option<String>,
    /// `protection.max_hold_minutes`
    pub max_hold_minutes: Option<u32>,
    /// `user_id`
    pub user_id: Option<String>,
}

/// One thing that is wrong with the form of a signal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignalError {
    /// The field, as the feed spells it.
    pub field: &'static str,
    /// `missing` or `invalid`.
    pub code: &'static str,
    /// In words.
    pub message: String,
}

/// The longest key a feed may give a signal, in bytes.
pub const KEY_BYTES_MAX: usize = 128;
/// The longest holding time, in minutes: a year.
const HOLD_MINUTES_MAX: u32 = 366 * 24 * 60;

/// Collects what is wrong while the fields are read one by one.
#[derive(Default)]
struct Problems(Vec<SignalError>);

impl Problems {
    fn invalid(&mut self, field: &'static str, message: impl std::fmt::Display) {
        self.0.push(SignalError { field, code: "invalid", message: format!("{field} {message}") });
    }

    fn require<'a>(&mut self, field: &'static str, value: Option<&'a String>) -> Option<&'a str> {
        if value.is_none() {
            self.0.push(SignalError { field, code: "missing", message: format!("{field} is required") });
        }
        value.map(String::as_str)
    }

    fn read<T>(&mut self, field: &'static str, text: Option<&str>) -> Option<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        match text?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.invalid(field, error);
                None
            }
        }
    }

    /// A number that must be above zero.
    fn positive<T>(&mut self, field: &'static str, text: Option<&str>) -> Option<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display> + Default + PartialEq,
    {
        let value = self.read::<T>(field, text)?;
        if value == T::default() {
            self.invalid(field, "must be above zero");
            return None;
        }
        Some(value)
    }
}

impl Signal {
    /// Reads a signal that `feed` calls `key` and that arrived at `now`; or says all that is wrong with its form.
    pub fn parse(feed: FeedId, key: &str, raw: &RawSignal, now: Timestamp) -> Result<Signal, Vec<SignalError>> {
        let mut problems = Problems::default();
        if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
            problems.invalid("id", format_args!("must be 1 to {KEY_BYTES_MAX} bytes without control characters"));
        }
        let symbol = problems.require("symbol", raw.symbol.as_ref());
        let symbol = problems.read::<Symbol>("symbol", symbol);
        let side = parse_side(&mut problems, raw);
        let timeframe = problems.require("timeframe", raw.timeframe.as_ref());
        let timeframe = problems.read::<Timeframe>("timeframe", timeframe);
        let entry_price = problems.positive::<Price>("entry_price", raw.entry_price.as_deref());
        let kind = parse_kind(&mut problems, raw, entry_price);
        let stop_loss = problems.require("stop_loss", raw.stop_loss.as_ref());
        let stop_loss = problems.positive::<Price>("stop_loss", stop_loss);
        let take_profit = problems.require("take_profit", raw.take_profit.as_ref());
        let take_profit = problems.positive::<Price>("take_profit", take_profit);
        let protection = parse_protection(&mut problems, raw);
        let only_user = problems.read::<UserId>("user_id", raw.user_id.as_deref());
        let read = (|| {
            Some(Signal {
                id: SignalId::derive(feed, key),
                feed,
                key: CompactString::new(key),
                symbol: symbol?,
                side: side?,
                timeframe: timeframe?,
                kind: kind?,
                entry_price,
                stop_loss: stop_loss?,
                take_profit: take_profit?,
                protection,
                only_user,
                issued_at: raw.issued_at.unwrap_or(now),
                issued_at_given: raw.issued_at.is_some(),
            })
        })();
        match read {
            Some(signal) if problems.0.is_empty() => Ok(signal),
            _ => Err(problems.0),
        }
    }
}

fn parse_side(problems: &mut Problems, raw: &RawSignal) -> Option<Side> {
    match problems.require("side", raw.side.as_ref())? {
        "buy" => Some(Side::Buy),
        "sell" => Some(Side::Sell),
        _ => {
            problems.invalid("side", "is neither buy nor sell");
            None
        }
    }
}

fn parse_kind(problems: &mut Problems, raw: &RawSignal, entry_price: Option<Price>) -> Option<OrderKind> {
    match raw.order_type.as_deref().unwrap_or("market") {
        "market" => Some(OrderKind::Market),
        "limit" => {
            problems.require("entry_price", raw.entry_price.as_ref());
            entry_price.map(OrderKind::Limit)
        }
        _ => {
            problems.invalid("order_type", "is neither market nor limit");
            None
        }
    }
}

fn parse_protection(problems: &mut Problems, raw: &RawSignal) -> ProtectionPlan {
    let plan = ProtectionPlan {
        breakeven_at: problems.positive("protection.breakeven_at_r", raw.breakeven_at_r.as_deref()),
        trail_distance: problems.positive("protection.trail_distance", raw.trail_distance.as_deref()),
        trail_after: problems.read("protection.trail_after_r", raw.trail_after_r.as_deref()),
        max_hold: raw.max_hold_minutes.map(|minutes| Duration::from_secs(u64::from(minutes) * 60)),
    };
    if raw.trail_after_r.is_some() && raw.trail_distance.is_none() {
        problems.invalid("protection.trail_after_r", "needs trail_distance");
    }
    if raw.max_hold_minutes.is_some_and(|minutes| minutes == 0 || minutes > HOLD_MINUTES_MAX) {
        problems.invalid("protection.max_hold_minutes", format_args!("must be 1 to {HOLD_MINUTES_MAX}"));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn raw() -> RawSignal {
        let text = |s: &str| Some(s.to_owned());
        RawSignal {
            symbol: text("EURUSD"),
            side: text("buy"),
            timeframe: text("3H"),
            stop_loss: text("1.083"),
            take_profit: text("1.089"),
            ..RawSignal::default()
        }
    }

    fn check(change: impl FnOnce(&mut RawSignal), expected: &[(&str, &str)]) {
        let mut raw = raw();
        change(&mut raw);
        let result = Signal::parse(FeedId(Uuid::nil()), "k", &raw, Timestamp::ZERO);
        let problems = result.err().unwrap_or_default();
        let found: Vec<_> = problems.iter().map(|p| (p.field, p.code)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_fault_of_form_is_named_by_its_field() {
        let text = |s: &str| Some(s.to_owned());
        check(|_| {}, &[]);
        check(|r| r.symbol = None, &[("symbol", "missing")]);
        check(|r| r.symbol = text("eur usd"), &[("symbol", "invalid")]);
        check(|r| r.side = text("hold"), &[("side", "invalid")]);
        check(|r| r.timeframe = text("3 hours"), &[("timeframe", "invalid")]);
        check(|r| r.stop_loss = text("-1"), &[("stop_loss", "invalid")]);
        check(|r| r.stop_loss = text("0"), &[("stop_loss", "invalid")]);
        check(|r| r.take_profit = text("1e309"), &[("take_profit", "invalid")]);
        check(|r| r.take_profit = text("0.10000000000000000001"), &[("take_profit", "invalid")]);
        check(|r| r.order_type = text("limit"), &[("entry_price", "missing")]);
        check(|r| r.order_type = text("iceberg"), &[("order_type", "invalid")]);
        check(|r| r.trail_after_r = text("1"), &[("protection.trail_after_r", "invalid")]);
        check(|r| r.max_hold_minutes = Some(0), &[("protection.max_hold_minutes", "invalid")]);
        check(|r| r.user_id = text("ann"), &[("user_id", "invalid")]);
        check(|r| (r.symbol, r.side) = (None, None), &[("symbol", "missing"), ("side", "missing")]);
    }

    #[test]
    fn a_repeat_without_its_own_time_says_the_same_later() {
        let parse =
            |raw: &RawSignal, now| Signal::parse(FeedId(Uuid::nil()), "k", raw, Timestamp::from_micros(now)).unwrap();
        let first = parse(&raw(), 1);
        assert!(first.says_the_same_as(&parse(&raw(), 2)));
        let mut timed = raw();
        timed.issued_at = Some(Timestamp::from_micros(1));
        assert!(!first.says_the_same_as(&parse(&timed, 2)));
        let mut other = raw();
        other.stop_loss = Some("1.0831".to_owned());
        assert!(!first.says_the_same_as(&parse(&other, 1)));
    }
}
