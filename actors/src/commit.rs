//! The group commit: turns in, one transaction out, effects released after it.
//!
//! While one transaction is written everything that arrives forms the next; nobody lingers for company. Accounts with a
//! fact, an exit or an admin act waiting go first, with all of their earlier turns in order; turns of one account are never
//! reordered. The transaction runs in a task of its own that no actor's end can cancel. A ledger that takes several
//! transactions at once is written over as many queues; all turns of a user are in one of them.
//!
//! Only here is an [`Approved`] entry made, from what the ledger holds, and the router takes no other (promise P1).
//! The queue is bounded by the permits of signals and by open orders.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nexus_engine::account::{Account, Ask, Decision, Effect, Event, Input, Verdict};
use nexus_engine::ids::UserId;
use nexus_engine::order::OrderRequest;
use ractor::ActorRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::ports::{ArmedWindow, CommitVerdict, LedgerError, Step, TurnRecord};
use crate::risk::RiskMessage;
use crate::router::Outgoing;
use crate::shared::Shared;

/// An entry order whose decision the ledger holds. Cannot be made outside of this file.
#[derive(Clone, Debug)]
pub(crate) struct Approved {
    order: OrderRequest,
    epoch: u64,
}

impl Approved {
    /// What to send.
    pub(crate) fn order(&self) -> &OrderRequest {
        &self.order
    }

    /// The epoch in which it was decided: it does not leave once something that covers it has been stopped since.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// An entry that the ledger still wants sent, read back from it: the venue is asked first, it may have left.
    pub(crate) fn by_the_ledger(ask: Ask, epoch: u64) -> Option<Approved> {
        let order = ask.resend.filter(|order| order.id.is_entry())?;
        Some(Approved { order: OrderRequest { ask_first: true, ..order }, epoch })
    }

    /// The same order, to be asked about before it is sent again.
    pub(crate) fn ask_first(mut self) -> Approved {
        self.order.ask_first = true;
        self
    }
}

/// The turns of one risk actor on their way: which generation of them is void.
#[derive(Default)]
pub(crate) struct Lane {
    void: AtomicU64,
}

/// A turn that waits for its commit.
pub(crate) struct Pending {
    pub(crate) record: TurnRecord,
    pub(crate) generation: u64,
    pub(crate) lane: Arc<Lane>,
    pub(crate) actor: ActorRef<RiskMessage>,
}

/// What the committer tells a risk actor about its turns of one batch.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) generation: u64,
    /// The account after the last turn that is durable.
    pub(crate) committed: Option<Arc<Account>>,
    /// Why the turns after that are void.
    pub(crate) void: Option<VoidReason>,
}

/// Why a turn was not committed.
#[derive(Clone, Debug)]
pub(crate) enum VoidReason {
    /// The ledger did not admit its reservation.
    Vetoed,
    /// Its decision exists.
    AlreadyDecided,
    /// The account in the ledger has moved on.
    Stale,
    /// Nothing was written.
    Unavailable(LedgerError),
    /// It may have been written.
    InDoubt,
}

/// The door of the committer, and its queues, which outlive a crash of their loops.
pub(crate) struct Committer {
    queues: Vec<(UnboundedSender<Pending>, tokio::sync::Mutex<Queue>)>,
}

struct Queue {
    arriving: UnboundedReceiver<Pending>,
    backlog: VecDeque<Pending>,
}

impl Committer {
    /// With so many queues.
    pub(crate) fn new(queues: usize) -> Committer {
        let queue = |_| {
            let (turns, arriving) = unbounded_channel();
            (turns, tokio::sync::Mutex::new(Queue { arriving, backlog: VecDeque::new() }))
        };
        Committer { queues: (0..queues.max(1)).map(queue).collect() }
    }

    /// The numbers of its queues.
    pub(crate) fn queues(&self) -> Range<usize> {
        0..self.queues.len()
    }

    /// Queues a turn.
    pub(crate) fn send(&self, pending: Pending) {
        // The last bits of an id are as good as drawn.
        let (_, bits) = pending.record.user.0.as_u64_pair();
        let (turns, _) = &self.queues[usize::try_from(bits & 0xffff).unwrap_or(0) % self.queues.len()];
        if turns.send(pending).is_err() {
            // The receiver lives beside the sender in this struct.
            unreachable!("the committer's queue is owned by the committer");
        }
    }
}

