//! The what-if: how a signal would be decided now, without deciding it.
//!
//! Each subscriber's newest committed account is copied, and the copy is stepped as the risk actor would step the account: by
//! the same function, with the same clock, gate and mark. The copy and its turn are then dropped, so nothing is written,
//! reserved or sent, no actor is woken and no id is used. What is not committed yet is not seen: a preview beside signals in
//! flight may be overtaken by them. The id of the signal does not matter: it is judged as a new one.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use nexus_engine::account::{Account, Event, Input, Verdict};
use nexus_engine::headroom::Headroom;
use nexus_engine::ids::{SignalId, UserId};
use nexus_engine::rules::Refusal;
use nexus_engine::signal::Signal;
use nexus_engine::units::{Money, Quantity};
use tokio::time::timeout;

use crate::desk::step_copy;
use crate::dispatcher::Dispatcher;
use crate::engine::SubmitError;
use crate::ports::LedgerError;
use crate::shared::Shared;

/// Accounts of one signal that are read from the ledger at once.
const READS_MAX: usize = 16;

/// How a signal would be decided.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SignalPreview {
    /// For each subscriber, sorted by user.
    pub previews: Vec<Preview>,
    /// Subscribers whose account cannot be stepped: theirs would stay pending.
    pub undecidable: usize,
}

/// How a signal would be decided for one user. It has no ids: there is no decision and no order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preview {
    /// For whom.
    pub user: UserId,
    /// The entry that would be planned, or why there would be none.
    pub verdict: Result<Trade, Vec<Refusal>>,
    /// What each limit would have left afterwards.
    pub left: Headroom,
}

/// The size of an entry that would be planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trade {
    /// How much.
    pub quantity: Quantity,
    /// The worst-case loss that would be reserved.
    pub risk: Money,
}

/// Previews a signal for everybody whom it concerns, under the permits that deciding it would take.
pub(crate) async fn preview(
    shared: &Arc<Shared>,
    dispatcher: &Dispatcher,
    signal: Signal,
) -> Result<SignalPreview, SubmitError> {
    (**shared.serving.load()).map_err(SubmitError::NotServing)?;
    // An account that still holds a lot of the signal that really has this id would not decide it again.
    let signal = Arc::new(Signal { id: SignalId::HYPOTHETICAL, ..signal });
    let previewed = timeout(shared.settings.answer_within, preview_all(shared, dispatcher, &signal)).await;
    previewed.unwrap_or_else(|_| Err(LedgerError::Unavailable("it did not answer in time".to_owned()).into()))
}

async fn preview_all(
    shared: &Arc<Shared>,
    dispatcher: &Dispatcher,
    signal: &Arc<Signal>,
) -> Result<SignalPreview, SubmitError> {
    let audience = dispatcher.audience(signal).await?;
    let users = dispatcher.concerned(signal, &audience).await?;
    let accounts = users.into_iter().map(|user| async move { (user, shared.newest_account(user).await) });
    let mut accounts = stream::iter(accounts).buffered(READS_MAX);
    let mut answer = SignalPreview::default();
    while let Some((user, account)) = accounts.next().await {
        let account = dispatcher.note(account)?;
        match account.and_then(|account| preview_one(shared, &account, signal, audience.follows)) {
            Some(preview) => answer.previews.push(preview),
            None => {
                answer.undecidable += 1;
                tracing::error!(%user, symbol = %signal.symbol, "a signal cannot be previewed for a subscriber");
            }
        }
        // Accounts in memory never wait: a large fan-out lets others run between two steps.
        tokio::task::consume_budget().await;
    }
    Ok(answer)
}

/// `None` when the step panics, as the real one would.
fn preview_one(shared: &Shared, account: &Account, signal: &Arc<Signal>, subscribed: bool) -> Option<Preview> {
    let context = shared.context_of(signal, account.user, None, subscribed);
    let now = shared.clock.now();
    let input = Input::Signal(Arc::clone(signal));
    let (after, turn) = step_copy(shared, account, now, &input, &context)?;
    let verdict = turn.events.into_iter().find_map(|event| match event {
        Event::Decided(decision) => Some(decision.verdict),
        _ => None,
    })?;
    let verdict = match verdict {
        Verdict::Accepted(plan) => Ok(Trade { quantity: plan.quantity, risk: plan.risk }),
        Verdict::Rejected(reasons) => Err(reasons),
    };
    Some(Preview { user: account.user, verdict, left: Headroom::of(&after, now, signal) })
}
