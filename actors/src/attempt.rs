//! The task of one order: look, send, wait, ask, until its fate is known.
//!
//! An entry is sent only under a permit that looks at the gate right before the first byte. What was not sent is tried
//! again after a backoff that is a function of order and attempt. What may have been sent is asked about by its id until the
//! venue says, and sent again only when the venue proves that it does not have it (promise P3). An exit is tried for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use nexus_engine::ids::{ClientOrderId, Symbol};
use nexus_engine::order::{News, OrderRequest};
use nexus_engine::retry::{ATTEMPTS_MAX, backoff};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::latch;
use crate::ports::{CancelReply, SendPermit, Step, SubmitReply, Venue, VenueError, VenueOrder};
use crate::reports::{deliver, tell};
use crate::router::{Cancel, Outgoing};
use crate::shared::Shared;
use crate::tenure::{self, Tenure};

/// The permit of one attempt.
struct GatePermit<'a> {
    shared: &'a Shared,
    /// None for an exit: it passes whatever the trading state.
    send: Option<&'a latch::Send<'a>>,
    /// Whether the venue never takes an id twice: then an exit passes, whoever owns the accounts.
    is_sure_of_ids: bool,
    /// Whether the venue has begun to write.
    entered: AtomicBool,
}

impl SendPermit for GatePermit<'_> {
    fn enter(&self) -> Result<Box<dyn Send + '_>, VenueError> {
        let guard: Box<dyn Send + '_> = match (self.send, &self.shared.tenure) {
            (Some(send), tenure) => {
                let guard = send.enter()?;
                tenure.as_ref().map_or(Ok(()), Tenure::may_open)?;
                Box::new(guard)
            }
            (None, Some(tenure)) if !self.is_sure_of_ids => {
                tenure.may_send()?;
                Box::new(())
            }
            (None, _) => Box::new(()),
        };
        self.entered.store(true, Ordering::SeqCst);
        if self.send.is_some() {
            self.shared.probe_at(Step::InSend);
        }
        Ok(guard)
    }
}

/// An order at its venue.
pub(crate) struct Attempt {
    pub(crate) shared: Arc<Shared>,
    pub(crate) venue: Arc<dyn Venue>,
    pub(crate) outgoing: Outgoing,
    pub(crate) abandoned: CancellationToken,
}

/// What one attempt to send came to.
enum Sent {
    /// The order's fate is known and told.
    Done,
    /// Nothing reached the venue.
    No { wait: Duration, reason: CompactString },
    /// Something may have reached it.
    Perhaps,
}

impl Attempt {
    /// Runs until nothing more is to be done for the order.
    pub(crate) async fn run(self) {
        self.keep_pace().await;
        let mut may_be_there = self.order().ask_first;
        let mut attempt = 0;
        loop {
            if may_be_there {
                if self.ask().await {
                    return;
                }
                // A venue that loses what it is sent is not helped by more of it at once.
                self.pause(if attempt == 0 { Duration::ZERO } else { backoff(self.order().id, attempt) }).await;
            }
            if let Some(reason) = self.not_to_be_sent(attempt) {
                return self.tell(News::NeverSent { reason });
            }
            attempt += 1;
            match self.send(attempt).await {
                Sent::Done => return,
                Sent::Perhaps => may_be_there = true,
                Sent::No { wait, reason } => {
                    may_be_there = false;
                    self.shared.meters.order_retries.increment(1);
                    tracing::warn!(order = %self.order().id, attempt, %reason, "an order was not sent; it is tried again");
                    self.pause(wait).await;
                }
            }
        }
    }

    /// A venue that refuses exits gets the next one after a longer and longer wait: each is a new order, a turn and a row.
    async fn keep_pace(&self) {
        let id = self.order().id;
        let refused = if id.is_entry() { 0 } else { self.shared.orders.exits_refused(id.decision) };
        if refused > 0 {
            self.pause(backoff(id, refused)).await;
        }
    }

