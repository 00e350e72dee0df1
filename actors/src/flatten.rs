//! Closing positions: an act of a person who stops.
//!
//! Each account in the scope plans an exit of what is open, and the exit takes the way of every other: through the router, under
//! the standing permission of its entry, also while the ledger is away. What cannot be closed at once (a venue is away, an exit
//! is refused, an entry fills although its cancel was asked for) is tried again as long as the stop is in force; the answer
//! does not wait for it, and says how much is open.

use std::sync::Arc;
use std::time::Duration;

use nexus_engine::account::Input;
use nexus_engine::gate::{Scope, TradingState};
use tokio::time::{Instant, timeout_at};

use crate::engine::Flattened;
use crate::kill_switch::concerned;
use crate::risk::{Request, Task};
use crate::shared::Shared;

/// How long a stop waits for positions to be closed.
const WITHIN: Duration = Duration::from_secs(2);
/// How often it looks whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How often what is still open is closed again afterwards.
const AGAIN_EVERY: Duration = Duration::from_millis(500);

/// Closes every position in `scope`, and goes on in the background with what is open in the end.
pub(crate) async fn flatten(shared: &Arc<Shared>, scope: &Scope) -> Flattened {
    let deadline = Instant::now() + WITHIN;
    let exits = plan_exits(shared, scope, deadline).await;
    while open_positions(shared, scope) > 0 && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let still_open = open_positions(shared, scope);
    tracing::warn!(%scope, exits, still_open, "positions are closed");
    go_on(shared, scope.clone());
    Flattened { exits, still_open }
}

/// Returns how many exits were planned in time; accounts that are busy plan theirs when they get to it.
async fn plan_exits(shared: &Arc<Shared>, scope: &Scope, deadline: Instant) -> usize {
    let mut outcomes = Vec::new();
    for user in concerned(shared, scope) {
        let (request, outcome) = Request::with_reply(Task::Step(Input::Flatten(scope.clone())));
        shared.registry.send(shared, user, request);
        outcomes.push(outcome);
    }
    let mut exits = 0;
    for outcome in outcomes {
        if let Ok(Ok(Ok(outcome))) = timeout_at(deadline, outcome).await {
            exits += outcome.exits;
        }
    }
    exits
}

fn open_positions(shared: &Shared, scope: &Scope) -> usize {
    let accounts = concerned(shared, scope).filter_map(|user| shared.registry.committed(user));
    accounts.map(|account| account.open_positions_in(scope)).sum()
}

/// Until the stop is lifted: an entry whose cancel came too late may fill at any time.
fn go_on(shared: &Arc<Shared>, scope: Scope) {
    let closing = Arc::clone(shared);
    shared.spawn_until_closing(async move {
        while closing.latch.status_of(&scope).state != TradingState::Active {
            tokio::time::sleep(AGAIN_EVERY).await;
            if open_positions(&closing, &scope) > 0 {
                plan_exits(&closing, &scope, Instant::now() + WITHIN).await;
            }
        }
    });
}
