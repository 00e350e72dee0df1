//! The handle by which the world speaks to the running tree: what `server` sees of `actors`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nexus_engine::account::{Account, Decision};
use nexus_engine::gate::TradingState;
use nexus_engine::ids::{FeedId, SignalId, Symbol, Timestamp, UserId};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::limits::Limits;
use nexus_engine::signal::Signal;
use thiserror::Error;

use crate::ports::{Clock, HotState, Ledger, LedgerError, Venue};

/// What the tree is made of.
pub struct Parts {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The durable record.
    pub ledger: Arc<dyn Ledger>,
    /// The fast projection.
    pub hot: Arc<dyn HotState>,
    /// Where orders trade.
    pub venues: Vec<Arc<dyn Venue>>,
    /// What can be traded.
    pub instruments: Vec<Arc<Instrument>>,
    /// Sizes and times.
    pub settings: Settings,
}

/// Sizes and times of the tree, each a bound.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where `HALT` lives.
    pub data_dir: std::path::PathBuf,
    /// The ceilings: what a user's limits are tightened to when the operator has lowered them.
    pub ceilings: Limits,
    /// Decisions under way at once; one permit a subscriber of each signal.
    pub permits: usize,
    /// How long a caller waits for durable decisions before the rest is reported as pending.
    pub answer_within: Duration,
    /// Turns in one transaction.
    pub batch_max: usize,
    /// An idle risk actor is passivated after this.
    pub passivate_after: Duration,
    /// How long one venue call may take before its outcome is unknown.
    pub venue_timeout: Duration,
    /// How long a stop waits for writes that had begun.
    pub stop_grace: Duration,
    /// A resume is refused earlier than this after the stop.
    pub resume_hold: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            ceilings: Limits::default(),
            permits: 8_192,
            answer_within: Duration::from_secs(10),
            batch_max: 250,
            passivate_after: Duration::from_secs(300),
            venue_timeout: Duration::from_secs(2),
            stop_grace: Duration::from_millis(250),
            resume_hold: Duration::ZERO,
        }
    }
}

/// The answer to a signal.
#[derive(Clone, Debug)]
pub struct SignalAnswer {
    /// The signal.
    pub signal: SignalId,
    /// Whether it had been recorded before this call.
    pub duplicate: bool,
    /// The durable decisions, sorted by user.
    pub decisions: Vec<Arc<Decision>>,
    /// Subscribers that were not decided in time; ask again later.
    pub pending: usize,
}

/// Why a signal has no answer. In every case it can be sent again.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SubmitError {
    /// No permit was free: shed early (429).
    #[error("too much is under way; try again in {retry_after:?}")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The key was used for another signal (409).
    #[error("this id was used for another signal")]
    KeyReused,
    /// `user_id` names nobody (422).
    #[error("no such user")]
    UnknownUser,
    /// The ledger is away (503).
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The engine is starting or stopping (503).
    #[error("the engine is not serving: {0}")]
    NotServing(&'static str),
}

/// The answer to a list of marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MarksAnswer {
    /// Newer than what was known, and believed.
    pub accepted: usize,
    /// Not newer than what was known.
    pub ignored: usize,
    /// Beyond the collar and not yet confirmed by a second one.
    pub unconfirmed: usize,
}

/// What an emergency stop is asked to do.
#[derive(Clone, Debug)]
pub struct StopRequest {
    /// `Halted` or `Reducing`.
    pub state: TradingState,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Whether working entries are cancelled.
    pub cancel_open_orders: bool,
}

/// What an emergency stop did.
#[derive(Clone, Debug)]
pub struct StopAnswer {
    /// The state in force.
    pub state: TradingState,
    /// Its epoch.
    pub epoch: u64,
    /// Since when.
    pub engaged_at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Whether the ledger holds it already. The `HALT` file does in any case.
    pub persisted: bool,
    /// Working entries whose cancellation was asked for.
    pub cancelled_orders: usize,
}

