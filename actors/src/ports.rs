//! The ports: what the actors need of the outside, as traits. They know no SQL, no Redis, no HTTP behind them.
//!
//! Every port has one contract test suite, and every implementation passes it. Futures are boxed so that one actor tree
//! runs on any of them without generics; a port call crosses I/O anyway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use futures::future::BoxFuture;
use nexus_engine::account::{Account, Context, Decision, Input, Turn};
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::{ClientOrderId, DecisionId, FeedId, SignalId, Symbol, Timeframe, Timestamp, UserId};
use nexus_engine::instrument::Mark;
use nexus_engine::order::{OrderRequest, Report};
use nexus_engine::signal::{Side, Signal};
use nexus_engine::units::Money;
use thiserror::Error;
use tokio::sync::watch;

/// What time it is for trading: the wall, or the newest mark of a simulated run.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// The simulation whose time this is; none on the wall. With one, each mark and each signal is carried to its end
    /// before the next is taken.
    fn simulation(&self) -> Option<&dyn Simulation> {
        None
    }
}

/// Trading time that marks carry forward, never backwards, and that outlives the process.
pub trait Simulation: Send + Sync {
    /// A mark of the time `at` has come, and the board says this of its symbol: trading time is at least `at` from now on,
    /// also after a kill. Returns whether any of it was news. On an error nothing has changed.
    fn advance(&self, at: Timestamp, board: &Quote) -> std::io::Result<bool>;

    /// What the boards of earlier runs said last, by symbol.
    fn board(&self) -> Vec<Quote>;
}

/// What is known of one symbol's market.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quote {
    /// Whose.
    pub symbol: Symbol,
    /// The newest mark that is believed.
    pub mark: Option<Mark>,
    /// A newer one beyond the collar, not yet confirmed.
    pub jump: Option<Mark>,
}

/// A signal as it is recorded: with the set of users that it was for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignalRecord {
    /// The parsed signal.
    pub signal: Arc<Signal>,
    /// When it arrived.
    pub received_at: Timestamp,
    /// The users to be decided, fixed when it first arrived. Sorted.
    pub subscribers: Arc<[UserId]>,
    /// The market of its symbol when it arrived: a fan-out that a crash has cut short is finished by it, so that all users
    /// are decided by the same market.
    pub mark: Option<Mark>,
}

/// One turn on its way into the ledger.
#[derive(Clone, Debug)]
pub struct TurnRecord {
    /// Whose account.
    pub user: UserId,
    /// The version that the turn was stepped from. It commits only at that version, as `base_version + 1`.
    pub base_version: u64,
    /// The time of the turn.
    pub now: Timestamp,
    /// What it answered to.
    pub input: Input,
    /// The world when it began.
    pub context: Context,
    /// What it produced.
    pub turn: Turn,
    /// The account after it.
    pub after: Arc<Account>,
    /// The signal behind a decision; recorded in the same transaction unless it already is.
    pub signal: Option<Arc<SignalRecord>>,
}

/// What the ledger says to one turn of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommitVerdict {
    /// Durable.
    Committed,
    /// The ledger did not admit the reservation; nothing of the turn was written.
    Vetoed {
        /// What the ledger counts as used of the day's cap.
        used: Money,
        /// The cap.
        cap: Money,
    },
    /// The decision exists already; nothing of the turn was written.
    AlreadyDecided,
    /// The account in the ledger is not at `base_version`; nothing of the turn was written.
    Stale {
        /// The version that it is at.
        version: u64,
    },
}

/// Why the ledger did not answer with verdicts.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum LedgerError {
    /// Nothing was written; the ledger cannot be reached, is full, or is read-only.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    /// It may or may not have been written: read back before anything is answered or sent.
    #[error("the outcome of a commit is not known: {0}")]
    InDoubt(String),
    /// What was read does not make sense.
    #[error("the ledger holds something unreadable: {0}")]
    Corrupt(String),
}

/// The trading state of a scope, as it is in force and as the ledger holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TradingStateRecord {
    /// Of what.
    pub scope: Scope,
    /// The state.
    pub state: TradingState,
    /// Rises with every change, whichever scope it is of.
    pub epoch: u64,
    /// Since when.
    pub since: Timestamp,
    /// By whom.
    pub by: String,
    /// Why, when somebody said.
    pub reason: Option<String>,
}

/// A fan-out that was not finished: a recorded signal and the users that have no decision on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnfinishedSignal {
    /// The record.
    pub record: SignalRecord,
    /// Users without a decision.
    pub undecided: Vec<UserId>,
}

