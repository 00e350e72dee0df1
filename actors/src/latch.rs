//! The latch: the trading state of everything and of each scope, and the sends under way.
//!
//! A stop must not queue behind anything, so what is in force is one pointer that every decision reads, and no message. A
//! send is told of here before it begins and takes a guard right before its first byte. Guards are given and scopes are
//! closed under one short lock, which nothing is awaited under: whichever comes first, either the send sees the stop or the
//! stop sees the send, and then waits for it. A guard is good only for what nothing has stopped since it was decided: what
//! was approved before a stop does not leave after the resume. Sends that a narrower stop does not cover go on beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nexus_engine::gate::{Gate, Gates, Reach, Scope, TradingState};
use nexus_engine::ids::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::GateStatus;
use crate::ports::{TradingStateRecord, VenueError};

/// How often a stop looks whether the last guard is gone.
const GUARD_POLL: Duration = Duration::from_millis(1);

/// The trading states and the sends that are under way.
pub(crate) struct Latch {
    /// What decisions are told. Written under the lock.
    gates: ArcSwap<Gates>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Of everything, and of each scope that was ever stopped: no more than there are feeds, symbols, venues and users.
    stops: BTreeMap<Scope, Stop>,
    /// The highest epoch that anybody has begun to persist.
    epoch_top: u64,
    sends: BTreeMap<u64, Sending>,
    sends_begun: u64,
}

/// One scope.
struct Stop {
    status: GateStatus,
    engaged: Instant,
    /// The highest epoch of this scope that anybody has begun to persist.
    claimed: u64,
}

/// An order that is being handed to its venue.
struct Sending {
    reach: Reach,
    has_entered: bool,
    dropped: CancellationToken,
}

/// What closing the latch did.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) status: GateStatus,
    /// Whether this call changed the state; a repeat did not.
    pub(crate) fresh: bool,
}

/// A send that may begin to write, or never will. It is forgotten when this is dropped.
pub(crate) struct Send<'a> {
    latch: &'a Latch,
    id: u64,
    epoch: u64,
    reach: Reach,
    dropped: CancellationToken,
}

/// A send that has begun: a stop that covers it waits until this is dropped.
pub(crate) struct EpochGuard<'a> {
    send: &'a Send<'a>,
}

impl Send<'_> {
    /// The last look before the first byte.
    pub(crate) fn enter(&self) -> Result<EpochGuard<'_>, VenueError> {
        let mut inner = self.latch.inner.lock();
        let sending = inner.sends.get_mut(&self.id).ok_or(VenueError::GateClosed)?;
        if !self.latch.gates.load().admit(&self.reach, self.epoch) {
            return Err(VenueError::GateClosed);
        }
        sending.has_entered = true;
        Ok(EpochGuard { send: self })
    }

    /// Resolves when a stop drops this send.
    pub(crate) async fn dropped(&self) {
        self.dropped.cancelled().await;
    }
}

impl Drop for Send<'_> {
    fn drop(&mut self) {
        self.latch.inner.lock().sends.remove(&self.id);
    }
}

impl Drop for EpochGuard<'_> {
    fn drop(&mut self) {
        if let Some(sending) = self.send.latch.inner.lock().sends.get_mut(&self.send.id) {
            sending.has_entered = false;
        }
    }
}

impl Stop {
    fn new(status: GateStatus) -> Stop {
        Stop { claimed: status.epoch, status, engaged: Instant::now() }
    }

    /// While a resume is being made durable its epoch is beyond the one in force: a stop must outrank it.
    fn is_resuming(&self) -> bool {
        self.claimed > self.status.epoch
    }
}

impl Inner {
    fn stop(&mut self, scope: &Scope) -> &mut Stop {
        self.stops.entry(scope.clone()).or_insert_with(|| {
            Stop::new(GateStatus {
                scope: scope.clone(),
                state: TradingState::Active,
                epoch: 0,
                since: Timestamp::ZERO,
                reason: None,
                by: String::new(),
            })
        })
    }

    /// The next epoch, for a change of `scope`.
    fn claim(&mut self, scope: &Scope) -> u64 {
        self.epoch_top += 1;
        let epoch = self.epoch_top;
        self.stop(scope).claimed = epoch;
        epoch
    }
}

