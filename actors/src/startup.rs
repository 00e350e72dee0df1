//! Start-up is crash recovery; there is no other start.
//!
//! The latch is closed for entries while accounts with open business are read, their venues are asked what became of every
//! order that has not ended, and each user's triggers are armed after that user's answers. Then the latch takes the state
//! that was persisted (or that `HALT` says), entries that are proven absent and still wanted are sent, and fan-outs that
//! were partly decided are finished. A venue that does not answer does not keep the others waiting: its questions go on in
//! the background, and its orders count as exposure meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use nexus_engine::account::{Account, Ask};
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::{ClientOrderId, Leg, Timestamp, UserId};
use nexus_engine::order::{News, Order};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::attempt::{query_until_known, replay};
use crate::commit::Approved;
use crate::dispatcher::Dispatcher;
use crate::engine::{GateStatus, Parts, StartError};
use crate::halt;
use crate::kill_switch;
use crate::ports::{LedgerError, Simulation, Venue};
use crate::reports::tell;
use crate::risk::{Request, RiskError, Task};
use crate::router::{ExitOrder, Outgoing};
use crate::shared::Shared;
use crate::supervisor::keep_running;
use crate::tenure::{self, Tenure};
use crate::{commit, schedule, venue};

/// Accounts read, or reconciled, at once.
const READS_AT_ONCE: usize = 64;

/// The states that the latch will take.
pub(crate) struct Persisted {
    /// Of everything: taken when the recovery is done.
    pub(crate) everything: GateStatus,
    /// Of narrower scopes: in force from the beginning.
    pub(crate) others: Vec<GateStatus>,
}

/// What was persisted (on a first start, active), and what `HALT` says where that is tighter.
pub(crate) async fn persisted_states(parts: &Parts) -> Result<Persisted, StartError> {
    std::fs::create_dir_all(&parts.settings.data_dir)?;
    let now = parts.clock.now();
    let said_by = |by: &str, state, reason| GateStatus {
        scope: Scope::Everything,
        state,
        epoch: 1,
        since: now,
        reason,
        by: by.to_owned(),
    };
    let records = match parts.ledger.trading_states().await {
        Ok(records) => records,
        Err(LedgerError::Corrupt(what)) => {
            let reason = Some(format!("the persisted trading state is unreadable: {what}"));
            vec![said_by("start", TradingState::Halted, reason)]
        }
        Err(error) => return Err(error.into()),
    };
    let mut states: BTreeMap<_, _> = records.into_iter().map(|record| (record.scope.clone(), record)).collect();
    let everything = states.remove(&Scope::Everything);
    let everything = everything.unwrap_or_else(|| said_by("first start", TradingState::Active, None));
    let is_blind = parts.tenure.as_ref().is_some_and(Tenure::is_blind);
    let everything = if is_blind { took_over_blind(everything, now) } else { everything };
    states.insert(Scope::Everything, everything);
    // What cannot be read may be a HALT. To halt is better than not to start: what is open needs its protection.
    let halts = halt::read(&parts.settings.data_dir, now).unwrap_or_else(|error| {
        tracing::error!(%error, "HALT could not be looked for");
        halt::unreadable(&error, now)
    });
    halts.stopped.into_iter().for_each(|halt| heed(&mut states, halt));
    let everything = states.remove(&Scope::Everything);
    let everything = everything.unwrap_or_else(|| said_by("start", TradingState::Halted, None));
    Ok(Persisted { everything, others: states.into_values().collect() })
}

/// The tighter of what is persisted and what the file says: it may stop, and never loosen. A stop that the ledger has as well
/// stays as the ledger has it.
fn heed(states: &mut BTreeMap<Scope, GateStatus>, halt: GateStatus) {
    let next = match states.get(&halt.scope) {
        Some(persisted) if persisted.state >= halt.state && persisted.epoch >= halt.epoch => return,
        Some(persisted) => {
            GateStatus { state: halt.state.max(persisted.state), epoch: halt.epoch.max(persisted.epoch + 1), ..halt }
        }
        None => GateStatus { epoch: halt.epoch.max(1), ..halt },
    };
    states.insert(next.scope.clone(), next);
}

/// The ledger was away between the former owner's last sign of life and now: a stop may have been pressed that it never heard
/// of.
fn took_over_blind(persisted: GateStatus, now: Timestamp) -> GateStatus {
    if persisted.state == TradingState::Halted {
        return persisted;
    }
    let reason = "the ledger was away before this instance took over: a stop may not be recorded in it";
    GateStatus {
        state: TradingState::Halted,
        epoch: persisted.epoch + 1,
        since: now,
        reason: Some(reason.to_owned()),
        by: "takeover".to_owned(),
        scope: Scope::Everything,
    }
}

