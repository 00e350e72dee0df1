//! What every actor of one tree shares: the ports, the latch, the boards and the tables that outlive a crashed actor.
//!
//! State that must survive the crash of the actor that works on it lives here, behind short locks, and not in the actor:
//! the orders in flight, the trigger index, who owns which decision. The actors are the order in which it is worked on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use compact_str::CompactString;
use nexus_engine::account::{Account, Context, Effect, Input};
use nexus_engine::gate::Reach;
use nexus_engine::ids::{DecisionId, FeedId, Symbol, Timestamp, UserId};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::order::OrderRequest;
use nexus_engine::protection::Watch;
use nexus_engine::signal::Signal;
use parking_lot::Mutex;
use ractor::ActorRef;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::commit::Committer;
use crate::engine::{Parts, Settings};
use crate::latch::Latch;
use crate::market::{Hit, Market};
use crate::meters::Meters;
use crate::ports::{Clock, HotState, Ledger, LedgerError, Probe, Step, Venue};
use crate::registry::Registry;
use crate::rest::Rest;
use crate::risk::{Request, Task};
use crate::router::{Orders, RouterMessage};
use crate::supervisor::{Restarts, RootMessage};
use crate::tenure::Tenure;
use crate::venue::VenueMessage;

/// Whether the tree takes signals, and if not, why.
pub(crate) type Serving = Result<(), &'static str>;

/// Shared by every actor and task of one tree.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) hot: Arc<dyn HotState>,
    pub(crate) venues: BTreeMap<CompactString, Arc<dyn Venue>>,
    pub(crate) instruments: BTreeMap<Symbol, Arc<Instrument>>,
    pub(crate) settings: Settings,
    pub(crate) probe: Option<Arc<dyn Probe>>,
    /// None when no other process can reach the ledger.
    pub(crate) tenure: Option<Tenure>,
    pub(crate) latch: Latch,
    pub(crate) market: Market,
    pub(crate) registry: Registry,
    pub(crate) owners: Owners,
    pub(crate) orders: Orders,
    pub(crate) committer: Committer,
    pub(crate) meters: Meters,
    pub(crate) restarts: Restarts,
    /// Work that must not be cancelled with the actor or the caller that began it.
    pub(crate) tracker: TaskTracker,
    /// Cancelled when the tree ends.
    pub(crate) closing: CancellationToken,
    pub(crate) ledger_up: AtomicBool,
    /// It was asked afterwards and did not answer: it is not one connection that was lost.
    pub(crate) ledger_away: AtomicBool,
    pub(crate) serving: ArcSwap<Serving>,
    pub(crate) root: ArcSwapOption<ActorRef<RootMessage>>,
    pub(crate) router: ArcSwapOption<ActorRef<RouterMessage>>,
    pub(crate) venue_actors: Mutex<HashMap<CompactString, ActorRef<VenueMessage>>>,
    /// Held while `HALT` is written, removed or looked at.
    pub(crate) halt_file: tokio::sync::Mutex<()>,
    /// Held by a resume: one at a time.
    pub(crate) resume: tokio::sync::Mutex<()>,
    /// Users whose venues have not yet told what became of their orders; whose triggers are armed afterwards.
    pub(crate) unreconciled: Mutex<HashSet<UserId>>,
    /// What a simulated run waits for.
    pub(crate) rest: Rest,
    /// Held while orders in doubt are asked about: one round at a time.
    pub(crate) reconciling: tokio::sync::Mutex<()>,
}

