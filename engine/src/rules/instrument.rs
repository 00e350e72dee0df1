//! The instrument exists, may be traded in the account's currency, and the signal's prices are prices of it.
//!
//! Asked before any rule that reads the market: a typing error in a signal is named as what it is, whether or not there
//! is a mark. A price that the instrument cannot have is refused and never rounded, because rounding trades something
//! else than was asked for.

use super::{Case, Refusal};
use crate::signal::Side;
use crate::units::Price;

/// Known, enabled, and counted in the account's currency.
pub(super) fn tradable(case: &Case<'_>) -> Result<(), Refusal> {
    let instrument = case.instrument()?;
    if !instrument.enabled {
        return Err(Refusal::InstrumentDisabled);
    }
    if instrument.quote != case.account.currency {
        return Err(Refusal::CurrencyMismatch);
    }
    Ok(())
}

/// Every price is a whole number of ticks: it is refused, never rounded into another trade.
pub(super) fn ticks(case: &Case<'_>) -> Result<(), Refusal> {
    let (signal, tick) = (case.signal, case.instrument()?.tick);
    let prices = [Some(signal.stop_loss), Some(signal.take_profit), signal.entry_price];
    if prices.into_iter().flatten().all(|price| price.is_multiple_of(tick)) { Ok(()) } else { Err(Refusal::TickSize) }
}

/// Stop, entry (when stated) and target are in order for the side.
pub(super) fn geometry_as_stated(case: &Case<'_>) -> Result<(), Refusal> {
    let signal = case.signal;
    let in_order = match signal.entry_price {
        Some(entry) => is_between(signal.side, signal.stop_loss, entry, signal.take_profit),
        None => is_beyond(signal.side, signal.stop_loss, signal.take_profit),
    };
    if in_order { Ok(()) } else { Err(Refusal::StopGeometry) }
}

/// Whether `entry` lies strictly between the stop and the target.
pub(super) fn is_between(side: Side, stop: Price, entry: Price, target: Price) -> bool {
    is_beyond(side, stop, entry) && is_beyond(side, entry, target)
}

/// Whether going from `from` to `to` is a profit.
fn is_beyond(side: Side, from: Price, to: Price) -> bool {
    match side {
        Side::Buy => from < to,
        Side::Sell => from > to,
    }
}
