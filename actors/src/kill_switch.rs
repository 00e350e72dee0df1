//! The kill switch: stop, resume, and the file `HALT` that remembers a stop when nothing else can.
//!
//! A stop runs on its caller's task and touches no mailbox before new exposure is impossible: close the latch, write and
//! sync `HALT`, wait for the sends that had begun, drop those that will not end, and then, with bounds, tell the ledger and
//! cancel what works. A resume goes the other way: durable first, then `HALT` away, then the latch; a stop that comes in
//! between wins. All of that is done for one scope, and what no stop covers goes on beside it. The actor watches for a `HALT`
//! that a person writes by hand; removing it by hand opens nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_engine::account::Input;
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::UserId;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::engine::{GateStatus, ResumeError, StopAnswer, StopRequest};
use crate::flatten;
use crate::halt;
use crate::latch::Closed;
use crate::ports::LedgerError;
use crate::risk::{Request, Task};
use crate::shared::Shared;

/// How often `HALT` is looked for.
const WATCH_EVERY: Duration = Duration::from_millis(30);
/// How long a stop waits for `HALT` to be on the disk; a disk that hangs does not keep it from answering.
const REMEMBER_WITHIN: Duration = Duration::from_millis(500);
/// A `HALT` that changes while it is written is looked at again so often.
const REWRITES_MAX: u32 = 5;
/// How long a stop waits for the ledger to take it; it goes on being tried afterwards.
const PERSIST_WITHIN: Duration = Duration::from_millis(500);
/// How long a stop waits for cancels to be asked for.
const CANCELS_WITHIN: Duration = Duration::from_millis(1_000);
/// How long a resume waits for the ledger.
const RESUME_PERSIST_WITHIN: Duration = Duration::from_secs(5);
/// The wait between attempts to persist.
const PERSIST_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What a stop does beside stopping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acts {
    pub(crate) cancel_entries: bool,
    pub(crate) flatten: bool,
}

impl Acts {
    /// What a stop does that nobody was asked about.
    pub(crate) const CANCEL: Acts = Acts { cancel_entries: true, flatten: false };
}

/// Stops new exposure; see the module's words for the order of things.
pub(crate) async fn stop(shared: &Arc<Shared>, request: StopRequest) -> StopAnswer {
    let now = shared.clock.now();
    let closed = shared.latch.close(&request.scope, request.state, &request.by, request.reason, now);
    engage(shared, closed, Acts { cancel_entries: request.cancel_open_orders, flatten: request.flatten }).await
}

/// The rest of a stop once the latch is closed.
pub(crate) async fn engage(shared: &Arc<Shared>, closed: Closed, acts: Acts) -> StopAnswer {
    let Closed { status, fresh } = closed;
    let scope = &status.scope;
    if fresh {
        shared.meters.stops.increment(1);
        let state = status.state.as_str();
        tracing::warn!(%scope, state, epoch = status.epoch, by = %status.by, reason = ?status.reason, "trading is stopped");
    }
    let grace = shared.settings.stop_grace;
    let ((), drained) = tokio::join!(remember(shared), shared.latch.wait_for_guards(scope, grace));
    if !drained {
        tracing::warn!(?grace, "sends that had begun are dropped; their orders are unknown and will be asked about");
        shared.latch.drop_sends(scope);
        if !shared.latch.wait_for_guards(scope, grace).await {
            tracing::error!("a venue still holds a send that was dropped");
        }
    }
    // Whatever was waiting to enter has nothing to wait for any more.
    shared.latch.drop_sends(scope);
    let persisted = persist(shared, &status);
    let cancels = async { if acts.cancel_entries { cancel_entries(shared, scope).await } else { 0 } };
    let (persisted, cancelled_orders) = tokio::join!(timeout(PERSIST_WITHIN, persisted), cancels);
    let flattened = if acts.flatten { Some(flatten::flatten(shared, scope).await) } else { None };
    StopAnswer {
        scope: status.scope,
        state: status.state,
        epoch: status.epoch,
        engaged_at: status.since,
        by: status.by,
        reason: status.reason,
        persisted: matches!(persisted, Ok(Ok(()))),
        cancelled_orders,
        flattened,
    }
}

/// Writes `HALT`: every scope that is stopped. A disk that does not take it, or hangs, does not keep a stop from being a stop.
///
/// Boxed, because heeding what is found there may begin another stop.
fn remember(shared: &Arc<Shared>) -> BoxFuture<'static, ()> {
    let (writer, tracker) = (Arc::clone(shared), shared.tracker.clone());
    async move {
        let written = tracker.spawn(async move {
            let _file = writer.halt_file.lock().await;
            rewrite_halt(&writer, None, || Some(writer.latch.stopped())).await
        });
        match timeout(REMEMBER_WITHIN, written).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "HALT could not be written"),
            Ok(Err(error)) => tracing::error!(%error, "HALT could not be written"),
            Err(_) => tracing::error!("HALT is not on the disk in time; it goes on being written"),
        }
    }
    .boxed()
}

