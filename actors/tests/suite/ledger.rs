//! A ledger in memory that checks versions and reservations as a real one does, and fails when told to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::ports::{
    CommitVerdict, Ledger, LedgerError, Probe, SignalRecord, Step, TradingStateRecord, TurnRecord, UnfinishedSignal,
};
use nexus_engine::account::{Account, Decision, Event, Input, Verdict};
use nexus_engine::ids::{DecisionId, FeedId, SignalId, UserId};
use nexus_engine::order::OrderStatus;
use parking_lot::Mutex;

/// What goes wrong with one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Written, and the answer is lost.
    LostAnswer,
    /// Not written, and nobody can tell.
    LostRequest,
    /// The next acceptance in it is vetoed.
    Veto,
}

#[derive(Default)]
struct Tables {
    accounts: HashMap<UserId, Account>,
    decisions: BTreeMap<DecisionId, Decision>,
    signals: BTreeMap<SignalId, SignalRecord>,
    subscribers: HashMap<FeedId, Vec<UserId>>,
    state: Option<TradingStateRecord>,
    away: bool,
    full: bool,
    corrupt_state: bool,
    slow: Duration,
    faults: VecDeque<Fault>,
    at_hand: Vec<Arc<Account>>,
}

/// The double.
#[derive(Default)]
pub struct MemoryLedger {
    tables: Mutex<Tables>,
    pub commits: AtomicUsize,
    /// Looks on in the middle of each commit of a decision, as it does in a real ledger.
    pub probe: Mutex<Option<Arc<dyn Probe>>>,
}

impl MemoryLedger {
    pub fn open(&self, account: Account) {
        self.tables.lock().accounts.insert(account.user, account);
    }

    pub fn subscribe(&self, feed: FeedId, users: &[UserId]) {
        let mut users = users.to_vec();
        users.sort_unstable();
        self.tables.lock().subscribers.insert(feed, users);
    }

    pub fn set_away(&self, away: bool) {
        self.tables.lock().away = away;
    }

    /// Can be read, and takes no write.
    pub fn set_full(&self, full: bool) {
        self.tables.lock().full = full;
    }

    /// How long a write takes.
    pub fn set_slow(&self, slow: Duration) {
        self.tables.lock().slow = slow;
    }

    pub fn set_state_unreadable(&self) {
        self.tables.lock().corrupt_state = true;
    }

    /// What goes wrong with the next commits, one each.
    pub fn fail_next(&self, fault: Fault) {
        self.tables.lock().faults.push_back(fault);
    }

    pub fn account(&self, user: UserId) -> Account {
        self.tables.lock().accounts[&user].clone()
    }

    pub fn decisions(&self) -> Vec<Decision> {
        self.tables.lock().decisions.values().cloned().collect()
    }

    /// All that is written, as a text that can be compared.
    pub fn contents(&self) -> String {
        let tables = self.tables.lock();
        let accounts: BTreeMap<_, _> = tables.accounts.iter().collect();
        format!("{accounts:#?}\n{:#?}\n{:#?}\n{:?}", tables.decisions, tables.signals, tables.state)
    }

    /// Orders of which it is not known whether the venue has them, or that have not left yet.
    pub fn doubts(&self) -> usize {
        let tables = self.tables.lock();
        let lots = tables.accounts.values().flat_map(|account| account.lots.values());
        let orders = lots.flat_map(|lot| std::iter::once(&lot.entry).chain(&lot.exits));
        orders.filter(|order| order.unknown || order.status == OrderStatus::Planned).count()
    }

    pub fn state(&self) -> Option<TradingStateRecord> {
        self.tables.lock().state.clone()
    }

    pub fn record(&self, record: SignalRecord) {
        self.tables.lock().signals.insert(record.signal.id, record);
    }

    /// The snapshots that it was asked to prove.
    pub fn at_hand(&self) -> Vec<Arc<Account>> {
        self.tables.lock().at_hand.clone()
    }

    fn check(&self) -> Result<(), LedgerError> {
        if self.tables.lock().away { Err(LedgerError::Unavailable("told so".to_owned())) } else { Ok(()) }
    }

    fn check_room(&self) -> Result<(), LedgerError> {
        self.check()?;
        if self.tables.lock().full { Err(LedgerError::Unavailable("full".to_owned())) } else { Ok(()) }
    }

    /// A write takes its time.
    async fn write_time(&self) {
        let slow = self.tables.lock().slow;
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
    }
}

impl Tables {
    fn write(&mut self, turn: &TurnRecord, veto: &mut bool) -> CommitVerdict {
        let version = self.accounts.get(&turn.user).map_or(0, |account| account.version);
        let decision = turn.turn.events.iter().find_map(|event| match event {
            Event::Decided(decision) => Some(decision.clone()),
            _ => None,
        });
        if decision.as_ref().is_some_and(|decision| self.decisions.contains_key(&decision.id)) {
            return CommitVerdict::AlreadyDecided;
        }
        if version != turn.base_version {
            return CommitVerdict::Stale { version };
        }
        if let Some(Verdict::Accepted(acceptance)) = decision.as_ref().map(|decision| &decision.verdict) {
            let over = acceptance.used_before.plus(acceptance.risk) > acceptance.cap;
            if over || std::mem::take(veto) {
                return CommitVerdict::Vetoed { used: acceptance.used_before, cap: acceptance.cap };
            }
        }
        assert_eq!(turn.after.version, version + 1);
        // One that does not add up is at least not traded on.
        let sound = turn.after.check();
        assert!(turn.after.quarantined || sound.is_ok(), "a committed account keeps its invariants: {sound:?}");
        if let Some(record) = &turn.signal {
            self.signals.entry(record.signal.id).or_insert_with(|| SignalRecord::clone(record));
        }
        if let Some(decision) = decision {
            assert!(self.signals.contains_key(&decision.signal), "a decision without its signal");
            self.decisions.insert(decision.id, decision);
        }
        self.accounts.insert(turn.user, Account::clone(&turn.after));
        CommitVerdict::Committed
    }
}

