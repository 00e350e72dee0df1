//! The in-process hot state: for a process that has no other to share it with.
//!
//! What it keeps is bounded (`kept.rs` tells how), and gone with the process; the ledger knows what is true. Hints reach
//! whoever listens in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::ports::{ArmedWindow, HotState, KeptAnswer, LoginFailures, Presence, TradingStateRecord};
use nexus_engine::account::Account;
use nexus_engine::gate::Scope;
use nexus_engine::ids::{SignalId, Symbol, Timeframe, Timestamp, UserId};
use nexus_engine::instrument::Mark;
use nexus_engine::signal::Side;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::kept::{Failures, Generations, Revoked, name_key};
use super::keys::{ANSWER_DECISIONS_MAX, ANSWER_KEPT_FOR};

/// Snapshots kept unless told otherwise: at some 4 KiB each, about 400 MB.
const ACCOUNTS_MAX: usize = 100_000;
/// Symbols whose mark is kept.
const MARKS_MAX: usize = 65_536;
/// Duplicate windows.
const WINDOWS_MAX: usize = 65_536;
/// Answers, at 1 KiB for a single decision.
const ANSWERS_MAX: usize = 8_192;

type WindowKey = (UserId, Symbol, Side, Timeframe);

/// The hot state of a single process.
pub struct MemoryHotState {
    hints: watch::Sender<u64>,
    trading_state: Mutex<Option<TradingStateRecord>>,
    accounts: Mutex<Generations<UserId, Arc<Account>>>,
    marks: Mutex<Generations<Symbol, Mark>>,
    windows: Mutex<Generations<WindowKey, (Timestamp, Instant)>>,
    answers: Mutex<Generations<SignalId, (KeptAnswer, Instant)>>,
    revoked: Mutex<Revoked>,
    failures: Mutex<Failures>,
    instances: Mutex<BTreeMap<CompactString, Presence>>,
}

impl Default for MemoryHotState {
    fn default() -> Self {
        Self::with_accounts_max(ACCOUNTS_MAX)
    }
}

impl MemoryHotState {
    /// Keeps at most so many snapshots.
    pub fn with_accounts_max(accounts_max: usize) -> Self {
        Self {
            hints: watch::Sender::new(0),
            trading_state: Mutex::default(),
            accounts: Mutex::new(Generations::new(accounts_max)),
            marks: Mutex::new(Generations::new(MARKS_MAX)),
            windows: Mutex::new(Generations::new(WINDOWS_MAX)),
            answers: Mutex::new(Generations::new(ANSWERS_MAX)),
            revoked: Mutex::default(),
            failures: Mutex::default(),
            instances: Mutex::default(),
        }
    }
}

/// An answer that is at hand at once.
fn at_once<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    std::future::ready(value).boxed()
}

impl HotState for MemoryHotState {
    fn is_up(&self) -> bool {
        true
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }

    fn put_trading_state(&self, record: TradingStateRecord) {
        let mut held = self.trading_state.lock();
        if record.scope == Scope::Everything && held.as_ref().is_none_or(|held| held.epoch <= record.epoch) {
            *held = Some(record);
        }
        drop(held);
        self.hints.send_modify(|heard| *heard += 1);
    }

    fn trading_state(&self) -> BoxFuture<'_, Option<TradingStateRecord>> {
        at_once(self.trading_state.lock().clone())
    }

    fn put_account(&self, account: Arc<Account>) {
        self.accounts.lock().put(account.user, account, |new, held| new.version >= held.version);
    }

    fn account(&self, user: UserId) -> BoxFuture<'_, Option<Arc<Account>>> {
        at_once(self.accounts.lock().get(&user))
    }

    fn forget_account(&self, user: UserId) {
        self.accounts.lock().forget(&user);
    }

    fn put_mark(&self, mark: Mark) {
        self.marks.lock().put(mark.symbol.clone(), mark, |new, held| new.at >= held.at);
    }

    fn mark(&self, symbol: &Symbol) -> BoxFuture<'_, Option<Mark>> {
        at_once(self.marks.lock().get(symbol))
    }

    fn arm_duplicate_window(&self, window: ArmedWindow) {
        let key = (window.user, window.symbol, window.side, window.timeframe);
        let armed = (window.accepted_at, Instant::now() + window.lasts);
        self.windows.lock().put(key, armed, |(new, _), (held, until)| new >= held || *until <= Instant::now());
    }

    fn duplicate_window<'a>(
        &'a self,
        user: UserId,
        symbol: &'a Symbol,
        side: Side,
        timeframe: Timeframe,
    ) -> BoxFuture<'a, Option<Timestamp>> {
        let found = self.windows.lock().get(&(user, symbol.clone(), side, timeframe));
        at_once(found.filter(|(_, until)| *until > Instant::now()).map(|(at, _)| at))
    }

    fn put_answer(&self, answer: KeptAnswer) {
        if answer.decisions.len() <= ANSWER_DECISIONS_MAX {
            let kept = (answer, Instant::now() + ANSWER_KEPT_FOR);
            self.answers.lock().put(kept.0.signal.id, kept, |_, _| true);
        }
    }

    fn answer(&self, signal: SignalId) -> BoxFuture<'_, Option<KeptAnswer>> {
        let found = self.answers.lock().get(&signal);
        at_once(found.filter(|(_, until)| *until > Instant::now()).map(|(answer, _)| answer))
    }

    fn revoke_token(&self, token_id: CompactString, until_unix_s: i64) {
        self.revoked.lock().put(token_id, until_unix_s);
    }

    fn is_revoked<'a>(&'a self, token_id: &'a str) -> BoxFuture<'a, bool> {
        at_once(self.revoked.lock().contains(token_id))
    }

    fn login_failed<'a>(&'a self, name: &'a str, window: Duration) -> BoxFuture<'a, LoginFailures> {
        at_once(self.failures.lock().add(&name_key(name), 0, window))
    }

    fn login_failures<'a>(&'a self, name: &'a str) -> BoxFuture<'a, LoginFailures> {
        at_once(self.failures.lock().get(&name_key(name)))
    }

    fn forget_login_failures<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        self.failures.lock().forget(&name_key(name));
        at_once(())
    }

    fn announce(&self, presence: Presence) {
        self.instances.lock().insert(presence.name.clone(), presence);
    }

    fn instances(&self) -> BoxFuture<'_, Vec<Presence>> {
        at_once(self.instances.lock().values().cloned().collect())
    }
}
