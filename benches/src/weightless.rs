//! Ports that weigh nothing, so that what is left to measure is the actors.
//!
//! The ledger commits at once and keeps only the newest account; the venue rejects every order, which gives its reservation
//! and count back, so that every account stays as it is and every signal can be accepted; the clock runs an hour a second, so that
//! what an account remembers of its last hour stays as small as in life. Signals are forgotten: each is sent once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use compact_str::CompactString;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use nexus_actors::ports::{
    ArmedWindow, CancelReply, Clock, CommitVerdict, HotState, KeptAnswer, Ledger, LedgerError, LoginFailures, Presence,
    SendPermit, SignalRecord, SubmitReply, TradingStateRecord, TurnRecord, UnfinishedSignal, Venue, VenueError,
    VenueOrder,
};
use nexus_engine::account::Account;
use nexus_engine::ids::{ClientOrderId, DecisionId, FeedId, SignalId, Symbol, Timeframe, Timestamp, UserId};
use nexus_engine::instrument::Mark;
use nexus_engine::order::{OrderRequest, Report};
use nexus_engine::signal::Side;
use nexus_engine::turn::{Decision, Event};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::world::START;

/// An hour a second.
pub struct FastClock(Instant);

impl FastClock {
    /// Begins at the world's start.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        START.after(self.0.elapsed() * 3_600)
    }
}

fn at_once<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, Result<T, LedgerError>> {
    ready(Ok(value)).boxed()
}

/// Commits at once. The n-th feed has one subscriber: the user of the same number.
pub struct MemoryLedger {
    accounts: Mutex<HashMap<UserId, Arc<Account>>>,
    trading_state: Mutex<Option<TradingStateRecord>>,
    ended: AtomicU64,
}

impl MemoryLedger {
    /// Holds these accounts.
    pub fn holding(accounts: impl IntoIterator<Item = Account>) -> Self {
        let accounts = accounts.into_iter().map(|account| (account.user, Arc::new(account))).collect();
        Self { accounts: Mutex::new(accounts), trading_state: Mutex::new(None), ended: AtomicU64::new(0) }
    }

    /// How many orders have ended, by what was committed.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Ledger for MemoryLedger {
    fn commit(&self, batch: Vec<TurnRecord>) -> BoxFuture<'_, Result<Vec<CommitVerdict>, LedgerError>> {
        let mut accounts = self.accounts.lock();
        let verdicts = batch.into_iter().map(|record| {
            let ended = record.turn.events.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
            self.ended.fetch_add(u64::try_from(ended).unwrap_or(u64::MAX), Ordering::Relaxed);
            accounts.insert(record.user, record.after);
            CommitVerdict::Committed
        });
        at_once(verdicts.collect())
    }

    fn load_account(
        &self,
        user: UserId,
        _at_hand: Option<Arc<Account>>,
    ) -> BoxFuture<'_, Result<Option<Account>, LedgerError>> {
        at_once(self.accounts.lock().get(&user).map(|account| Account::clone(account)))
    }

    fn record_signal(&self, _record: Arc<SignalRecord>) -> BoxFuture<'_, Result<(), LedgerError>> {
        at_once(())
    }

    fn find_signal(&self, _id: SignalId) -> BoxFuture<'_, Result<Option<SignalRecord>, LedgerError>> {
        at_once(None)
    }

    fn decisions_on(&self, _id: SignalId) -> BoxFuture<'_, Result<Vec<Decision>, LedgerError>> {
        at_once(Vec::new())
    }

    fn owner_of(&self, _decision: DecisionId) -> BoxFuture<'_, Result<Option<UserId>, LedgerError>> {
        at_once(None)
    }

    fn unfinished_signals(&self) -> BoxFuture<'_, Result<Vec<UnfinishedSignal>, LedgerError>> {
        at_once(Vec::new())
    }

    fn users_with_open_business(&self) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>> {
        at_once(Vec::new())
    }

    fn subscribers(&self, feed: FeedId) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>> {
        at_once(vec![UserId(feed.0)])
    }

    fn trading_states(&self) -> BoxFuture<'_, Result<Vec<TradingStateRecord>, LedgerError>> {
        at_once(self.trading_state.lock().clone().into_iter().collect())
    }

    fn set_trading_state(&self, record: TradingStateRecord) -> BoxFuture<'_, Result<TradingStateRecord, LedgerError>> {
        *self.trading_state.lock() = Some(record.clone());
        at_once(record)
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), LedgerError>> {
        at_once(())
    }
}

