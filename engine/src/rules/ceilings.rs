//! Ceilings on one order and on everything together, asked last, because they need the size that sizing has found.
//!
//! An order beyond a ceiling is refused, not cut: whoever set it wanted to hear of it. Values are rounded up, so that
//! no fraction slips under. Repeated execution of the same order is throttled as RTS 6 art. 15(3) asks.

use std::time::Duration;

use super::{Case, Refusal};
use crate::sizing::Sized;

/// The span of `max_repeated_executions`.
const HOUR: Duration = Duration::from_secs(3_600);

/// Units in one order.
pub(super) fn order_quantity(case: &Case<'_>, sized: &Sized) -> Result<(), Refusal> {
    if sized.quantity <= case.account.limits.max_order_quantity { Ok(()) } else { Err(Refusal::MaxOrderQuantity) }
}

/// The worth of one order.
pub(super) fn order_value(case: &Case<'_>, sized: &Sized) -> Result<(), Refusal> {
    let value = sized.quantity.value_up(sized.reference);
    if value <= case.account.limits.max_order_value { Ok(()) } else { Err(Refusal::MaxOrderValue) }
}

/// The worth of everything, this order included.
pub(super) fn exposure(case: &Case<'_>, sized: &Sized) -> Result<(), Refusal> {
    let value = sized.quantity.value_up(sized.reference);
    if value <= case.account.exposure_left() { Ok(()) } else { Err(Refusal::MaxExposure) }
}

/// The same symbol, side and quantity, again and again.
pub(super) fn repeated_execution(case: &Case<'_>, sized: &Sized) -> Result<(), Refusal> {
    let (account, signal) = (case.account, case.signal);
    let repeats = account.recent.iter().filter(|recent| {
        account.now.since(recent.at) < HOUR
            && recent.symbol == signal.symbol
            && recent.side == signal.side
            && recent.quantity == sized.quantity
    });
    let limit = usize::try_from(account.limits.max_repeated_executions).unwrap_or(usize::MAX);
    if repeats.count() < limit { Ok(()) } else { Err(Refusal::RepeatedExecution) }
}