/// The durable record.
pub trait Ledger: Send + Sync + 'static {
    /// Writes a batch of turns as one transaction: all that are `Committed` become durable together, before this returns.
    /// Turns of one account stand in the order of their versions. A turn that is not committed does not fail its neighbours.
    fn commit(&self, batch: Vec<TurnRecord>) -> BoxFuture<'_, Result<Vec<CommitVerdict>, LedgerError>>;

    /// How many batches it writes at once, rather than one after the other; no two of them have turns of one account.
    fn commits_at_once(&self) -> usize {
        1
    }

    /// The account of a user as the ledger holds it: its snapshot, corrected by the counters that the ledger admits by. A
    /// snapshot that is at hand may spare the way of the stored one, if the ledger proves it to be the same: of the same turn,
    /// and with the same money in it.
    fn load_account(
        &self,
        user: UserId,
        at_hand: Option<Arc<Account>>,
    ) -> BoxFuture<'_, Result<Option<Account>, LedgerError>>;

    /// Records a signal before its first decision (a fan-out too large for one batch, or one without subscribers).
    /// A signal that is recorded already stays as it is.
    fn record_signal(&self, record: Arc<SignalRecord>) -> BoxFuture<'_, Result<(), LedgerError>>;

    /// The recorded signal of this id.
    fn find_signal(&self, id: SignalId) -> BoxFuture<'_, Result<Option<SignalRecord>, LedgerError>>;

    /// All decisions on a signal, sorted by user.
    fn decisions_on(&self, id: SignalId) -> BoxFuture<'_, Result<Vec<Decision>, LedgerError>>;

    /// Whose a decision is; for reports that come so late that no account in memory expects them.
    fn owner_of(&self, decision: DecisionId) -> BoxFuture<'_, Result<Option<UserId>, LedgerError>>;

    /// Signals whose subscribers are not all decided.
    fn unfinished_signals(&self) -> BoxFuture<'_, Result<Vec<UnfinishedSignal>, LedgerError>>;

    /// Users with an open position or an order that has not ended.
    fn users_with_open_business(&self) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>>;

    /// Users who follow a feed, sorted.
    fn subscribers(&self, feed: FeedId) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>>;

    /// The trading state of every scope that was ever set.
    fn trading_states(&self) -> BoxFuture<'_, Result<Vec<TradingStateRecord>, LedgerError>>;

    /// Makes the trading state of a scope durable, and says which one the ledger holds of that scope afterwards: this one,
    /// unless one of a higher epoch, or of the same epoch and tighter, was there before.
    fn set_trading_state(&self, record: TradingStateRecord) -> BoxFuture<'_, Result<TradingStateRecord, LedgerError>>;

    /// Whether the ledger answers and takes writes. For health checks.
    fn ping(&self) -> BoxFuture<'_, Result<(), LedgerError>>;

    /// How the accounts are owned, when several processes can reach this ledger; none when only this one can.
    fn lease(&self) -> Option<&dyn Lease> {
        None
    }
}

/// Who owns the accounts of a ledger that several processes can reach: one at a time, for a term that is timed by the
/// ledger's clock alone. Every owner gets a higher fence, and the ledger commits under the newest fence only, so that a
/// former owner who was paused and wakes up commits nothing.
pub trait Lease: Send + Sync {
    /// Tries to own the accounts for `term`. `owner` is this process and no other: whoever comes with the name of the present
    /// owner gets the lease anew, as after a kill, or an attempt whose answer was lost.
    fn acquire<'a>(&'a self, owner: &'a str, term: Duration) -> BoxFuture<'a, Result<Acquired, LedgerError>>;

    /// Keeps the accounts for another `term`. False when they are somebody else's.
    fn renew(&self, term: Duration) -> BoxFuture<'_, Result<bool, LedgerError>>;

    /// When the ledger was last seen not to answer while it was opened, by the steady clock of this process.
    fn was_away_at(&self) -> Option<Instant>;

    /// Gives the accounts back, so that nobody need wait for the term to run out. Nothing is committed afterwards.
    fn release(&self) -> BoxFuture<'_, Result<(), LedgerError>>;
}

/// What became of an attempt to own the accounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// They are ours.
    Owner {
        /// Rises with every owner.
        fence: u64,
        /// Somebody else who owned them before, unless they were given back.
        former: Option<Holder>,
    },
    /// They are somebody else's.
    Held(Holder),
}

/// Somebody who owns the accounts, or did, by the ledger's clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its name.
    pub owner: String,
    /// How long ago it was heard of.
    pub renewed_ago: Duration,
}

