//! The dispatcher: a signal goes to the risk actor of every subscriber, and their durable decisions come back as one answer.
//!
//! A signal in flight has one task, and a concurrent repeat waits for that task's answer: 32 repeats at once are one signal
//! and one set of decisions. A later repeat is answered from the ledger, after what is missing has been completed. The task
//! belongs to the tree and not to the caller: a caller that goes away cancels nothing. What is not decided in time is
//! reported as pending and goes on; the signal counts as in flight until it is done. While the ledger cannot be asked, a
//! repeat is answered with the complete answer that the hot state kept of the first, if it has one to the same signal.
//!
//! Signals of one feed are handed out in the order in which they came: what the ledger is asked before takes a different
//! time for each, so each waits in line for the one before it (not for its decisions).

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use nexus_engine::account::{Decision, Input};
use nexus_engine::ids::{FeedId, SignalId, UserId};
use nexus_engine::signal::Signal;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::engine::{SignalAnswer, SubmitError};
use crate::ingress::Ingress;
use crate::ports::{KeptAnswer, LedgerError, SignalRecord};
use crate::risk::{Outcome, Request, RiskError, Task};
use crate::shared::Shared;

type Answer = Result<SignalAnswer, SubmitError>;
type FirstAnswer = SharedFuture<BoxFuture<'static, Answer>>;

/// Signals in flight and the feeds' subscribers.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    ingress: Ingress,
    in_flight: Mutex<HashMap<SignalId, InFlight>>,
    /// The end of each feed's line. Bounded by the number of feeds.
    lines: Mutex<HashMap<FeedId, oneshot::Receiver<()>>>,
    /// Bounded by the number of feeds.
    subscribers: Mutex<HashMap<FeedId, Arc<[UserId]>>>,
    /// How often anything was forgotten of them.
    forgotten: AtomicU64,
}

struct InFlight {
    signal: Arc<Signal>,
    answer: FirstAnswer,
}

/// Who decides a signal, and with which word on their subscription.
struct FanOut {
    signal: Arc<Signal>,
    record: Option<Arc<SignalRecord>>,
    users: Vec<UserId>,
    subscribed: bool,
}

/// Whom a signal is for, and the permits for deciding it, held while this is.
pub(crate) struct Audience {
    /// Everybody who follows the feed, sorted.
    followers: Arc<[UserId]>,
    /// Whether the only user whom the signal names, if it names one, is among them.
    pub(crate) follows: bool,
    permit: OwnedSemaphorePermit,
}

/// A place in the line of a feed. The next one's turn comes when this is dropped.
struct Place {
    before: Option<oneshot::Receiver<()>>,
    _leaves: oneshot::Sender<()>,
}

impl Place {
    /// Waits until everybody before has handed out, or has ended without.
    async fn turn(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing is ever sent: the end of the one before is its word.
            let _ = before.await;
        }
    }
}

