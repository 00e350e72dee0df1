//! A small world for the tests: one instrument, a clock that moves by hand, doubles behind the ports, and waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::engine::{Engine, Parts, Settings, SignalAnswer, StopRequest, SubmitError};
use nexus_actors::ports::{
    ArmedWindow, Clock, HotState, KeptAnswer, LoginFailures, Presence, Probe, Step, TradingStateRecord,
};
use nexus_engine::account::{Account, Decision, Input, Verdict};
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::{ClientOrderId, FeedId, SignalId, Symbol, Timeframe, Timestamp, UserId};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::limits::Limits;
use nexus_engine::order::OrderStatus;
use nexus_engine::signal::{RawSignal, Side, Signal};
use nexus_engine::units::{Money, Quantity};
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use crate::ledger::MemoryLedger;
use crate::venue::RecordingVenue;

pub const START: Timestamp = Timestamp::from_micros(1_795_521_600_000_000);
pub const FEED: FeedId = FeedId(Uuid::from_u128(0xfeed));

/// A clock that tests move.
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.micros(), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Hot state that keeps what the tree is tested to put there, and gives it back.
#[derive(Default)]
pub struct MemoryHot {
    pub accounts: Mutex<HashMap<UserId, Arc<Account>>>,
    pub answers: Mutex<HashMap<SignalId, KeptAnswer>>,
    pub windows: Mutex<Vec<ArmedWindow>>,
    pub state: Mutex<Option<TradingStateRecord>>,
    pub hints: watch::Sender<u64>,
    marks: Mutex<HashMap<Symbol, Mark>>,
}

fn at_once<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    std::future::ready(value).boxed()
}

impl HotState for MemoryHot {
    fn is_up(&self) -> bool {
        true
    }
    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }
    fn put_trading_state(&self, record: TradingStateRecord) {
        *self.state.lock() = Some(record);
        self.hints.send_modify(|heard| *heard += 1);
    }
    fn trading_state(&self) -> BoxFuture<'_, Option<TradingStateRecord>> {
        at_once(self.state.lock().clone())
    }
    fn put_account(&self, account: Arc<Account>) {
        self.accounts.lock().insert(account.user, account);
    }
    fn account(&self, user: UserId) -> BoxFuture<'_, Option<Arc<Account>>> {
        at_once(self.accounts.lock().get(&user).cloned())
    }
    fn forget_account(&self, user: UserId) {
        self.accounts.lock().remove(&user);
    }
    fn put_mark(&self, mark: Mark) {
        self.marks.lock().insert(mark.symbol.clone(), mark);
    }
    fn mark(&self, symbol: &Symbol) -> BoxFuture<'_, Option<Mark>> {
        at_once(self.marks.lock().get(symbol).cloned())
    }
    fn arm_duplicate_window(&self, window: ArmedWindow) {
        self.windows.lock().push(window);
    }
    fn duplicate_window<'a>(
        &'a self,
        _user: UserId,
        _symbol: &'a Symbol,
        _side: Side,
        _timeframe: Timeframe,
    ) -> BoxFuture<'a, Option<Timestamp>> {
        at_once(None)
    }
    fn put_answer(&self, answer: KeptAnswer) {
        self.answers.lock().insert(answer.signal.id, answer);
    }
    fn answer(&self, signal: SignalId) -> BoxFuture<'_, Option<KeptAnswer>> {
        at_once(self.answers.lock().get(&signal).cloned())
    }
    fn revoke_token(&self, _token_id: CompactString, _until_unix_s: i64) {}
    fn is_revoked<'a>(&'a self, _token_id: &'a str) -> BoxFuture<'a, bool> {
        at_once(false)
    }
    fn login_failed<'a>(&'a self, _name: &'a str, _window: Duration) -> BoxFuture<'a, LoginFailures> {
        at_once(LoginFailures::default())
    }
    fn login_failures<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, LoginFailures> {
        at_once(LoginFailures::default())
    }
    fn forget_login_failures<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, ()> {
        at_once(())
    }
    fn announce(&self, _presence: Presence) {}
    fn instances(&self) -> BoxFuture<'_, Vec<Presence>> {
        at_once(Vec::new())
    }
}

