//! What reaches the hot state, and how far what comes back from it is believed.

use std::sync::Arc;
use std::time::Duration;

use nexus_actors::engine::{Engine, SignalAnswer, SubmitError};
use nexus_actors::ports::LedgerError;
use nexus_engine::account::Account;
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::signal::{Side, Signal};
use nexus_engine::units::Money;

use crate::world::{World, accepted, entry_of, stop, until, user};

fn is_away(error: &SubmitError) -> bool {
    matches!(error, SubmitError::Ledger(LedgerError::Unavailable(_)))
}

/// While a signal is in flight, it is known without the ledger that its key is used.
async fn once_nothing_is_in_flight(engine: &Engine, signal: &Signal) -> Result<SignalAnswer, SubmitError> {
    loop {
        match engine.submit(signal.clone()).await {
            Err(SubmitError::KeyReused) => tokio::task::yield_now().await,
            other => return other,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acceptance_arms_its_duplicate_window_and_a_refusal_none() {
    let mut world = World::new(1);
    world.settings.ceilings.duplicate_window = Duration::from_secs(600);
    let engine = world.start().await;
    let first = engine.submit(world.signal("a")).await;
    entry_of(&first);
    let refused = engine.submit(world.signal("b")).await.unwrap();
    assert_eq!(accepted(&refused.decisions[0]), None);
    let windows = world.hot.windows.lock().clone();
    assert_eq!(windows.len(), 1, "{windows:?}");
    let window = &windows[0];
    assert_eq!((window.user, window.symbol.as_str(), window.side), (user(1), "EURUSD", Side::Buy));
    assert_eq!((window.accepted_at, window.lasts), (first.unwrap().decisions[0].at, Duration::from_secs(600)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_ledger_is_away_a_repeat_hears_what_was_decided_and_nothing_else_is() {
    let world = World::new(2);
    let engine = world.start().await;
    let first = engine.submit(world.signal("a")).await.unwrap();
    assert_eq!(first.decisions.len(), 2);
    until("the answer is kept", || world.hot.answers.lock().contains_key(&first.signal).then_some(())).await;
    world.ledger.set_away(true);
    let again = engine.submit(world.signal("a")).await.unwrap();
    assert!(again.duplicate);
    assert_eq!((again.decisions, again.pending), (first.decisions.clone(), 0));
    let other = world.signal_with("a", |raw| raw.take_profit = Some("1.08800".to_owned()));
    let refused = once_nothing_is_in_flight(&engine, &other).await.unwrap_err();
    assert!(is_away(&refused), "only the ledger can say that a key was used: {refused:?}");
    assert!(is_away(&engine.submit(world.signal("b")).await.unwrap_err()));
    // With the ledger, its word counts and nobody else's.
    world.ledger.set_away(false);
    until("the ledger is known to be back", || engine.status().ledger_up.then_some(())).await;
    world.hot.answers.lock().get_mut(&first.signal).unwrap().decisions.clear();
    let repeated = once_nothing_is_in_flight(&engine, &world.signal("a")).await.unwrap();
    assert_eq!(repeated.decisions, first.decisions);
    assert_eq!(world.ledger.decisions().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_somebody_missing_is_not_kept() {
    let world = World::new(1);
    let engine = world.start().await;
    world.ledger.set_full(true);
    assert!(is_away(&engine.submit(world.signal("a")).await.unwrap_err()));
    assert!(world.hot.answers.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trading_state_that_is_durable_is_told_with_a_hint() {
    let world = World::new(1);
    let engine = world.start().await;
    let hints = || *world.hot.hints.borrow();
    let stopped = engine.stop(stop()).await;
    assert!(stopped.persisted);
    assert_eq!(world.hot.state.lock().as_ref(), world.ledger.state().as_ref());
    assert_eq!(hints(), 1);
    let resumed = engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();
    let told = world.hot.state.lock().clone().unwrap();
    assert_eq!((told.state, told.epoch), (TradingState::Active, resumed.epoch));
    assert_eq!(hints(), 2);
    world.ledger.set_away(true);
    assert!(!engine.stop(stop()).await.persisted);
    assert_eq!(hints(), 2, "what only this process knows is nothing to look for in the ledger");
    world.ledger.set_away(false);
    until("it is durable, and told", || (hints() == 3).then_some(())).await;
    assert_eq!(world.hot.state.lock().as_ref(), world.ledger.state().as_ref());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_hot_state_has_of_an_account_goes_to_the_ledger_and_no_further() {
    let world = World::new(1);
    let rich = Account { starting_equity: Money::whole(1_000_000), version: 0, ..world.ledger.account(user(1)) };
    world.hot.accounts.lock().insert(user(1), Arc::new(rich.clone()));
    let engine = world.start().await;
    assert_eq!(engine.account(user(1)).await.unwrap().unwrap().equity(), Money::whole(500));
    entry_of(&engine.submit(world.signal("a")).await);
    let account = world.ledger.account(user(1));
    assert_eq!(account.equity(), Money::whole(500));
    let handed = world.ledger.at_hand();
    assert!(handed.len() >= 2 && handed.iter().all(|account| **account == rich), "both ways ask with it");
}