/// A signal that can be handed out.
struct Prepared {
    fan_out: FanOut,
    decided: Vec<Arc<Decision>>,
    duplicate: bool,
    permit: OwnedSemaphorePermit,
}

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Dispatcher> {
        let ingress = Ingress::new(shared.settings.permits);
        Arc::new(Dispatcher {
            shared,
            ingress,
            in_flight: Mutex::default(),
            lines: Mutex::default(),
            subscribers: Mutex::default(),
            forgotten: AtomicU64::new(0),
        })
    }

    /// Decides a signal, or joins whoever is deciding it.
    pub(crate) async fn submit(self: &Arc<Self>, signal: Signal) -> Answer {
        (**self.shared.serving.load()).map_err(SubmitError::NotServing)?;
        self.shared.meters.signals.increment(1);
        let signal = Arc::new(signal);
        let (answer, is_first) = self.join(&signal)?;
        let mut answer = answer.await?;
        if !is_first {
            answer.duplicate = true;
            if answer.pending > 0 {
                return self.answer_so_far(&answer).await;
            }
        }
        Ok(answer)
    }

    /// The answer that will be given, and whether this call began it.
    fn join(self: &Arc<Self>, signal: &Arc<Signal>) -> Result<(FirstAnswer, bool), SubmitError> {
        let mut in_flight = self.in_flight.lock();
        if let Some(first) = in_flight.get(&signal.id) {
            let same = first.signal.says_the_same_as(signal);
            return if same { Ok((first.answer.clone(), false)) } else { Err(SubmitError::KeyReused) };
        }
        let (send, receive) = oneshot::channel();
        let dropped = Err(SubmitError::NotServing("a task has failed; try again"));
        let answer: FirstAnswer = receive.map(|answer| answer.unwrap_or(dropped)).boxed().shared();
        in_flight.insert(signal.id, InFlight { signal: Arc::clone(signal), answer: answer.clone() });
        let place = self.line_up(signal.feed);
        let (dispatcher, signal) = (Arc::clone(self), Arc::clone(signal));
        self.shared.tracker.spawn(async move {
            let _leaves = Leaves { dispatcher: &dispatcher, signal: signal.id };
            dispatcher.dispatch(&signal, place, send).await;
        });
        Ok((answer, true))
    }

    fn line_up(&self, feed: FeedId) -> Place {
        let (leaves, left) = oneshot::channel();
        Place { before: self.lines.lock().insert(feed, left), _leaves: leaves }
    }

    /// A repeat of a signal that is still in flight after its answer: what is decided by now.
    async fn answer_so_far(&self, first: &SignalAnswer) -> Answer {
        let total = first.decisions.len() + first.pending;
        let decisions = self.shared.ledger.decisions_on(first.signal).await?;
        let pending = total.saturating_sub(decisions.len());
        Ok(answer_of(first.signal, true, decisions.into_iter().map(Arc::new), pending))
    }

    async fn dispatch(&self, signal: &Arc<Signal>, mut place: Place, send: oneshot::Sender<Answer>) {
        let deadline = Instant::now() + self.shared.settings.answer_within;
        let mut send = Some(send);
        let prepared = {
            let mut preparing = pin!(async {
                let prepared = self.prepare(signal).await?;
                place.turn().await;
                Ok(prepared)
            });
            match timeout_at(deadline, preparing.as_mut()).await {
                Ok(prepared) => prepared,
                Err(_) => {
                    let away = LedgerError::Unavailable("it did not answer in time".to_owned());
                    give(send.take(), self.kept_answer_or(signal, SubmitError::Ledger(away)).await);
                    // The question is under way and is not taken back; what it leads to, a repeat will find.
                    preparing.await
                }
            }
        };
        match prepared {
            Err(error) => {
                give(send, self.kept_answer_or(signal, error).await);
                place.turn().await;
            }
            Ok(Prepared { fan_out, decided, duplicate, permit }) => {
                let (signal, permit) = (Arc::clone(signal), Some(permit));
                let collector =
                    Collector { signal, duplicate, decided, deadline, send, permit, undecidable: 0, failure: None };
                if let Some(answer) = self.collect(fan_out, place, collector).await {
                    self.shared.hot.put_answer(answer);
                }
            }
        }
    }

    /// What was answered to this signal before, when it is the ledger that cannot be asked. Every decision in it was durable,
    /// so nothing is decided by it; another signal under the same key is not answered at all.
    async fn kept_answer_or(&self, signal: &Arc<Signal>, error: SubmitError) -> Answer {
        if !matches!(error, SubmitError::Ledger(LedgerError::Unavailable(_))) {
            return Err(error);
        }
        match self.shared.hot.answer(signal.id).await {
            Some(KeptAnswer { signal: kept, decisions }) if kept.says_the_same_as(signal) => {
                Ok(answer_of(signal.id, true, decisions.into_iter(), 0))
            }
            Some(_) | None => Err(error),
        }
    }

    /// Finds out who has to decide, and what is decided already.
    async fn prepare(&self, signal: &Arc<Signal>) -> Result<Prepared, SubmitError> {
        // Whoever can come back is not kept waiting for a ledger that is known to be away.
        if !self.shared.ledger_up.load(Ordering::Relaxed) {
            return Err(SubmitError::Ledger(LedgerError::Unavailable("it did not answer a moment ago".to_owned())));
        }
        let audience = self.audience(signal).await?;
        match self.note(self.shared.ledger.find_signal(signal.id).await)? {
            Some(record) if record.signal.says_the_same_as(signal) => self.prepare_repeat(record, audience).await,
            Some(_) => Err(SubmitError::KeyReused),
            None => self.prepare_first(signal, audience).await,
        }
    }

    /// Who follows the feed of a signal, and the permits for deciding it.
    pub(crate) async fn audience(&self, signal: &Signal) -> Result<Audience, SubmitError> {
        let followers = self.subscribers(signal.feed).await?;
        let follows = signal.only_user.is_none_or(|user| followers.binary_search(&user).is_ok());
        let weight = if signal.only_user.is_some() { 1 } else { followers.len() };
        let permit = self.ingress.admit(weight, &self.shared.meters)?;
        Ok(Audience { followers, follows, permit })
    }

    /// Whom a new signal concerns, sorted.
    pub(crate) async fn concerned(&self, signal: &Signal, audience: &Audience) -> Result<Vec<UserId>, SubmitError> {
        match signal.only_user {
            None => Ok(audience.followers.to_vec()),
            Some(user) => {
                if !audience.follows && self.note(self.shared.load_account(user).await)?.is_none() {
                    return Err(SubmitError::UnknownUser);
                }
                Ok(vec![user])
            }
        }
    }

    async fn prepare_repeat(&self, record: SignalRecord, audience: Audience) -> Result<Prepared, SubmitError> {
        let decided = self.note(self.shared.ledger.decisions_on(record.signal.id).await)?;
        let users = undecided(&record.subscribers, &decided);
        // A recorded set stays what it was; a single user is judged by the present.
        let subscribed = record.signal.only_user.is_none() || audience.follows;
        let fan_out = FanOut { signal: record.signal, record: None, users, subscribed };
        let decided = decided.into_iter().map(Arc::new).collect();
        Ok(Prepared { fan_out, decided, duplicate: true, permit: audience.permit })
    }

    async fn prepare_first(&self, signal: &Arc<Signal>, audience: Audience) -> Result<Prepared, SubmitError> {
        let users = self.concerned(signal, &audience).await?;
        let Audience { follows, permit, .. } = audience;
        let record = Arc::new(SignalRecord {
            signal: Arc::clone(signal),
            received_at: self.shared.clock.now(),
            subscribers: users.clone().into(),
            mark: self.shared.market.mark(&signal.symbol),
        });
        let fits = (1..=self.shared.settings.batch_max).contains(&users.len());
        if !fits {
            self.note(self.shared.ledger.record_signal(Arc::clone(&record)).await)?;
        }
        let fan_out = FanOut { signal: Arc::clone(signal), record: fits.then_some(record), users, subscribed: follows };
        Ok(Prepared { fan_out, decided: Vec::new(), duplicate: false, permit })
    }

    /// Remembers that the ledger does not answer.
    pub(crate) fn note<T>(&self, result: Result<T, LedgerError>) -> Result<T, LedgerError> {
        // A ledger that can be read may still take no write: only commits and the ping say that it is well.
        if result.is_err() {
            self.shared.note_ledger(false);
        }
        result
    }

    /// Hands the signal to everybody and collects until all have answered; the caller gets what is there at the deadline.
    /// Returns the answer if it is complete.
    async fn collect(&self, fan_out: FanOut, place: Place, mut collector: Collector) -> Option<KeptAnswer> {
        let mut outcomes: FuturesUnordered<_> =
            fan_out.users.iter().map(|user| self.decide_for(&fan_out, *user)).collect();
        drop(place);
        loop {
            let next = if collector.send.is_some() {
                match timeout_at(collector.deadline, outcomes.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        collector.answer(outcomes.len());
                        continue;
                    }
                }
            } else {
                outcomes.next().await
            };
            match next {
                Some(Ok(Some(decision))) => collector.decided.push(decision),
                Some(Ok(None)) => collector.undecidable += 1,
                Some(Err(error)) => collector.failure = Some(error),
                None => {
                    collector.answer(0);
                    return collector.complete();
                }
            }
        }
    }
}

