//! Reports on their way to the account that they belong to. Facts are never refused and never lost (promise P6).
//!
//! A report is handed over again and again until its turn is durable: through restarts and passivation of the risk actor
//! and for as long as the ledger is away. The engine counts a fact once however often it hears it. The first handing over is
//! done before this returns, so reports of one order keep their order.

use std::sync::Arc;
use std::time::Duration;

use nexus_engine::account::Input;
use nexus_engine::ids::{ClientOrderId, UserId};
use nexus_engine::order::{News, Report};
use tokio::sync::oneshot::error::RecvError;

use crate::rest::OnItsWay;
use crate::risk::{Outcome, Request, RiskError, Task};
use crate::shared::Shared;

/// The wait before a report is handed over again after its actor crashed.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// The wait before the ledger is asked again whose an order is.
const LEDGER_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Hands a report to the account of its decision.
pub(crate) fn deliver(shared: &Arc<Shared>, report: Report) {
    let on_its_way = OnItsWay::new(shared);
    if let Some(user) = shared.owners.find(report.order.decision) {
        return carry(shared, user, report, on_its_way);
    }
    let asker = Arc::clone(shared);
    shared.spawn_until_closing(async move {
        match ask_the_ledger(&asker, report.order).await {
            Some(user) => {
                asker.owners.recall(report.order.decision, user, asker.clock.now());
                carry(&asker, user, report, on_its_way);
            }
            None => {
                asker.meters.reports_unexplained.increment(1);
                tracing::error!(?report, "a venue reported an order of an unknown decision");
            }
        }
    });
}

/// Whose an order is that no account in memory expects reports of.
async fn ask_the_ledger(shared: &Shared, order: ClientOrderId) -> Option<UserId> {
    loop {
        match shared.ledger.owner_of(order.decision).await {
            Ok(user) => return user,
            Err(error) => {
                shared.note_ledger(false);
                tracing::warn!(%order, %error, "a late report waits for the ledger");
                tokio::time::sleep(LEDGER_AGAIN_AFTER).await;
            }
        }
    }
}

fn carry(shared: &Arc<Shared>, user: UserId, report: Report, on_its_way: OnItsWay) {
    let (request, outcome) = Request::with_reply(Task::Step(Input::Report(report.clone())));
    shared.registry.send(shared, user, request);
    let carrier = Arc::clone(shared);
    shared.tracker.spawn(async move {
        let mut outcome = outcome;
        while !is_taken(&carrier, user, &report, &outcome.await) {
            tokio::time::sleep(AGAIN_AFTER).await;
            let (request, next) = Request::with_reply(Task::Step(Input::Report(report.clone())));
            carrier.registry.send(&carrier, user, request);
            outcome = next;
        }
        drop(on_its_way);
    });
}

/// Whether nothing more is to be done for a report.
fn is_taken(
    shared: &Shared,
    user: UserId,
    report: &Report,
    outcome: &Result<Result<Outcome, RiskError>, RecvError>,
) -> bool {
    match outcome {
        // Taken, or said at error level to be impossible to take.
        Ok(Ok(_) | Err(RiskError::UnknownUser | RiskError::Panicked)) => true,
        Ok(Err(RiskError::Ledger(_))) | Err(_) => {
            tracing::debug!(%user, order = %report.order, "a report is handed over again");
            shared.closing.is_cancelled()
        }
    }
}

/// What the router itself has to say about an order.
pub(crate) fn tell(shared: &Arc<Shared>, order: ClientOrderId, news: News) {
    deliver(shared, Report { order, at: shared.clock.now(), news });
}
