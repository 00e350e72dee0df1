//! The order router: what goes out, each order once.
//!
//! An order in flight has one slot, keyed by its client order id, and one task; a second request for the same id is not a
//! second order. The slots outlive a crash of this actor: when it starts it routes again whatever has not been started. It
//! takes approved entries and exits, as types, so nothing else can be sent (promise P1). Finding the venue is its job;
//! the attempts are made under the venue's own actor.

use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;
use nexus_engine::ids::{ClientOrderId, DecisionId, Symbol};
use nexus_engine::order::{News, OrderRequest};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::sync::CancellationToken;

use crate::commit::Approved;
use crate::reports::tell;
use crate::rest::Stir;
use crate::shared::Shared;
use crate::venue::VenueMessage;

/// An exit: it stands under the permission of its entry's commit.
#[derive(Clone, Debug)]
pub(crate) struct ExitOrder(OrderRequest);

impl ExitOrder {
    /// The order as an exit; none when it is an entry.
    pub(crate) fn new(order: OrderRequest) -> Option<ExitOrder> {
        (!order.id.is_entry()).then_some(ExitOrder(order))
    }
}

/// What the router takes.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    /// An entry that the ledger holds.
    Entry(Approved),
    /// An exit.
    Exit(ExitOrder),
}

impl Outgoing {
    /// What is to be sent.
    pub(crate) fn order(&self) -> &OrderRequest {
        match self {
            Self::Entry(approved) => approved.order(),
            Self::Exit(exit) => &exit.0,
        }
    }

    /// The epoch in which it may leave; none for an exit, which may always.
    pub(crate) fn epoch(&self) -> Option<u64> {
        match self {
            Self::Entry(approved) => Some(approved.epoch()),
            Self::Exit(_) => None,
        }
    }

    /// The same, after something has happened that leaves open whether it has been sent.
    pub(crate) fn ask_first(self) -> Outgoing {
        match self {
            Self::Entry(approved) => Self::Entry(approved.ask_first()),
            Self::Exit(exit) => Self::Exit(ExitOrder(OrderRequest { ask_first: true, ..exit.0 })),
        }
    }
}

/// An order in flight.
struct Slot {
    outgoing: Outgoing,
    started: bool,
    /// A cancel was asked for: not to be sent any more if it has not been.
    abandoned: CancellationToken,
    /// Nothing more is done for it.
    done: CancellationToken,
}

/// A cancel under way.
#[derive(Clone, Debug)]
pub(crate) struct Cancel {
    pub(crate) order: ClientOrderId,
    pub(crate) symbol: Symbol,
    pub(crate) venue: CompactString,
}

/// An order that its venue's actor has taken on.
pub(crate) struct Started {
    pub(crate) outgoing: Outgoing,
    pub(crate) abandoned: CancellationToken,
}

/// The orders and cancels in flight. Bounded by open lots.
pub(crate) struct Orders {
    stir: Stir,
    slots: Mutex<HashMap<ClientOrderId, Slot>>,
    cancels: Mutex<HashMap<ClientOrderId, (Cancel, bool)>>,
    /// How many exits of a decision its venue has refused in a row.
    refused: Mutex<HashMap<DecisionId, u32>>,
}

impl Orders {
    pub(crate) fn new(stir: Stir) -> Orders {
        Orders { stir, slots: Mutex::default(), cancels: Mutex::default(), refused: Mutex::default() }
    }

    /// Takes an order in, unless one of its id is in flight.
    fn insert(&self, outgoing: Outgoing) -> bool {
        let mut slots = self.slots.lock();
        let id = outgoing.order().id;
        if slots.contains_key(&id) {
            return false;
        }
        let (abandoned, done) = (CancellationToken::new(), CancellationToken::new());
        slots.insert(id, Slot { outgoing, started: false, abandoned, done });
        true
    }

