//! What happens by the clock: due times, passivation, doubts, and whether the ledger is back.
//!
//! The ticks are delayed after a pause and not made up for, so a machine that slept does not wake into a burst. The day needs
//! no tick: an account begins a new one with its first turn in it.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::ports::LedgerError;
use crate::shared::Shared;
use crate::startup;

/// How often due times are looked for; they are with every mark as well.
const DUE_EVERY: Duration = Duration::from_millis(100);
/// How often a ledger that was away is asked whether it is back.
const PING_EVERY: Duration = Duration::from_millis(250);
/// How often orders in doubt that nobody is asking about are asked about.
const RECONCILE_EVERY: Duration = Duration::from_secs(30);
/// Late reports of an ended position find their account for so long.
const OWNERS_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// Runs until the tree ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    let ticks = |period| {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let mut due = ticks(DUE_EVERY);
    let mut sweep = ticks((shared.settings.passivate_after / 4).max(Duration::from_millis(10)));
    let mut reconcile = ticks(RECONCILE_EVERY);
    reconcile.reset();
    // One question at a time, beside everything else: the answer of a ledger that is away may take long.
    let mut asking = pin!(ask_the_ledger(&shared));
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            _ = due.tick() => {
                shared.probe_handling("schedule");
                look_at_what_is_due(&shared);
            }
            _ = sweep.tick() => passivate(&shared),
            never = &mut asking => match never {},
            _ = reconcile.tick() => {
                let shared = Arc::clone(&shared);
                shared.clone().spawn_until_closing(async move { startup::reconcile_doubts(&shared).await });
            }
        }
    }
}

/// In a simulated run due times come with marks alone: time does not pass between them.
fn look_at_what_is_due(shared: &Arc<Shared>) {
    if shared.clock.simulation().is_none() {
        shared.market.due(shared.clock.now()).into_iter().for_each(|hit| shared.look(hit));
    }
    let armed = u32::try_from(shared.market.armed()).unwrap_or(u32::MAX);
    shared.meters.triggers_armed.set(f64::from(armed));
}

fn passivate(shared: &Arc<Shared>) {
    let passivated = shared.registry.passivate(shared.settings.passivate_after);
    if passivated > 0 {
        tracing::debug!(passivated, "idle accounts have left memory");
    }
    shared.owners.forget_the_old(shared.clock.now(), OWNERS_KEPT);
}

/// Only a ledger that was away: one that answers says so with every commit.
async fn ask_the_ledger(shared: &Arc<Shared>) -> Infallible {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if !shared.ledger_up.load(Ordering::Relaxed) {
            let answer: Result<(), LedgerError> = shared.ledger.ping().await;
            shared.note_ledger(answer.is_ok());
        }
    }
}
