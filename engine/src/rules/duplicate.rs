//! The same symbol, side and timeframe is not traded twice within the window.
//!
//! Only an acceptance arms the window: a refused signal does not shut out the corrected one that follows it. This is about
//! trading the same idea twice; the same *message* arriving twice is idempotency, and never gets as far as a decision.

use super::{Case, Refusal};

pub(super) fn duplicate(case: &Case<'_>) -> Result<(), Refusal> {
    if case.account.duplicate_until(case.signal).is_none() { Ok(()) } else { Err(Refusal::DuplicateSignal) }
}