impl Dispatcher {
    /// Asks a user's risk actor, at once; the future is its decision, or none when it cannot decide.
    fn decide_for<'a>(
        &'a self,
        fan_out: &'a FanOut,
        user: UserId,
    ) -> impl Future<Output = Result<Option<Arc<Decision>>, LedgerError>> + Send + 'a {
        let first = self.ask(fan_out, user);
        async move {
            if let Ok(result) = first.await {
                return self.decision_of(fan_out, user, result).await;
            }
            // The actor crashed with the request in its mailbox or in flight. The ledger knows which; once.
            if let Some(decision) = self.look_up(fan_out, user).await? {
                return Ok(Some(decision));
            }
            match self.ask(fan_out, user).await {
                Ok(result) => self.decision_of(fan_out, user, result).await,
                Err(_) => Ok(None),
            }
        }
    }

    fn ask(&self, fan_out: &FanOut, user: UserId) -> oneshot::Receiver<Result<Outcome, RiskError>> {
        let input = Input::Signal(Arc::clone(&fan_out.signal));
        let (request, outcome) = Request::with_reply(Task::Step(input));
        let request = Request { subscribed: fan_out.subscribed, record: fan_out.record.clone(), ..request };
        self.shared.registry.send(&self.shared, user, request);
        outcome
    }

    async fn decision_of(
        &self,
        fan_out: &FanOut,
        user: UserId,
        result: Result<Outcome, RiskError>,
    ) -> Result<Option<Arc<Decision>>, LedgerError> {
        match result {
            Ok(Outcome { decision: Some(decision), .. }) => Ok(Some(decision)),
            // The account had decided this signal before: the ledger has the words.
            Ok(Outcome { decision: None, .. }) => self.look_up(fan_out, user).await,
            Err(RiskError::Ledger(error)) => Err(error),
            Err(error @ (RiskError::UnknownUser | RiskError::Panicked)) => {
                tracing::error!(%user, signal = %fan_out.signal.id, ?error, "a subscriber cannot be decided");
                Ok(None)
            }
        }
    }

    async fn look_up(&self, fan_out: &FanOut, user: UserId) -> Result<Option<Arc<Decision>>, LedgerError> {
        let decisions = self.shared.ledger.decisions_on(fan_out.signal.id).await?;
        Ok(decisions.into_iter().find(|decision| decision.user == user).map(Arc::new))
    }

    /// Who follows a feed, sorted.
    async fn subscribers(&self, feed: FeedId) -> Result<Arc<[UserId]>, LedgerError> {
        if let Some(known) = self.subscribers.lock().get(&feed) {
            return Ok(Arc::clone(known));
        }
        let generation = self.forgotten.load(Ordering::SeqCst);
        let followers: Arc<[UserId]> = self.note(self.shared.ledger.subscribers(feed).await)?.into();
        let mut cache = self.subscribers.lock();
        // What was read before a change must not be remembered after it.
        if self.forgotten.load(Ordering::SeqCst) == generation {
            cache.insert(feed, Arc::clone(&followers));
        }
        Ok(followers)
    }

    /// The subscribers of a feed have changed in the ledger.
    pub(crate) fn subscriptions_changed(&self, feed: FeedId) {
        let mut cache = self.subscribers.lock();
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        cache.remove(&feed);
    }

    /// Start-up: a fan-out that an earlier run has not finished.
    pub(crate) async fn finish(self: &Arc<Self>, record: SignalRecord, undecided: Vec<UserId>) {
        let subscribed = match record.signal.only_user {
            None => true,
            Some(user) => self.subscribers(record.signal.feed).await.is_ok_and(|all| all.binary_search(&user).is_ok()),
        };
        let fan_out = FanOut { signal: record.signal, record: None, users: undecided, subscribed };
        let mut outcomes: FuturesUnordered<_> =
            fan_out.users.iter().map(|user| self.decide_for(&fan_out, *user)).collect();
        while let Some(outcome) = outcomes.next().await {
            if let Err(error) = outcome {
                tracing::error!(signal = %fan_out.signal.id, %error, "a fan-out of an earlier run is still not finished");
            }
        }
    }

    /// How many signals are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.lock().len()
    }
}