/// The loop of one queue: runs until the tree ends.
pub(crate) async fn run(shared: Arc<Shared>, queue: usize) {
    let mut queue = shared.committer.queues[queue].1.lock().await;
    loop {
        if queue.backlog.is_empty() {
            tokio::select! {
                () = shared.closing.cancelled() => return,
                Some(first) = queue.arriving.recv() => queue.backlog.push_back(first),
            }
        }
        while let Ok(next) = queue.arriving.try_recv() {
            queue.backlog.push_back(next);
        }
        shared.probe_handling("committer");
        let batch = next_batch(&mut queue.backlog, shared.settings.batch_max);
        if !batch.is_empty() {
            commit_batch(&shared, batch).await;
        }
    }
}

/// Takes the next batch out: urgent accounts first, each account's turns in order, void ones dropped.
fn next_batch(backlog: &mut VecDeque<Pending>, batch_max: usize) -> Vec<Pending> {
    backlog.retain(|turn| turn.generation > turn.lane.void.load(Ordering::SeqCst));
    if backlog.len() <= batch_max {
        return backlog.drain(..).collect();
    }
    let urgent: HashSet<UserId> =
        backlog.iter().filter(|turn| is_urgent(&turn.record.input)).map(|turn| turn.record.user).collect();
    let (first, rest): (VecDeque<_>, VecDeque<_>) =
        backlog.drain(..).partition(|turn| urgent.contains(&turn.record.user));
    backlog.extend(first);
    backlog.extend(rest);
    backlog.drain(..batch_max).collect()
}

fn is_urgent(input: &Input) -> bool {
    match input {
        Input::Signal(_) | Input::Vetoed(_) => false,
        Input::Report(_)
        | Input::Look(_)
        | Input::CancelEntries
        | Input::CancelEntriesOf(_)
        | Input::Flatten(_)
        | Input::SetLimits(_)
        | Input::SetTrading(_)
        | Input::SetQuarantine(_) => true,
    }
}

/// What is done once a turn is durable.
struct Release {
    user: UserId,
    generation: u64,
    lane: Arc<Lane>,
    actor: ActorRef<RiskMessage>,
    events: Vec<Event>,
    effects: Vec<Effect>,
    epoch: u64,
    after: Arc<Account>,
}

impl Release {
    fn of(turn: &Pending) -> Release {
        let record = &turn.record;
        let matters =
            |event: &&Event| matches!(event, Event::Decided(_) | Event::Closed { .. } | Event::Unexplained(_));
        Release {
            user: record.user,
            generation: turn.generation,
            lane: Arc::clone(&turn.lane),
            actor: turn.actor.clone(),
            events: record.turn.events.iter().filter(matters).cloned().collect(),
            effects: record.turn.effects.clone(),
            epoch: record.context.gate.epoch,
            after: Arc::clone(&record.after),
        }
    }

    fn has_entry(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Submit(order) if order.id.is_entry()))
    }

    /// The turn is durable: the hot state hears of it, and its effects go out.
    fn go(&self, shared: &Arc<Shared>) {
        shared.hot.put_account(Arc::clone(&self.after));
        for event in &self.events {
            match event {
                Event::Decided(Decision { verdict: Verdict::Accepted(acceptance), id, feed, at, .. }) => {
                    shared.owners.insert(*id, self.user, *feed);
                    shared.hot.arm_duplicate_window(ArmedWindow {
                        user: self.user,
                        symbol: acceptance.symbol.clone(),
                        side: acceptance.side,
                        timeframe: acceptance.timeframe,
                        accepted_at: *at,
                        lasts: self.after.limits.duplicate_window,
                    });
                }
                Event::Closed { decision, .. } => shared.owners.close(*decision, self.after.now),
                Event::Unexplained(report) => {
                    shared.meters.reports_unexplained.increment(1);
                    tracing::error!(user = %self.user, ?report, "a venue reported what no decision explains");
                }
                _ => {}
            }
        }
        for effect in &self.effects {
            match effect {
                Effect::Submit(order) if order.id.is_entry() => {
                    shared.probe_at(Step::AfterCommitBeforeSend);
                    let approved = Approved { order: order.clone(), epoch: self.epoch };
                    crate::router::submit(shared, Outgoing::Entry(approved));
                }
                Effect::Cancel { .. } => shared.cancel(effect),
                // Exits and watches have left with the step.
                Effect::Submit(_) | Effect::Watch(_) => {}
            }
        }
    }
}

