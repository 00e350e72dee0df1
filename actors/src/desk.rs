//! The desk of a risk actor: the account in memory, the turns in flight, and what waits for the ledger.
//!
//! Three modes: `Live`, memory is trusted and every input is stepped and committed; `Settling`, a step has panicked and the
//! account is to be rebuilt once the turns in flight are settled; `Loading`, the ledger is being read, perhaps again and
//! again. Outside of `Live` inputs wait in order, and facts, looks and stops are stepped on a provisional copy as well, from
//! which only what can do no harm leaves: exits, watches and cancels of entries.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nexus_engine::account::{Account, Ask, Context, Decision, Effect, Event, Input, Turn, Verdict};
use nexus_engine::ids::{ClientOrderId, SignalId, Symbol, Timestamp, UserId};
use ractor::ActorRef;

use crate::commit::{Approved, Lane, Pending, Settled, VoidReason};
use crate::ports::{LedgerError, Step, TurnRecord};
use crate::registry::{Load, Seat};
use crate::risk::{Loaded, Outcome, Request, RiskError, RiskMessage, Task, Work};
use crate::router::{ExitOrder, Outgoing};
use crate::shared::Shared;

/// The first wait before the ledger is read again; doubled each time …
const RELOAD_WAIT_MIN: Duration = Duration::from_millis(20);
/// … up to this: whoever is refused meanwhile should not wait much longer than the ledger is away.
const RELOAD_WAIT_MAX: Duration = Duration::from_millis(500);
/// After so many voids without a commit between them the account is read again only after a wait.
const VOIDS_AT_ONCE_MAX: u32 = 3;
/// An input whose step has panicked so often is given up.
const PANICS_PER_INPUT_MAX: u32 = 2;
/// A user whose steps have panicked so often is quarantined.
const PANICS_PER_USER_MAX: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Memory is trusted.
    Live,
    /// A step has panicked: to be read again once the turns in flight are settled.
    Settling,
    /// Being read.
    Loading {
        /// The last attempt failed: what can be sent again is refused at once.
        away: bool,
    },
}

/// A turn at the committer, or an input without consequences that waits for the turns before it.
struct InFlight {
    work: Work,
    version: Option<u64>,
    decision: Option<Arc<Decision>>,
    cancels: usize,
    exits: Vec<ClientOrderId>,
}

/// The state of a risk actor.
pub(crate) struct Desk {
    shared: Arc<Shared>,
    user: UserId,
    seat: Arc<Seat>,
    myself: ActorRef<RiskMessage>,
    mode: Mode,
    /// May be ahead of the ledger by the turns in flight.
    memory: Option<Arc<Account>>,
    /// As the ledger holds it, by all that is known.
    committed: Option<Arc<Account>>,
    in_flight: VecDeque<InFlight>,
    waiting: VecDeque<Work>,
    /// Rises with every void, so that answers about void turns are not taken for answers about their successors.
    generation: u64,
    lane: Arc<Lane>,
    /// Exits that have left and whose turn is not committed: a second step of the same input does not send them again.
    exits_out: HashSet<ClientOrderId>,
    reload_attempts: u32,
    voids_in_a_row: u32,
    /// The account was loaded because memory was wrong: what it waits for is armed again.
    rearm: bool,
    /// The account is being read: one reading at a time.
    reading: bool,
    panics: u32,
    quarantining: bool,
}

impl Desk {
    pub(crate) fn new(shared: Arc<Shared>, user: UserId, seat: Arc<Seat>, myself: ActorRef<RiskMessage>) -> Desk {
        Desk {
            shared,
            user,
            seat,
            myself,
            mode: Mode::Live,
            memory: None,
            committed: None,
            in_flight: VecDeque::new(),
            waiting: VecDeque::new(),
            generation: 1,
            lane: Arc::default(),
            exits_out: HashSet::new(),
            reload_attempts: 0,
            voids_in_a_row: 0,
            rearm: false,
            reading: false,
            panics: 0,
            quarantining: false,
        }
    }

    /// Something to do has arrived: it gets its time and its world.
    pub(crate) fn take(&mut self, request: Box<Request>, load: Load) {
        let context = self.context_of(&request);
        let now = self.shared.clock.now();
        let work = Work { request, now, context, panics: 0, in_doubt: false, _load: load };
        if self.mode == Mode::Live && self.memory.is_some() {
            self.run(work);
        } else {
            self.hold(work);
        }
    }

