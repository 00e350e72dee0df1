//! How large a trade may be.
//!
//! The worst case of one unit is the distance from the entry to the stop, what fees may take at both ends, and what a
//! market fill may slip. The size is the largest whole number of lots whose worst case fits both the risk percent of
//! equity and what is left of the day's cap. A trade that would have to shrink below a quarter of its intended risk is
//! refused: it would no longer be the trade that the feed had in mind.

use crate::instrument::{Instrument, Mark};
use crate::limits::Limits;
use crate::rules::Refusal;
use crate::signal::{OrderKind, Side, Signal};
use crate::units::{Money, Price, Quantity};

/// A shrunk trade must keep at least one part in so many of its intended risk.
const SHRINK_MAX: i64 = 4;

/// A size, and what it was computed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sized {
    /// The price at which the entry is assumed.
    pub reference: Price,
    /// The worst-case loss of one unit.
    pub unit_loss: Price,
    /// How much to trade.
    pub quantity: Quantity,
    /// The worst-case loss of all of it.
    pub risk: Money,
}

/// The price that a size is computed from: a limit order's limit; for a market order the worse of the price that the feed
/// expects and the price that the market offers.
pub fn reference_price(signal: &Signal, mark: &Mark) -> Price {
    let offered = mark.taker(signal.side);
    match (signal.kind, signal.side, signal.entry_price) {
        (OrderKind::Limit(price) | OrderKind::Stop(price), _, _) => price,
        (OrderKind::Market, Side::Buy, Some(expected)) => expected.max(offered),
        (OrderKind::Market, Side::Sell, Some(expected)) => expected.min(offered),
        (OrderKind::Market, _, None) => offered,
    }
}

/// The worst-case loss of one unit entered at `reference` and given up at `stop`.
pub fn unit_loss(reference: Price, stop: Price, instrument: &Instrument, limits: &Limits) -> Price {
    let slippage = reference.percent_up(limits.slippage_allowance_percent);
    let fees = reference.plus(stop).percent_up(instrument.fee_percent);
    reference.distance(stop).plus(slippage).plus(fees)
}

/// What a trade of an account with this equity may risk, and does unless too little is left of its day.
pub fn intended_risk(equity: Money, limits: &Limits) -> Money {
    equity.or_zero().percent_down(limits.max_risk_percent)
}

/// The size of a trade for an account with this equity and so much left of its day.
pub fn size(
    equity: Money,
    remaining: Money,
    limits: &Limits,
    instrument: &Instrument,
    reference: Price,
    stop: Price,
) -> Result<Sized, Refusal> {
    let unit_loss = unit_loss(reference, stop, instrument, limits);
    let intended = intended_risk(equity, limits);
    if Quantity::affordable(intended, unit_loss, instrument.lot).is_zero() {
        return Err(Refusal::RiskPerTrade);
    }
    let quantity = Quantity::affordable(intended.min(remaining), unit_loss, instrument.lot);
    let risk = quantity.value_up(unit_loss);
    if quantity.is_zero() || risk.steps().saturating_mul(SHRINK_MAX) < intended.steps() {
        return Err(Refusal::SizeBelowMinimum);
    }
    Ok(Sized { reference, unit_loss, quantity, risk })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eurusd(fee: &str) -> Instrument {
        Instrument {
            symbol: "EURUSD".parse().unwrap(),
            tick: "0.00001".parse().unwrap(),
            lot: Quantity::whole(1),
            fee_percent: fee.parse().unwrap(),
            quote: "USD".into(),
            enabled: true,
            venue: "paper".into(),
        }
    }

    #[test]
    fn the_size_fits_the_percent_and_the_day() {
        let limits = Limits::default();
        // Distance 0.002, slippage 0.02 % of 1.085 = 0.000217, no fee: 0.002217 a unit.
        let table = [
            ("500", "9.99", "0", Ok(("2255", "4.999335"))),
            ("500", "2.5", "0", Ok(("1127", "2.498559"))),
            ("500", "1.25", "0", Err(Refusal::SizeBelowMinimum)),
            ("500", "0", "0", Err(Refusal::SizeBelowMinimum)),
            ("0.1", "9.99", "0", Err(Refusal::RiskPerTrade)),
            ("-5", "9.99", "0", Err(Refusal::RiskPerTrade)),
            // Fees of 0.1 % at both ends: 0.002168 more a unit.
            ("500", "9.99", "0.1", Ok(("1140", "4.9989"))),
        ];
        for (equity, remaining, fee, expected) in table {
            let got = size(
                equity.parse().unwrap(),
                remaining.parse().unwrap(),
                &limits,
                &eurusd(fee),
                "1.085".parse().unwrap(),
                "1.083".parse().unwrap(),
            );
            let got = got.map(|s| (s.quantity, s.risk));
            let expected = expected.map(|(q, r): (&str, &str)| (q.parse().unwrap(), r.parse().unwrap()));
            assert_eq!(got, expected, "equity {equity}, remaining {remaining}, fee {fee}");
        }
    }
}
