//! The latch: the trading state as one atomic word that every send reads, and the guards of sends under way.
//!
//! A stop must not queue behind anything, so the gate is an atomic and not a message. An entry takes a guard right before
//! its first byte: the guard is counted first and the word read second, and a stop writes the word first and reads the
//! count second, all sequentially consistent. Whichever comes first, either the send sees the stop or the stop sees the
//! send. A guard is good for one epoch only: what was approved before a stop does not leave after the resume.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nexus_engine::gate::{Gate, TradingState};
use nexus_engine::ids::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::GateStatus;
use crate::ports::{TradingStateRecord, VenueError};

/// How often a stop looks whether the last guard is gone.
const GUARD_POLL: Duration = Duration::from_millis(1);

/// The trading state and the sends that are under way.
pub(crate) struct Latch {
    /// Epoch and state in one word: `epoch * 4 + state`.
    word: AtomicU64,
    guards: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    status: GateStatus,
    engaged: Instant,
    /// The highest epoch that anybody has begun to persist.
    epoch_top: u64,
    /// Cancelled to drop sends that a stop has waited for long enough.
    sends: CancellationToken,
}

/// What closing the latch did.
pub(crate) struct Closed {
    pub(crate) status: GateStatus,
    /// Whether this call changed the state; a repeat did not.
    pub(crate) fresh: bool,
    pub(crate) sends: CancellationToken,
}

/// A send that has begun: a stop waits until it is dropped.
pub(crate) struct EpochGuard<'a> {
    guards: &'a AtomicU64,
}

impl Drop for EpochGuard<'_> {
    fn drop(&mut self) {
        self.guards.fetch_sub(1, Ordering::SeqCst);
    }
}

const fn pack(state: TradingState, epoch: u64) -> u64 {
    let bits = match state {
        TradingState::Active => 0,
        TradingState::Reducing => 1,
        TradingState::Halted => 2,
    };
    epoch * 4 + bits
}

