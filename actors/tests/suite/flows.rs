//! The way of a signal, when everything works and when many come at once.

use nexus_actors::engine::SubmitError;
use nexus_actors::ports::Clock;
use nexus_engine::account::Account;
use nexus_engine::ids::{ClientOrderId, Leg, Timestamp};
use nexus_engine::order::{OrderStatus, Purpose};
use nexus_engine::units::Money;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::world::{FEED, World, accepted, entry_of, is_filled, reasons, symbol, until, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_becomes_a_decision_an_order_and_a_position_and_its_stop_an_exit() {
    let world = World::new(1);
    let engine = world.start().await;
    let answer = engine.submit(world.signal("a")).await;
    let entry = entry_of(&answer);
    assert_eq!((answer.as_ref().unwrap().duplicate, answer.unwrap().pending), (false, 0));
    world.until_account(user(1), "the entry is filled", is_filled).await;
    assert_eq!(world.venue.wire(), [entry]);

    world.mark(&engine, "1.08299", "1.08310").await;
    let account = world.until_account(user(1), "the position is closed", |a| !a.has_open_business()).await;
    assert_eq!(world.venue.wire(), [entry, ClientOrderId::exit(entry.decision, 1)]);
    assert!(account.realized_loss() > Money::whole(4), "{}", account.realized_loss());
    let hot = world.hot.accounts.lock()[&user(1)].clone();
    assert_eq!(*hot, account, "the hot state has the newest commit");
    assert_eq!(*engine.account(user(1)).await.unwrap().unwrap(), account);
    engine.drain(Duration::from_secs(1)).await;
    assert!(matches!(engine.submit(world.signal("b")).await, Err(SubmitError::NotServing(_))));
}

/// On one thread: whoever has the venue's answer speaks before the channel of reports is read.
#[tokio::test]
async fn an_order_that_trades_at_once_is_two_turns_and_one_that_waits_is_acknowledged() {
    let world = World::new(1);
    let engine = world.start().await;
    let filled = entry_of(&engine.submit(world.signal("a")).await);
    let account = world.until_account(user(1), "the entry is filled", is_filled).await;
    assert_eq!(account.version, 2, "decided, and filled: {account:?}");
    world.mark(&engine, "1.08299", "1.08310").await;
    let account = world.until_account(user(1), "the position is closed", |a| !a.has_open_business()).await;
    assert_eq!(account.version, 4, "the exit planned, and filled: {account:?}");

    world.mark(&engine, "1.08490", "1.08500").await;
    world.venue.fills.store(false, Ordering::SeqCst);
    let waiting = entry_of(&engine.submit(world.signal("b")).await);
    let account = world.until_account(user(1), "the second is at the venue", |account| account.version == 6).await;
    assert_eq!(account.lots[&waiting.decision].entry.status, OrderStatus::Working);
    // What the venue says again, the acknowledgement of what has filled as well, is no turn.
    world.venue.repeat_reports();
    world.venue.fill(waiting);
    let is_filled = |account: &Account| account.lots[&waiting.decision].entry.status == OrderStatus::Filled;
    let account = world.until_account(user(1), "the second is filled", is_filled).await;
    assert_eq!(account.version, 7, "{account:?}");
    assert_eq!(account.lots[&filled.decision].entry.status, OrderStatus::Filled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_signals_at_once_no_more_are_accepted_than_fit_under_the_cap() {
    let mut world = World::new(1);
    // Each signal is worth 6.00 of a cap of 9.99.
    world.settings.ceilings.max_risk_percent = "1.2".parse().unwrap();
    let mut account = world.ledger.account(user(1));
    account.limits.max_risk_percent = "1.2".parse().unwrap();
    world.ledger.open(account);
    world.venue.fills.store(false, Ordering::SeqCst);
    let engine = world.start().await;
    let signals = (0..64).map(|n| engine.submit(world.signal(&format!("s{n}"))));
    let answers = futures::future::join_all(signals).await;
    let decisions: Vec<_> = answers.into_iter().flat_map(|answer| answer.unwrap().decisions).collect();
    assert_eq!(decisions.len(), 64);
    let taken = decisions.iter().filter_map(|decision| accepted(decision)).count();
    let account = world.ledger.account(user(1));
    assert!(account.used() <= account.limits.max_daily_loss);
    assert!((1..=2).contains(&taken), "{taken}: the first, and at most one shrunk to what was left");
    account.check().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_32_repeats_at_once_one_decides_and_all_hear_the_same() {
    let world = World::new(3);
    world.ledger.set_slow(Duration::from_millis(20));
    let engine = world.start().await;
    let repeats = (0..32).map(|_| engine.submit(world.signal("a")));
    let answers: Vec<_> = futures::future::join_all(repeats).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
    assert!(answers.iter().all(|answer| answer.decisions == answers[0].decisions && answer.decisions.len() == 3));
    assert_eq!(world.ledger.decisions().len(), 3);
    until("three entries have left", || (world.venue.wire().len() == 3).then_some(())).await;

    let later = engine.submit(world.signal("a")).await.unwrap();
    assert!(later.duplicate);
    assert_eq!(later.decisions, answers[0].decisions);
    let other = world.signal_with("a", |raw| raw.take_profit = Some("1.08800".to_owned()));
    assert_eq!(engine.submit(other).await.unwrap_err(), SubmitError::KeyReused);
    assert_eq!(world.ledger.decisions().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_larger_than_a_batch_is_recorded_first_and_decided_in_full() {
    let mut world = World::new(30);
    world.settings.batch_max = 8;
    let engine = world.start().await;
    let answer = engine.submit(world.signal("a")).await.unwrap();
    assert_eq!((answer.decisions.len(), answer.pending), (30, 0));
    assert!(answer.decisions.is_sorted_by_key(|decision| decision.user));
    until("thirty entries have left", || (world.venue.wire().len() == 30).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_for_one_user_is_decided_for_that_user_alone() {
    let world = World::new(2);
    world.ledger.subscribe(FEED, &[user(1)]);
    let engine = world.start().await;
    let only = |key: &str, n: u128| world.signal_with(key, |raw| raw.user_id = Some(user(n).to_string()));
    assert_eq!(engine.submit(only("a", 1)).await.unwrap().decisions.len(), 1);
    let refused = engine.submit(only("b", 2)).await.unwrap();
    assert_eq!(reasons(&refused.decisions[0]), ["feed_not_subscribed"]);
    assert_eq!(engine.submit(only("c", 9)).await.unwrap_err(), SubmitError::UnknownUser);

    world.ledger.subscribe(FEED, &[user(1), user(2)]);
    engine.subscriptions_changed(FEED);
    assert_eq!(engine.submit(world.signal("d")).await.unwrap().decisions.len(), 2);
    world.ledger.subscribe(FEED, &[]);
    engine.subscriptions_changed(FEED);
    let nobody = engine.submit(world.signal("e")).await.unwrap();
    assert!(nobody.decisions.is_empty() && !nobody.duplicate);
    assert!(engine.submit(world.signal("e")).await.unwrap().duplicate, "recorded although nobody follows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_shed_at_once_and_a_stop_does_not_queue_behind_it() {
    let mut world = World::new(2);
    world.settings.permits = 4;
    world.settings.answer_within = Duration::from_millis(100);
    let engine = world.start().await;
    engine.submit(world.signal("warm")).await.unwrap();
    until("the first entries are filled", || (world.venue.wire().len() == 2).then_some(())).await;
    world.ledger.set_slow(Duration::from_millis(3_000));
    let (a, b) = tokio::join!(engine.submit(world.signal("a")), engine.submit(world.signal("b")));
    assert_eq!(a.unwrap().pending, 2, "what is not decided in time is pending");
    assert_eq!(b.unwrap().pending, 2);
    let began = std::time::Instant::now();
    let shed = engine.submit(world.signal("c")).await.unwrap_err();
    assert!(matches!(shed, SubmitError::Overloaded { .. }), "{shed:?}");
    assert!(began.elapsed() < Duration::from_millis(1_000));
    let request = nexus_actors::engine::StopRequest { cancel_open_orders: false, ..crate::world::stop() };
    let stopped = engine.stop(request).await;
    assert!(!stopped.persisted);
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
    world.ledger.set_slow(Duration::ZERO);
    let late = until("the work has gone on without its callers", || {
        let decisions = world.ledger.decisions();
        (decisions.len() == 6).then_some(decisions)
    })
    .await;
    assert_eq!(late.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_go_through_the_account_and_are_durable_when_answered() {
    let world = World::new(1);
    let engine = world.start().await;
    let mut limits = crate::world::wide();
    limits.max_daily_loss = Money::whole(5);
    let account = engine.set_limits(user(1), limits).await.unwrap();
    assert_eq!(account.limits.max_daily_loss, Money::whole(5));
    assert_eq!(world.ledger.account(user(1)), *account);
    assert!(!engine.set_trading(user(1), false).await.unwrap().trading_enabled);
    let refused = engine.submit(world.signal("a")).await.unwrap();
    assert_eq!(reasons(&refused.decisions[0]), ["user_disabled"]);
    assert!(engine.set_trading(user(9), false).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_account_leaves_memory_and_comes_back_the_same() {
    let mut world = World::new(2);
    world.settings.passivate_after = Duration::from_millis(40);
    let engine = world.start().await;
    engine.set_trading(user(1), false).await.unwrap();
    let entry = entry_of(&engine.submit(world.signal_with("a", |raw| raw.user_id = Some(user(2).to_string()))).await);
    until("the idle account has left, the one with a position has not", || {
        (engine.status().active_accounts == 1).then_some(())
    })
    .await;
    let refused = engine.submit(world.signal_with("b", |raw| raw.user_id = Some(user(1).to_string()))).await.unwrap();
    assert_eq!(reasons(&refused.decisions[0]), ["user_disabled"]);
    world.mark(&engine, "1.08200", "1.08210").await;
    let exit = ClientOrderId { leg: Leg::Exit(1), ..entry };
    until("the stop of the open position has left", || world.venue.orders().contains(&exit).then_some(())).await;
}

/// Passivation races with messages for a while, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_to_passivation() {
    let mut world = World::new(1);
    world.settings.passivate_after = Duration::from_millis(1);
    // Turns are in flight for longer than it takes to be called idle.
    world.ledger.set_slow(Duration::from_millis(4));
    let engine = world.start().await;
    for n in 0..150 {
        let enabled = n % 2 == 1;
        assert_eq!(engine.set_trading(user(1), enabled).await.unwrap().trading_enabled, enabled);
        if n % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(11)).await;
        }
    }
    assert_eq!(world.ledger.account(user(1)).version, 150);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lowered_ceiling_is_a_change_of_limits_that_the_ledger_knows() {
    let mut world = World::new(1);
    world.settings.ceilings.max_daily_loss = "3".parse().unwrap();
    let engine = world.start().await;
    let answer = engine.submit(world.signal("a")).await.unwrap();
    let nexus_engine::account::Verdict::Accepted(acceptance) = &answer.decisions[0].verdict else {
        panic!("refused: {answer:?}")
    };
    assert_eq!(acceptance.cap, world.settings.ceilings.max_daily_loss);
    let account = world.until_account(user(1), "the entry is filled", is_filled).await;
    assert_eq!((account.limits.max_daily_loss, account.limits.version), (acceptance.cap, 2));
}

/// On one thread the account cannot look before both marks are on the board.
#[tokio::test]
async fn a_stop_that_the_market_has_touched_leaves_although_the_market_has_turned_back() {
    let world = World::new(1);
    let engine = world.start().await;
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    world.until_account(user(1), "the entry is filled", |a| a.lots[&entry.decision].opened_at.is_some()).await;
    let at = world.clock.now();
    let mark = |micros: i64, bid: &str, ask: &str| nexus_engine::instrument::Mark {
        symbol: symbol(),
        bid: bid.parse().unwrap(),
        ask: ask.parse().unwrap(),
        at: Timestamp::from_micros(at.micros() + micros),
    };
    engine.push_marks(vec![mark(1, "1.08299", "1.08310"), mark(2, "1.08490", "1.08500")]).await.unwrap();
    let account = world.until_account(user(1), "the position is closed", |a| !a.has_open_business()).await;
    assert_eq!(account.lots[&entry.decision].exits[0].purpose, Purpose::StopLoss);
}
