//! Tenure: how this process comes to own the accounts of a ledger that others can reach too, and what it may do meanwhile.
//!
//! One instance owns them, for a term that it keeps renewing; the others stand by. The ledger refuses the commits of a
//! former owner by his fence. What a ledger cannot refuse is a send, so sends look at this: past its term, by its own
//! steady clock and counted from before the question, an owner opens nothing, and closes only at venues that never take a
//! second order under one id. New exposure also needs to know that nobody has stopped trading: the trading state in the
//! ledger is asked for several times a second, and one that was confirmed more than a second ago is asked for again first.
//! Whoever stood by and saw the ledger away after the owner was last heard of takes over halted: a stop may have been
//! pressed that the ledger never heard of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nexus_engine::gate::{Scope, TradingState};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::engine::StopRequest;
use crate::kill_switch::{self, Acts};
use crate::ports::{Acquired, Holder, Lease, LedgerError, TradingStateRecord, VenueError};
use crate::shared::Shared;

/// How often somebody who stands by looks whether the accounts are free.
const STAND_BY_POLL: Duration = Duration::from_millis(250);
/// A lease is renewed so often within its term.
const RENEWALS_A_TERM: u32 = 5;
/// How often the ledger is asked for the trading state.
const EPOCH_POLL: Duration = Duration::from_millis(200);
/// New exposure needs a trading state that was confirmed at most so long ago.
const EPOCH_CONFIRMED_WITHIN: Duration = Duration::from_secs(1);

/// How long an orderly end waits to give the lease back.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(1);

/// The accounts are this process's own, for now.
pub struct Tenure {
    fence: u64,
    term: Duration,
    /// Whether a stop may have been missed while standing by.
    blind: bool,
    /// Until when the lease is ours by our own clock.
    until: Moment,
    /// When the trading state was last confirmed.
    confirmed: Moment,
    lost: AtomicBool,
    ended: CancellationToken,
}

/// What somebody who stands by has seen.
#[derive(Debug)]
pub enum StandingBy<'a> {
    /// Another process owns the accounts.
    Held(&'a Holder),
    /// The ledger does not answer.
    Away(&'a LedgerError),
}

/// Waits until the accounts are ours. What is seen meanwhile is told, every time.
pub async fn stand_by(
    lease: &dyn Lease,
    owner: &str,
    term: Duration,
    mut tell: impl FnMut(StandingBy<'_>) + Send,
) -> Tenure {
    let mut away_at = lease.was_away_at().map(Instant::from_std);
    loop {
        // Counted from before the question: the ledger's own count begins later.
        let asked = Instant::now();
        let answer = timeout(term, lease.acquire(owner, term)).await;
        match answer.unwrap_or_else(|_| Err(LedgerError::Unavailable("no answer in time".to_owned()))) {
            Ok(Acquired::Owner { fence, former }) => {
                let heard_of = former.and_then(|former| asked.checked_sub(former.renewed_ago).map(|at| (former, at)));
                let blind = away_at.is_some_and(|away| heard_of.is_some_and(|(_, heard)| away > heard));
                return Tenure::new(fence, term, asked, blind);
            }
            Ok(Acquired::Held(holder)) => tell(StandingBy::Held(&holder)),
            Err(error) => {
                away_at = Some(Instant::now());
                tell(StandingBy::Away(&error));
            }
        }
        tokio::time::sleep(STAND_BY_POLL).await;
    }
}

impl Tenure {
    fn new(fence: u64, term: Duration, asked: Instant, blind: bool) -> Tenure {
        let until = Moment::new();
        until.advance(asked + term);
        let (lost, ended) = (AtomicBool::new(false), CancellationToken::new());
        Tenure { fence, term, blind, until, confirmed: Moment::new(), lost, ended }
    }

    /// The fence that this owner commits under.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Whether a stop may have been missed while standing by.
    pub(crate) fn is_blind(&self) -> bool {
        self.blind
    }

    /// Resolves when the accounts have become somebody else's.
    pub(crate) async fn lost(&self) {
        self.ended.cancelled().await;
    }

    fn holds(&self) -> bool {
        !self.lost.load(Ordering::SeqCst) && Instant::now() < self.until.get()
    }

    /// Whether an entry may leave now.
    pub(crate) fn may_open(&self) -> Result<(), VenueError> {
        self.may_send()?;
        if self.is_confirmed() {
            return Ok(());
        }
        Err(VenueError::NotSent("the trading state was not confirmed in time".to_owned()))
    }

    /// Whether anything at all may leave for a venue that would take an order twice.
    pub(crate) fn may_send(&self) -> Result<(), VenueError> {
        if self.holds() { Ok(()) } else { Err(VenueError::NotSent("the lease on the accounts has run out".to_owned())) }
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed.get() + EPOCH_CONFIRMED_WITHIN >= Instant::now()
    }
}

/// Renews the lease until it is lost or the tree ends.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let (Some(tenure), Some(lease)) = (&shared.tenure, shared.ledger.lease()) else { return };
    let mut told = false;
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            () = tokio::time::sleep(tenure.term / RENEWALS_A_TERM) => {}
        }
        let asked = Instant::now();
        let answer = timeout(tenure.term / 2, lease.renew(tenure.term)).await;
        match answer.unwrap_or_else(|_| Err(LedgerError::Unavailable("no answer in time".to_owned()))) {
            Ok(true) => {
                tenure.until.advance(asked + tenure.term);
                told = false;
            }
            Ok(false) => return lose(&shared, tenure),
            Err(error) if !told => {
                told = true;
                tracing::error!(%error, "the lease on the accounts was not renewed; it is tried again");
            }
            Err(_) => {}
        }
    }
}