impl Latch {
    /// A latch in the given states; what is not told of everything halts it.
    pub(crate) fn new(everything: GateStatus, others: Vec<GateStatus>) -> Latch {
        let everything = GateStatus { scope: Scope::Everything, ..everything };
        let mut gates = Gates::new(gate_of(&everything));
        others.iter().for_each(|status| gates.set(status.scope.clone(), gate_of(status)));
        let epoch_top = gates.everything().epoch;
        let stops = others.into_iter().chain([everything]).map(|status| (status.scope.clone(), Stop::new(status)));
        let inner = Inner { stops: stops.collect(), epoch_top, sends: BTreeMap::new(), sends_begun: 0 };
        Latch { gates: ArcSwap::from_pointee(gates), inner: Mutex::new(inner) }
    }

    /// What the gate says of everything.
    pub(crate) fn gate(&self) -> Gate {
        self.gates.load().everything()
    }

    /// What the gate says of an order.
    pub(crate) fn gate_of(&self, reach: &Reach) -> Gate {
        self.gates.load().of(reach)
    }

    /// What the gate says of everything, since when and why.
    pub(crate) fn status(&self) -> GateStatus {
        self.status_of(&Scope::Everything)
    }

    /// The same of one scope.
    pub(crate) fn status_of(&self, scope: &Scope) -> GateStatus {
        self.inner.lock().stop(scope).status.clone()
    }

    /// Every scope that is not active, everything first.
    pub(crate) fn stopped(&self) -> Vec<GateStatus> {
        let inner = self.inner.lock();
        let statuses = inner.stops.values().map(|stop| &stop.status);
        statuses.filter(|status| status.state != TradingState::Active).cloned().collect()
    }

    /// How long the present state of a scope has been in force.
    pub(crate) fn age(&self, scope: &Scope) -> Duration {
        self.inner.lock().stop(scope).engaged.elapsed()
    }