impl Shared {
    /// The shared state of a tree that has not begun.
    pub(crate) fn new(parts: Parts, latch: Latch) -> Arc<Shared> {
        let instruments: BTreeMap<_, _> = parts.instruments.into_iter().map(|i| (i.symbol.clone(), i)).collect();
        let ceilings = &parts.settings.ceilings;
        let (collar, tolerance) = (ceilings.price_collar_percent, ceilings.future_tolerance);
        let rest = Rest::default();
        Arc::new(Shared {
            clock: parts.clock,
            committer: Committer::new(parts.ledger.commits_at_once()),
            ledger: parts.ledger,
            hot: parts.hot,
            venues: parts.venues.into_iter().map(|venue| (CompactString::new(venue.name()), venue)).collect(),
            market: Market::new(instruments.keys().cloned(), collar, tolerance),
            instruments,
            settings: parts.settings,
            probe: parts.probe,
            tenure: parts.tenure,
            latch,
            registry: Registry::new(rest.stir()),
            owners: Owners::default(),
            orders: Orders::new(rest.stir()),
            meters: Meters::new(),
            restarts: Restarts::default(),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            ledger_up: AtomicBool::new(true),
            ledger_away: AtomicBool::new(false),
            serving: ArcSwap::from_pointee(Err("starting")),
            root: ArcSwapOption::empty(),
            router: ArcSwapOption::empty(),
            venue_actors: Mutex::new(HashMap::new()),
            halt_file: tokio::sync::Mutex::new(()),
            resume: tokio::sync::Mutex::new(()),
            unreconciled: Mutex::default(),
            rest,
            reconciling: tokio::sync::Mutex::new(()),
        })
    }

    /// Tells the probe, when there is one, that an entry has come this far.
    pub(crate) fn probe_at(&self, step: Step) {
        if let Some(probe) = &self.probe {
            probe.at(step);
        }
    }

    /// Tells the probe, when there is one, that an actor or loop is about to handle something.
    pub(crate) fn probe_handling(&self, kind: &'static str) {
        if let Some(probe) = &self.probe {
            probe.handling(kind);
        }
    }

    /// The world as an input about `symbol` finds it, with the mark that it is about or else the newest one.
    pub(crate) fn context(&self, symbol: Option<&Symbol>, mark: Option<Mark>, subscribed: bool) -> Context {
        Context {
            gate: self.latch.gate(),
            mark: mark.or_else(|| self.market.mark(symbol?)),
            instrument: symbol.and_then(|symbol| self.instruments.get(symbol).cloned()),
            subscribed,
        }
    }

    /// The world as a signal finds it before one user: the gate is that of the scopes that cover what it would open.
    pub(crate) fn context_of(&self, signal: &Signal, user: UserId, mark: Option<Mark>, subscribed: bool) -> Context {
        let venue = self.instruments.get(&signal.symbol).map(|instrument| instrument.venue.clone());
        let reach = Reach { user, feed: Some(signal.feed), symbol: signal.symbol.clone(), venue };
        Context { gate: self.latch.gate_of(&reach), ..self.context(Some(&signal.symbol), mark, subscribed) }
    }

    /// What a stop can be about, of an order. None when nobody knows whose it is.
    pub(crate) fn reach_of(&self, order: &OrderRequest) -> Option<Reach> {
        let (user, feed) = self.owners.reach_of(order.id.decision)?;
        Some(Reach { user, feed, symbol: order.symbol.clone(), venue: Some(order.venue.clone()) })
    }

    /// The account of a user as the ledger holds it. What the hot state has of it is handed to the ledger, which alone can
    /// say whether it is true.
    pub(crate) async fn load_account(&self, user: UserId) -> Result<Option<Account>, LedgerError> {
        let at_hand = self.hot.account(user).await;
        self.ledger.load_account(user, at_hand).await
    }

    /// The newest committed state of an account; one that is not in memory, as its risk actor would take it up.
    pub(crate) async fn newest_account(&self, user: UserId) -> Result<Option<Arc<Account>>, LedgerError> {
        if let Some(account) = self.registry.committed(user) {
            return Ok(Some(account));
        }
        let loaded = self.load_account(user).await?;
        Ok(loaded.map(|mut account| {
            account.limits = account.limits.tightened_to(&self.settings.ceilings);
            account.quarantined |= account.check().is_err();
            Arc::new(account)
        }))
    }

    /// Remembers whether the ledger answers.
    pub(crate) fn note_ledger(&self, up: bool) {
        if up {
            self.ledger_away.store(false, Ordering::Relaxed);
        }
        if self.ledger_up.swap(up, Ordering::Relaxed) != up {
            if up {
                tracing::info!("the ledger answers again");
            } else {
                tracing::error!("the ledger does not answer; signals are refused, facts wait, stops still leave");
            }
        }
    }

