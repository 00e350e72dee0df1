//! So many trades a day from bars of one timeframe.
//!
//! Counted at acceptance and given back only when the order is proven to have ended without a fill, so that signals
//! which arrive together cannot all use the last place. A timeframe without a limit is not traded: fail closed.

use super::{Case, Refusal};

pub(super) fn timeframe(case: &Case<'_>) -> Result<(), Refusal> {
    if case.account.trades_left(case.signal.timeframe) > 0 { Ok(()) } else { Err(Refusal::TimeframeLimit) }
}