/// Somebody else owns the accounts. Nothing of this is written anywhere: it is their ledger, and it may be their disk.
fn lose(shared: &Shared, tenure: &Tenure) {
    tracing::error!(
        fence = tenure.fence,
        "another instance owns the accounts now; this one sends nothing more and ends"
    );
    tenure.lost.store(true, Ordering::SeqCst);
    let reason = Some("another instance owns the accounts".to_owned());
    shared.latch.close(&Scope::Everything, TradingState::Halted, "lease", reason, shared.clock.now());
    shared.latch.drop_sends(&Scope::Everything);
    tenure.ended.cancel();
}

/// Lets others own the accounts at once: an orderly end. Whoever cannot be told waits for the term to run out.
pub(crate) async fn give_back(shared: &Shared) {
    if let (Some(tenure), Some(lease)) = (&shared.tenure, shared.ledger.lease())
        && !tenure.lost.swap(true, Ordering::SeqCst)
    {
        match timeout(GIVE_BACK_WITHIN, lease.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease on the accounts was not given back"),
            Err(_) => tracing::warn!("the lease on the accounts was not given back in time"),
        }
    }
}

/// Asks the ledger for the trading state until the tree ends: several times a second, and at once on a hint.
pub(crate) async fn watch_trading_state(shared: Arc<Shared>) {
    let mut hints = shared.hot.hints();
    loop {
        hints.mark_unchanged();
        confirm(&shared).await;
        tokio::select! {
            () = shared.closing.cancelled() => return,
            () = tokio::time::sleep(EPOCH_POLL) => {}
            Ok(()) = hints.changed() => {}
        }
    }
}

/// Makes sure, before an entry is handed to its venue, that the trading state is a fresh one. What is not confirmed is found
/// out again at the venue's own last look.
pub(crate) async fn ensure_confirmed(shared: &Arc<Shared>) {
    if shared.tenure.as_ref().is_some_and(|tenure| !tenure.is_confirmed()) {
        confirm(shared).await;
    }
}

/// Asks the ledger for the trading state once. One that is tighter than ours, and newer, was set elsewhere and is obeyed;
/// only a person loosens, here.
async fn confirm(shared: &Arc<Shared>) {
    let Some(tenure) = &shared.tenure else { return };
    let asked = Instant::now();
    match timeout(EPOCH_CONFIRMED_WITHIN, shared.ledger.trading_states()).await {
        Ok(Ok(records)) => {
            records.iter().for_each(|record| obey(shared, record));
            tenure.confirmed.advance(asked);
        }
        Ok(Err(LedgerError::Corrupt(what))) => {
            halt(shared, "start", format!("the persisted trading state is unreadable: {what}"));
        }
        // The ledger is away: nothing is confirmed, and so nothing is opened.
        Ok(Err(_)) | Err(_) => {}
    }
}

fn obey(shared: &Arc<Shared>, record: &TradingStateRecord) {
    let Some(closed) = shared.latch.hear_of(record) else { return };
    let engaging = Arc::clone(shared);
    shared.tracker.spawn(async move {
        kill_switch::engage(&engaging, closed, Acts::CANCEL).await;
    });
}

fn halt(shared: &Arc<Shared>, by: &str, reason: String) {
    if shared.latch.gate().state == TradingState::Halted {
        return;
    }
    let stopping = Arc::clone(shared);
    let request = StopRequest {
        scope: Scope::Everything,
        state: TradingState::Halted,
        by: by.to_owned(),
        reason: Some(reason),
        cancel_open_orders: false,
        flatten: false,
    };
    shared.tracker.spawn(async move {
        kill_switch::stop(&stopping, request).await;
    });
}

/// A moment that any thread may move, forwards only.
struct Moment {
    base: Instant,
    micros: AtomicU64,
}

impl Moment {
    /// Now, or a little earlier.
    fn new() -> Moment {
        Moment { base: Instant::now(), micros: AtomicU64::new(0) }
    }

    fn get(&self) -> Instant {
        self.base + Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn advance(&self, to: Instant) {
        let micros = u64::try_from(to.saturating_duration_since(self.base).as_micros()).unwrap_or(0);
        self.micros.fetch_max(micros, Ordering::SeqCst);
    }
}
