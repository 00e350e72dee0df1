//! A ledger in memory that checks versions and reservations as a real one does, and fails when told to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::ports::{
    Acquired, CommitVerdict, Holder, Lease, Ledger, LedgerError, Probe, SignalRecord, Step, TradingStateRecord,
    TurnRecord, UnfinishedSignal,
};
use nexus_engine::account::{Account, Decision, Event, Input, Verdict};
use nexus_engine::gate::Scope;
use nexus_engine::ids::{DecisionId, FeedId, SignalId, UserId};
use nexus_engine::order::OrderStatus;
use parking_lot::Mutex;
use tokio::time::Instant;

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
    states: BTreeMap<Scope, TradingStateRecord>,
    /// When several processes can reach it.
    lease: Option<HeldLease>,
    away: bool,
    full: bool,
    corrupt_state: bool,
    /// Somebody else has taken the lease.
    stolen: bool,
    /// The trading state cannot be read.
    state_away: bool,
    /// The lease cannot be renewed.
    renewals_away: bool,
    slow: Duration,
    faults: VecDeque<Fault>,
    at_hand: Vec<Arc<Account>>,
}

/// Who owns the accounts.
#[derive(Default)]
struct HeldLease {
    fence: u64,
    owner: Option<String>,
    renewed_at: Option<Instant>,
    expires_at: Option<Instant>,
}

impl HeldLease {
    fn is_free_for(&self, owner: &str) -> bool {
        self.expires_at.is_none_or(|at| at <= Instant::now()) || self.owner.as_deref() == Some(owner)
    }

    fn holder(&self) -> Option<Holder> {
        let renewed_ago = self.renewed_at.map_or(Duration::ZERO, |at| at.elapsed());
        self.owner.clone().map(|owner| Holder { owner, renewed_ago })
    }
}

impl Lease for MemoryLedger {
    fn acquire<'a>(&'a self, owner: &'a str, term: Duration) -> BoxFuture<'a, Result<Acquired, LedgerError>> {
        async move {
            self.check()?;
            let mut tables = self.tables.lock();
            let lease = tables.lease.as_mut().unwrap();
            let former = lease.holder();
            if !lease.is_free_for(owner) {
                return Ok(Acquired::Held(former.unwrap()));
            }
            let now = Instant::now();
            let fence = lease.fence + 1;
            let owner = Some(owner.to_owned());
            *lease = HeldLease { fence, owner, renewed_at: Some(now), expires_at: Some(now + term) };
            Ok(Acquired::Owner { fence, former: former.filter(|former| Some(&former.owner) != lease.owner.as_ref()) })
        }
        .boxed()
    }

    fn renew(&self, term: Duration) -> BoxFuture<'_, Result<bool, LedgerError>> {
        async move {
            self.check()?;
            let mut tables = self.tables.lock();
            if tables.renewals_away {
                return Err(LedgerError::Unavailable("told so".to_owned()));
            }
            let stolen = tables.stolen;
            let lease = tables.lease.as_mut().unwrap();
            if !stolen {
                (lease.renewed_at, lease.expires_at) = (Some(Instant::now()), Some(Instant::now() + term));
            }
            Ok(!stolen)
        }
        .boxed()
    }

    fn was_away_at(&self) -> Option<std::time::Instant> {
        None
    }

    fn release(&self) -> BoxFuture<'_, Result<(), LedgerError>> {
        async move {
            self.check()?;
            let mut tables = self.tables.lock();
            let lease = tables.lease.as_mut().unwrap();
            (lease.owner, lease.expires_at) = (None, None);
            Ok(())
        }
        .boxed()
    }
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

    /// Several processes can reach it from now on.
    pub fn share(&self) {
        self.tables.lock().lease = Some(HeldLease::default());
    }

    /// The owner is somebody else from now on.
    pub fn steal(&self) {
        self.tables.lock().stolen = true;
    }

    /// Whether the trading state can be read.
    pub fn set_state_away(&self, away: bool) {
        self.tables.lock().state_away = away;
    }

    /// Whether the lease can be renewed.
    pub fn set_renewals_away(&self, away: bool) {
        self.tables.lock().renewals_away = away;
    }

    /// The owner renews a lease of this term.
    pub fn hear_of_the_owner(&self, term: Duration) {
        let mut tables = self.tables.lock();
        let lease = tables.lease.as_mut().unwrap();
        (lease.renewed_at, lease.expires_at) = (Some(Instant::now()), Some(Instant::now() + term));
    }

    /// The owner's name.
    pub fn owner(&self) -> Option<String> {
        self.tables.lock().lease.as_ref().and_then(|lease| lease.owner.clone())
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
        format!("{accounts:#?}\n{:#?}\n{:#?}\n{:?}", tables.decisions, tables.signals, tables.states)
    }

    /// Orders of which it is not known whether the venue has them, or that have not left yet.
    pub fn doubts(&self) -> usize {
        let tables = self.tables.lock();
        let lots = tables.accounts.values().flat_map(|account| account.lots.values());
        let orders = lots.flat_map(|lot| std::iter::once(&lot.entry).chain(&lot.exits));
        orders.filter(|order| order.unknown || order.status == OrderStatus::Planned).count()
    }

    pub fn state(&self) -> Option<TradingStateRecord> {
        self.state_of(&Scope::Everything)
    }

    pub fn state_of(&self, scope: &Scope) -> Option<TradingStateRecord> {
        self.tables.lock().states.get(scope).cloned()
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

    fn trading_states(&self) -> BoxFuture<'_, Result<Vec<TradingStateRecord>, LedgerError>> {
        async move {
            self.check()?;
            let tables = self.tables.lock();
            if tables.state_away {
                return Err(LedgerError::Unavailable("told so".to_owned()));
            }
            if tables.corrupt_state {
                return Err(LedgerError::Corrupt("not a state".to_owned()));
            }
            Ok(tables.states.values().cloned().collect())
        }
        .boxed()
    }

    fn set_trading_state(&self, record: TradingStateRecord) -> BoxFuture<'_, Result<TradingStateRecord, LedgerError>> {
        async move {
            self.write_time().await;
            self.check_room()?;
            let mut tables = self.tables.lock();
            let held = tables.states.remove(&record.scope);
            let held = held.filter(|old| (old.epoch, old.state) > (record.epoch, record.state)).unwrap_or(record);
            tables.states.insert(held.scope.clone(), held.clone());
            Ok(held)
        }
        .boxed()
    }

    fn lease(&self) -> Option<&dyn Lease> {
        self.tables.lock().lease.is_some().then_some(self)
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), LedgerError>> {
        async move { self.check_room() }.boxed()
    }
}