/// A duplicate window that an acceptance has armed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArmedWindow {
    /// Whose.
    pub user: UserId,
    /// What was accepted.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// From which bars.
    pub timeframe: Timeframe,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// How long the window is.
    pub lasts: Duration,
}

/// The complete answer to a signal: every decision on it is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptAnswer {
    /// The parsed signal: an answer is only an answer to what says the same.
    pub signal: Arc<Signal>,
    /// The decisions.
    pub decisions: Vec<Arc<Decision>>,
}

/// Failed logins of one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoginFailures {
    /// How many since the last good one.
    pub count: u32,
    /// When they are forgotten, unless another one comes.
    pub forgotten_in: Duration,
}

/// What an instance is to the accounts of a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InstanceRole {
    /// It decides.
    Owner,
    /// It waits.
    Standby,
}

/// An instance that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presence {
    /// Its name.
    pub name: CompactString,
    /// What it is.
    pub role: InstanceRole,
    /// The fence under which it owns; zero when it does not.
    pub fence: u64,
    /// Since when it is that.
    pub since: Timestamp,
}

/// The fast projection: never the only memory (promise P8).
///
/// It may be away, empty, or as of yesterday at any time. So nothing that is read from it admits anything, decides anything
/// or makes a revoked token good: the ledger proves a snapshot, refuses a repeat and holds the cap, and what restricts
/// (revoked tokens, failed logins) is in the memory of the process as well. No `put` waits for anything.
pub trait HotState: Send + Sync + 'static {
    /// Whether it answers and takes writes. For health checks.
    fn is_up(&self) -> bool;

    /// Changes whenever somebody may have changed the trading state: look at the ledger now. A hint can be lost.
    fn hints(&self) -> watch::Receiver<u64>;

    /// Keeps the trading state of everything that the ledger holds, and gives the hint; an older epoch never replaces a newer
    /// one. Of a narrower scope there is only the hint.
    fn put_trading_state(&self, record: TradingStateRecord);

    /// The newest trading state of everything that is at hand.
    fn trading_state(&self) -> BoxFuture<'_, Option<TradingStateRecord>>;

    /// Keeps the newest committed snapshot of an account; an older version never replaces a newer one.
    fn put_account(&self, account: Arc<Account>);

    /// The newest snapshot that is at hand. Only the ledger can say whether it is true.
    fn account(&self, user: UserId) -> BoxFuture<'_, Option<Arc<Account>>>;

    /// Forgets a user's snapshot: it was proven wrong.
    fn forget_account(&self, user: UserId);

    /// Keeps the newest mark of a symbol; an older one never replaces a newer one.
    fn put_mark(&self, mark: Mark);

    /// The newest mark of a symbol.
    fn mark(&self, symbol: &Symbol) -> BoxFuture<'_, Option<Mark>>;

    /// Keeps a duplicate window for as long as it lasts; an older acceptance never replaces a newer one.
    fn arm_duplicate_window(&self, window: ArmedWindow);

    /// When an acceptance last armed the window of this user, symbol, side and timeframe, if it still lasts.
    fn duplicate_window<'a>(
        &'a self,
        user: UserId,
        symbol: &'a Symbol,
        side: Side,
        timeframe: Timeframe,
    ) -> BoxFuture<'a, Option<Timestamp>>;

    /// Keeps the complete answer to a signal for some minutes. One that is too large is left to the ledger.
    fn put_answer(&self, answer: KeptAnswer);

    /// The complete answer to a signal, if it was given lately.
    fn answer(&self, signal: SignalId) -> BoxFuture<'_, Option<KeptAnswer>>;

    /// Remembers that a token is revoked until it would have expired anyway (seconds since the epoch).
    fn revoke_token(&self, token_id: CompactString, until_unix_s: i64);

    /// Whether a token is known to be revoked.
    fn is_revoked<'a>(&'a self, token_id: &'a str) -> BoxFuture<'a, bool>;

    /// Counts a failed login of a name, whether or not anybody is called that; returns the count with it. The count is
    /// forgotten when none has come for `window`.
    fn login_failed<'a>(&'a self, name: &'a str, window: Duration) -> BoxFuture<'a, LoginFailures>;

    /// The failed logins of a name.
    fn login_failures<'a>(&'a self, name: &'a str) -> BoxFuture<'a, LoginFailures>;

    /// Forgets the failed logins of a name: its owner is in.
    fn forget_login_failures<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()>;

    /// Says that this instance runs, from now on until it does not any more; a later word replaces an earlier one.
    fn announce(&self, presence: Presence);

    /// The instances that were heard of in the last seconds, by name.
    fn instances(&self) -> BoxFuture<'_, Vec<Presence>>;
}