async fn commit_batch(shared: &Arc<Shared>, batch: Vec<Pending>) {
    let releases: Vec<_> = batch.iter().map(Release::of).collect();
    let records: Vec<_> = batch.into_iter().map(|turn| turn.record).collect();
    let has_entry = releases.iter().any(Release::has_entry);
    shared.meters.commit_batch_size.record(f64::from(u32::try_from(records.len()).unwrap_or(u32::MAX)));
    let began = Instant::now();
    let writer = Arc::clone(shared);
    let written = shared.tracker.spawn(async move {
        if has_entry {
            writer.probe_at(Step::BeforeCommit);
        }
        writer.ledger.commit(records).await
    });
    // A panic of the writer says nothing about what it had written.
    let verdicts = match written.await {
        Ok(Ok(verdicts)) if verdicts.len() == releases.len() => Ok(verdicts),
        Ok(Ok(_)) => Err(LedgerError::InDoubt("the ledger answered for another number of turns".to_owned())),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(LedgerError::InDoubt(error.to_string())),
    };
    shared.meters.commit_seconds.record(began.elapsed());
    let reasons: Vec<Option<VoidReason>> = match verdicts {
        Ok(verdicts) => {
            shared.note_ledger(true);
            verdicts.iter().map(void_reason).collect()
        }
        Err(error) => {
            // An answer that was lost says nothing about the next question; the reading back will.
            if !matches!(error, LedgerError::InDoubt(_)) {
                shared.note_ledger(false);
            }
            tracing::error!(%error, turns = releases.len(), "a batch was not committed");
            releases.iter().map(|_| Some(failure(&error))).collect()
        }
    };
    settle(shared, releases, reasons);
}

fn void_reason(verdict: &CommitVerdict) -> Option<VoidReason> {
    match verdict {
        CommitVerdict::Committed => None,
        CommitVerdict::Vetoed { .. } => Some(VoidReason::Vetoed),
        CommitVerdict::AlreadyDecided => Some(VoidReason::AlreadyDecided),
        CommitVerdict::Stale { .. } => Some(VoidReason::Stale),
    }
}

fn failure(error: &LedgerError) -> VoidReason {
    match error {
        LedgerError::Unavailable(_) => VoidReason::Unavailable(error.clone()),
        // What was unreadable may have been noticed after the commit: the cautious reading.
        LedgerError::InDoubt(_) | LedgerError::Corrupt(_) => VoidReason::InDoubt,
    }
}

/// Releases what is durable and tells each actor, once, what became of its turns.
fn settle(shared: &Arc<Shared>, releases: Vec<Release>, reasons: Vec<Option<VoidReason>>) {
    let mut told: HashMap<(UserId, u64), usize> = HashMap::new();
    let mut words: Vec<(ActorRef<RiskMessage>, Settled)> = Vec::new();
    for (release, mut reason) in releases.into_iter().zip(reasons) {
        let at = *told.entry((release.user, release.generation)).or_insert_with(|| {
            let settled = Settled { generation: release.generation, committed: None, void: None };
            words.push((release.actor.clone(), settled));
            words.len() - 1
        });
        let settled = &mut words[at].1;
        if settled.void.is_some() {
            continue;
        }
        if reason.is_none() {
            // The order may or may not have gone out before the panic: the account reads itself back and asks first.
            if catch_unwind(AssertUnwindSafe(|| release.go(shared))).is_err() {
                reason = Some(VoidReason::InDoubt);
            } else {
                settled.committed = Some(Arc::clone(&release.after));
            }
        }
        if reason.is_some() {
            release.lane.void.fetch_max(release.generation, Ordering::SeqCst);
            settled.void = reason;
        }
    }
    for (actor, settled) in words {
        if actor.send_message(RiskMessage::Settled(settled)).is_err() {
            // Its successor reads the ledger; the effects have been released here.
            tracing::debug!("a risk actor had ended before its turns were settled");
        }
    }
}
