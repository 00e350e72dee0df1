//! The kill switch: stop, resume, and the file `HALT` that remembers a stop when nothing else can.
//!
//! A stop runs on its caller's task and touches no mailbox before new exposure is impossible: close the latch, write and
//! sync `HALT`, wait for the sends that had begun, drop those that will not end, and then, with bounds, tell the ledger and
//! cancel what works. A resume goes the other way: durable first, then `HALT` away, then the latch; a stop that comes in
//! between wins. The actor watches for a `HALT` that a person writes by hand; removing it by hand opens nothing.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nexus_engine::account::Input;
use nexus_engine::gate::TradingState;
use nexus_engine::ids::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::engine::{GateStatus, ResumeError, StopAnswer, StopRequest};
use crate::latch::Closed;
use crate::ports::{LedgerError, TradingStateRecord};
use crate::risk::{Request, Task};
use crate::shared::Shared;

/// How often `HALT` is looked for.
const WATCH_EVERY: Duration = Duration::from_millis(30);
/// How long a stop waits for `HALT` to be on the disk; a disk that hangs does not keep it from answering.
const REMEMBER_WITHIN: Duration = Duration::from_millis(500);
/// The most bytes of a `HALT` that are looked at.
const HALT_BYTES_MAX: u64 = 64 * 1024;
/// A higher epoch in a `HALT` is a slip of the pen: it would leave no room above it.
const HALT_EPOCH_MAX: u64 = 1 << 48;
/// How long a stop waits for the ledger to take it; it goes on being tried afterwards.
const PERSIST_WITHIN: Duration = Duration::from_millis(500);
/// How long a stop waits for cancels to be asked for.
const CANCELS_WITHIN: Duration = Duration::from_millis(1_000);
/// How long a resume waits for the ledger.
const RESUME_PERSIST_WITHIN: Duration = Duration::from_secs(5);
/// The wait between attempts to persist.
const PERSIST_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Stops new exposure; see the module's words for the order of things.
pub(crate) async fn stop(shared: &Arc<Shared>, request: StopRequest) -> StopAnswer {
    let closed = shared.latch.close(request.state, &request.by, request.reason, shared.clock.now());
    engage(shared, closed, request.cancel_open_orders).await
}

/// The rest of a stop once the latch is closed.
pub(crate) async fn engage(shared: &Arc<Shared>, closed: Closed, cancel_open_orders: bool) -> StopAnswer {
    let Closed { status, fresh, sends } = closed;
    if fresh {
        shared.meters.stops.increment(1);
        tracing::warn!(state = status.state.as_str(), epoch = status.epoch, by = %status.by, reason = ?status.reason, "trading is stopped");
    }
    let grace = shared.settings.stop_grace;
    let ((), drained) = tokio::join!(remember(shared, &status), shared.latch.wait_for_guards(grace));
    if !drained {
        tracing::warn!(?grace, "sends that had begun are dropped; their orders are unknown and will be asked about");
        sends.cancel();
        if !shared.latch.wait_for_guards(grace).await {
            tracing::error!("a venue still holds a send that was dropped");
        }
    }
    // Whatever was waiting to enter has nothing to wait for any more.
    sends.cancel();
    let persisted = persist(shared, &status);
    let cancels = async { if cancel_open_orders { cancel_entries(shared).await } else { 0 } };
    let (persisted, cancelled_orders) = tokio::join!(timeout(PERSIST_WITHIN, persisted), cancels);
    StopAnswer {
        state: status.state,
        epoch: status.epoch,
        engaged_at: status.since,
        by: status.by,
        reason: status.reason,
        persisted: matches!(persisted, Ok(Ok(()))),
        cancelled_orders,
    }
}

/// Writes `HALT`. A disk that does not take it, or hangs, does not keep a stop from being a stop.
async fn remember(shared: &Arc<Shared>, status: &GateStatus) {
    let (directory, text) = (shared.settings.data_dir.clone(), halt_text(status));
    let writer = Arc::clone(shared);
    let written = shared.tracker.spawn(async move {
        let _file = writer.halt_file.lock().await;
        tokio::task::spawn_blocking(move || write_halt(&directory, &text)).await
    });
    match timeout(REMEMBER_WITHIN, written).await {
        Ok(Ok(Ok(Ok(())))) => {}
        Ok(Ok(Ok(Err(error)))) => tracing::error!(%error, "HALT could not be written"),
        Ok(Ok(Err(error)) | Err(error)) => tracing::error!(%error, "HALT could not be written"),
        Err(_) => tracing::error!("HALT is not on the disk in time; it goes on being written"),
    }
}