impl Latch {
    /// A latch in the given state.
    pub(crate) fn new(status: GateStatus) -> Latch {
        Latch {
            word: AtomicU64::new(pack(status.state, status.epoch)),
            guards: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                epoch_top: status.epoch,
                status,
                engaged: Instant::now(),
                sends: CancellationToken::new(),
            }),
        }
    }

    /// What the gate says now.
    pub(crate) fn gate(&self) -> Gate {
        let word = self.word.load(Ordering::SeqCst);
        let state = match word % 4 {
            0 => TradingState::Active,
            1 => TradingState::Reducing,
            _ => TradingState::Halted,
        };
        Gate { state, epoch: word / 4 }
    }

    /// What the gate says, since when and why.
    pub(crate) fn status(&self) -> GateStatus {
        self.inner.lock().status.clone()
    }

    /// How long the present state has been in force.
    pub(crate) fn age(&self) -> Duration {
        self.inner.lock().engaged.elapsed()
    }

    /// The token that drops held sends of the present epoch.
    pub(crate) fn sends(&self) -> CancellationToken {
        self.inner.lock().sends.clone()
    }

    /// The last look before the first byte of an entry approved in `epoch`.
    pub(crate) fn enter(&self, epoch: u64) -> Result<EpochGuard<'_>, VenueError> {
        self.guards.fetch_add(1, Ordering::SeqCst);
        let guard = EpochGuard { guards: &self.guards };
        if self.word.load(Ordering::SeqCst) == pack(TradingState::Active, epoch) {
            Ok(guard)
        } else {
            Err(VenueError::GateClosed)
        }
    }

    /// Closes for entries. Never loosens: a halted latch stays halted.
    pub(crate) fn close(&self, state: TradingState, by: &str, reason: Option<String>, now: Timestamp) -> Closed {
        let state = if state == TradingState::Reducing { TradingState::Reducing } else { TradingState::Halted };
        let mut inner = self.inner.lock();
        // While a resume is being made durable its epoch is beyond the one in force: the stop must outrank it.
        let resuming = inner.epoch_top > inner.status.epoch;
        if inner.status.state >= state && !resuming {
            return Closed { status: inner.status.clone(), fresh: false, sends: inner.sends.clone() };
        }
        let state = state.max(inner.status.state);
        let epoch = inner.epoch_top + 1;
        inner.epoch_top = epoch;
        self.word.store(pack(state, epoch), Ordering::SeqCst);
        inner.engaged = Instant::now();
        inner.status = GateStatus { state, epoch, since: now, reason, by: by.to_owned() };
        Closed { status: inner.status.clone(), fresh: true, sends: inner.sends.clone() }
    }

    /// The ledger holds a trading state that was set elsewhere. One that is newer and tighter is obeyed, under its own epoch or a
    /// higher one; a looser one only raises the epochs to come, so that what is stated here outranks it.
    pub(crate) fn hear_of(&self, record: &TradingStateRecord) -> Option<Closed> {
        let mut inner = self.inner.lock();
        // One that we have begun to persist ourselves is no news.
        if record.epoch <= inner.epoch_top {
            return None;
        }
        let resuming = inner.epoch_top > inner.status.epoch;
        inner.epoch_top = record.epoch;
        if record.state <= inner.status.state && !(resuming && record.state != TradingState::Active) {
            return None;
        }
        let state = record.state.max(inner.status.state);
        self.word.store(pack(state, record.epoch), Ordering::SeqCst);
        inner.engaged = Instant::now();
        let (reason, by) = (record.reason.clone(), record.by.clone());
        inner.status = GateStatus { state, epoch: record.epoch, since: record.since, reason, by };
        Some(Closed { status: inner.status.clone(), fresh: true, sends: inner.sends.clone() })
    }

    /// Whether we have begun to persist this epoch ourselves, or a higher one.
    pub(crate) fn has_claimed(&self, epoch: u64) -> bool {
        epoch <= self.inner.lock().epoch_top
    }

    /// Claims the next epoch for a resume of the present one; a later stop will outrank it.
    pub(crate) fn claim_epoch(&self) -> (u64, u64) {
        let mut inner = self.inner.lock();
        inner.epoch_top += 1;
        (inner.status.epoch, inner.epoch_top)
    }

    /// A resume did not become durable, or may have in part: the state in force is restated under an epoch that outranks it.
    /// None when a stop has come since epoch `from`: it outranks the resume already.
    pub(crate) fn restate(&self, from: u64) -> Option<GateStatus> {
        let mut inner = self.inner.lock();
        if inner.status.epoch != from {
            return None;
        }
        inner.epoch_top += 1;
        inner.status.epoch = inner.epoch_top;
        self.word.store(pack(inner.status.state, inner.status.epoch), Ordering::SeqCst);
        Some(inner.status.clone())
    }

    /// Opens, unless anybody has closed since epoch `from`. Returns whether it did.
    pub(crate) fn open(&self, from: u64, status: GateStatus) -> bool {
        let mut inner = self.inner.lock();
        if inner.status.epoch != from {
            return false;
        }
        inner.sends = CancellationToken::new();
        inner.engaged = Instant::now();
        inner.epoch_top = inner.epoch_top.max(status.epoch);
        self.word.store(pack(status.state, status.epoch), Ordering::SeqCst);
        inner.status = status;
        true
    }

    /// Waits until no send is under way, at most `limit`. Returns whether none is.
    pub(crate) async fn wait_for_guards(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.guards.load(Ordering::SeqCst) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(GUARD_POLL).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: TradingState, epoch: u64) -> GateStatus {
        GateStatus { state, epoch, since: Timestamp::ZERO, reason: None, by: "test".to_owned() }
    }

    #[test]
    fn a_guard_is_good_for_the_epoch_that_approved_the_order() {
        let latch = Latch::new(status(TradingState::Active, 3));
        assert!(latch.enter(3).is_ok());
        assert!(latch.enter(2).is_err());
        let closed = latch.close(TradingState::Halted, "a", None, Timestamp::ZERO);
        assert!(closed.fresh && closed.status.epoch == 4);
        assert!(latch.enter(3).is_err() && latch.enter(4).is_err());
        assert!(latch.open(4, status(TradingState::Active, 5)));
        assert!(latch.enter(3).is_err(), "what was approved before the stop does not leave after it");
        assert!(latch.enter(5).is_ok());
    }

    #[test]
    fn a_stop_never_loosens_and_repeats_say_the_same() {
        let latch = Latch::new(status(TradingState::Active, 1));
        assert_eq!(latch.close(TradingState::Reducing, "a", None, Timestamp::ZERO).status.epoch, 2);
        assert_eq!(latch.close(TradingState::Halted, "b", None, Timestamp::ZERO).status.epoch, 3);
        let again = latch.close(TradingState::Reducing, "c", None, Timestamp::ZERO);
        assert_eq!((again.fresh, again.status.epoch, again.status.by.as_str()), (false, 3, "b"));
    }

    #[test]
    fn a_stop_during_a_resume_wins() {
        let latch = Latch::new(status(TradingState::Halted, 1));
        let (from, to) = latch.claim_epoch();
        let closed = latch.close(TradingState::Halted, "a", None, Timestamp::ZERO);
        assert!(closed.fresh && closed.status.epoch > to);
        assert!(!latch.open(from, status(TradingState::Active, to)));
        assert_eq!(latch.gate().state, TradingState::Halted);
    }
}