/// Makes a state durable in a task of its own, again and again until it is or a newer one is in force. The receiver hears
/// when it is.
pub(crate) fn persist(shared: &Arc<Shared>, status: &GateStatus) -> oneshot::Receiver<()> {
    let (done, held) = oneshot::channel();
    let (shared, mut record) = (Arc::clone(shared), status.clone());
    let tracker = shared.tracker.clone();
    tracker.spawn(async move {
        loop {
            match shared.ledger.set_trading_state(record.clone()).await {
                Ok(held) if held.state >= record.state => break shared.hot.put_trading_state(held),
                // A resume of our own has come first.
                Ok(held) if shared.latch.has_claimed(&held.scope, held.epoch) => return,
                // Somebody has loosened it elsewhere, under an epoch that we had not heard of: ours is stated above it.
                Ok(held) => {
                    shared.latch.hear_of(&held);
                    let Some(restated) = shared.latch.restate(&record.scope, record.epoch) else { return };
                    record = restated;
                    continue;
                }
                Err(error) => tracing::error!(%error, "the ledger did not take the trading state; HALT has it"),
            }
            tokio::select! {
                () = shared.closing.cancelled() => return,
                () = tokio::time::sleep(PERSIST_AGAIN_AFTER) => {}
            }
            if shared.latch.status_of(&record.scope).epoch > record.epoch {
                return;
            }
        }
        // Whoever asked may have answered already that it was not persisted in time.
        let _ = done.send(());
    });
    held
}

/// Has every account with open business ask for the cancellation of its working entries in `scope`. Returns how many were
/// asked for in time; the others are asked for when their accounts get to it.
async fn cancel_entries(shared: &Arc<Shared>, scope: &Scope) -> usize {
    let mut outcomes = Vec::new();
    for user in concerned(shared, scope) {
        let input = match scope {
            Scope::Everything => Input::CancelEntries,
            scope => Input::CancelEntriesOf(scope.clone()),
        };
        let (request, outcome) = Request::with_reply(Task::Step(input));
        shared.registry.send(shared, user, request);
        outcomes.push(outcome);
    }
    let deadline = tokio::time::Instant::now() + CANCELS_WITHIN;
    let mut count = 0;
    for outcome in outcomes {
        if let Ok(Ok(Ok(outcome))) = tokio::time::timeout_at(deadline, outcome).await {
            count += outcome.cancels;
        }
    }
    count
}

/// Users with open business whom `scope` can be about.
pub(crate) fn concerned(shared: &Shared, scope: &Scope) -> impl Iterator<Item = UserId> {
    let only = if let Scope::User(only) = scope { Some(*only) } else { None };
    shared.owners.open_users().into_iter().filter(move |user| only.is_none_or(|only| only == *user))
}

/// Re-arms one scope. Durable before the latch opens; a stop that comes meanwhile wins.
pub(crate) async fn resume(
    shared: &Arc<Shared>,
    scope: Scope,
    by: String,
    reason: Option<String>,
) -> Result<GateStatus, ResumeError> {
    if shared.serving.load().is_err() {
        return Err(ResumeError::Starting);
    }
    let _one_at_a_time = shared.resume.lock().await;
    let before = shared.latch.status_of(&scope);
    if before.state == TradingState::Active {
        return Ok(before);
    }
    if let Some(wait) = shared.settings.resume_hold.checked_sub(shared.latch.age(&scope))
        && !wait.is_zero()
    {
        return Err(ResumeError::Hold(wait));
    }
    let (from, epoch) = shared.latch.claim_epoch(&scope);
    let status = GateStatus { scope, state: TradingState::Active, epoch, since: shared.clock.now(), reason, by };
    match open(shared, from, &status).await {
        Ok(()) => {
            tracing::warn!(scope = %status.scope, epoch, by = %status.by, "trading is resumed");
            Ok(status)
        }
        Err(error) => {
            // `active` may be durable although we cannot tell: what is in force is stated again, above it.
            if let Some(restated) = shared.latch.restate(&status.scope, from) {
                remember(shared).await;
                drop(persist(shared, &restated));
            }
            Err(error)
        }
    }
}

