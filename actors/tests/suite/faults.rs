//! The ledger vetoes, goes away, and loses answers; venues' facts wait, and stops leave all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nexus_actors::engine::SubmitError;
use nexus_engine::account::{Account, Input};
use nexus_engine::ids::ClientOrderId;
use nexus_engine::order::OrderStatus;
use nexus_engine::units::Money;

use crate::ledger::Fault;
use crate::world::{World, accepted, entry_of, is_filled, reasons, until, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_veto_voids_what_was_stepped_behind_it_and_memory_equals_the_ledger_afterwards() {
    let world = World::new(1);
    world.venue.fills.store(false, Ordering::SeqCst);
    let engine = world.start().await;
    let small = |key: &str| world.signal_with(key, |raw| raw.stop_loss = Some("1.07000".to_owned()));
    let first = entry_of(&engine.submit(small("first")).await);
    until("the first entry is at the venue", || world.venue.orders().contains(&first).then_some(())).await;

    // While the veto is on its way a fill and two more signals are stepped behind it.
    world.ledger.set_slow(Duration::from_millis(30));
    world.ledger.fail_next(Fault::Veto);
    let vetoed = tokio::spawn({
        let (engine, signal) = (engine.clone(), small("vetoed"));
        async move { engine.submit(signal).await }
    });
    let commits = world.ledger.commits.load(Ordering::SeqCst);
    until("its commit has begun", || (world.ledger.commits.load(Ordering::SeqCst) > commits).then_some(())).await;
    world.venue.fill(first);
    let (b, c) = tokio::join!(engine.submit(small("b")), engine.submit(small("c")));
    world.ledger.set_slow(Duration::ZERO);
    let vetoed = vetoed.await.unwrap().unwrap();
    assert_eq!(reasons(&vetoed.decisions[0]), ["ledger_veto"]);
    for answer in [b, c] {
        assert_eq!(answer.unwrap().decisions.len(), 1);
    }
    let account = world.until_account(user(1), "the fill is counted", is_filled).await;
    let in_memory = engine.set_trading(user(1), false).await.unwrap();
    assert_eq!(*in_memory, world.ledger.account(user(1)));
    assert_eq!(account.lots[&first.decision].executions.len(), 1);
    account.check().unwrap();
    let sent: Vec<_> = world.ledger.decisions().iter().filter_map(accepted).collect();
    until("what was accepted has left, and nothing else", || {
        let mut wire = world.venue.wire();
        let mut sent = sent.clone();
        wire.sort_unstable();
        sent.sort_unstable();
        (wire == sent).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_ledger_is_away_signals_are_refused_stops_leave_and_facts_wait() {
    let world = World::new(1);
    let engine = world.start().await;
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    world.until_account(user(1), "the entry is filled", is_filled).await;

    world.ledger.set_away(true);
    let refused = engine.submit(world.signal("b")).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Ledger(_)), "{refused:?}");
    world.mark(&engine, "1.08290", "1.08300").await;
    let exit = ClientOrderId::exit(entry.decision, 1);
    until("the stop has left", || world.venue.orders().contains(&exit).then_some(())).await;
    assert!(!engine.status().ledger_up);
    assert!(world.ledger.account(user(1)).has_open_business(), "nothing was written");

    world.ledger.set_away(false);
    let account = world.until_account(user(1), "the facts have been committed", |a| !a.has_open_business()).await;
    assert_eq!(account.lots[&entry.decision].exits.len(), 1);
    assert_eq!(world.venue.written(exit), 1, "stepped again, not sent again");
    assert_eq!(account.lots[&entry.decision].executions.len(), 2);
    until("the ledger is known to be back", || engine.status().ledger_up.then_some(())).await;
    assert_eq!(engine.submit(world.signal("b")).await.unwrap().decisions.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_can_be_read_and_takes_no_write_is_not_called_well() {
    let world = World::new(1);
    let engine = world.start().await;
    engine.submit(world.signal("decided")).await.unwrap();
    // No fact is left that would have to be written.
    world.until_account(user(1), "the entry is filled", is_filled).await;
    world.ledger.set_full(true);
    for attempt in 0..3 {
        engine.submit(world.signal(&attempt.to_string())).await.unwrap_err();
        // A change that changes nothing needs no write: it is answered once the account has been read again.
        let read_again = async {
            while engine.set_trading(user(1), true).await.is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read_again).await.expect("the account is read again");
        assert!(engine.submit(world.signal("decided")).await.unwrap().duplicate, "answered by reading");
        assert!(!engine.status().ledger_up, "after attempt {attempt}");
    }
    world.ledger.set_full(false);
    until("the ledger is known to be back", || engine.status().ledger_up.then_some(())).await;
    assert_eq!(engine.submit(world.signal("b")).await.unwrap().decisions.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_leave_also_when_the_ledger_has_been_away_for_a_while() {
    let world = World::new(1);
    let engine = world.start().await;
    let near = entry_of(&engine.submit(world.signal("near")).await);
    let far = world.signal_with("far", |raw| raw.stop_loss = Some("1.08200".to_owned()));
    let far = entry_of(&engine.submit(far).await);
    let both_filled = |a: &Account| a.lots.values().all(|lot| lot.entry.status == OrderStatus::Filled);
    world.until_account(user(1), "both entries are filled", both_filled).await;

    world.ledger.set_away(true);
    world.mark(&engine, "1.08290", "1.08300").await;
    until("the ledger is known to be away", || (!engine.status().ledger_up).then_some(())).await;
    world.mark(&engine, "1.08190", "1.08200").await;
    let exits = [near, far].map(|entry| ClientOrderId::exit(entry.decision, 1));
    for exit in exits {
        until("the stop has left", || world.venue.orders().contains(&exit).then_some(())).await;
    }
    world.ledger.set_away(false);
    world.until_account(user(1), "the facts have been committed", |a| !a.has_open_business()).await;
    assert_eq!(exits.map(|exit| world.venue.written(exit)), [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_that_was_given_up_is_armed_again() {
    let world = World::new(1);
    let engine = world.start().await;
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    world.until_account(user(1), "the entry is filled", is_filled).await;
    let looks = AtomicU32::new(0);
    world.hooks.stepping(move |_, input| {
        let looked = matches!(input, Input::Look(_)) && looks.fetch_add(1, Ordering::SeqCst) < 2;
        assert!(!looked, "a bug, told to happen twice");
    });
    world.mark(&engine, "1.08290", "1.08300").await;
    world.until_account(user(1), "the stop has worked", |a| !a.has_open_business()).await;
    assert_eq!(world.venue.written(ClientOrderId::exit(entry.decision, 1)), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_goes_away_under_a_signal_leaves_no_decision_in_memory() {
    let world = World::new(1);
    let engine = world.start().await;
    engine.set_trading(user(1), true).await.unwrap();
    // Away only after the dispatcher has read: the first input to be stepped takes it away.
    let ledger = Arc::clone(&world.ledger);
    world.hooks.stepping(move |_, input| {
        if matches!(input, Input::Signal(_)) {
            ledger.set_away(true);
        }
    });
    assert!(matches!(engine.submit(world.signal("a")).await, Err(SubmitError::Ledger(_))));
    world.hooks.stepping(|_, _| {});
    world.ledger.set_away(false);
    assert!(world.ledger.decisions().is_empty());
    assert!(world.venue.wire().is_empty(), "nothing leaves before its decision is durable");
    let again = until_submitted(&engine, || world.signal("a")).await;
    assert!(accepted(&again.decisions[0]).is_some(), "no trace of the first try in the duplicate window");
}

/// Sends a signal until the ledger is noticed to be back.
async fn until_submitted(
    engine: &nexus_actors::engine::Engine,
    signal: impl Fn() -> nexus_engine::signal::Signal,
) -> nexus_actors::engine::SignalAnswer {
    for _ in 0..500 {
        match engine.submit(signal()).await {
            Ok(answer) => return answer,
            Err(error) => assert!(matches!(error, SubmitError::Ledger(_)), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the ledger is not noticed to be back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_doubt_is_read_back_before_anything_is_answered_or_sent() {
    for fault in [Fault::LostAnswer, Fault::LostRequest] {
        let world = World::new(1);
        let engine = world.start().await;
        world.ledger.fail_next(fault);
        let answer = engine.submit(world.signal("a")).await;
        let entry = entry_of(&answer);
        let account = world.until_account(user(1), "the entry is filled", is_filled).await;
        assert_eq!(world.ledger.decisions().len(), 1, "{fault:?}");
        assert_eq!(world.venue.written(entry), 1, "{fault:?}: sent once");
        assert_eq!(account.lots.len(), 1);
        let repeat = engine.submit(world.signal("a")).await.unwrap();
        assert!(repeat.duplicate);
        assert_eq!(repeat.decisions, answer.unwrap().decisions);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_survive_every_kind_of_lost_commit_and_count_once() {
    for fault in [Fault::LostAnswer, Fault::LostRequest] {
        let world = World::new(1);
        world.venue.fills.store(false, Ordering::SeqCst);
        let engine = world.start().await;
        let entry = entry_of(&engine.submit(world.signal("a")).await);
        let acknowledged = |a: &Account| a.lots[&entry.decision].entry.status == OrderStatus::Working;
        world.until_account(user(1), "the venue has the entry", acknowledged).await;
        world.ledger.fail_next(fault);
        world.venue.fill(entry);
        let account = world.until_account(user(1), "the fill is counted", is_filled).await;
        world.venue.repeat_reports();
        engine.set_trading(user(1), false).await.unwrap();
        assert_eq!(account.lots[&entry.decision].executions.len(), 1);
        assert_eq!(world.ledger.account(user(1)).lots, account.lots, "a repeated report changes nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_step_is_retried_on_an_account_from_the_ledger() {
    let world = World::new(2);
    let engine = world.start().await;
    let panics = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&panics);
    world.hooks.stepping(move |of, input| {
        if of == user(1) && matches!(input, Input::Signal(_)) && count.fetch_add(1, Ordering::SeqCst) == 0 {
            panic!("a bug, told to happen once");
        }
    });
    let answer = engine.submit(world.signal("a")).await.unwrap();
    assert_eq!((answer.decisions.len(), answer.pending), (2, 0));
    assert_eq!(panics.load(Ordering::SeqCst), 2);
    assert!(!world.ledger.account(user(1)).quarantined);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whose_signals_panic_is_quarantined_alone_and_keeps_the_stops() {
    let world = World::new(2);
    let engine = world.start().await;
    let first = engine.submit(world.signal("a")).await.unwrap();
    world.until_account(user(1), "the entry is filled", is_filled).await;
    world.hooks.stepping(move |of, input| {
        assert!(!(of == user(1) && matches!(input, Input::Signal(_))), "a bug, told to happen");
    });
    for key in ["b", "c"] {
        let answer = engine.submit(world.signal(key)).await.unwrap();
        assert_eq!((answer.decisions.len(), answer.pending), (1, 1), "the other user is served");
        assert_eq!(answer.decisions[0].user, user(2));
    }
    world.until_account(user(1), "the user is quarantined", |account| account.quarantined).await;
    assert!(!world.ledger.account(user(2)).quarantined);
    world.hooks.stepping(|_, _| {});
    let refused = engine.submit(world.signal_with("d", |raw| raw.user_id = Some(user(1).to_string()))).await.unwrap();
    assert_eq!(reasons(&refused.decisions[0]), ["quarantined"]);
    assert!(!engine.set_quarantine(user(1), false).await.unwrap().quarantined);
    world.mark(&engine, "1.08290", "1.08300").await;
    let exit = ClientOrderId::exit(first.decisions[0].id, 1);
    until("the stop has left", || world.venue.orders().contains(&exit).then_some(())).await;
    assert_eq!(engine.status().gate.state, nexus_engine::gate::TradingState::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_does_not_add_up_is_not_traded_on() {
    let world = World::new(2);
    let mut account = world.ledger.account(user(1));
    account.unexplained_risk = Money::whole(-1);
    world.ledger.open(account);
    let engine = world.start().await;
    let answer = engine.submit(world.signal("a")).await.unwrap();
    assert_eq!(reasons(&answer.decisions[0]), ["quarantined"]);
    assert!(accepted(&answer.decisions[1]).is_some(), "the other user is served");
    assert!(world.ledger.account(user(1)).quarantined);
}