    /// Waits, unless the order is given up.
    async fn pause(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.abandoned.cancelled() => {}
        }
    }

    fn order(&self) -> &OrderRequest {
        self.outgoing.order()
    }

    fn tell(&self, news: News) {
        tell(&self.shared, self.order().id, news);
    }

    /// Why an entry that has not left must not leave any more.
    fn not_to_be_sent(&self, attempts: u32) -> Option<CompactString> {
        self.outgoing.epoch()?;
        if self.abandoned.is_cancelled() {
            return Some("cancelled before it was sent".into());
        }
        if self.order().send_before.is_some_and(|last| self.shared.clock.now() > last) {
            return Some("too late to be sent".into());
        }
        (attempts >= ATTEMPTS_MAX).then(|| "given up after repeated attempts".into())
    }

    async fn send(&self, attempt: u32) -> Sent {
        let order = self.order();
        let send = match self.outgoing.epoch() {
            Some(epoch) => {
                tenure::ensure_confirmed(&self.shared).await;
                let Some(reach) = self.shared.reach_of(order) else {
                    tracing::error!(order = %order.id, "an entry belongs to nobody; it is not sent");
                    self.tell(News::NeverSent { reason: "nobody knows whose it is".into() });
                    return Sent::Done;
                };
                Some(self.shared.latch.begin(reach, epoch))
            }
            None => None,
        };
        let permit = GatePermit {
            shared: &self.shared,
            send: send.as_ref(),
            is_sure_of_ids: self.venue.client_ids_are_unique_for_ever(),
            entered: AtomicBool::new(false),
        };
        // A stop drops an entry that is held at its venue; an exit is not the stop's business.
        let dropped = async {
            match &send {
                Some(send) => send.dropped().await,
                None => std::future::pending().await,
            }
        };
        let limit = self.shared.settings.venue_timeout;
        let reply = tokio::select! {
            biased;
            () = dropped => Err(match permit.entered.load(Ordering::SeqCst) {
                true => VenueError::Unknown("dropped by a stop".to_owned()),
                false => VenueError::GateClosed,
            }),
            reply = timeout(limit, self.venue.submit(order, &permit)) => {
                reply.unwrap_or_else(|_| Err(VenueError::Unknown(format!("no answer in {limit:?}"))))
            }
        };
        self.shared.meters.orders_sent.increment(1);
        let entered = permit.entered.load(Ordering::SeqCst);
        self.judge(reply, entered, attempt)
    }

    fn judge(&self, reply: Result<SubmitReply, VenueError>, entered: bool, attempt: u32) -> Sent {
        let id = self.order().id;
        let wait = backoff(id, attempt);
        if reply.is_ok() && id.is_entry() {
            self.shared.probe_at(Step::AfterSendBeforeReport);
        }
        match reply {
            Ok(SubmitReply::Acknowledged) => {
                self.shared.orders.exit_taken(id.decision);
                self.tell(News::Acknowledged);
            }
            // The execution tells the account that the venue has the order: told apart, it would be one more turn.
            Ok(SubmitReply::Traded) => self.shared.orders.exit_taken(id.decision),
            Ok(SubmitReply::Rejected(reason)) => {
                if !id.is_entry() {
                    self.shared.orders.exit_refused(id.decision);
                }
                self.tell(News::Rejected { reason });
            }
            Ok(SubmitReply::DuplicateId) => return Sent::Perhaps,
            Err(VenueError::GateClosed) => {
                self.tell(News::NeverSent { reason: "stopped before it was sent".into() });
            }
            Err(VenueError::NotSent(reason)) => return Sent::No { wait, reason: reason.into() },
            Err(VenueError::SlowDown(least)) => return Sent::No { wait: wait.max(least), reason: "slow down".into() },
            Err(VenueError::Unknown(reason)) if entered => {
                self.shared.meters.orders_unknown.increment(1);
                tracing::warn!(order = %id, reason, "the outcome of an order is unknown; the venue is asked");
                self.tell(News::Unknown);
                return Sent::Perhaps;
            }
            // The permit was never entered, so not a byte was written.
            Err(VenueError::Unknown(reason)) => return Sent::No { wait, reason: reason.into() },
        }
        Sent::Done
    }

    /// Asks the venue until it says. Returns whether it has the order; then what it reported has been told.
    async fn ask(&self) -> bool {
        let order = self.order();
        match query_until_known(&self.shared, &self.venue, order.id, &order.symbol).await {
            Some(found) => {
                self.shared.orders.exit_taken(order.id.decision);
                replay(&self.shared, found);
                true
            }
            None => false,
        }
    }
}

/// Asks a venue about an order until it answers.
pub(crate) async fn query_until_known(
    shared: &Arc<Shared>,
    venue: &Arc<dyn Venue>,
    order: ClientOrderId,
    symbol: &Symbol,
) -> Option<VenueOrder> {
    let mut attempt = 0;
    loop {
        match query(shared, venue, order, symbol).await {
            Ok(found) => return found,
            Err(error) => {
                attempt += 1;
                tracing::warn!(%order, %error, attempt, "a venue could not say whether it has an order");
                let least = if let VenueError::SlowDown(least) = error { least } else { Duration::ZERO };
                tokio::time::sleep(backoff(order, attempt).max(least)).await;
            }
        }
    }
}

/// Asks a venue about an order once.
async fn query(
    shared: &Arc<Shared>,
    venue: &Arc<dyn Venue>,
    order: ClientOrderId,
    symbol: &Symbol,
) -> Result<Option<VenueOrder>, VenueError> {
    timeout(shared.settings.venue_timeout, venue.query(order, symbol))
        .await
        .unwrap_or_else(|_| Err(VenueError::Unknown("no answer in time".to_owned())))
}

/// Tells an account everything that its venue has ever reported about an order.
pub(crate) fn replay(shared: &Arc<Shared>, found: VenueOrder) {
    found.reports.into_iter().for_each(|report| deliver(shared, report));
}

/// Cancels an order: gives it up when it has not left, asks the venue when it has.
pub(crate) async fn cancel(shared: &Arc<Shared>, venue: &Arc<dyn Venue>, cancel: &Cancel) {
    if let Some(done) = shared.orders.abandon(cancel.order) {
        done.cancelled().await;
    }
    let mut attempt = 0;
    loop {
        let reply = timeout(shared.settings.venue_timeout, venue.cancel(cancel.order, &cancel.symbol)).await;
        match reply.unwrap_or_else(|_| Err(VenueError::Unknown("no answer in time".to_owned()))) {
            Ok(CancelReply::Accepted) => return,
            Ok(CancelReply::NothingToCancel) => {
                match query_until_known(shared, venue, cancel.order, &cancel.symbol).await {
                    Some(found) => replay(shared, found),
                    None => tell(shared, cancel.order, News::NeverSent { reason: "not at the venue".into() }),
                }
                return;
            }
            Err(error) => {
                attempt += 1;
                tracing::warn!(order = %cancel.order, %error, attempt, "a cancel was not taken; it is tried again");
                let least = if let VenueError::SlowDown(least) = error { least } else { Duration::ZERO };
                tokio::time::sleep(backoff(cancel.order, attempt).max(least)).await;
            }
        }
    }
}