/// Starts the loops that live as long as the tree.
pub(crate) fn start_loops(shared: &Arc<Shared>) {
    for queue in shared.committer.queues() {
        let committer = Arc::clone(shared);
        keep_running(shared, "committer", move || commit::run(Arc::clone(&committer), queue));
    }
    if shared.tenure.is_some() {
        let (keeper, watcher) = (Arc::clone(shared), Arc::clone(shared));
        keep_running(shared, "lease", move || tenure::keep(Arc::clone(&keeper)));
        keep_running(shared, "trading_state", move || tenure::watch_trading_state(Arc::clone(&watcher)));
    }
    for port in shared.venues.values() {
        let (sender, reports) = unbounded_channel();
        port.connect(sender);
        let inlet = venue::Inlet { reports, questions: shared.rest.add_pump() };
        let (pumped, inlet) = (Arc::clone(shared), Arc::new(tokio::sync::Mutex::new(inlet)));
        keep_running(shared, "reports", move || venue::pump(Arc::clone(&pumped), Arc::clone(&inlet)));
    }
    let scheduled = Arc::clone(shared);
    keep_running(shared, "schedule", move || schedule::run(Arc::clone(&scheduled)));
}

/// Recovers, and opens the latch to `target` unless somebody has stopped meanwhile.
pub(crate) async fn recover(
    shared: &Arc<Shared>,
    dispatcher: &Arc<Dispatcher>,
    target: GateStatus,
) -> Result<(), StartError> {
    for symbol in shared.instruments.keys() {
        // Not one from the future: it would hide every true one until its time has come.
        if let Some(mark) = shared.hot.mark(symbol).await
            && mark.at <= shared.clock.now()
        {
            shared.market.remember(mark);
        }
    }
    take_up_the_simulation(shared);
    let mut wanted = Vec::new();
    let mut users = JoinSet::new();
    // Before anything is read: a report that comes early must not arm anything either.
    let open: Vec<_> = shared
        .ledger
        .users_with_open_business()
        .await?
        .into_iter()
        .map(|user| Unreconciled::new(shared, user))
        .collect();
    let accounts = stream::iter(open).map(|user| async { (show(shared, user.user).await, user) });
    let mut accounts = accounts.buffer_unordered(READS_AT_ONCE);
    let questions = Arc::new(Semaphore::new(READS_AT_ONCE));
    while let Some((account, user)) = accounts.next().await {
        users.spawn(reconcile(user, account?, Arc::clone(&questions)));
    }
    drop(accounts);
    let deadline = Instant::now() + shared.settings.answer_within;
    while let Ok(Some(done)) = timeout_at(deadline, users.join_next()).await {
        match done {
            Ok(asks) => wanted.extend(asks),
            Err(error) => tracing::error!(%error, "the reconciliation of an account has failed"),
        }
    }
    let unfinished = shared.ledger.unfinished_signals().await?;
    let before = shared.latch.status().epoch;
    if !shared.latch.open(before, target) {
        tracing::warn!("a stop came while starting; it stays in force");
    }
    // A stop that only HALT remembered is told to the ledger as well.
    for stopped in shared.latch.stopped() {
        drop(kill_switch::persist(shared, &stopped));
    }
    let epoch = shared.latch.gate().epoch;
    send_entries(shared, wanted, epoch);
    if !users.is_empty() {
        tracing::warn!(users = users.len(), "a venue has not answered; its orders are asked about in the background");
        let late = Arc::clone(shared);
        shared.spawn_until_closing(async move {
            while let Some(done) = users.join_next().await {
                match done {
                    // Not after a stop and a resume that have come meanwhile.
                    Ok(asks) => send_entries(&late, asks, epoch),
                    Err(error) => tracing::error!(%error, "the reconciliation of an account has failed"),
                }
            }
        });
    }
    for mark in unfinished.iter().filter_map(|signal| signal.record.mark.clone()) {
        shared.market.remember(mark);
    }
    for signal in unfinished {
        dispatcher.finish(signal.record, signal.undecided).await;
    }
    Ok(())
}

/// A simulated run goes on with the board that it was killed with.
fn take_up_the_simulation(shared: &Shared) {
    let board = shared.clock.simulation().map(Simulation::board).unwrap_or_default();
    for quote in board {
        // The venue may have been killed before it saw the last mark; seeing it twice does no harm.
        if let (Some(mark), Some(venue)) = (&quote.mark, shared.venue_of(&quote.symbol)) {
            venue.observe(mark);
        }
        shared.market.restore(quote);
    }
}

/// A user whose triggers are not armed while this lives.
struct Unreconciled {
    shared: Arc<Shared>,
    user: UserId,
}

impl Unreconciled {
    fn new(shared: &Arc<Shared>, user: UserId) -> Unreconciled {
        shared.unreconciled.lock().insert(user);
        Unreconciled { shared: Arc::clone(shared), user }
    }
}

