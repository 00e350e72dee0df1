//! The handle by which the world speaks to the running tree: what `server` sees of `actors`.
//!
//! A caller's future may be dropped at any time; what it began goes on in the tree. Only a stop runs on the caller's own
//! task, because it must not queue behind anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nexus_engine::account::{Account, Decision, Input};
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::{FeedId, SignalId, Symbol, Timestamp, UserId};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::limits::Limits;
use nexus_engine::signal::Signal;
use ractor::Actor;
use thiserror::Error;
use tokio::sync::{MutexGuard, oneshot};
use tokio::time::Instant;

use crate::dispatcher::Dispatcher;
use crate::kill_switch;
use crate::latch::Latch;
use crate::market::Seen;
use crate::ports::{Clock, HotState, Ledger, LedgerError, Probe, Simulation, TradingStateRecord, Venue};
use crate::preview::{self, SignalPreview};
use crate::rest;
use crate::risk::{Request, RiskError, Task};
use crate::shared::Shared;
use crate::startup::{self, Persisted};
use crate::supervisor::{RootMessage, RootSupervisor};
use crate::tenure::{self, Tenure};

/// What the tree is made of.
pub struct Parts {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The durable record.
    pub ledger: Arc<dyn Ledger>,
    /// The fast projection.
    pub hot: Arc<dyn HotState>,
    /// The accounts are ours: for a ledger with a lease, from [`tenure::stand_by`].
    pub tenure: Option<Tenure>,
    /// Where orders trade.
    pub venues: Vec<Arc<dyn Venue>>,
    /// What can be traded.
    pub instruments: Vec<Arc<Instrument>>,
    /// Sizes and times.
    pub settings: Settings,
    /// Fault injection; none outside of tests and drills.
    pub probe: Option<Arc<dyn Probe>>,
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
    /// Not newer than what was known, or from the future.
    pub ignored: usize,
    /// Beyond the collar and not yet confirmed by a second one.
    pub unconfirmed: usize,
}

impl MarksAnswer {
    fn count(&mut self, seen: Seen) {
        match seen {
            Seen::Believed => self.accepted += 1,
            Seen::Ignored => self.ignored += 1,
            Seen::Unconfirmed => self.unconfirmed += 1,
        }
    }
}

/// Why marks of a simulated run were not carried to their end. They can be sent again.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum MarksError {
    /// The new time could not be remembered: nothing acts at it.
    #[error("trading time could not be kept: {0}")]
    NotKept(String),
    /// Something that was caused has not come to its end in time.
    #[error("what was caused before is not at rest yet; try again")]
    NotAtRest,
}

/// What an emergency stop is asked to do.
#[derive(Clone, Debug)]
pub struct StopRequest {
    /// What.
    pub scope: Scope,
    /// `Halted` or `Reducing`.
    pub state: TradingState,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Whether working entries are cancelled.
    pub cancel_open_orders: bool,
    /// Whether open positions are closed, after the cancels.
    pub flatten: bool,
}

/// What an emergency stop did.
#[derive(Clone, Debug)]
pub struct StopAnswer {
    /// What is stopped.
    pub scope: Scope,
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
    /// What became of closing the positions, when that was asked for.
    pub flattened: Option<Flattened>,
}

/// What became of closing positions by the time of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flattened {
    /// Exits that were planned and sent.
    pub exits: usize,
    /// Positions that are not known to be closed. They go on being closed as long as the stop is in force.
    pub still_open: usize,
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
    /// A stop came while it was made durable; halted.
    #[error("a stop came meanwhile")]
    Overtaken,
    /// Start-up has not finished.
    #[error("the engine is still starting")]
    Starting,
}

/// What the gate says of a scope, and since when and why.
pub type GateStatus = TradingStateRecord;

