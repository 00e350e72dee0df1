//! The example strategy: a plain breakout of the last 20 bars, on bars of 3, 6 and 9 hours.
//!
//! It is here to exercise an engine and not to make money. Pure: bars in, signals out, exact integers. A timeframe's bar
//! begins at a multiple of its length since the epoch and closes with the close of the last bar of the file in it; one
//! that ends in a gap of the data joins the history when the next begins and gives no signal, because its time is past.

use std::collections::VecDeque;
use std::time::Duration;

use nexus_engine::ids::{Timeframe, Timestamp};
use nexus_engine::signal::Side;
use nexus_engine::units::Price;
use serde_json::{Value, json};

use super::bars::Bar;
use super::marks::{Quoting, close_at};
use crate::wire::time;

/// Hours of a bar, for each timeframe that is traded.
const TIMEFRAMES_H: [u32; 3] = [3, 6, 9];
/// Bars that a close must break out of, and over which the true range is averaged.
const LOOKBACK: usize = 20;
/// A position is closed after so many bars.
const HOLD_BARS: u64 = 12;
/// The target, in multiples of the distance to the stop.
const TARGET_R: i64 = 3;

/// A signal of the strategy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Breakout {
    pub(super) side: Side,
    pub(super) timeframe: Timeframe,
    /// When the bar that broke out began.
    bar: Timestamp,
    /// When its close was seen.
    issued_at: Timestamp,
    entry: Price,
    pub(super) stop: Price,
    pub(super) target: Price,
    trail_distance: Price,
}

impl Breakout {
    /// The signal as the engine takes it. Its id is a function of what it is about, so a repeat is known as one.
    pub(super) fn to_json(&self, symbol: &str) -> Value {
        let (side, timeframe) = (self.side.as_str(), self.timeframe.to_string());
        let hold_minutes = self.timeframe.duration().as_secs() / 60 * HOLD_BARS;
        json!({
            "id": format!("{symbol}-{timeframe}-{}-{side}", time::format(self.bar)),
            "symbol": symbol, "side": side, "timeframe": timeframe, "order_type": "market",
            "entry_price": self.entry.to_string(), "stop_loss": self.stop.to_string(),
            "take_profit": self.target.to_string(), "issued_at": time::format(self.issued_at),
            "protection": {"breakeven_at_r": "1", "trail_after_r": "1.5",
                "trail_distance": self.trail_distance.to_string(), "max_hold_minutes": hold_minutes},
        })
    }
}

/// The strategy: what it remembers of each timeframe.
pub(super) struct Strategy {
    tick: Price,
    spacing: Duration,
    series: Vec<Series>,
}

/// The bars of one timeframe.
struct Series {
    timeframe: Timeframe,
    /// The bar that is being made.
    forming: Option<Candle>,
    /// Those that are made, oldest first; one more than is looked back over, for its close.
    made: VecDeque<Candle>,
}

/// A bar of a timeframe.
#[derive(Clone, Copy)]
struct Candle {
    begins: Timestamp,
    high: Price,
    low: Price,
    close: Price,
}

impl Strategy {
    /// One that has seen nothing of bars that last `spacing`.
    pub(super) fn new(quoting: &Quoting, spacing: Duration) -> Self {
        let series = TIMEFRAMES_H.map(|hours| Series {
            timeframe: Timeframe::hours(hours),
            forming: None,
            made: VecDeque::with_capacity(LOOKBACK + 2),
        });
        Self { tick: quoting.tick(), spacing, series: series.into() }
    }

    /// Takes a bar; returns what its close calls for, the shortest timeframe first.
    pub(super) fn close(&mut self, bar: &Bar) -> Vec<Breakout> {
        let (tick, spacing) = (self.tick, self.spacing);
        self.series.iter_mut().filter_map(|series| series.close(bar, spacing, tick)).collect()
    }
}

impl Series {
    fn close(&mut self, bar: &Bar, spacing: Duration, tick: Price) -> Option<Breakout> {
        let length = self.timeframe.duration();
        let begins = start_of(bar.at, length);
        if self.forming.is_some_and(|forming| forming.begins != begins) {
            self.keep();
        }
        let candle = match self.forming {
            Some(forming) => {
                Candle { high: forming.high.max(bar.high), low: forming.low.min(bar.low), close: bar.close, ..forming }
            }
            None => Candle { begins, high: bar.high, low: bar.low, close: bar.close },
        };
        self.forming = Some(candle);
        if bar.at.after(spacing) < begins.after(length) {
            return None;
        }
        let signal = self.breakout(&candle, close_at(bar, spacing), tick);
        self.keep();
        signal
    }

    fn keep(&mut self) {
        self.made.extend(self.forming.take());
        if self.made.len() > LOOKBACK + 1 {
            self.made.pop_front();
        }
    }