/// Why a resume was refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ResumeError {
    /// Too early after the stop.
    #[error("trading may be resumed in {0:?}")]
    Hold(Duration),
    /// The ledger or the disk did not take it; still halted.
    #[error("the resume could not be made durable: {0}")]
    NotDurable(String),
    /// Start-up has not finished.
    #[error("the engine is still starting")]
    Starting,
}

/// What the gate says, and since when and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GateStatus {
    /// The state in force.
    pub state: TradingState,
    /// Its epoch.
    pub epoch: u64,
    /// Since when.
    pub since: Timestamp,
    /// Why, when somebody said.
    pub reason: Option<String>,
    /// By whom.
    pub by: String,
}

/// The state of the tree, for health and status.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// The gate.
    pub gate: GateStatus,
    /// Whether start-up has finished and the tree serves.
    pub serving: bool,
    /// Whether the last commit or ping of the ledger succeeded.
    pub ledger_up: bool,
    /// Venues by name, and whether each is up.
    pub venues: BTreeMap<String, bool>,
    /// Risk actors in memory now.
    pub active_accounts: usize,
    /// Restarts by kind of actor.
    pub restarts: BTreeMap<&'static str, u64>,
}

/// Why a change to an account was not made.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ChangeError {
    /// No such user.
    #[error("no such user")]
    UnknownUser,
    /// The ledger is away.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The engine is stopping.
    #[error("the engine is not serving: {0}")]
    NotServing(&'static str),
}

/// Why the tree did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// An actor did not start.
    #[error("an actor did not start: {0}")]
    Actor(String),
    /// The data folder could not be used.
    #[error("the data folder cannot be used: {0}")]
    DataDir(#[from] std::io::Error),
}

/// The running engine. Cheap to clone; every clone speaks to the same tree.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Starts the tree: halted for entries, recover, reconcile, then armed unless the persisted state or `HALT` says otherwise.
    pub async fn start(_parts: Parts) -> Result<Engine, StartError> {
        todo!()
    }

    /// Decides a signal for every subscriber of its feed, durably; a repeat is answered from the ledger. Work goes on when
    /// the caller goes away.
    pub async fn submit(&self, _signal: Signal) -> Result<SignalAnswer, SubmitError> {
        todo!()
    }

    /// Takes prices, oldest first, and acts on what they trigger.
    pub async fn push_marks(&self, _marks: Vec<Mark>) -> MarksAnswer {
        todo!()
    }

    /// The newest mark of a symbol.
    pub fn mark(&self, _symbol: &Symbol) -> Option<Mark> {
        todo!()
    }

    /// The instruments.
    pub fn instrument(&self, _symbol: &Symbol) -> Option<Arc<Instrument>> {
        todo!()
    }

    /// Stops new exposure. When this answers, no byte of a new-exposure order leaves this process (promise P4).
    pub async fn stop(&self, _request: StopRequest) -> StopAnswer {
        todo!()
    }

    /// Re-arms: an act of a person.
    pub async fn resume(&self, _by: String, _reason: Option<String>) -> Result<GateStatus, ResumeError> {
        todo!()
    }

    /// The newest committed state of an account.
    pub async fn account(&self, _user: UserId) -> Result<Option<Arc<Account>>, LedgerError> {
        todo!()
    }

    /// Changes a user's limits through their account; returns the account after the commit.
    pub async fn set_limits(&self, _user: UserId, _limits: Limits) -> Result<Arc<Account>, ChangeError> {
        todo!()
    }

    /// Enables or disables a user's trading; returns the account after the commit.
    pub async fn set_trading(&self, _user: UserId, _enabled: bool) -> Result<Arc<Account>, ChangeError> {
        todo!()
    }

    /// Forgets what was known of a feed's subscribers: they changed in the ledger.
    pub fn subscriptions_changed(&self, _feed: FeedId) {
        todo!()
    }

    /// The state of the tree.
    pub fn status(&self) -> EngineStatus {
        todo!()
    }

    /// Takes nothing new, finishes what is under way (at most `within`), and ends the tree.
    pub async fn drain(&self, _within: Duration) {
        todo!()
    }
}