    fn context_of(&self, request: &Request) -> Context {
        let symbol = match &request.task {
            Task::Step(Input::Signal(signal) | Input::Vetoed(signal)) => {
                return self.shared.context_of(signal, self.user, request.mark.clone(), request.subscribed);
            }
            Task::Step(Input::Report(report)) => self.symbol_of(report.order),
            Task::Step(Input::Look(decision)) => self.symbol_of(ClientOrderId::entry(*decision)),
            Task::Step(_) | Task::Show | Task::Arm => None,
        };
        self.shared.context(symbol.as_ref(), request.mark.clone(), request.subscribed)
    }

    fn symbol_of(&self, order: ClientOrderId) -> Option<Symbol> {
        Some(self.memory.as_ref()?.lots.get(&order.decision)?.symbol.clone())
    }

    // ── Live ──

    fn run(&mut self, work: Work) {
        let Some(memory) = self.memory.clone() else { return self.hold(work) };
        let input = match &work.request.task {
            Task::Step(input) => input.clone(),
            Task::Arm => {
                self.arm_all(&memory);
                return self.push(InFlight::without_turn(work));
            }
            Task::Show => return self.push(InFlight::without_turn(work)),
        };
        if input == Input::SetQuarantine(false) {
            // A person has looked: what comes now is counted afresh.
            (self.panics, self.quarantining) = (0, false);
        }
        if let Input::Report(report) = &input
            && report.order.is_entry()
        {
            self.shared.probe_at(Step::BeforeReportCommit);
        }
        let began = Instant::now();
        let Some((after, turn)) = step_copy(&self.shared, &memory, work.now, &input, &work.context) else {
            return self.panicked(work);
        };
        self.shared.meters.decide_seconds.record(began.elapsed());
        let exits = self.release_at_once(&work, &input, &turn);
        if turn.events.is_empty() {
            turn.effects.iter().for_each(|effect| self.shared.cancel(effect));
            let flight = InFlight { exits, ..InFlight::without_turn(work) };
            return self.push(flight);
        }
        self.commit(work, input, memory.version, after, turn, exits);
    }

    fn commit(
        &mut self,
        work: Work,
        input: Input,
        base_version: u64,
        after: Account,
        turn: Turn,
        exits: Vec<ClientOrderId>,
    ) {
        let decision = turn.events.iter().find_map(|event| match event {
            Event::Decided(decision) => Some(Arc::new(decision.clone())),
            _ => None,
        });
        let cancels = turn.events.iter().filter(|event| matches!(event, Event::CancelRequested(_))).count();
        let (after, version) = (Arc::new(after), base_version + 1);
        debug_assert_eq!(after.version, version);
        self.memory = Some(Arc::clone(&after));
        let record = TurnRecord {
            user: self.user,
            base_version,
            now: work.now,
            input,
            context: work.context.clone(),
            turn,
            after,
            signal: work.request.record.clone(),
        };
        let flight = InFlight { work, version: Some(version), decision, cancels, exits };
        self.in_flight.push_back(flight);
        self.shared.committer.send(Pending {
            record,
            generation: self.generation,
            lane: Arc::clone(&self.lane),
            actor: self.myself.clone(),
        });
    }

    fn push(&mut self, flight: InFlight) {
        self.in_flight.push_back(flight);
        self.settle(0);
    }

    /// Exits and watches do not wait for their commit: the entry's commit has permitted them. Returns the exits.
    fn release_at_once(&mut self, work: &Work, input: &Input, turn: &Turn) -> Vec<ClientOrderId> {
        let mut exits = Vec::new();
        for effect in &turn.effects {
            match effect {
                Effect::Submit(order) => {
                    let Some(exit) = ExitOrder::new(order.clone()) else { continue };
                    exits.push(order.id);
                    if self.exits_out.insert(order.id) {
                        crate::router::submit(&self.shared, Outgoing::Exit(exit));
                    }
                }
                Effect::Watch(watch) => {
                    // Only a look has judged the mark of its context; for anything else that mark is still to be judged.
                    let looked = matches!(input, Input::Look(_));
                    let seen = work.context.mark.as_ref().filter(|_| looked).map(|mark| mark.at);
                    self.shared.arm(self.user, watch.clone(), seen);
                }
                Effect::Cancel { .. } => {}
            }
        }
        exits
    }

