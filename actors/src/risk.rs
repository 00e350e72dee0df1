//! The risk actor: one per user, the only owner of that user's account in memory.
//!
//! It stamps each input with its time and context, steps the account, and hands the turn to the committer; memory may run
//! ahead of the ledger by the turns in flight. Exits and watches leave at once, under the standing permission of the entry's
//! commit; everything else leaves when the committer says so. When the ledger does not take a turn, memory is proven wrong:
//! all turns in flight are void (none of their answers has left), the account is loaded again, and the inputs are stepped
//! again in order with their first time and context. Meanwhile stops still leave, decided on the last committed state.
//! The account and its books live in `desk.rs`; this file is the mailbox.

use std::collections::HashMap;
use std::sync::Arc;

use nexus_engine::account::{Account, Context, Decision, Input};
use nexus_engine::ids::{SignalId, Timestamp, UserId};
use nexus_engine::instrument::Mark;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use crate::commit::Settled;
use crate::desk::Desk;
use crate::ports::{LedgerError, SignalRecord};
use crate::registry::{Load, Seat};
use crate::shared::Shared;

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The decision, when the request was a signal that was decided by it.
    pub(crate) decision: Option<Arc<Decision>>,
    /// The newest committed account.
    pub(crate) account: Arc<Account>,
    /// How many cancels were asked for.
    pub(crate) cancels: usize,
    /// How many exits were planned.
    pub(crate) exits: usize,
}

/// Why a request was not done.
#[derive(Clone, Debug)]
pub(crate) enum RiskError {
    /// There is no account of this user.
    UnknownUser,
    /// The ledger is away; nothing was decided.
    Ledger(LedgerError),
    /// The account cannot take this input: its step panicked, twice.
    Panicked,
}

pub(crate) type Reply = oneshot::Sender<Result<Outcome, RiskError>>;

/// What a risk actor is asked to do.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// Step the account.
    Step(Input),
    /// Say what the committed account is once everything before this is settled.
    Show,
    /// Arm what the account waits for.
    Arm,
}

/// A task, who waits for it, and what belongs to it.
pub(crate) struct Request {
    pub(crate) task: Task,
    /// For a signal: whether the user follows its feed.
    pub(crate) subscribed: bool,
    /// For a signal: what is recorded with its decision.
    pub(crate) record: Option<Arc<SignalRecord>>,
    /// For a look: the mark that it is about.
    pub(crate) mark: Option<Mark>,
    pub(crate) reply: Option<Reply>,
}

impl Request {
    /// A task that nobody waits for.
    pub(crate) fn of(task: Task) -> Request {
        Request { task, subscribed: true, record: None, mark: None, reply: None }
    }

    /// A task and the end on which its outcome arrives.
    pub(crate) fn with_reply(task: Task) -> (Request, oneshot::Receiver<Result<Outcome, RiskError>>) {
        let (reply, outcome) = oneshot::channel();
        (Request { reply: Some(reply), ..Request::of(task) }, outcome)
    }
}

/// A request with the time and the world of its arrival; both stay the same when it is stepped again.
pub(crate) struct Work {
    pub(crate) request: Box<Request>,
    pub(crate) now: Timestamp,
    pub(crate) context: Context,
    /// How often its step has panicked.
    pub(crate) panics: u32,
    /// It may be in the ledger already: not answered before that is known.
    pub(crate) in_doubt: bool,
    /// Counts as load until this is dropped.
    pub(crate) _load: Load,
}

impl Work {
    /// Answers whoever waits. A caller that has gone away is not missed.
    pub(crate) fn answer(&mut self, result: Result<Outcome, RiskError>) {
        if let Some(reply) = self.request.reply.take() {
            // The receiver may be gone: its caller went away, and the work was done for the record.
            let _ = reply.send(result);
        }
    }

    /// The signal to be decided, when that is the task.
    pub(crate) fn signal(&self) -> Option<SignalId> {
        match &self.request.task {
            Task::Step(Input::Signal(signal) | Input::Vetoed(signal)) => Some(signal.id),
            Task::Step(_) | Task::Show | Task::Arm => None,
        }
    }

    /// Whether this is a fact or an act that must be taken whatever happens; signals and changes can be sent again.
    pub(crate) fn must_be_taken(&self) -> bool {
        match &self.request.task {
            Task::Step(input) => match input {
                Input::Report(_)
                | Input::Look(_)
                | Input::CancelEntries
                | Input::CancelEntriesOf(_)
                | Input::Flatten(_)
                | Input::SetQuarantine(_) => true,
                Input::Signal(_) | Input::Vetoed(_) | Input::SetLimits(_) | Input::SetTrading(_) => false,
            },
            Task::Arm => true,
            Task::Show => false,
        }
    }
}

/// What was read from the ledger: the account, and the decisions on those waiting signals that have one.
pub(crate) type Loaded = Result<(Option<Account>, HashMap<SignalId, Decision>), LedgerError>;

/// The mailbox of a risk actor.
pub(crate) enum RiskMessage {
    /// Something to do. Only the registry sends this.
    Take(Box<Request>, Load),
    /// The committer is done with turns of this account.
    Settled(Settled),
    /// The ledger was read.
    Loaded(Box<Loaded>),
    /// Read the ledger (again).
    Reload,
}

/// The actor; its state is the desk.
pub(crate) struct RiskActor;

impl Actor for RiskActor {
    type Msg = RiskMessage;
    type State = Desk;
    type Arguments = (Arc<Shared>, UserId, Arc<Seat>);

    /// Reads nothing yet: the first message does, so that an absent ledger is an answer and not a failed start.
    async fn pre_start(
        &self,
        myself: ActorRef<RiskMessage>,
        (shared, user, seat): Self::Arguments,
    ) -> Result<Desk, ActorProcessingErr> {
        Ok(Desk::new(shared, user, seat, myself))
    }

    async fn handle(
        &self,
        _myself: ActorRef<RiskMessage>,
        message: RiskMessage,
        desk: &mut Desk,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RiskMessage::Take(request, load) => desk.take(request, load),
            RiskMessage::Settled(settled) => desk.settled(settled),
            RiskMessage::Loaded(loaded) => desk.loaded(*loaded),
            RiskMessage::Reload => desk.reload_now(),
        }
        Ok(())
    }
}
