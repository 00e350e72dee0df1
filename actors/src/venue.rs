//! One actor a venue: it starts the task of each order and cancel, and its pump carries the venue's reports back.
//!
//! The attempts run in tasks that the end of this actor does not cancel; the slots of orders say which have been started, so
//! a restarted actor starts the others. The pump owns the channel that the venue reports on, for the whole life of the
//! tree: a report is in the channel or on its way to its account, never in the mailbox of something that may crash.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use compact_str::CompactString;
use futures::FutureExt;
use nexus_engine::ids::ClientOrderId;
use nexus_engine::order::Report;
use nexus_engine::retry::backoff;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::attempt::{self, Attempt};
use crate::ports::Venue;
use crate::reports::deliver;
use crate::rest::Question;
use crate::router::Started;
use crate::shared::Shared;
use crate::supervisor::note_restart;

/// The mailbox of a venue's actor.
pub(crate) enum VenueMessage {
    /// An order is in its slot.
    Attempt(ClientOrderId),
    /// A cancel is in its slot.
    Cancel(ClientOrderId),
}

/// Starts what is to be done at one venue.
pub(crate) struct VenueActor;

/// What a venue's actor works on.
pub(crate) struct Branch {
    shared: Arc<Shared>,
    venue: Arc<dyn Venue>,
}

impl Actor for VenueActor {
    type Msg = VenueMessage;
    type State = Branch;
    type Arguments = (Arc<Shared>, CompactString);

    async fn pre_start(
        &self,
        myself: ActorRef<VenueMessage>,
        (shared, name): Self::Arguments,
    ) -> Result<Branch, ActorProcessingErr> {
        let venue = shared.venues.get(&name).cloned().ok_or_else(|| format!("there is no venue {name}"))?;
        shared.venue_actors.lock().insert(name, myself);
        Ok(Branch { shared, venue })
    }

    async fn post_start(&self, _myself: ActorRef<VenueMessage>, branch: &mut Branch) -> Result<(), ActorProcessingErr> {
        for id in branch.shared.orders.unstarted_at(branch.venue.name()) {
            branch.attempt(id);
        }
        for id in branch.shared.orders.unstarted_cancels_at(branch.venue.name()) {
            branch.cancel(id);
        }
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<VenueMessage>,
        message: VenueMessage,
        branch: &mut Branch,
    ) -> Result<(), ActorProcessingErr> {
        branch.shared.probe_handling("venue");
        match message {
            VenueMessage::Attempt(id) => branch.attempt(id),
            VenueMessage::Cancel(id) => branch.cancel(id),
        }
        Ok(())
    }
}

impl Branch {
    fn attempt(&self, id: ClientOrderId) {
        let Some(started) = self.shared.orders.start(id) else { return };
        let (shared, venue) = (Arc::clone(&self.shared), Arc::clone(&self.venue));
        self.shared.spawn_until_closing(async move {
            keep_attempting(&shared, &venue, started).await;
            shared.orders.finish(id);
        });
    }

    fn cancel(&self, id: ClientOrderId) {
        let Some(cancel) = self.shared.orders.start_cancel(id) else { return };
        let (shared, venue) = (Arc::clone(&self.shared), Arc::clone(&self.venue));
        self.shared.spawn_until_closing(async move {
            attempt::cancel(&shared, &venue, &cancel).await;
            shared.orders.finish_cancel(id);
        });
    }
}

/// Runs the attempts of an order to their end; a panic leaves open what has been sent, so the venue is asked first.
async fn keep_attempting(shared: &Arc<Shared>, venue: &Arc<dyn Venue>, started: Started) {
    let Started { mut outgoing, abandoned } = started;
    let id = outgoing.order().id;
    let mut panics = 0;
    loop {
        let attempt = Attempt {
            shared: Arc::clone(shared),
            venue: Arc::clone(venue),
            outgoing: outgoing.clone(),
            abandoned: abandoned.clone(),
        };
        let Err(_panic) = AssertUnwindSafe(attempt.run()).catch_unwind().await else { return };
        tracing::error!(order = %id, "the task of an order has panicked; the venue is asked");
        note_restart(shared, "order");
        outgoing = outgoing.ask_first();
        panics += 1;
        tokio::time::sleep(backoff(id, panics)).await;
    }
}

/// The ends of a venue's channel that its pump holds. They outlive a crash of the pump.
pub(crate) struct Inlet {
    pub(crate) reports: UnboundedReceiver<Report>,
    pub(crate) questions: UnboundedReceiver<Question>,
}

/// Carries what a venue reports to the accounts, until the venue hangs up or the tree ends. A question is answered only
/// when no report is left.
pub(crate) async fn pump(shared: Arc<Shared>, inlet: Arc<tokio::sync::Mutex<Inlet>>) {
    let mut inlet = inlet.lock().await;
    let Inlet { reports, questions } = &mut *inlet;
    loop {
        tokio::select! {
            biased;
            () = shared.closing.cancelled() => return,
            report = reports.recv() => match report {
                Some(report) => deliver(&shared, report),
                None => return,
            },
            Some(question) = questions.recv() => {
                // Whoever asked may have given up waiting.
                let _ = question.send(());
            }
        }
    }
}