    fn arm_all(&self, account: &Account) {
        for watch in account.recovery().watch {
            self.shared.arm(self.user, watch, None);
        }
    }

    // ── The committer's word ──

    pub(crate) fn settled(&mut self, settled: Settled) {
        if settled.generation != self.generation {
            return;
        }
        if let Some(account) = settled.committed {
            self.voids_in_a_row = 0;
            self.reload_attempts = 0;
            let version = account.version;
            self.set_committed(account);
            self.settle(version);
        }
        if let Some(reason) = settled.void {
            self.void(reason);
        }
        if self.mode == Mode::Settling {
            self.reload_when_settled();
        }
    }

    fn set_committed(&mut self, account: Arc<Account>) {
        self.seat.open_business.store(account.has_open_business(), Ordering::SeqCst);
        self.seat.committed.store(Some(Arc::clone(&account)));
        self.committed = Some(account);
    }

    /// Answers everything up to this version, and what has no version of its own behind it.
    fn settle(&mut self, version: u64) {
        while self.in_flight.front().is_some_and(|flight| flight.version.is_none_or(|own| own <= version)) {
            let Some(mut flight) = self.in_flight.pop_front() else { return };
            for exit in &flight.exits {
                self.exits_out.remove(exit);
            }
            if let Some(decision) = &flight.decision {
                self.shared.meters.decided(decision);
            }
            let Some(account) = self.committed.clone() else { continue };
            flight.work.answer(Ok(Outcome {
                decision: flight.decision,
                account,
                cancels: flight.cancels,
                exits: flight.exits.len(),
            }));
        }
    }

    /// Everything in flight is void: it becomes work again, in order, before what has arrived since.
    fn void(&mut self, reason: VoidReason) {
        self.shared.meters.commits_voided.increment(1);
        tracing::warn!(user = %self.user, ?reason, turns = self.in_flight.len(), "turns are void; the account is read again");
        self.generation += 1;
        self.voids_in_a_row += 1;
        self.rearm = true;
        let mut works: VecDeque<_> = self.in_flight.drain(..).map(|flight| flight.work).collect();
        match &reason {
            VoidReason::Vetoed => {
                if let Some(Work { request, .. }) = works.front_mut()
                    && let Task::Step(Input::Signal(signal)) = &request.task
                {
                    request.task = Task::Step(Input::Vetoed(Arc::clone(signal)));
                }
            }
            VoidReason::InDoubt => works.iter_mut().for_each(|work| work.in_doubt = true),
            VoidReason::Stale | VoidReason::AlreadyDecided | VoidReason::Unavailable(_) => {}
        }
        works.append(&mut self.waiting);
        self.waiting = works;
        self.memory = self.committed.clone();
        match reason {
            VoidReason::Unavailable(error) => self.ledger_is_away(&error),
            VoidReason::Vetoed | VoidReason::Stale | VoidReason::AlreadyDecided | VoidReason::InDoubt => {
                self.shared.hot.forget_account(self.user);
                // One void is a surprise; a row of them is an argument with another writer, and not worth a busy loop.
                if self.voids_in_a_row <= VOIDS_AT_ONCE_MAX { self.reload() } else { self.reload_later() }
            }
        }
        self.provide_for_all();
    }

    // ── Waiting for the ledger ──

    fn hold(&mut self, mut work: Work) {
        let is_away = self.mode == Mode::Loading { away: true };
        // Somebody else may have found it there again while this account waits for its next attempt.
        let is_back = is_away && self.shared.ledger_up.load(Ordering::Relaxed);
        if is_away && !is_back && !work.must_be_taken() {
            let error = LedgerError::Unavailable("it did not answer a moment ago".to_owned());
            return work.answer(Err(RiskError::Ledger(error)));
        }
        self.provide_for(&work);
        self.waiting.push_back(work);
        if self.mode == Mode::Live || is_back {
            self.reload();
        }
    }

    /// Steps what waits on the provisional copy, so that exits and cancels leave although nothing can be committed.
    fn provide_for_all(&mut self) {
        let works = std::mem::take(&mut self.waiting);
        works.iter().for_each(|work| self.provide_for(work));
        self.waiting = works;
    }

