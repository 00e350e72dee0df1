//! At rest: when everything that a mark or a signal has caused has come to its end.
//!
//! Under a simulated clock the next thing is taken only then, so that a run depends on what is sent and on nothing else:
//! not on threads, not on the speed of a disk, not on when a process was killed. What is under way is counted where it is
//! anyway (messages to accounts, orders in flight, signals in flight, reports on their way); a venue that has answered has
//! reported everything before, and a pump that has answered has handed it over. Something that began and ended between two
//! looks is seen by the count of messages that were ever sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use crate::dispatcher::Dispatcher;
use crate::shared::Shared;

/// The longest that anything may take to come to rest, before its caller is told to ask again.
const REST_WITHIN: Duration = Duration::from_secs(30);
/// How long a venue that does not answer is left alone.
const VENUE_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Asked of a pump: answered when nothing that it was given before is left.
pub(crate) type Question = oneshot::Sender<()>;

/// What is needed to know that everything is at rest.
#[derive(Default)]
pub(crate) struct Rest {
    /// Held while one thing is carried to its end.
    pub(crate) turn: tokio::sync::Mutex<()>,
    stir: Stir,
    reports: AtomicUsize,
    pumps: Mutex<Vec<mpsc::UnboundedSender<Question>>>,
}

/// Something has come to its end, perhaps the last thing.
#[derive(Clone, Default)]
pub(crate) struct Stir(Arc<Notify>);

impl Stir {
    pub(crate) fn stirred(&self) {
        self.0.notify_one();
    }
}

/// A report on its way to the ledger; dropped when it is there.
pub(crate) struct OnItsWay(Arc<Shared>);

impl OnItsWay {
    pub(crate) fn new(shared: &Arc<Shared>) -> OnItsWay {
        shared.rest.reports.fetch_add(1, Ordering::SeqCst);
        OnItsWay(Arc::clone(shared))
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.rest.reports.fetch_sub(1, Ordering::SeqCst);
        self.0.rest.stir.stirred();
    }
}

impl Rest {
    /// Whoever holds this says when something has come to its end.
    pub(crate) fn stir(&self) -> Stir {
        self.stir.clone()
    }

    /// A pump is there; what it gets here it answers when it has handed over everything else.
    pub(crate) fn add_pump(&self) -> mpsc::UnboundedReceiver<Question> {
        let (questions, asked) = mpsc::unbounded_channel();
        self.pumps.lock().push(questions);
        asked
    }
}

/// Waits until everything is at rest; false when that takes too long.
pub(crate) async fn come_to_rest(shared: &Arc<Shared>, dispatcher: &Dispatcher) -> bool {
    let coming = async {
        loop {
            let sends = quiet(shared, dispatcher).await;
            hear_out(shared).await;
            if is_quiet(shared, dispatcher) && shared.registry.sends() == sends {
                return;
            }
        }
    };
    timeout(REST_WITHIN, coming).await.is_ok()
}

/// Waits until nothing is under way; returns how many messages had been sent by then.
async fn quiet(shared: &Arc<Shared>, dispatcher: &Dispatcher) -> u64 {
    loop {
        let sends = shared.registry.sends();
        if is_quiet(shared, dispatcher) {
            return sends;
        }
        // One waiter at most, and a word that came before the wait is kept for it: none is missed.
        shared.rest.stir.0.notified().await;
    }
}

fn is_quiet(shared: &Shared, dispatcher: &Dispatcher) -> bool {
    dispatcher.in_flight() == 0
        && shared.orders.len() == 0
        && shared.rest.reports.load(Ordering::SeqCst) == 0
        && shared.registry.load() == 0
}

/// Everything that the venues have to say so far is with the accounts that it belongs to.
async fn hear_out(shared: &Shared) {
    for venue in shared.venues.values() {
        while let Err(error) = venue.working_orders().await {
            tracing::debug!(venue = venue.name(), %error, "a venue does not answer; it is asked again");
            tokio::time::sleep(VENUE_AGAIN_AFTER).await;
        }
    }
    let pumps = shared.rest.pumps.lock().clone();
    for pump in pumps {
        let (question, answer) = oneshot::channel();
        if pump.send(question).is_ok() {
            // Without an answer the pump has been started again: the count of messages tells what it did.
            let _ = answer.await;
        }
    }
}
