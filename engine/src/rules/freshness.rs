//! A signal is for now: neither old, nor from the future.
//!
//! Old signals arrive after outages and from queues that were full; acting on them trades yesterday's opinion. A time
//! ahead of ours means that one of the clocks is wrong.

use super::{Case, Refusal};

pub(super) fn freshness(case: &Case<'_>) -> Result<(), Refusal> {
    let (now, issued_at, limits) = (case.account.now, case.signal.issued_at, &case.account.limits);
    if now.since(issued_at) > limits.max_signal_age {
        return Err(Refusal::StaleSignal);
    }
    if issued_at.since(now) > limits.future_tolerance {
        return Err(Refusal::FutureSignal);
    }
    Ok(())
}