type AtStep = dyn Fn(Step) + Send + Sync;
type Handling = dyn Fn(&'static str) + Send + Sync;
type BeforeInput = dyn Fn(UserId, &Input) + Send + Sync;

/// Runs what a test gives it at the places where a process may die.
#[derive(Default)]
pub struct Hooks {
    at: Mutex<Option<Arc<AtStep>>>,
    handling: Mutex<Option<Arc<Handling>>>,
    stepping: Mutex<Option<Arc<BeforeInput>>>,
}

impl Hooks {
    pub fn at(&self, hook: impl Fn(Step) + Send + Sync + 'static) {
        *self.at.lock() = Some(Arc::new(hook));
    }

    pub fn handling(&self, hook: impl Fn(&'static str) + Send + Sync + 'static) {
        *self.handling.lock() = Some(Arc::new(hook));
    }

    pub fn stepping(&self, hook: impl Fn(UserId, &Input) + Send + Sync + 'static) {
        *self.stepping.lock() = Some(Arc::new(hook));
    }
}

impl Probe for Hooks {
    fn at(&self, step: Step) {
        let hook = self.at.lock().clone();
        if let Some(hook) = hook {
            hook(step);
        }
    }

    fn handling(&self, kind: &'static str) {
        let hook = self.handling.lock().clone();
        if let Some(hook) = hook {
            hook(kind);
        }
    }

    fn stepping(&self, user: UserId, input: &Input) {
        let hook = self.stepping.lock().clone();
        if let Some(hook) = hook {
            hook(user, input);
        }
    }
}

/// Everything around one engine; survives its restarts.
pub struct World {
    pub clock: Arc<HandClock>,
    pub ledger: Arc<MemoryLedger>,
    pub hot: Arc<MemoryHot>,
    pub venue: Arc<RecordingVenue>,
    pub hooks: Arc<Hooks>,
    pub directory: tempfile::TempDir,
    pub settings: Settings,
}

pub fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

pub fn symbol() -> Symbol {
    "EURUSD".parse().unwrap()
}

/// Limits that leave the daily cap as the only one that matters.
pub fn wide() -> Limits {
    let mut limits = Limits {
        max_orders_per_minute: 10_000,
        max_open_positions: 10_000,
        max_repeated_executions: 10_000,
        duplicate_window: Duration::ZERO,
        max_exposure: Money::whole(1_000_000_000),
        slippage_allowance_percent: "0".parse().unwrap(),
        ..Limits::default()
    };
    limits.timeframes.values_mut().for_each(|count| *count = 10_000);
    limits
}

/// Whether an entry of the account has filled.
pub fn is_filled(account: &Account) -> bool {
    account.lots.values().any(|lot| lot.entry.status == OrderStatus::Filled)
}

impl World {
    /// A world with users 1 to `users`, all of them followers of the feed.
    pub fn new(users: u128) -> World {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            data_dir: directory.path().to_owned(),
            ceilings: wide(),
            answer_within: Duration::from_secs(5),
            venue_timeout: Duration::from_millis(300),
            stop_grace: Duration::from_millis(50),
            ..Settings::default()
        };
        let world = World {
            clock: Arc::new(HandClock(AtomicI64::new(START.micros()))),
            ledger: Arc::default(),
            hot: Arc::default(),
            venue: Arc::default(),
            hooks: Arc::default(),
            directory,
            settings,
        };
        *world.ledger.probe.lock() = Some(world.hooks.clone());
        let users: Vec<_> = (1..=users).map(user).collect();
        for user in &users {
            world.ledger.open(Account::open(*user, "USD".into(), Money::whole(500), wide()));
        }
        world.ledger.subscribe(FEED, &users);
        world
    }

    pub fn parts(&self) -> Parts {
        let instrument = Instrument {
            symbol: symbol(),
            tick: "0.00001".parse().unwrap(),
            lot: Quantity::whole(1),
            fee_percent: "0".parse().unwrap(),
            quote: "USD".into(),
            enabled: true,
            venue: "paper".into(),
        };
        Parts {
            clock: self.clock.clone(),
            ledger: self.ledger.clone(),
            hot: self.hot.clone(),
            tenure: None,
            venues: vec![self.venue.clone()],
            instruments: vec![Arc::new(instrument)],
            settings: self.settings.clone(),
            probe: Some(self.hooks.clone()),
        }
    }

    /// Starts an engine and gives it a first mark, as far as it does not know one.
    pub async fn start(&self) -> Engine {
        let engine = Engine::start(self.parts()).await.unwrap();
        self.mark(&engine, "1.08490", "1.08500").await;
        engine
    }

    /// A moment later there is a new mark.
    pub async fn mark(&self, engine: &Engine, bid: &str, ask: &str) {
        let at = Timestamp::from_micros(self.clock.0.fetch_add(1_000, Ordering::SeqCst) + 1_000);
        let mark = Mark { symbol: symbol(), bid: bid.parse().unwrap(), ask: ask.parse().unwrap(), at };
        let answer = engine.push_marks(vec![mark]).await.unwrap();
        assert_eq!(answer.accepted, 1);
    }

    pub fn signal(&self, key: &str) -> Signal {
        self.signal_with(key, |_| {})
    }

    pub fn signal_with(&self, key: &str, change: impl FnOnce(&mut RawSignal)) -> Signal {
        let text = |s: &str| Some(s.to_owned());
        let mut raw = RawSignal {
            symbol: text("EURUSD"),
            side: text("buy"),
            timeframe: text("3H"),
            stop_loss: text("1.08300"),
            take_profit: text("1.08900"),
            ..RawSignal::default()
        };
        change(&mut raw);
        Signal::parse(FEED, key, &raw, self.clock.now()).unwrap()
    }

    /// Waits until the account in the ledger is as expected.
    pub async fn until_account(&self, user: UserId, what: &str, expected: impl Fn(&Account) -> bool) -> Account {
        until(what, || Some(self.ledger.account(user)).filter(&expected)).await
    }
}

pub fn stop() -> StopRequest {
    StopRequest {
        scope: Scope::Everything,
        state: TradingState::Halted,
        by: "ann".to_owned(),
        reason: None,
        cancel_open_orders: true,
        flatten: false,
    }
}

/// Polls until there is an answer; a test that waits ten seconds has failed.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..5_000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("waited in vain until {what}");
}

pub fn accepted(decision: &Decision) -> Option<ClientOrderId> {
    match &decision.verdict {
        Verdict::Accepted(acceptance) => Some(acceptance.order),
        Verdict::Rejected(_) => None,
    }
}

/// The entry order of the only decision in an answer.
pub fn entry_of(answer: &Result<SignalAnswer, SubmitError>) -> ClientOrderId {
    let answer = answer.as_ref().unwrap();
    assert_eq!(answer.decisions.len(), 1, "{answer:?}");
    accepted(&answer.decisions[0]).unwrap_or_else(|| panic!("refused: {:?}", answer.decisions[0]))
}

/// The reason codes of a decision.
pub fn reasons(decision: &Decision) -> Vec<&'static str> {
    match &decision.verdict {
        Verdict::Accepted(_) => Vec::new(),
        Verdict::Rejected(reasons) => reasons.iter().map(|reason| reason.code()).collect(),
    }
}
