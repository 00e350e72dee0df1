//! A bar becomes four marks: what the market may have shown while the bar was made.
//!
//! A bar does not tell the way of the price between its open and its close, so one is chosen and kept to: low before high
//! when it rose, high before low when it fell. The best prices stand half a spread to each side of the bar's price, on
//! ticks, and the spread between them is exactly the stated one.

use std::time::Duration;

use nexus_engine::ids::{Symbol, Timestamp};
use nexus_engine::instrument::Mark;
use nexus_engine::units::Price;
use serde_json::{Value, json};

use super::bars::Bar;
use crate::cli::BadUse;
use crate::wire::time;

/// The last mark of a bar comes this long before the next bar begins.
const CLOSE_BEFORE_END: Duration = Duration::from_secs(1);

/// How a bar's price is quoted.
#[derive(Clone, Debug)]
pub(super) struct Quoting {
    pub(super) symbol: Symbol,
    spread: Price,
    tick: Price,
}

impl Quoting {
    pub(super) fn new(symbol: Symbol, spread: Price, tick: Price) -> Result<Self, BadUse> {
        if tick.is_zero() {
            return Err(BadUse("--tick must be above zero".into()));
        }
        if !spread.is_multiple_of(tick) {
            return Err(BadUse(format!("--spread {spread} is not a whole number of ticks of {tick}")));
        }
        Ok(Self { symbol, spread, tick })
    }

    pub(super) const fn tick(&self) -> Price {
        self.tick
    }

    /// Bid and ask around a price; none when the bid would not be above zero.
    pub(super) fn around(&self, price: Price) -> Option<(Price, Price)> {
        let half = Price::from_steps(self.spread.steps() / 2);
        let bid = price.minus(half).floor_to(self.tick);
        (bid > Price::ZERO).then(|| (bid, bid.plus(self.spread)))
    }

    /// The marks of a bar that lasts `spacing`, oldest first.
    pub(super) fn marks(&self, bar: &Bar, spacing: Duration) -> [Mark; 4] {
        let (second, third) = if bar.close < bar.open { (bar.high, bar.low) } else { (bar.low, bar.high) };
        let mark = |price: Price, after: Duration| {
            let (bid, ask) = self.around(price).expect("the reader of bars has refused prices without a bid");
            Mark { symbol: self.symbol.clone(), bid, ask, at: bar.at.after(after) }
        };
        [
            mark(bar.open, Duration::ZERO),
            mark(second, spacing / 4),
            mark(third, spacing * 2 / 3),
            mark(bar.close, spacing - CLOSE_BEFORE_END),
        ]
    }
}

/// When a bar's close is seen.
pub(super) fn close_at(bar: &Bar, spacing: Duration) -> Timestamp {
    bar.at.after(spacing - CLOSE_BEFORE_END)
}

/// Marks as the engine takes them.
pub(super) fn to_json(marks: &[Mark]) -> Value {
    let object = |mark: &Mark| {
        json!({"symbol": mark.symbol.as_str(), "bid": mark.bid.to_string(), "ask": mark.ask.to_string(),
            "at": time::format(mark.at)})
    };
    marks.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> Price {
        text.parse().unwrap()
    }

    fn quoting(spread: &str) -> Quoting {
        Quoting::new("EURUSD".parse().unwrap(), price(spread), price("0.00001")).unwrap()
    }

    fn bar(open: &str, high: &str, low: &str, close: &str) -> Bar {
        let at = time::parse("2017-04-19T09:00:00Z").unwrap();
        Bar { at, open: price(open), high: price(high), low: price(low), close: price(close), line: 2 }
    }

    #[test]
    fn a_rising_bar_shows_its_low_first_and_a_falling_one_its_high() {
        let times = ["2017-04-19T09:00:00Z", "2017-04-19T09:15:00Z", "2017-04-19T09:40:00Z", "2017-04-19T09:59:59Z"];
        for (open, close, bids) in [
            ("1.10", "1.11", ["1.09995", "1.08995", "1.11995", "1.10995"]),
            ("1.11", "1.10", ["1.10995", "1.11995", "1.08995", "1.09995"]),
            ("1.10", "1.10", ["1.09995", "1.08995", "1.11995", "1.09995"]),
        ] {
            let marks = quoting("0.00010").marks(&bar(open, "1.12", "1.09", close), Duration::from_secs(3600));
            let found: Vec<String> = marks.iter().map(|mark| mark.bid.to_string()).collect();
            assert_eq!(found, bids);
            assert_eq!(marks.clone().map(|mark| time::format(mark.at)), times);
            assert!(marks.iter().all(|mark| mark.ask.minus(mark.bid) == price("0.0001")));
        }
    }

    #[test]
    fn the_times_of_a_minute_bar_are_in_order() {
        let marks = quoting("0").marks(&bar("1", "1", "1", "1"), Duration::from_secs(60));
        let seconds = marks.map(|mark| mark.at.since(bar("1", "1", "1", "1").at).as_secs());
        assert_eq!(seconds, [0, 15, 40, 59]);
    }

    #[test]
    fn bid_and_ask_are_on_ticks_and_as_far_apart_as_stated() {
        for (spread, at, expected) in [
            ("0.00010", "1.07160", Some(("1.07155", "1.07165"))),
            ("0.00003", "1.07160", Some(("1.07158", "1.07161"))),
            ("0.00002", "1.071603", Some(("1.07159", "1.07161"))),
            ("0.00010", "0.00005", None),
            ("0", "0.00001", Some(("0.00001", "0.00001"))),
        ] {
            let expected = expected.map(|(bid, ask)| (price(bid), price(ask)));
            assert_eq!(quoting(spread).around(price(at)), expected, "{spread} around {at}");
        }
        let off = Quoting::new("EURUSD".parse().unwrap(), price("0.000015"), price("0.00001")).unwrap_err();
        assert_eq!(off.to_string(), "--spread 0.000015 is not a whole number of ticks of 0.00001");
    }
}