    /// Spawns work that no actor's end cancels, only the end of the tree: what it leaves undone the next start takes up.
    pub(crate) fn spawn_until_closing(&self, work: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Arms what a position waits for; what is true already is looked at now. Not before the user's reconciliation: an exit
    /// that an earlier run has sent would be sent again before the venue has told of it.
    pub(crate) fn arm(self: &Arc<Self>, user: UserId, watch: Watch, seen: Option<Timestamp>) {
        if self.unreconciled.lock().contains(&user) {
            return;
        }
        if let Some(hit) = self.market.arm(user, watch, seen) {
            self.look(hit);
        }
    }

    /// Has an account look at a position, by the mark that it was waiting for.
    pub(crate) fn look(self: &Arc<Self>, hit: Hit) {
        let task = Task::Step(Input::Look(hit.decision));
        self.registry.send(self, hit.user, Request { mark: hit.mark, ..Request::of(task) });
    }

    /// Where a symbol trades.
    pub(crate) fn venue_of(&self, symbol: &Symbol) -> Option<&Arc<dyn Venue>> {
        self.venues.get(&self.instruments.get(symbol)?.venue)
    }

    /// Asks a venue for a cancel; other effects are not for this door.
    pub(crate) fn cancel(self: &Arc<Self>, effect: &Effect) {
        if let Effect::Cancel { order, symbol, venue } = effect {
            crate::router::cancel(self, *order, symbol, venue);
        }
    }
}

/// Whose a decision is, so that a venue's report finds its account. Bounded by open lots and those that ended lately.
#[derive(Default)]
pub(crate) struct Owners {
    map: Mutex<HashMap<DecisionId, Owner>>,
}

#[derive(Clone, Copy)]
struct Owner {
    user: UserId,
    /// Whose signal; not known of what was recalled.
    feed: Option<FeedId>,
    closed_at: Option<Timestamp>,
}

impl Owners {
    /// A decision was accepted for a user.
    pub(crate) fn insert(&self, decision: DecisionId, user: UserId, feed: FeedId) {
        self.map.lock().insert(decision, Owner { user, feed: Some(feed), closed_at: None });
    }

    /// Every lot of an account.
    pub(crate) fn insert_all(&self, account: &Account) {
        let mut map = self.map.lock();
        for lot in account.lots.values() {
            map.insert(lot.decision, Owner { user: account.user, feed: Some(lot.feed), closed_at: lot.closed_at });
        }
    }

    /// The ledger remembers whose it is: it had ended before this tree began, and is forgotten again after a while.
    pub(crate) fn recall(&self, decision: DecisionId, user: UserId, now: Timestamp) {
        self.map.lock().entry(decision).or_insert(Owner { user, feed: None, closed_at: Some(now) });
    }

    /// A position ended; late reports still find it for a while.
    pub(crate) fn close(&self, decision: DecisionId, now: Timestamp) {
        if let Some(owner) = self.map.lock().get_mut(&decision) {
            owner.closed_at = Some(now);
        }
    }

    /// Whose it is.
    pub(crate) fn find(&self, decision: DecisionId) -> Option<UserId> {
        self.map.lock().get(&decision).map(|owner| owner.user)
    }

    /// Whose it is, and whose signal it was.
    fn reach_of(&self, decision: DecisionId) -> Option<(UserId, Option<FeedId>)> {
        self.map.lock().get(&decision).map(|owner| (owner.user, owner.feed))
    }

    /// Users with an accepted decision that has not ended, sorted.
    pub(crate) fn open_users(&self) -> Vec<UserId> {
        let mut users: Vec<_> =
            self.map.lock().values().filter(|owner| owner.closed_at.is_none()).map(|owner| owner.user).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Forgets what ended longer ago than `keep`.
    pub(crate) fn forget_the_old(&self, now: Timestamp, keep: std::time::Duration) {
        self.map.lock().retain(|_, owner| owner.closed_at.is_none_or(|at| now.since(at) < keep));
    }
}