/// Makes a state durable in a task of its own, again and again until it is or a newer one is in force. The receiver hears
/// when it is.
pub(crate) fn persist(shared: &Arc<Shared>, status: &GateStatus) -> oneshot::Receiver<()> {
    let (done, held) = oneshot::channel();
    let (shared, mut record) = (Arc::clone(shared), record_of(status));
    let tracker = shared.tracker.clone();
    tracker.spawn(async move {
        loop {
            match shared.ledger.set_trading_state(record.clone()).await {
                Ok(held) if held.state >= record.state => break shared.hot.put_trading_state(held),
                // A resume of our own has come first.
                Ok(held) if shared.latch.has_claimed(held.epoch) => return,
                // Somebody has loosened it elsewhere, under an epoch that we had not heard of: ours is stated above it.
                Ok(held) => {
                    shared.latch.hear_of(&held);
                    let Some(restated) = shared.latch.restate(record.epoch) else { return };
                    record = record_of(&restated);
                    continue;
                }
                Err(error) => tracing::error!(%error, "the ledger did not take the trading state; HALT has it"),
            }
            tokio::select! {
                () = shared.closing.cancelled() => return,
                () = tokio::time::sleep(PERSIST_AGAIN_AFTER) => {}
            }
            if shared.latch.gate().epoch > record.epoch {
                return;
            }
        }
        // Whoever asked may have answered already that it was not persisted in time.
        let _ = done.send(());
    });
    held
}

fn record_of(status: &GateStatus) -> TradingStateRecord {
    TradingStateRecord {
        state: status.state,
        epoch: status.epoch,
        since: status.since,
        by: status.by.clone(),
        reason: status.reason.clone(),
    }
}

