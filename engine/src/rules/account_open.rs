//! May this account take new exposure at all: the gate, the user's own switches, the subscription.
//!
//! Asked before anything else, so that a stopped system and a disabled user answer the same whatever the signal says.

use super::{Case, Refusal};

/// An emergency stop, or reducing only.
pub(super) fn gate(case: &Case<'_>) -> Result<(), Refusal> {
    case.context.gate.state.admit_entry()
}

/// The user's own switch, and quarantine.
pub(super) fn user(case: &Case<'_>) -> Result<(), Refusal> {
    match case.account {
        account if !account.trading_enabled => Err(Refusal::UserDisabled),
        account if account.quarantined => Err(Refusal::Quarantined),
        _ => Ok(()),
    }
}

/// The user follows the feed.
pub(super) fn subscription(case: &Case<'_>) -> Result<(), Refusal> {
    if case.context.subscribed { Ok(()) } else { Err(Refusal::FeedNotSubscribed) }
}