/// The state of the tree, for health and status.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// What the gate says of everything.
    pub gate: GateStatus,
    /// The narrower scopes that are stopped.
    pub stopped: Vec<GateStatus>,
    /// Whether start-up has finished and the tree serves.
    pub serving: bool,
    /// Whether the last commit or ping of the ledger succeeded.
    pub ledger_up: bool,
    /// Whether the hot state answers. The engine decides without it.
    pub hot_state_up: bool,
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
pub struct Engine {
    shared: Arc<Shared>,
    dispatcher: Arc<Dispatcher>,
}

/// Why a signal of a simulated run is not taken, or not answered.
const NOT_AT_REST: &str = "what was caused before is not at rest yet; try again";
/// How often a drain looks whether everything is done.
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// How long the end of the tree waits for its parts.
const END_WITHIN: Duration = Duration::from_secs(2);

impl Engine {
    /// Starts the tree: halted for entries, recover, reconcile, then armed unless the persisted state or `HALT` says otherwise.
    pub async fn start(parts: Parts) -> Result<Engine, StartError> {
        let Persisted { everything: target, others } = startup::persisted_states(&parts).await?;
        let closed = GateStatus {
            state: TradingState::Halted,
            reason: Some("starting".to_owned()),
            by: "start".to_owned(),
            ..target.clone()
        };
        let shared = Shared::new(parts, Latch::new(closed, others));
        let dispatcher = Dispatcher::new(Arc::clone(&shared));
        let engine = Engine { shared, dispatcher };
        match engine.begin(target).await {
            Ok(()) => Ok(engine),
            Err(error) => {
                engine.end().await;
                Err(error)
            }
        }
    }

    async fn begin(&self, target: GateStatus) -> Result<(), StartError> {
        let failed = |error: String| StartError::Actor(error);
        let (root, _ended) = RootSupervisor::spawn(None, RootSupervisor, Arc::clone(&self.shared))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let (begun, running) = oneshot::channel();
        root.send_message(RootMessage::Begin(begun)).map_err(|error| failed(error.to_string()))?;
        running.await.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
        startup::start_loops(&self.shared);
        startup::recover(&self.shared, &self.dispatcher, target).await?;
        self.shared.serving.store(Arc::new(Ok(())));
        let gate = self.shared.latch.status();
        tracing::info!(state = gate.state.as_str(), epoch = gate.epoch, "the engine serves");
        Ok(())
    }

    /// Decides a signal for every subscriber of its feed, durably; a repeat is answered from the ledger. Work goes on when
    /// the caller goes away. In a simulated run it is answered when all that it caused is at rest.
    pub async fn submit(&self, signal: Signal) -> Result<SignalAnswer, SubmitError> {
        let Some(_turn) = self.simulated_turn().await? else { return self.dispatcher.submit(signal).await };
        let answer = self.dispatcher.submit(signal).await?;
        self.come_to_rest().await.map_err(|_| SubmitError::NotServing(NOT_AT_REST))?;
        Ok(answer)
    }

    /// Says how a signal would be decided now, and changes nothing. In a simulated run it waits for rest as well.
    pub async fn preview(&self, signal: Signal) -> Result<SignalPreview, SubmitError> {
        let _turn = self.simulated_turn().await?;
        preview::preview(&self.shared, &self.dispatcher, signal).await
    }

    /// Takes prices, oldest first, and acts on what they trigger. In a simulated run each moves trading time to its own,
    /// is carried to its end before the next is taken, and the answer comes when all is at rest.
    pub async fn push_marks(&self, marks: Vec<Mark>) -> Result<MarksAnswer, MarksError> {
        let mut answer = MarksAnswer::default();
        let Some(simulation) = self.shared.clock.simulation() else {
            marks.iter().for_each(|mark| answer.count(self.push_mark(mark)));
            return Ok(answer);
        };
        let _turn = self.shared.rest.turn.lock().await;
        self.come_to_rest().await?;
        for mark in &marks {
            answer.count(self.carry_mark(simulation, mark)?);
            self.come_to_rest().await?;
        }
        Ok(answer)
    }