    /// Tells of an entry decided in `epoch` that is being handed to its venue. One that is not to leave is dropped at once.
    pub(crate) fn begin(&self, reach: Reach, epoch: u64) -> Send<'_> {
        let dropped = CancellationToken::new();
        let mut inner = self.inner.lock();
        if !self.gates.load().admit(&reach, epoch) {
            dropped.cancel();
        }
        inner.sends_begun += 1;
        let id = inner.sends_begun;
        inner.sends.insert(id, Sending { reach: reach.clone(), has_entered: false, dropped: dropped.clone() });
        Send { latch: self, id, epoch, reach, dropped }
    }

    /// Closes a scope for entries. Never loosens: a halted one stays halted.
    pub(crate) fn close(
        &self,
        scope: &Scope,
        to: TradingState,
        by: &str,
        reason: Option<String>,
        now: Timestamp,
    ) -> Closed {
        let state = if to == TradingState::Reducing { TradingState::Reducing } else { TradingState::Halted };
        let mut inner = self.inner.lock();
        let held = inner.stop(scope);
        if held.status.state >= state && !held.is_resuming() {
            return Closed { status: held.status.clone(), fresh: false };
        }
        let state = state.max(held.status.state);
        let epoch = inner.claim(scope);
        let status = GateStatus { scope: scope.clone(), state, epoch, since: now, reason, by: by.to_owned() };
        self.put(&mut inner, status.clone());
        Closed { status, fresh: true }
    }

    /// The ledger holds a trading state that was set elsewhere. One that is newer and tighter is obeyed, under its own epoch or a
    /// higher one; a looser one only raises the epochs to come, so that what is stated here outranks it.
    pub(crate) fn hear_of(&self, record: &TradingStateRecord) -> Option<Closed> {
        let mut inner = self.inner.lock();
        let held = inner.stop(&record.scope);
        // One that we have begun to persist ourselves is no news.
        if record.epoch <= held.claimed {
            return None;
        }
        let (before, was_resuming) = (held.status.state, held.is_resuming());
        held.claimed = record.epoch;
        let is_newest = record.epoch > inner.epoch_top;
        inner.epoch_top = inner.epoch_top.max(record.epoch);
        if record.state <= before && !(was_resuming && record.state != TradingState::Active) {
            return None;
        }
        // What was decided here under a higher epoch of another scope must not pass as decided after this stop.
        let epoch = if is_newest { record.epoch } else { inner.claim(&record.scope) };
        let status = GateStatus { epoch, state: record.state.max(before), ..record.clone() };
        self.put(&mut inner, status.clone());
        Some(Closed { status, fresh: true })
    }

    /// Whether we have begun to persist this epoch of a scope ourselves, or a higher one.
    pub(crate) fn has_claimed(&self, scope: &Scope, epoch: u64) -> bool {
        epoch <= self.inner.lock().stop(scope).claimed
    }

    /// Claims the next epoch for a resume of the present one; a later stop will outrank it.
    pub(crate) fn claim_epoch(&self, scope: &Scope) -> (u64, u64) {
        let mut inner = self.inner.lock();
        (inner.stop(scope).status.epoch, inner.claim(scope))
    }

    /// A resume did not become durable, or may have in part: the state in force is restated under an epoch that outranks it.
    /// None when a stop has come since epoch `from`: it outranks the resume already.
    pub(crate) fn restate(&self, scope: &Scope, from: u64) -> Option<GateStatus> {
        let mut inner = self.inner.lock();
        if inner.stop(scope).status.epoch != from {
            return None;
        }
        let epoch = inner.claim(scope);
        let held = inner.stop(scope);
        held.status.epoch = epoch;
        let status = held.status.clone();
        self.show(&status);
        Some(status)
    }

    /// Opens, unless anybody has closed since epoch `from`. Returns whether it did.
    pub(crate) fn open(&self, from: u64, status: GateStatus) -> bool {
        let mut inner = self.inner.lock();
        if inner.stop(&status.scope).status.epoch != from {
            return false;
        }
        inner.epoch_top = inner.epoch_top.max(status.epoch);
        self.put(&mut inner, status);
        true
    }

    fn put(&self, inner: &mut Inner, status: GateStatus) {
        self.show(&status);
        let held = inner.stop(&status.scope);
        held.claimed = held.claimed.max(status.epoch);
        (held.status, held.engaged) = (status, Instant::now());
    }

    /// Under the lock.
    fn show(&self, status: &GateStatus) {
        let mut gates = Gates::clone(&self.gates.load());
        gates.set(status.scope.clone(), gate_of(status));
        self.gates.store(Arc::new(gates));
    }

    /// Waits until no send in `scope` is under way, at most `limit`. Returns whether none is.
    pub(crate) async fn wait_for_guards(&self, scope: &Scope, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_under_way(scope) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(GUARD_POLL).await;
        }
        true
    }

    fn is_under_way(&self, scope: &Scope) -> bool {
        self.inner.lock().sends.values().any(|sending| sending.has_entered && scope.covers(&sending.reach))
    }

    /// Drops every send in `scope`, whether it has begun or waits to.
    pub(crate) fn drop_sends(&self, scope: &Scope) {
        let inner = self.inner.lock();
        inner
            .sends
            .values()
            .filter(|sending| scope.covers(&sending.reach))
            .for_each(|sending| sending.dropped.cancel());
    }
}