    fn breakout(&self, candle: &Candle, issued_at: Timestamp, tick: Price) -> Option<Breakout> {
        let before = self.made.len().checked_sub(LOOKBACK)?;
        let highest = self.made.range(before..).map(|made| made.high).max()?;
        let lowest = self.made.range(before..).map(|made| made.low).min()?;
        let side = match candle.close {
            close if close > highest => Side::Buy,
            close if close < lowest => Side::Sell,
            _ => return None,
        };
        let range = self.mean_true_range(before);
        // One and a half of it, on the tick that is farther away; a market that has not moved at all breaks out of nothing.
        let distance = Price::from_steps(range.steps().saturating_mul(3) / 2).ceil_to(tick);
        if distance.is_zero() {
            return None;
        }
        let (entry, gain) = (candle.close, Price::from_steps(distance.steps().saturating_mul(TARGET_R)));
        let (stop, target) = match side {
            Side::Buy => (entry.minus(distance).floor_to(tick), entry.plus(gain).floor_to(tick)),
            Side::Sell => (entry.plus(distance).ceil_to(tick), entry.minus(gain).ceil_to(tick)),
        };
        let is_possible = stop > Price::ZERO && target > Price::ZERO;
        is_possible.then(|| Breakout {
            side,
            timeframe: self.timeframe,
            bar: candle.begins,
            issued_at,
            entry,
            stop,
            target,
            trail_distance: range.ceil_to(tick),
        })
    }

    /// The mean of how far the bars from the place `from` on went, gaps between them included.
    fn mean_true_range(&self, from: usize) -> Price {
        let true_range = |place: usize| {
            let bar = &self.made[place];
            let before = place.checked_sub(1).map_or(bar.close, |before| self.made[before].close);
            bar.high.max(before).distance(bar.low.min(before)).steps()
        };
        let count = i64::try_from(self.made.len() - from).unwrap_or(i64::MAX);
        let sum = (from..self.made.len()).map(true_range).fold(0_i64, i64::saturating_add);
        Price::from_steps(sum.checked_div(count).unwrap_or(0))
    }
}

fn start_of(at: Timestamp, length: Duration) -> Timestamp {
    let length_us = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().div_euclid(length_us) * length_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn strategy() -> Strategy {
        let price = |text: &str| text.parse().expect("a price");
        let quoting = Quoting::new("EURUSD".parse().expect("a symbol"), price("0.0001"), price("0.00001"));
        Strategy::new(&quoting.expect("a quoting"), HOUR)
    }

    fn bar(hour: u64, high: &str, low: &str, close: &str) -> Bar {
        let price = |text: &str| text.parse().expect("a price");
        let at = Timestamp::ZERO.after(HOUR * u32::try_from(hour).expect("few"));
        Bar { at, open: price(close), high: price(high), low: price(low), close: price(close), line: 0 }
    }

    /// Sixty hours between 1.09 and 1.11: twenty bars of 3 hours.
    fn quiet(strategy: &mut Strategy) {
        for hour in 0..60 {
            assert_eq!(strategy.close(&bar(hour, "1.11", "1.09", "1.10")), []);
        }
    }

    #[test]
    fn a_close_above_the_highest_of_twenty_bars_is_bought_with_its_stop_one_and_a_half_ranges_away() {
        let mut strategy = strategy();
        quiet(&mut strategy);
        assert_eq!(strategy.close(&bar(60, "1.13", "1.10", "1.12")), [], "the bar of 3 hours is not made yet");
        assert_eq!(strategy.close(&bar(61, "1.13", "1.10", "1.12")), []);
        let signals = strategy.close(&bar(62, "1.13", "1.10", "1.12"));
        // The true range of each of the twenty is 0.02: the stop is 0.03 away, the target 0.09.
        let expected = json!({
            "id": "EURUSD-3H-1970-01-03T12:00:00Z-buy", "symbol": "EURUSD", "side": "buy", "timeframe": "3H",
            "order_type": "market", "entry_price": "1.12", "stop_loss": "1.09", "take_profit": "1.21",
            "issued_at": "1970-01-03T14:59:59Z",
            "protection": {"breakeven_at_r": "1", "trail_after_r": "1.5", "trail_distance": "0.02",
                "max_hold_minutes": 2160},
        });
        let found: Vec<Value> = signals.iter().map(|signal| signal.to_json("EURUSD")).collect();
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_close_below_the_lowest_is_sold_and_one_at_it_is_not() {
        for (close, expected) in [("1.08", Some((Side::Sell, "1.11", "0.99"))), ("1.09", None)] {
            let mut strategy = strategy();
            quiet(&mut strategy);
            strategy.close(&bar(60, "1.10", "1.08", close));
            strategy.close(&bar(61, "1.10", "1.08", close));
            let found = strategy.close(&bar(62, "1.10", "1.08", close));
            let found = found.first().map(|signal| (signal.side, signal.stop.to_string(), signal.target.to_string()));
            let expected = expected.map(|(side, stop, target)| (side, stop.to_owned(), target.to_owned()));
            assert_eq!(found, expected, "{close}");
        }
    }

    #[test]
    fn a_bar_that_ends_in_a_gap_gives_no_signal_and_joins_the_history() {
        let mut strategy = strategy();
        quiet(&mut strategy);
        // Its first hour closes above all; then the weekend begins.
        assert_eq!(strategy.close(&bar(60, "1.15", "1.10", "1.14")), []);
        for hour in [120, 121] {
            assert_eq!(strategy.close(&bar(hour, "1.15", "1.10", "1.14")), []);
        }
        let after = strategy.close(&bar(122, "1.15", "1.10", "1.145"));
        let three_hours = |signal: &&Breakout| signal.timeframe == Timeframe::hours(3);
        assert!(!after.iter().any(|signal| three_hours(&signal)), "1.145 is below the gap bar's high of 1.15");
    }
}