    /// Marks an order as started; none when it already was.
    pub(crate) fn start(&self, id: ClientOrderId) -> Option<Started> {
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(&id).filter(|slot| !slot.started)?;
        slot.started = true;
        Some(Started { outgoing: slot.outgoing.clone(), abandoned: slot.abandoned.clone() })
    }

    /// Nothing more is done for an order.
    pub(crate) fn finish(&self, id: ClientOrderId) {
        if let Some(slot) = self.slots.lock().remove(&id) {
            slot.done.cancel();
        }
        self.stir.stirred();
    }

    /// Asks for an order in flight to be given up; the token says when nothing more is done for it.
    pub(crate) fn abandon(&self, id: ClientOrderId) -> Option<CancellationToken> {
        let slots = self.slots.lock();
        let slot = slots.get(&id)?;
        slot.abandoned.cancel();
        Some(slot.done.clone())
    }

    /// Whether an order is in flight.
    pub(crate) fn contains(&self, id: ClientOrderId) -> bool {
        self.slots.lock().contains_key(&id)
    }

    /// Orders that nobody has started.
    pub(crate) fn unstarted(&self) -> Vec<ClientOrderId> {
        self.slots.lock().iter().filter(|(_, slot)| !slot.started).map(|(id, _)| *id).collect()
    }

    /// Orders for a venue that nobody has started.
    pub(crate) fn unstarted_at(&self, venue: &str) -> Vec<ClientOrderId> {
        let waits = |slot: &Slot| !slot.started && slot.outgoing.order().venue == venue;
        self.slots.lock().iter().filter(|(_, slot)| waits(slot)).map(|(id, _)| *id).collect()
    }

    /// Cancels for a venue that nobody has started.
    pub(crate) fn unstarted_cancels_at(&self, venue: &str) -> Vec<ClientOrderId> {
        let waits = |(cancel, started): &(Cancel, bool)| !started && cancel.venue == venue;
        self.cancels.lock().iter().filter(|(_, slot)| waits(slot)).map(|(id, _)| *id).collect()
    }

    /// How many orders and cancels are in flight.
    pub(crate) fn len(&self) -> usize {
        self.slots.lock().len() + self.cancels.lock().len()
    }

    /// A venue has refused an exit; the account will plan another one.
    pub(crate) fn exit_refused(&self, decision: DecisionId) {
        *self.refused.lock().entry(decision).or_default() += 1;
    }

    /// A venue has taken an exit.
    pub(crate) fn exit_taken(&self, decision: DecisionId) {
        self.refused.lock().remove(&decision);
    }

    /// How many exits of a decision have been refused since one was taken.
    pub(crate) fn exits_refused(&self, decision: DecisionId) -> u32 {
        self.refused.lock().get(&decision).copied().unwrap_or(0)
    }

    fn insert_cancel(&self, cancel: Cancel) -> bool {
        let mut cancels = self.cancels.lock();
        if cancels.contains_key(&cancel.order) {
            return false;
        }
        cancels.insert(cancel.order, (cancel, false));
        true
    }

    /// Marks a cancel as started; none when it already was.
    pub(crate) fn start_cancel(&self, id: ClientOrderId) -> Option<Cancel> {
        let mut cancels = self.cancels.lock();
        let (cancel, started) = cancels.get_mut(&id).filter(|(_, started)| !started)?;
        *started = true;
        Some(cancel.clone())
    }

    /// A cancel is done.
    pub(crate) fn finish_cancel(&self, id: ClientOrderId) {
        self.cancels.lock().remove(&id);
        self.stir.stirred();
    }

    fn unstarted_cancels(&self) -> Vec<ClientOrderId> {
        self.cancels.lock().iter().filter(|(_, (_, started))| !started).map(|(id, _)| *id).collect()
    }

    fn venue_of(&self, id: ClientOrderId) -> Option<CompactString> {
        self.slots.lock().get(&id).map(|slot| slot.outgoing.order().venue.clone())
    }