    fn provide_for(&mut self, work: &Work) {
        let Some(memory) = self.memory.clone() else { return };
        let Task::Step(
            input @ (Input::Report(_)
            | Input::Look(_)
            | Input::CancelEntries
            | Input::CancelEntriesOf(_)
            | Input::Flatten(_)),
        ) = &work.request.task
        else {
            return;
        };
        if let Some((after, turn)) = step_copy(&self.shared, &memory, work.now, input, &work.context) {
            self.release_at_once(work, input, &turn);
            turn.effects.iter().for_each(|effect| self.shared.cancel(effect));
            if !turn.events.is_empty() {
                self.memory = Some(Arc::new(after));
            }
        }
    }

    /// Refuses what can be sent again, keeps the rest, and tries again later.
    fn ledger_is_away(&mut self, error: &LedgerError) {
        self.mode = Mode::Loading { away: true };
        let waiting = std::mem::take(&mut self.waiting);
        for mut work in waiting {
            if work.must_be_taken() || work.in_doubt {
                self.waiting.push_back(work);
            } else {
                work.answer(Err(RiskError::Ledger(error.clone())));
            }
        }
        self.reload_later();
    }

    fn reload_later(&mut self) {
        self.mode = Mode::Loading { away: matches!(self.mode, Mode::Loading { away: true }) };
        let wait = RELOAD_WAIT_MIN.saturating_mul(1 << self.reload_attempts.min(7)).min(RELOAD_WAIT_MAX);
        self.reload_attempts = self.reload_attempts.saturating_add(1);
        self.myself.send_after(wait, || RiskMessage::Reload);
    }

    /// The wait before another attempt is over.
    pub(crate) fn reload_now(&mut self) {
        if matches!(self.mode, Mode::Loading { .. }) {
            self.reload();
        }
    }

    /// Reads the account, and which of the waiting signals are decided already, in a task of its own.
    fn reload(&mut self) {
        self.mode = Mode::Loading { away: matches!(self.mode, Mode::Loading { away: true }) };
        if std::mem::replace(&mut self.reading, true) {
            return;
        }
        let signals: Vec<_> = self.waiting.iter().filter_map(Work::signal).collect();
        let (shared, user, myself) = (Arc::clone(&self.shared), self.user, self.myself.clone());
        self.shared.tracker.spawn(async move {
            let loaded = read(&shared, user, &signals).await;
            if myself.send_message(RiskMessage::Loaded(Box::new(loaded))).is_err() {
                tracing::debug!(%user, "a risk actor had ended before its account was read");
            }
        });
    }

    pub(crate) fn loaded(&mut self, loaded: Loaded) {
        self.reading = false;
        match loaded {
            Err(error) => {
                self.shared.note_ledger(false);
                self.ledger_is_away(&error);
            }
            Ok((None, _)) => {
                self.mode = Mode::Live;
                for mut work in std::mem::take(&mut self.waiting) {
                    if let Task::Step(Input::Report(report)) = &work.request.task {
                        self.dead_letter(&format!("{report:?}"), "its account does not exist");
                    }
                    work.answer(Err(RiskError::UnknownUser));
                }
            }
            Ok((Some(account), decisions)) => self.resume(account, &decisions),
        }
    }

    fn resume(&mut self, account: Account, decisions: &HashMap<SignalId, Decision>) {
        self.shared.owners.insert_all(&account);
        let account = Arc::new(account);
        self.set_committed(Arc::clone(&account));
        self.memory = Some(Arc::clone(&account));
        self.mode = Mode::Live;
        if std::mem::take(&mut self.rearm) {
            self.arm_all(&account);
        }
        if let Some(ledger) = &account.correction {
            tracing::warn!(user = %self.user, ?ledger, "somebody else has written into the account's counters; its next turn tells of it");
        }
        self.heed_ceilings(&account);
        self.heed_invariants(&account);
        let works = std::mem::take(&mut self.waiting);
        let mut asks = account.recovery().ask;
        for mut work in works {
            work.in_doubt = false;
            let decided = work.signal().and_then(|signal| decisions.get(&signal));
            if let Some(decision) = decided {
                self.answer_from_the_ledger(work, decision, &mut asks, &account);
            } else if self.mode == Mode::Live {
                self.run(work);
            } else {
                self.waiting.push_back(work);
            }
        }
        if self.waiting.is_empty() && self.in_flight.is_empty() {
            self.exits_out.clear();
        }
    }