/// Has every account with open business ask for the cancellation of its working entries. Returns how many were asked for
/// in time; the others are asked for when their accounts get to it.
async fn cancel_entries(shared: &Arc<Shared>) -> usize {
    let mut outcomes = Vec::new();
    for user in shared.owners.open_users() {
        let (request, outcome) = Request::with_reply(Task::Step(Input::CancelEntries));
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

/// Re-arms. Durable before the latch opens; a stop that comes meanwhile wins.
pub(crate) async fn resume(
    shared: &Arc<Shared>,
    by: String,
    reason: Option<String>,
) -> Result<GateStatus, ResumeError> {
    if shared.serving.load().is_err() {
        return Err(ResumeError::Starting);
    }
    let _one_at_a_time = shared.resume.lock().await;
    let before = shared.latch.status();
    if before.state == TradingState::Active {
        return Ok(before);
    }
    if let Some(wait) = shared.settings.resume_hold.checked_sub(shared.latch.age())
        && !wait.is_zero()
    {
        return Err(ResumeError::Hold(wait));
    }
    let (from, epoch) = shared.latch.claim_epoch();
    let status = GateStatus { state: TradingState::Active, epoch, since: shared.clock.now(), reason, by };
    match open(shared, from, &status).await {
        Ok(()) => {
            tracing::warn!(epoch, by = %status.by, "trading is resumed");
            Ok(status)
        }
        Err(error) => {
            // `active` may be durable although we cannot tell: what is in force is stated again, above it.
            if let Some(restated) = shared.latch.restate(from) {
                remember(shared, &restated).await;
                drop(persist(shared, &restated));
            }
            Err(error)
        }
    }
}

async fn open(shared: &Arc<Shared>, from: u64, status: &GateStatus) -> Result<(), ResumeError> {
    let not_durable = |why: &dyn std::fmt::Display| Err(ResumeError::NotDurable(why.to_string()));
    let (ledger, hot, record) = (Arc::clone(&shared.ledger), Arc::clone(&shared.hot), record_of(status));
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
    if shared.latch.gate().epoch != from {
        return Err(ResumeError::Overtaken);
    }
    let directory = shared.settings.data_dir.clone();
    match tokio::task::spawn_blocking(move || remove_halt(&directory)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return not_durable(&error),
        Err(error) => return not_durable(&error),
    }
    if shared.latch.open(from, status.clone()) { Ok(()) } else { Err(ResumeError::Overtaken) }
}

// ── HALT ──

fn halt_path(directory: &Path) -> PathBuf {
    directory.join("HALT")
}

fn halt_text(status: &GateStatus) -> String {
    let one_line = |text: &str| text.replace(['\n', '\r'], " ");
    format!(
        "state: {}\nepoch: {}\nsince: {}\nby: {}\nreason: {}\n",
        status.state.as_str(),
        status.epoch,
        status.since.micros(),
        one_line(&status.by),
        one_line(status.reason.as_deref().unwrap_or("")),
    )
}

/// Writes beside, syncs, renames, and syncs the folder: after a power cut there is the old file or the new one. Where that
/// fails (a full disk), an empty file still halts, if there is none yet.
fn write_halt(directory: &Path, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let beside = directory.join("HALT.tmp");
    let whole = write_whole(&beside, text).and_then(|()| std::fs::rename(&beside, halt_path(directory)));
    if let Err(error) = whole {
        tracing::error!(%error, "HALT could not be written whole; an empty one takes its place");
        std::fs::File::options().create(true).append(true).open(halt_path(directory))?.sync_all()?;
    }
    std::fs::File::open(directory)?.sync_all()
}

fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn remove_halt(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(halt_path(directory)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::fs::File::open(directory)?.sync_all()
}

/// What `HALT` says, when it is there. What cannot be read halts: a person may have put anything there.
pub(crate) fn read_halt(directory: &Path, now: Timestamp) -> std::io::Result<Option<GateStatus>> {
    let Some(text) = halt_as_written(&halt_path(directory))? else { return Ok(None) };
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(str::trim).filter(|value| !value.is_empty())
    };
    let number = |key: &str| value(key).and_then(|value| value.parse::<i64>().ok());
    let state = if value("state") == Some("reducing") { TradingState::Reducing } else { TradingState::Halted };
    Ok(Some(GateStatus {
        state,
        epoch: number("epoch").and_then(|e| u64::try_from(e).ok()).filter(|e| *e <= HALT_EPOCH_MAX).unwrap_or(0),
        since: number("since").map_or(now, Timestamp::from_micros),
        reason: value("reason").map(str::to_owned),
        by: value("by").unwrap_or("HALT file").to_owned(),
    }))
}

/// The text of `HALT`, none when there is nothing of that name. Only a plain file is opened: a pipe would never end, and what
/// a link points to may be gone. Anything else is there and says nothing, which halts.
fn halt_as_written(path: &Path) -> std::io::Result<Option<String>> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !kind.is_file() {
        return Ok(Some("reason: HALT is not a plain file".to_owned()));
    }
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(HALT_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // Removed in between.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
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
        if shared.latch.gate().state != TradingState::Halted
            && let Some(closed) = heed_halt(shared).await
            && closed.fresh
        {
            engage(shared, closed, true).await;
        }
        myself.send_after(WATCH_EVERY, || KillSwitchMessage::Watch);
        Ok(())
    }
}

/// Closes the latch when `HALT` is there. Under the file's lock, so that a file which a resume is removing is not heeded.
async fn heed_halt(shared: &Arc<Shared>) -> Option<Closed> {
    let _file = shared.halt_file.lock().await;
    if shared.latch.gate().state == TradingState::Halted {
        return None;
    }
    let now = shared.clock.now();
    let directory = shared.settings.data_dir.clone();
    let found = tokio::task::spawn_blocking(move || read_halt(&directory, now)).await;
    let halt = match found {
        Ok(Ok(halt)) => halt?,
        // A folder that cannot be read may hide a HALT: the cautious reading.
        Ok(Err(error)) => {
            let reason = Some(format!("HALT could not be looked for: {error}"));
            return Some(shared.latch.close(TradingState::Halted, "HALT watch", reason, now));
        }
        Err(error) => {
            tracing::error!(%error, "the watch for HALT has failed; it goes on");
            return None;
        }
    };
    Some(shared.latch.close(halt.state, "HALT file", halt.reason, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halt_is_read_back_and_anything_else_in_it_halts() {
        let directory = std::env::temp_dir().join(format!("nexus-halt-{}", std::process::id()));
        let status = GateStatus {
            state: TradingState::Reducing,
            epoch: 7,
            since: Timestamp::from_micros(5),
            reason: Some("two\nlines".to_owned()),
            by: "ann".to_owned(),
        };
        write_halt(&directory, &halt_text(&status)).unwrap();
        let read = read_halt(&directory, Timestamp::ZERO).unwrap().unwrap();
        assert_eq!(read, GateStatus { reason: Some("two lines".to_owned()), ..status });
        for text in ["", "state: active\n", "\u{0}", "epoch: -1", "epoch: 9223372036854775807"] {
            write_halt(&directory, text).unwrap();
            let read = read_halt(&directory, Timestamp::ZERO).unwrap().unwrap();
            assert_eq!((read.state, read.epoch), (TradingState::Halted, 0), "{text:?}");
        }
        remove_halt(&directory).unwrap();
        std::fs::create_dir(directory.join("HALT.tmp")).unwrap();
        write_halt(&directory, "state: reducing").unwrap();
        let read = read_halt(&directory, Timestamp::ZERO).unwrap().unwrap();
        assert_eq!(read.state, TradingState::Halted, "an empty file halts");
        remove_halt(&directory).unwrap();
        remove_halt(&directory).unwrap();
        assert_eq!(read_halt(&directory, Timestamp::ZERO).unwrap(), None);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