impl Drop for Unreconciled {
    fn drop(&mut self) {
        self.shared.unreconciled.lock().remove(&self.user);
    }
}

/// Reads an account through its risk actor.
async fn show(shared: &Arc<Shared>, user: UserId) -> Result<Arc<Account>, LedgerError> {
    let (request, outcome) = Request::with_reply(Task::Show);
    shared.registry.send(shared, user, request);
    match outcome.await {
        Ok(Ok(outcome)) => Ok(outcome.account),
        Ok(Err(RiskError::Ledger(error))) => Err(error),
        Ok(Err(error @ (RiskError::UnknownUser | RiskError::Panicked))) => {
            Err(LedgerError::Corrupt(format!("an account with open business cannot be read: {error:?}")))
        }
        Err(_) => Err(LedgerError::Unavailable("a risk actor has ended".to_owned())),
    }
}

/// Asks about every order of an account that has not ended, then arms and cancels what the account still wants. Returns the
/// entries to be sent once the latch is open.
async fn reconcile(user: Unreconciled, account: Arc<Account>, questions: Arc<Semaphore>) -> Vec<Ask> {
    let shared = Arc::clone(&user.shared);
    // The semaphore is never closed; without a permit the questions would only be asked at once.
    let _turn = questions.acquire().await;
    let recovery = account.recovery();
    let mut entries = Vec::new();
    for ask in recovery.ask {
        let Some(venue) = shared.venues.get(&ask.venue).cloned() else {
            tracing::error!(order = %ask.order, venue = %ask.venue, "an order is at a venue that does not exist any more");
            continue;
        };
        match query_until_known(&shared, &venue, ask.order, &ask.symbol).await {
            Some(found) => {
                let filled = found.reports.iter().any(|report| matches!(report.news, News::Filled { .. }));
                replay(&shared, found);
                if filled || !ask.order.is_entry() {
                    hear_later_exits(&shared, &venue, &ask).await;
                }
            }
            None => match ask.resend.clone() {
                Some(_) if ask.order.is_entry() => entries.push(ask),
                Some(order) => {
                    if let Some(exit) = ExitOrder::new(order) {
                        crate::router::submit(&shared, Outgoing::Exit(exit));
                    }
                }
                None if ask.order.is_entry() => {
                    tell(&shared, ask.order, News::NeverSent { reason: "not at the venue".into() });
                }
                // The next exit of an open position: it had not left.
                None => {}
            },
        }
    }
    drop(user);
    let (request, armed) = Request::with_reply(Task::Arm);
    shared.registry.send(&shared, account.user, request);
    if armed.await.is_err() {
        tracing::error!(user = %account.user, "a risk actor has ended before its triggers were armed");
    }
    recovery.cancel.iter().for_each(|effect| shared.cancel(effect));
    entries
}

/// Exits leave before their turns are committed, and before the commit of the fill that called for them. So after an
/// entry that has filled, and after any exit, the next is asked about, until the venue has none.
async fn hear_later_exits(shared: &Arc<Shared>, venue: &Arc<dyn Venue>, ask: &Ask) {
    let last = match ask.order.leg {
        Leg::Entry => 0,
        Leg::Exit(n) => n,
    };
    for n in last.saturating_add(1).. {
        let exit = ClientOrderId::exit(ask.order.decision, n);
        match query_until_known(shared, venue, exit, &ask.symbol).await {
            Some(found) => replay(shared, found),
            None => return,
        }
    }
}

fn send_entries(shared: &Arc<Shared>, asks: Vec<Ask>, epoch: u64) {
    for approved in asks.into_iter().filter_map(|ask| Approved::by_the_ledger(ask, epoch)) {
        crate::router::submit(shared, Outgoing::Entry(approved));
    }
}

/// Asks about orders that are in doubt and that no task is asking about.
pub(crate) async fn reconcile_doubts(shared: &Arc<Shared>) {
    let Ok(_one_round) = shared.reconciling.try_lock() else { return };
    for user in shared.owners.open_users() {
        let Some(account) = shared.registry.committed(user) else { continue };
        for order in doubts(shared, &account) {
            let Some(venue) = shared.venues.get(&order.venue) else { continue };
            if let Some(found) = query_until_known(shared, venue, order.id, &order.symbol).await {
                replay(shared, found);
            }
        }
    }
}

fn doubts(shared: &Shared, account: &Account) -> Vec<Order> {
    let orders = account.lots.values().flat_map(|lot| std::iter::once(&lot.entry).chain(&lot.exits));
    let in_doubt = |order: &&Order| {
        let asked_about = shared.orders.contains(order.id);
        order.unknown && !order.status.is_terminal() && !asked_about
    };
    orders.filter(in_doubt).cloned().collect()
}
