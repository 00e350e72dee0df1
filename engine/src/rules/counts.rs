//! What the account already has going, and how it has been going: positions, pace, and losses in a row.
//!
//! Asked before sizing, because none of it depends on how large the order would be. A position counts from its
//! acceptance and not from its fill, so that a burst of signals cannot pass while the venue is still answering the
//! first.

use std::time::Duration;

use super::{Case, Refusal};

/// The span of `max_orders_per_minute`.
const MINUTE: Duration = Duration::from_secs(60);

/// No hedging and no flips: nothing on the other side of the symbol is open or being opened.
pub(super) fn opposing_position(case: &Case<'_>) -> Result<(), Refusal> {
    let signal = case.signal;
    let opposed = case.account.lots.values().any(|lot| {
        lot.symbol == signal.symbol
            && lot.side != signal.side
            && (!lot.open.is_zero() || !lot.entry.status.is_terminal())
    });
    if opposed { Err(Refusal::OpposingPosition) } else { Ok(()) }
}

/// Positions open or being opened.
pub(super) fn open_positions(case: &Case<'_>) -> Result<(), Refusal> {
    let open = case.account.lots.values().filter(|lot| !lot.is_done()).count();
    let limit = usize::try_from(case.account.limits.max_open_positions).unwrap_or(usize::MAX);
    if open < limit { Ok(()) } else { Err(Refusal::OpenPositions) }
}

/// Entries accepted within the last minute.
pub(super) fn throttle(case: &Case<'_>) -> Result<(), Refusal> {
    let account = case.account;
    let accepted = account.recent.iter().rev().take_while(|recent| account.now.since(recent.at) < MINUTE).count();
    let limit = usize::try_from(account.limits.max_orders_per_minute).unwrap_or(usize::MAX);
    if accepted < limit { Ok(()) } else { Err(Refusal::Throttled) }
}

/// The cool-down after a row of losing trades.
pub(super) fn loss_streak(case: &Case<'_>) -> Result<(), Refusal> {
    match case.account.cooling_until {
        Some(until) if case.account.now < until => Err(Refusal::LossStreak),
        Some(_) | None => Ok(()),
    }
}
