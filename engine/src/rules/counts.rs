//! What the account already has going, and how it has been going: positions, pace, and losses in a row.
//!
//! Asked before sizing, because none of it depends on how large the order would be. A position counts from its
//! acceptance and not from its fill, so that a burst of signals cannot pass while the venue is still answering the
//! first.

use super::{Case, Refusal};

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
    if case.account.positions_left() > 0 { Ok(()) } else { Err(Refusal::OpenPositions) }
}

/// Entries accepted within the last minute.
pub(super) fn throttle(case: &Case<'_>) -> Result<(), Refusal> {
    if case.account.orders_left() > 0 { Ok(()) } else { Err(Refusal::Throttled) }
}

/// The cool-down after a row of losing trades.
pub(super) fn loss_streak(case: &Case<'_>) -> Result<(), Refusal> {
    if case.account.cooling().is_none() { Ok(()) } else { Err(Refusal::LossStreak) }
}