impl Ledger for MemoryLedger {
    fn commit(&self, batch: Vec<TurnRecord>) -> BoxFuture<'_, Result<Vec<CommitVerdict>, LedgerError>> {
        async move {
            self.commits.fetch_add(1, Ordering::SeqCst);
            self.write_time().await;
            self.check_room()?;
            let mut tables = self.tables.lock();
            let fault = match tables.faults.front() {
                // A veto waits for an acceptance.
                Some(Fault::Veto) if !batch.iter().any(|turn| matches!(turn.input, Input::Signal(_))) => None,
                Some(_) => tables.faults.pop_front(),
                None => None,
            };
            if fault == Some(Fault::LostRequest) {
                return Err(LedgerError::InDoubt("request lost".to_owned()));
            }
            let mut veto = fault == Some(Fault::Veto);
            if batch.iter().any(|turn| turn.signal.is_some())
                && let Some(probe) = self.probe.lock().clone()
            {
                probe.at(Step::InCommit);
            }
            let verdicts = batch.iter().map(|turn| tables.write(turn, &mut veto)).collect();
            if fault == Some(Fault::LostAnswer) {
                return Err(LedgerError::InDoubt("answer lost".to_owned()));
            }
            Ok(verdicts)
        }
        .boxed()
    }

    fn load_account(
        &self,
        user: UserId,
        at_hand: Option<Arc<Account>>,
    ) -> BoxFuture<'_, Result<Option<Account>, LedgerError>> {
        async move {
            self.check()?;
            self.tables.lock().at_hand.extend(at_hand);
            Ok(self.tables.lock().accounts.get(&user).cloned())
        }
        .boxed()
    }

    fn record_signal(&self, record: Arc<SignalRecord>) -> BoxFuture<'_, Result<(), LedgerError>> {
        async move {
            self.check_room()?;
            let mut tables = self.tables.lock();
            tables.signals.entry(record.signal.id).or_insert_with(|| SignalRecord::clone(&record));
            Ok(())
        }
        .boxed()
    }

    fn find_signal(&self, id: SignalId) -> BoxFuture<'_, Result<Option<SignalRecord>, LedgerError>> {
        async move {
            self.check()?;
            Ok(self.tables.lock().signals.get(&id).cloned())
        }
        .boxed()
    }

    fn decisions_on(&self, id: SignalId) -> BoxFuture<'_, Result<Vec<Decision>, LedgerError>> {
        async move {
            self.check()?;
            let tables = self.tables.lock();
            let mut found: Vec<_> = tables.decisions.values().filter(|d| d.signal == id).cloned().collect();
            found.sort_by_key(|decision| decision.user);
            Ok(found)
        }
        .boxed()
    }

    fn owner_of(&self, decision: DecisionId) -> BoxFuture<'_, Result<Option<UserId>, LedgerError>> {
        async move {
            self.check()?;
            Ok(self.tables.lock().decisions.get(&decision).map(|decision| decision.user))
        }
        .boxed()
    }

    fn unfinished_signals(&self) -> BoxFuture<'_, Result<Vec<UnfinishedSignal>, LedgerError>> {
        async move {
            self.check()?;
            let tables = self.tables.lock();
            let unfinished = tables.signals.values().filter_map(|record| {
                let decided =
                    |user: &UserId| tables.decisions.contains_key(&DecisionId::derive(record.signal.id, *user));
                let undecided: Vec<_> = record.subscribers.iter().copied().filter(|user| !decided(user)).collect();
                (!undecided.is_empty()).then(|| UnfinishedSignal { record: record.clone(), undecided })
            });
            Ok(unfinished.collect())
        }
        .boxed()
    }

    fn users_with_open_business(&self) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>> {
        async move {
            self.check()?;
            let tables = self.tables.lock();
            Ok(tables.accounts.values().filter(|account| account.has_open_business()).map(|a| a.user).collect())
        }
        .boxed()
    }

    fn subscribers(&self, feed: FeedId) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>> {
        async move {
            self.check()?;
            Ok(self.tables.lock().subscribers.get(&feed).cloned().unwrap_or_default())
        }
        .boxed()
    }

    fn trading_state(&self) -> BoxFuture<'_, Result<Option<TradingStateRecord>, LedgerError>> {
        async move {
            self.check()?;
            let tables = self.tables.lock();
            if tables.corrupt_state {
                return Err(LedgerError::Corrupt("not a state".to_owned()));
            }
            Ok(tables.state.clone())
        }
        .boxed()
    }

    fn set_trading_state(&self, record: TradingStateRecord) -> BoxFuture<'_, Result<(), LedgerError>> {
        async move {
            self.write_time().await;
            self.check_room()?;
            let mut tables = self.tables.lock();
            if tables.state.as_ref().is_none_or(|old| old.epoch <= record.epoch) {
                tables.state = Some(record);
            }
            Ok(())
        }
        .boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), LedgerError>> {
        async move { self.check_room() }.boxed()
    }
}
