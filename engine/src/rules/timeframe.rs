//! So many trades a day from bars of one timeframe, counted at acceptance. A timeframe without a limit is not traded.

use super::{Case, Refusal};

pub(super) fn timeframe(case: &Case<'_>) -> Result<(), Refusal> {
    let (account, timeframe) = (case.account, &case.signal.timeframe);
    let used = account.today.timeframes.get(timeframe).copied().unwrap_or(0);
    let limit = account.limits.timeframes.get(timeframe).copied().unwrap_or(0);
    if used < limit { Ok(()) } else { Err(Refusal::TimeframeLimit) }
}