async fn open(shared: &Arc<Shared>, from: u64, status: &GateStatus) -> Result<(), ResumeError> {
    let not_durable = |why: &dyn std::fmt::Display| Err(ResumeError::NotDurable(why.to_string()));
    let (ledger, hot, record) = (Arc::clone(&shared.ledger), Arc::clone(&shared.hot), status.clone());
    // In its own task: a write that is cut off in the middle is worse than one that comes late.
    let stated = record.clone();
    let taken = shared.tracker.spawn(async move {
        let held = ledger.set_trading_state(stated).await?;
        hot.put_trading_state(held.clone());
        Ok::<_, LedgerError>(held)
    });
    match timeout(RESUME_PERSIST_WITHIN, taken).await {
        Ok(Ok(Ok(held))) if held == record => {}
        Ok(Ok(Ok(held))) => {
            shared.latch.hear_of(&held);
            return Err(ResumeError::Overtaken);
        }
        Ok(Ok(Err(error))) => return not_durable(&error),
        Ok(Err(error)) => return not_durable(&error),
        Err(_) => return not_durable(&"the ledger did not answer in time"),
    }
    let Ok(_file) = timeout(RESUME_PERSIST_WITHIN, shared.halt_file.lock()).await else {
        return not_durable(&"HALT is still being written or read");
    };
    let without = || {
        let mut stopped = shared.latch.stopped();
        stopped.retain(|stopped| stopped.scope != status.scope);
        (shared.latch.status_of(&status.scope).epoch == from).then_some(stopped)
    };
    match rewrite_halt(shared, Some(&status.scope), without).await {
        Ok(true) => {}
        Ok(false) => return Err(ResumeError::Overtaken),
        Err(error) => return not_durable(&error),
    }
    if shared.latch.open(from, status.clone()) { Ok(()) } else { Err(ResumeError::Overtaken) }
}

/// The mailbox of the kill switch.
pub(crate) enum KillSwitchMessage {
    /// Look for `HALT`.
    Watch,
}

/// Watches for a `HALT` that somebody else has written.
pub(crate) struct KillSwitchActor;

impl Actor for KillSwitchActor {
    type Msg = KillSwitchMessage;
    type State = Arc<Shared>;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<KillSwitchMessage>,
        shared: Arc<Shared>,
    ) -> Result<Arc<Shared>, ActorProcessingErr> {
        myself.send_after(WATCH_EVERY, || KillSwitchMessage::Watch);
        Ok(shared)
    }

    async fn handle(
        &self,
        myself: ActorRef<KillSwitchMessage>,
        KillSwitchMessage::Watch: KillSwitchMessage,
        shared: &mut Arc<Shared>,
    ) -> Result<(), ActorProcessingErr> {
        shared.probe_handling("kill_switch");
        look_for_halt(shared).await;
        myself.send_after(WATCH_EVERY, || KillSwitchMessage::Watch);
        Ok(())
    }
}

/// Obeys a `HALT` that somebody has written. Nothing in it is tighter than a halt of everything.
async fn look_for_halt(shared: &Arc<Shared>) {
    if shared.latch.gate().state == TradingState::Halted {
        return;
    }
    // Under the file's lock, so that a file which a resume is writing anew is not heeded.
    let file = shared.halt_file.lock().await;
    heed_halt(shared, None).await;
    drop(file);
}

/// Makes `HALT` say what `stopped` does. What somebody has written there meanwhile is heeded before it is written over. Returns
/// false when there is nothing to be said any more. Whoever calls holds the lock of the file.
async fn rewrite_halt(
    shared: &Arc<Shared>,
    resuming: Option<&Scope>,
    stopped: impl Fn() -> Option<Vec<GateStatus>>,
) -> std::io::Result<bool> {
    for _ in 0..REWRITES_MAX {
        let found = heed_halt(shared, resuming).await;
        let Some(stopped) = stopped() else { return Ok(false) };
        let directory = shared.settings.data_dir.clone();
        if tokio::task::spawn_blocking(move || halt::write(&directory, &found, &stopped)).await?? {
            return Ok(true);
        }
    }
    Err(std::io::Error::other("somebody else keeps writing it"))
}

/// Closes the latch for what `HALT` says, and does the rest of those stops in tasks of their own: whoever is here holds the
/// lock of the file. What it says of a scope that is being resumed is what is resumed.
async fn heed_halt(shared: &Arc<Shared>, resuming: Option<&Scope>) -> halt::Found {
    let now = shared.clock.now();
    let directory = shared.settings.data_dir.clone();
    let found = match tokio::task::spawn_blocking(move || halt::read(&directory, now)).await {
        Ok(Ok(found)) => found,
        // A folder that cannot be read may hide a HALT: the cautious reading.
        Ok(Err(error)) => halt::unreadable(&error, now),
        Err(error) => {
            tracing::error!(%error, "the watch for HALT has failed; it goes on");
            halt::Found::default()
        }
    };
    for halt in &found.stopped {
        // What is in force was written by us. While it is being resumed to close it again would be a stop of its own.
        let held = shared.latch.status_of(&halt.scope);
        if Some(&halt.scope) == resuming || held.state >= halt.state && (1..=held.epoch).contains(&halt.epoch) {
            continue;
        }
        let closed = shared.latch.close(&halt.scope, halt.state, &halt.by, halt.reason.clone(), now);
        if closed.fresh {
            let engaging = Arc::clone(shared);
            shared.tracker.spawn(async move { engage(&engaging, closed, Acts::CANCEL).await });
        }
    }
    found
}