/// Takes a signal out of flight, also when its task has panicked.
struct Leaves<'a> {
    dispatcher: &'a Dispatcher,
    signal: SignalId,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.dispatcher.in_flight.lock().remove(&self.signal);
        self.dispatcher.shared.rest.stir().stirred();
    }
}

/// The decisions on one signal as they come in.
struct Collector {
    signal: Arc<Signal>,
    duplicate: bool,
    decided: Vec<Arc<Decision>>,
    deadline: Instant,
    /// Taken when the answer is given.
    send: Option<oneshot::Sender<Answer>>,
    /// Held until the work is done.
    permit: Option<OwnedSemaphorePermit>,
    /// Users whose actor cannot decide; reported as pending.
    undecidable: usize,
    failure: Option<LedgerError>,
}

impl Collector {
    /// Gives the answer, once. A ledger that was away for anybody makes it a 503: sending again completes what is missing.
    fn answer(&mut self, outstanding: usize) {
        if outstanding == 0 {
            // Before the answer, so that whoever sends one signal after the other is not shed by its own last one.
            self.permit = None;
        }
        let answer = match self.failure.clone() {
            Some(error) => Err(SubmitError::Ledger(error)),
            None => {
                let pending = outstanding + self.undecidable;
                Ok(answer_of(self.signal.id, self.duplicate, self.decided.iter().cloned(), pending))
            }
        };
        give(self.send.take(), answer);
    }

    /// What all have answered, if each has decided.
    fn complete(self) -> Option<KeptAnswer> {
        let is_complete = self.failure.is_none() && self.undecidable == 0;
        is_complete.then_some(KeptAnswer { signal: self.signal, decisions: self.decided })
    }
}

fn give(send: Option<oneshot::Sender<Answer>>, answer: Answer) {
    if let Some(send) = send {
        // The caller may have gone away; the signal has had its consequences all the same.
        let _ = send.send(answer);
    }
}

fn answer_of(
    signal: SignalId,
    duplicate: bool,
    decisions: impl Iterator<Item = Arc<Decision>>,
    pending: usize,
) -> SignalAnswer {
    let mut decisions: Vec<_> = decisions.collect();
    decisions.sort_by_key(|decision| decision.user);
    SignalAnswer { signal, duplicate, decisions, pending }
}

fn undecided(subscribers: &[UserId], decided: &[Decision]) -> Vec<UserId> {
    let done: HashSet<UserId> = decided.iter().map(|decision| decision.user).collect();
    subscribers.iter().filter(|user| !done.contains(*user)).copied().collect()
}