/// Why a venue call did not succeed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum VenueError {
    /// Proven: nothing reached the venue. It may be tried again.
    #[error("nothing was sent: {0}")]
    NotSent(String),
    /// The gate closed before a byte was written. It must not be tried again until a person re-arms.
    #[error("the gate is closed")]
    GateClosed,
    /// It is not known what reached the venue. Ask by id.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The venue asks us to slow down; nothing was taken.
    #[error("the venue asks to wait {0:?}")]
    SlowDown(Duration),
}

/// What a venue answers to an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubmitReply {
    /// It has the order. Fills follow as reports.
    Acknowledged,
    /// It has the order, and an execution of it is already on the channel of reports, which says both at once.
    Traded,
    /// It did not take it.
    Rejected(CompactString),
    /// It had an order of this id already: ask for it.
    DuplicateId,
}

/// What a venue answers to a cancel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CancelReply {
    /// It will be reported as cancelled.
    Accepted,
    /// The order had ended before, or the venue never had it: ask for it.
    NothingToCancel,
}

/// An order as its venue sees it: everything that it ever reported about it, to be reported again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VenueOrder {
    /// Which order.
    pub id: ClientOrderId,
    /// Acknowledgement, fills and end, oldest first, with the same execution ids and times as when first reported. The
    /// acknowledgement is here also when it was the answer to the order, or in its first execution.
    pub reports: Vec<Report>,
}

/// Permission to write an order to a venue. A venue enters it right before the first byte and leaves it (drops the guard)
/// when the bytes are in the kernel.
pub trait SendPermit: Send + Sync {
    /// Looks at the gate for the last time. For an exit this always succeeds.
    fn enter(&self) -> Result<Box<dyn Send + '_>, VenueError>;
}

/// Where orders trade. Reports arrive on the channel that was handed over with `connect`.
pub trait Venue: Send + Sync + 'static {
    /// Its name, as instruments and tables spell it.
    fn name(&self) -> &str;

    /// Where its reports go from now on. Called once, before anything else. May repeat what was reported earlier.
    fn connect(&self, reports: tokio::sync::mpsc::UnboundedSender<Report>);

    /// Sends an order.
    fn submit<'a>(
        &'a self,
        order: &'a OrderRequest,
        permit: &'a dyn SendPermit,
    ) -> BoxFuture<'a, Result<SubmitReply, VenueError>>;

    /// Asks for a cancel.
    fn cancel<'a>(&'a self, order: ClientOrderId, symbol: &'a Symbol)
    -> BoxFuture<'a, Result<CancelReply, VenueError>>;

    /// Asks about an order by its id; `None` proves that the venue does not have it.
    fn query<'a>(
        &'a self,
        order: ClientOrderId,
        symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<Option<VenueOrder>, VenueError>>;

    /// Every order that can still trade at the venue.
    fn working_orders(&self) -> BoxFuture<'_, Result<Vec<ClientOrderId>, VenueError>>;

    /// Whether this venue never takes a second order under a client order id, even when the first has long ended. Only to such
    /// a venue do exits go while it is not certain that this process still owns the accounts: elsewhere the next owner's
    /// exit and ours could both trade.
    fn client_ids_are_unique_for_ever(&self) -> bool;

    /// A price observed now. Real venues know their own; a simulated one trades against it.
    fn observe(&self, _mark: &Mark) {}

    /// Whether calls are expected to succeed. For health checks.
    fn is_up(&self) -> bool {
        true
    }
}

/// A place in the way of an entry order where a process may die; tests stop there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// A batch is complete and has not been handed to the ledger.
    BeforeCommit,
    /// The ledger has written the batch and not yet made it durable. (The ledger itself calls this one.)
    InCommit,
    /// The decision is durable and its order has not been handed to the router.
    AfterCommitBeforeSend,
    /// The gate has let the order through and its first byte is about to be written.
    InSend,
    /// The venue has answered and nobody has been told.
    AfterSendBeforeReport,
    /// The venue's report is about to be stepped.
    BeforeReportCommit,
}

/// Looks over the tree's shoulder: fault injection in tests and crash drills. It may panic or end the process.
pub trait Probe: Send + Sync + 'static {
    /// An entry order (or a batch with one) has come to this place.
    fn at(&self, _step: Step) {}

    /// An actor or loop of this kind is about to handle something.
    fn handling(&self, _kind: &'static str) {}

    /// An account is about to take an input.
    fn stepping(&self, _user: UserId, _input: &Input) {}
}