    fn venue_of_cancel(&self, id: ClientOrderId) -> Option<CompactString> {
        self.cancels.lock().get(&id).map(|(cancel, _)| cancel.venue.clone())
    }
}

/// Sends an order, unless one of its id is in flight.
pub(crate) fn submit(shared: &Arc<Shared>, outgoing: Outgoing) {
    let id = outgoing.order().id;
    if shared.orders.insert(outgoing) {
        cast(shared, RouterMessage::Route(id));
    }
}

/// Asks a venue for a cancel, unless that is under way.
pub(crate) fn cancel(shared: &Arc<Shared>, order: ClientOrderId, symbol: &Symbol, venue: &CompactString) {
    let cancel = Cancel { order, symbol: symbol.clone(), venue: venue.clone() };
    if shared.orders.insert_cancel(cancel) {
        cast(shared, RouterMessage::RouteCancel(order));
    }
}

fn cast(shared: &Shared, message: RouterMessage) {
    let sent = shared.router.load().as_ref().is_some_and(|router| router.send_message(message).is_ok());
    if !sent {
        // The slot is there, and the router looks for unstarted slots when it starts.
        tracing::warn!("the router is being restarted; an order waits for it");
    }
}

/// The mailbox of the router.
pub(crate) enum RouterMessage {
    /// An order is in its slot.
    Route(ClientOrderId),
    /// A cancel is in its slot.
    RouteCancel(ClientOrderId),
}

/// Hands each order to the actor of its venue.
pub(crate) struct OrderRouterActor;

impl Actor for OrderRouterActor {
    type Msg = RouterMessage;
    type State = Arc<Shared>;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<RouterMessage>,
        shared: Arc<Shared>,
    ) -> Result<Arc<Shared>, ActorProcessingErr> {
        shared.router.store(Some(Arc::new(myself)));
        Ok(shared)
    }

    async fn post_start(
        &self,
        _myself: ActorRef<RouterMessage>,
        shared: &mut Arc<Shared>,
    ) -> Result<(), ActorProcessingErr> {
        shared.orders.unstarted().into_iter().for_each(|id| route(shared, id));
        shared.orders.unstarted_cancels().into_iter().for_each(|id| route_cancel(shared, id));
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<RouterMessage>,
        message: RouterMessage,
        shared: &mut Arc<Shared>,
    ) -> Result<(), ActorProcessingErr> {
        shared.probe_handling("router");
        match message {
            RouterMessage::Route(id) => route(shared, id),
            RouterMessage::RouteCancel(id) => route_cancel(shared, id),
        }
        Ok(())
    }
}

fn route(shared: &Arc<Shared>, id: ClientOrderId) {
    let Some(venue) = shared.orders.venue_of(id) else { return };
    if !cast_to_venue(shared, &venue, VenueMessage::Attempt(id)) {
        tracing::error!(order = %id, %venue, "an order names a venue that does not exist");
        shared.orders.finish(id);
        tell(shared, id, News::NeverSent { reason: "no such venue".into() });
    }
}

fn route_cancel(shared: &Arc<Shared>, id: ClientOrderId) {
    let Some(venue) = shared.orders.venue_of_cancel(id) else { return };
    if !cast_to_venue(shared, &venue, VenueMessage::Cancel(id)) {
        tracing::error!(order = %id, %venue, "a cancel names a venue that does not exist");
        shared.orders.finish_cancel(id);
    }
}

/// Returns false when there is no such venue. One whose actor is being restarted looks at the slots when it starts.
fn cast_to_venue(shared: &Shared, venue: &CompactString, message: VenueMessage) -> bool {
    if let Some(actor) = shared.venue_actors.lock().get(venue)
        && actor.send_message(message).is_err()
    {
        tracing::warn!(%venue, "a venue's actor is being restarted; an order waits for it");
    }
    shared.venues.contains_key(venue)
}