fn gate_of(status: &GateStatus) -> Gate {
    Gate { state: status.state, epoch: status.epoch }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_engine::ids::UserId;
    use uuid::Uuid;

    const ALL: Scope = Scope::Everything;

    fn status(state: TradingState, epoch: u64) -> GateStatus {
        GateStatus { scope: ALL, state, epoch, since: Timestamp::ZERO, reason: None, by: "test".to_owned() }
    }

    fn latch(state: TradingState, epoch: u64) -> Latch {
        Latch::new(status(state, epoch), Vec::new())
    }

    fn close(latch: &Latch, scope: &Scope, state: TradingState, by: &str) -> Closed {
        latch.close(scope, state, by, None, Timestamp::ZERO)
    }

    fn reach(n: u128) -> Reach {
        let symbol = "EURUSD".parse().unwrap();
        Reach { user: UserId(Uuid::from_u128(n)), feed: None, symbol, venue: None }
    }

    fn may_enter(latch: &Latch, n: u128, epoch: u64) -> bool {
        latch.begin(reach(n), epoch).enter().is_ok()
    }

    #[test]
    fn a_guard_is_good_for_the_epoch_that_approved_the_order() {
        let latch = latch(TradingState::Active, 3);
        assert!(may_enter(&latch, 1, 3));
        assert!(!may_enter(&latch, 1, 2));
        let closed = close(&latch, &ALL, TradingState::Halted, "a");
        assert!(closed.fresh && closed.status.epoch == 4);
        assert!(!may_enter(&latch, 1, 3) && !may_enter(&latch, 1, 4));
        assert!(latch.open(4, status(TradingState::Active, 5)));
        assert!(!may_enter(&latch, 1, 3), "what was approved before the stop does not leave after it");
        assert!(may_enter(&latch, 1, 5));
    }

    #[test]
    fn a_stop_never_loosens_and_repeats_say_the_same() {
        let latch = latch(TradingState::Active, 1);
        assert_eq!(close(&latch, &ALL, TradingState::Reducing, "a").status.epoch, 2);
        assert_eq!(close(&latch, &ALL, TradingState::Halted, "b").status.epoch, 3);
        let again = close(&latch, &ALL, TradingState::Reducing, "c");
        assert_eq!((again.fresh, again.status.epoch, again.status.by.as_str()), (false, 3, "b"));
    }

    #[test]
    fn a_stop_during_a_resume_wins() {
        let latch = latch(TradingState::Halted, 1);
        let (from, to) = latch.claim_epoch(&ALL);
        let closed = close(&latch, &ALL, TradingState::Halted, "a");
        assert!(closed.fresh && closed.status.epoch > to);
        assert!(!latch.open(from, status(TradingState::Active, to)));
        assert_eq!(latch.gate().state, TradingState::Halted);
    }

    #[tokio::test]
    async fn a_narrow_stop_waits_for_what_it_covers_and_leaves_the_rest_alone() {
        let latch = latch(TradingState::Active, 1);
        let (mine, other) = (latch.begin(reach(1), 1), latch.begin(reach(2), 1));
        let (guard, _others_guard) = (mine.enter().unwrap(), other.enter().unwrap());
        let scope = Scope::User(UserId(Uuid::from_u128(1)));
        assert!(close(&latch, &scope, TradingState::Halted, "a").fresh);
        assert!(!latch.wait_for_guards(&scope, Duration::from_millis(5)).await, "it has begun");
        drop(guard);
        assert!(latch.wait_for_guards(&scope, Duration::ZERO).await, "the other one is not waited for");
        latch.drop_sends(&scope);
        assert!(mine.dropped.is_cancelled() && !other.dropped.is_cancelled());
        assert!(mine.enter().is_err() && other.enter().is_ok());
        assert!(!may_enter(&latch, 1, 2) && may_enter(&latch, 2, 1), "decided before it, and not covered by it");
        assert_eq!(latch.gate().state, TradingState::Active);
        assert_eq!(latch.stopped().len(), 1);
    }

    #[test]
    fn what_was_decided_before_a_stop_from_elsewhere_does_not_pass_as_later_because_of_another_scope() {
        let latch = latch(TradingState::Active, 1);
        for _ in 0..5 {
            close(&latch, &Scope::User(UserId(Uuid::from_u128(9))), TradingState::Halted, "a");
            let (from, epoch) = latch.claim_epoch(&Scope::User(UserId(Uuid::from_u128(9))));
            let scope = Scope::User(UserId(Uuid::from_u128(9)));
            assert!(latch.open(from, GateStatus { scope, ..status(TradingState::Active, epoch) }));
        }
        let decided_in = latch.gate().epoch;
        let record = TradingStateRecord { scope: ALL, ..status(TradingState::Halted, 2) };
        let closed = latch.hear_of(&record).expect("it is news");
        assert!(closed.status.epoch > decided_in);
        let (from, epoch) = latch.claim_epoch(&ALL);
        assert!(latch.open(from, status(TradingState::Active, epoch)));
        assert!(!may_enter(&latch, 1, decided_in) && may_enter(&latch, 1, epoch));
    }
}