    /// In a simulated run: nothing else is carried while this is held, and everything is at rest.
    async fn simulated_turn(&self) -> Result<Option<MutexGuard<'_, ()>>, SubmitError> {
        if self.shared.clock.simulation().is_none() {
            return Ok(None);
        }
        let turn = self.shared.rest.turn.lock().await;
        self.come_to_rest().await.map_err(|_| SubmitError::NotServing(NOT_AT_REST))?;
        Ok(Some(turn))
    }

    async fn come_to_rest(&self) -> Result<(), MarksError> {
        let at_rest = rest::come_to_rest(&self.shared, &self.dispatcher).await;
        at_rest.then_some(()).ok_or(MarksError::NotAtRest)
    }

    /// The board first, then the venue (a simulated one trades against the mark), then whoever waited for it.
    fn push_mark(&self, mark: &Mark) -> Seen {
        let _turn = self.shared.market.turnstile.lock();
        let seen = self.shared.market.see(mark, self.shared.clock.now());
        if seen == Seen::Believed {
            self.tell_of(mark);
            self.look_at_what_it_hits(&mark.symbol);
        }
        seen
    }

    /// The same, carried by a simulation: trading time moves before anything acts at it. What a run that was killed had not
    /// finished of its last mark is taken up by the repetition, so what is hit is looked for in any case.
    fn carry_mark(&self, simulation: &dyn Simulation, mark: &Mark) -> Result<Seen, MarksError> {
        let shared = &self.shared;
        let _turn = shared.market.turnstile.lock();
        let seen = shared.market.see(mark, shared.clock.now().max(mark.at));
        let Some(board) = shared.market.quote(&mark.symbol) else { return Ok(seen) };
        let is_news = simulation.advance(mark.at, &board).map_err(|error| MarksError::NotKept(error.to_string()))?;
        if let Some(mark) = board.mark.filter(|_| is_news) {
            self.tell_of(&mark);
        }
        self.look_at_what_it_hits(&mark.symbol);
        Ok(seen)
    }

    fn tell_of(&self, mark: &Mark) {
        self.shared.hot.put_mark(mark.clone());
        if let Some(venue) = self.shared.venue_of(&mark.symbol) {
            venue.observe(mark);
        }
    }

    fn look_at_what_it_hits(&self, symbol: &Symbol) {
        let shared = &self.shared;
        let (hits, due) = (shared.market.hits(symbol), shared.market.due(shared.clock.now()));
        hits.into_iter().chain(due).for_each(|hit| shared.look(hit));
    }

    /// The newest mark of a symbol.
    pub fn mark(&self, symbol: &Symbol) -> Option<Mark> {
        self.shared.market.mark(symbol)
    }

    /// The instrument of a symbol.
    pub fn instrument(&self, symbol: &Symbol) -> Option<Arc<Instrument>> {
        self.shared.instruments.get(symbol).cloned()
    }

    /// Stops new exposure. When this answers, no byte of a new-exposure order leaves this process (promise P4).
    pub async fn stop(&self, request: StopRequest) -> StopAnswer {
        kill_switch::stop(&self.shared, request).await
    }

    /// Re-arms one scope: an act of a person. Whatever else is stopped stays stopped.
    pub async fn resume(&self, scope: Scope, by: String, reason: Option<String>) -> Result<GateStatus, ResumeError> {
        kill_switch::resume(&self.shared, scope, by, reason).await
    }

    /// What the gate says of a user: the tighter of everything's state and this user's.
    pub fn state_of_user(&self, user: UserId) -> TradingState {
        let latch = &self.shared.latch;
        latch.gate().state.max(latch.status_of(&Scope::User(user)).state)
    }

    /// The newest committed state of an account.
    pub async fn account(&self, user: UserId) -> Result<Option<Arc<Account>>, LedgerError> {
        self.shared.newest_account(user).await
    }

    /// Changes a user's limits through their account; returns the account after the commit.
    pub async fn set_limits(&self, user: UserId, limits: Limits) -> Result<Arc<Account>, ChangeError> {
        self.change(user, Input::SetLimits(limits)).await
    }

    /// Enables or disables a user's trading; returns the account after the commit.
    pub async fn set_trading(&self, user: UserId, enabled: bool) -> Result<Arc<Account>, ChangeError> {
        self.change(user, Input::SetTrading(enabled)).await
    }

    /// Quarantines a user, or lifts it: a person has looked. Returns the account after the commit.
    pub async fn set_quarantine(&self, user: UserId, quarantined: bool) -> Result<Arc<Account>, ChangeError> {
        self.change(user, Input::SetQuarantine(quarantined)).await
    }

    async fn change(&self, user: UserId, input: Input) -> Result<Arc<Account>, ChangeError> {
        (**self.shared.serving.load()).map_err(ChangeError::NotServing)?;
        let (request, outcome) = Request::with_reply(Task::Step(input));
        self.shared.registry.send(&self.shared, user, request);
        match outcome.await {
            Ok(Ok(outcome)) => Ok(outcome.account),
            Ok(Err(RiskError::UnknownUser)) => Err(ChangeError::UnknownUser),
            Ok(Err(RiskError::Ledger(error))) => Err(ChangeError::Ledger(error)),
            Ok(Err(RiskError::Panicked)) => Err(ChangeError::NotServing("the account cannot take this change")),
            Err(_) => Err(ChangeError::NotServing("the account is being rebuilt; try again")),
        }
    }

    /// Forgets what was known of a feed's subscribers: they changed in the ledger.
    pub fn subscriptions_changed(&self, feed: FeedId) {
        self.dispatcher.subscriptions_changed(feed);
    }

    /// The state of the tree.
    pub fn status(&self) -> EngineStatus {
        let shared = &self.shared;
        EngineStatus {
            gate: shared.latch.status(),
            stopped: shared.latch.stopped().into_iter().filter(|status| status.scope != Scope::Everything).collect(),
            serving: shared.serving.load().is_ok(),
            ledger_up: shared.ledger_up.load(Ordering::Relaxed),
            hot_state_up: shared.hot.is_up(),
            venues: shared.venues.iter().map(|(name, venue)| (name.to_string(), venue.is_up())).collect(),
            active_accounts: shared.registry.count(),
            restarts: shared.restarts.totals(),
        }
    }

    /// Resolves when the accounts have become another instance's: nothing is sent or committed any more, and all that is left
    /// is to end.
    pub async fn ownership_lost(&self) {
        match &self.shared.tenure {
            Some(tenure) => tenure.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Takes nothing new, finishes what is under way (at most `within`), and ends the tree.
    pub async fn drain(&self, within: Duration) {
        self.shared.serving.store(Arc::new(Err("stopping")));
        let deadline = Instant::now() + within;
        while self.under_way() > 0 && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        let left = self.under_way();
        if left > 0 {
            tracing::warn!(left, "the tree ends with work under way; the next start takes it up");
        }
        self.end().await;
    }

    fn under_way(&self) -> usize {
        self.dispatcher.in_flight() + self.shared.registry.load() + self.shared.orders.len()
    }

    /// Ends every loop and actor, and waits for the writes that have begun.
    async fn end(&self) {
        self.shared.closing.cancel();
        if let Some(root) = self.shared.root.swap(None)
            && let Err(error) = root.stop_and_wait(None, Some(END_WITHIN)).await
        {
            tracing::warn!(?error, "the root of the tree did not end in time");
        }
        self.shared.tracker.close();
        if tokio::time::timeout(END_WITHIN, self.shared.tracker.wait()).await.is_err() {
            tracing::warn!("tasks of the tree did not end in time");
        }
        tenure::give_back(&self.shared).await;
    }
}