    /// The operator may have lowered a ceiling below what the user has. That is a change of limits like any other: a turn of
    /// its own, before anything is decided, so that a replay decides under the same limits.
    fn heed_ceilings(&mut self, account: &Account) {
        let limits = account.limits.tightened_to(&self.shared.settings.ceilings);
        if limits != account.limits {
            tracing::warn!(user = %self.user, "limits are tightened to the ceilings");
            let request = Box::new(Request::of(Task::Step(Input::SetLimits(limits))));
            self.take(request, Load::on(&self.seat));
        }
    }

    /// What does not add up is not traded on: a person must look. What is open keeps its stops.
    fn heed_invariants(&mut self, account: &Account) {
        if let Err(what) = account.check()
            && !account.quarantined
        {
            tracing::error!(user = %self.user, what, "an account in the ledger does not add up; it is quarantined");
            let request = Box::new(Request::of(Task::Step(Input::SetQuarantine(true))));
            self.take(request, Load::on(&self.seat));
        }
    }

    /// The decision is durable. Whether its entry has left is not known: the venue is asked before it is sent.
    fn answer_from_the_ledger(&self, mut work: Work, decision: &Decision, asks: &mut Vec<Ask>, account: &Arc<Account>) {
        if let Verdict::Accepted(acceptance) = &decision.verdict
            && let Some(at) = asks.iter().position(|ask| ask.order == acceptance.order)
            && let Some(approved) = Approved::by_the_ledger(asks.swap_remove(at), work.context.gate.epoch)
        {
            crate::router::submit(&self.shared, Outgoing::Entry(approved));
        }
        let decision = Some(Arc::new(decision.clone()));
        work.answer(Ok(Outcome { decision, account: Arc::clone(account), cancels: 0, exits: 0 }));
    }

    // ── Panics ──

    /// A step has panicked. The account is rebuilt from the ledger and the input tried once more; then it is given up, and
    /// a user to whom this happens repeatedly is quarantined, alone.
    fn panicked(&mut self, mut work: Work) {
        self.shared.meters.step_panics.increment(1);
        self.panics += 1;
        work.panics += 1;
        tracing::error!(user = %self.user, task = ?work.request.task, panics = self.panics, "a step has panicked");
        if work.panics < PANICS_PER_INPUT_MAX {
            self.waiting.push_front(work);
        } else {
            if let Task::Step(Input::Report(report)) = &work.request.task {
                self.dead_letter(&format!("{report:?}"), "its step panics");
            }
            work.answer(Err(RiskError::Panicked));
            if self.panics >= PANICS_PER_USER_MAX && !self.quarantining {
                self.quarantining = true;
                let request = Box::new(Request::of(Task::Step(Input::SetQuarantine(true))));
                self.waiting.push_front(Work { request, panics: 0, ..work });
            }
        }
        self.rearm = true;
        self.mode = Mode::Settling;
        self.reload_when_settled();
    }

    /// The account is rebuilt once its turns in flight are settled; one that keeps panicking waits longer and longer.
    fn reload_when_settled(&mut self) {
        if !self.in_flight.is_empty() {
            return;
        }
        if self.panics > PANICS_PER_USER_MAX { self.reload_later() } else { self.reload() }
    }

    /// A fact that cannot be taken is kept where a person finds it.
    fn dead_letter(&self, fact: &str, why: &str) {
        self.shared.meters.reports_dead.increment(1);
        tracing::error!(user = %self.user, fact, why, "a fact could not be taken into the account");
    }
}

impl InFlight {
    fn without_turn(work: Work) -> InFlight {
        InFlight { work, version: None, decision: None, cancels: 0, exits: Vec::new() }
    }
}

/// Steps a copy of an account: after a panic nothing half-done is left. `None` is a panic.
pub(crate) fn step_copy(
    shared: &Shared,
    account: &Account,
    now: Timestamp,
    input: &Input,
    context: &Context,
) -> Option<(Account, Turn)> {
    let mut after = account.clone();
    let stepped = catch_unwind(AssertUnwindSafe(|| {
        if let Some(probe) = &shared.probe {
            probe.stepping(account.user, input);
        }
        after.step(now, input, context)
    }));
    stepped.ok().map(|turn| (after, turn))
}

async fn read(shared: &Shared, user: UserId, signals: &[SignalId]) -> Loaded {
    let account = shared.load_account(user).await?;
    let mut decisions = HashMap::new();
    for signal in signals {
        let decided = shared.ledger.decisions_on(*signal).await?;
        decisions
            .extend(decided.into_iter().find(|decision| decision.user == user).map(|decision| (*signal, decision)));
    }
    Ok((account, decisions))
}
