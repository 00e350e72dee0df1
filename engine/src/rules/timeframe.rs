//! So many trades a day from bars of one timeframe.
//!
//! Counted at acceptance and given back only when the order is proven to have ended without a fill, so that signals
//! which arrive together cannot all use the last place. A timeframe without a limit is not traded: fail closed.

use super::{Case, Refusal};

pub(super) fn timeframe(case: &Case<'_>) -> Result<(), Refusal> {
    let (account, timeframe) = (case.account, &case.signal.timeframe);
    let used = account.today.timeframes.get(timeframe).copied().unwrap_or(0);
    let limit = account.limits.timeframes.get(timeframe).copied().unwrap_or(0);
    if used < limit { Ok(()) } else { Err(Refusal::TimeframeLimit) }
}