/// Keeps nothing: the actors hold what they need.
#[derive(Default)]
pub struct NoHotState {
    hints: watch::Sender<u64>,
}

impl HotState for NoHotState {
    fn is_up(&self) -> bool {
        true
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }

    fn put_trading_state(&self, _record: TradingStateRecord) {}

    fn trading_state(&self) -> BoxFuture<'_, Option<TradingStateRecord>> {
        ready(None).boxed()
    }

    fn put_account(&self, _account: Arc<Account>) {}

    fn account(&self, _user: UserId) -> BoxFuture<'_, Option<Arc<Account>>> {
        ready(None).boxed()
    }

    fn forget_account(&self, _user: UserId) {}

    fn put_mark(&self, _mark: Mark) {}

    fn mark(&self, _symbol: &Symbol) -> BoxFuture<'_, Option<Mark>> {
        ready(None).boxed()
    }

    fn arm_duplicate_window(&self, _window: ArmedWindow) {}

    fn duplicate_window<'a>(
        &'a self,
        _user: UserId,
        _symbol: &'a Symbol,
        _side: Side,
        _timeframe: Timeframe,
    ) -> BoxFuture<'a, Option<Timestamp>> {
        ready(None).boxed()
    }

    fn put_answer(&self, _answer: KeptAnswer) {}

    fn answer(&self, _signal: SignalId) -> BoxFuture<'_, Option<KeptAnswer>> {
        ready(None).boxed()
    }

    fn revoke_token(&self, _token_id: CompactString, _until_unix_s: i64) {}

    fn is_revoked<'a>(&'a self, _token_id: &'a str) -> BoxFuture<'a, bool> {
        ready(false).boxed()
    }

    fn login_failed<'a>(&'a self, _name: &'a str, _window: Duration) -> BoxFuture<'a, LoginFailures> {
        ready(LoginFailures::default()).boxed()
    }

    fn login_failures<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, LoginFailures> {
        ready(LoginFailures::default()).boxed()
    }

    fn forget_login_failures<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, ()> {
        ready(()).boxed()
    }

    fn announce(&self, _presence: Presence) {}

    fn instances(&self) -> BoxFuture<'_, Vec<Presence>> {
        ready(Vec::new()).boxed()
    }
}

/// Rejects every order.
pub struct RejectingVenue;

impl Venue for RejectingVenue {
    fn name(&self) -> &str {
        "paper"
    }

    fn connect(&self, _reports: UnboundedSender<Report>) {}

    fn submit<'a>(
        &'a self,
        _order: &'a OrderRequest,
        permit: &'a dyn SendPermit,
    ) -> BoxFuture<'a, Result<SubmitReply, VenueError>> {
        let entered = permit.enter().map(drop);
        ready(entered.map(|()| SubmitReply::Rejected("closed".into()))).boxed()
    }

    fn cancel<'a>(&'a self, _: ClientOrderId, _: &'a Symbol) -> BoxFuture<'a, Result<CancelReply, VenueError>> {
        ready(Ok(CancelReply::NothingToCancel)).boxed()
    }

    fn query<'a>(&'a self, _: ClientOrderId, _: &'a Symbol) -> BoxFuture<'a, Result<Option<VenueOrder>, VenueError>> {
        ready(Ok(None)).boxed()
    }

    fn working_orders(&self) -> BoxFuture<'_, Result<Vec<ClientOrderId>, VenueError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn client_ids_are_unique_for_ever(&self) -> bool {
        true
    }
}
