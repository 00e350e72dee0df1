//! The signal fits the market as it is now.
//!
//! An entry is sized and collared by a mark, so without a fresh one there is no entry: fail closed.

use super::{Case, Refusal, instrument};
use crate::sizing::reference_price;

/// There is a mark, neither too old nor from the future.
pub(super) fn fresh_mark(case: &Case<'_>) -> Result<(), Refusal> {
    let (now, mark, limits) = (case.account.now, case.mark()?, &case.account.limits);
    if now.since(mark.at) > limits.max_mark_age || mark.at.since(now) > limits.future_tolerance {
        return Err(Refusal::StaleMarketData);
    }
    Ok(())
}

/// A stated entry price is near the price at which the order would trade.
pub(super) fn collar(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(entry) = case.signal.entry_price else { return Ok(()) };
    let market = case.mark()?.taker(case.signal.side);
    // |entry - market| <= collar % of market, in exact integers.
    let distance = i128::from(entry.distance(market).steps()) * 100 * i128::from(crate::units::SCALE);
    let allowed = i128::from(market.steps()) * i128::from(case.account.limits.price_collar_percent.steps());
    if distance <= allowed { Ok(()) } else { Err(Refusal::PriceCollar) }
}

/// Stop and target are still on their sides of the price that the order would get.
pub(super) fn geometry_at_market(case: &Case<'_>) -> Result<(), Refusal> {
    let signal = case.signal;
    let reference = reference_price(signal, case.mark()?);
    if instrument::is_between(signal.side, signal.stop_loss, reference, signal.take_profit) {
        Ok(())
    } else {
        Err(Refusal::StopGeometry)
    }
}
