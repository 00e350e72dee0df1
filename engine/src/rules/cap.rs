//! The hard limit of the day: realised loss, open risk and risk in flight together never exceed it (promise P5).
//!
//! This rule refuses what has no room at all; sizing shrinks what has too little; the ledger holds the sum again.

use super::{Case, Refusal};

pub(super) fn cap(case: &Case<'_>) -> Result<(), Refusal> {
    let account = case.account;
    if account.realized_loss() >= account.limits.max_daily_loss {
        return Err(Refusal::DayClosed);
    }
    if account.remaining().is_zero() {
        return Err(Refusal::DailyLossCap);
    }
    Ok(())
}
