//! The emergency stop: nothing that opens a position leaves after it has answered, whatever else is broken.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nexus_actors::engine::{Engine, ResumeError, StopRequest};
use nexus_actors::ports::{Ledger, TradingStateRecord};
use nexus_engine::account::Account;
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::ClientOrderId;
use nexus_engine::order::OrderStatus;
use nexus_engine::units::Money;

use crate::ledger::Fault;
use crate::venue::Trouble;
use crate::world::{START, World, entry_of, is_filled, reasons, stop, until, user};

fn entries(world: &World) -> usize {
    world.venue.wire().iter().filter(|id| id.is_entry()).count()
}

/// Signals keep coming while a stop is pressed, again and again: what is on the wire when it answers stays all there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_entry_is_written_after_a_stop_has_answered() {
    let mut world = World::new(4);
    // A cap that lasts for all rounds, and sends that take a moment between their last look at the gate and the wire.
    world.settings.ceilings.max_daily_loss = Money::whole(1_000_000);
    for n in 1..=4 {
        let mut account = world.ledger.account(user(n));
        account.limits.max_daily_loss = Money::whole(1_000_000);
        world.ledger.open(account);
    }
    *world.venue.write_time.lock() = Duration::from_millis(2);
    let world = Arc::new(world);
    let engine = world.start().await;
    let mut cut_short = 0;
    for round in 0..40_u64 {
        let before = entries(&world);
        let (pusher, signals) = (engine.clone(), Arc::clone(&world));
        let flood = tokio::spawn(async move {
            let submits = (0..8).map(|n| pusher.submit(signals.signal(&format!("{round}-{n}"))));
            futures::future::join_all(submits).await
        });
        tokio::time::sleep(Duration::from_micros(500 + round * 250)).await;
        let answer = engine.stop(StopRequest { cancel_open_orders: false, ..stop() }).await;
        let at_stop = entries(&world);
        assert_eq!(answer.state, TradingState::Halted);
        assert!(flood.await.unwrap().iter().all(Result::is_ok));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(entries(&world), at_stop, "round {round}");
        cut_short += usize::from(at_stop > before && at_stop < before + 32);
        engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();
    }
    for n in 1..=4 {
        world.ledger.account(user(n)).check().unwrap();
    }
    assert!(cut_short > 0, "no stop came in the middle of anything: the test tests nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_that_is_held_is_dropped_by_a_stop_and_asked_about() {
    let mut world = World::new(1);
    world.settings.venue_timeout = Duration::from_secs(60);
    world.settings.stop_grace = Duration::from_millis(1_500);
    let engine = world.start().await;
    world.venue.trouble(Trouble::Held);
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    until("the send hangs with its permit", || (world.venue.held.load(Ordering::SeqCst) == 1).then_some(())).await;
    let began = std::time::Instant::now();
    let answer = engine.stop(StopRequest { cancel_open_orders: false, ..stop() }).await;
    assert_eq!(world.venue.held.load(Ordering::SeqCst), 0, "dropped before the stop answers");
    assert!(began.elapsed() >= world.settings.stop_grace, "it had its grace");
    assert!(began.elapsed() < Duration::from_millis(2_900), "dropped after one grace: {:?}", began.elapsed());
    assert!(answer.persisted);
    // The venue does not have it, and the gate is closed: proven unsent, and its risk is given back.
    let ended = |account: &Account| account.lots[&entry.decision].entry.status == OrderStatus::Cancelled;
    let account = world.until_account(user(1), "it is known to be unsent", ended).await;
    assert_eq!(account.reserved_risk(), Money::ZERO);
    assert!(world.venue.wire().is_empty() && world.venue.orders().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cancels_what_works_keeps_protection_and_says_the_same_twice() {
    let world = World::new(2);
    let engine = world.start().await;
    let limit = |raw: &mut nexus_engine::signal::RawSignal| {
        (raw.order_type, raw.entry_price) = (Some("limit".to_owned()), Some("1.08400".to_owned()));
        raw.user_id = Some(user(1).to_string());
    };
    let working = entry_of(&engine.submit(world.signal_with("limit", limit)).await);
    until("the limit order works", || world.venue.orders().contains(&working).then_some(())).await;
    let only_2 = |raw: &mut nexus_engine::signal::RawSignal| raw.user_id = Some(user(2).to_string());
    let held = entry_of(&engine.submit(world.signal_with("market", only_2)).await);
    world.until_account(user(2), "the market order is filled", is_filled).await;

    let answer = engine.stop(StopRequest { reason: Some("drill".to_owned()), ..stop() }).await;
    assert_eq!((answer.cancelled_orders, answer.persisted, answer.epoch), (1, true, 2));
    let again = engine.stop(StopRequest { by: "bob".to_owned(), ..stop() }).await;
    assert_eq!((again.epoch, again.engaged_at, again.by.as_str()), (2, answer.engaged_at, "ann"));
    assert_eq!(again.cancelled_orders, 0);
    world.until_account(user(1), "the limit order is cancelled", |a| !a.has_open_business()).await;
    let refused = engine.submit(world.signal("b")).await.unwrap();
    assert!(refused.decisions.iter().all(|decision| reasons(decision) == ["trading_halted"]));
    let reducing = StopRequest { state: TradingState::Reducing, ..stop() };
    assert_eq!(engine.stop(reducing).await.state, TradingState::Halted, "a stop never loosens");

    world.mark(&engine, "1.08290", "1.08300").await;
    let exit = ClientOrderId::exit(held.decision, 1);
    until("protection still works", || world.venue.orders().contains(&exit).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_works_and_is_remembered_without_the_ledger_and_a_resume_needs_it() {
    let world = World::new(1);
    let engine = world.start().await;
    world.ledger.set_away(true);
    let answer = engine.stop(stop()).await;
    assert!(!answer.persisted);
    assert!(world.directory.path().join("HALT").exists());
    let refused = engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap_err();
    assert!(matches!(refused, ResumeError::NotDurable(_)), "{refused:?}");
    assert_eq!(engine.status().gate.state, TradingState::Halted);
    assert!(world.directory.path().join("HALT").exists());

    world.ledger.set_away(false);
    until("the ledger has it after all", || world.ledger.state().filter(|state| state.state == TradingState::Halted))
        .await;
    // A ledger restored from before the stop does not re-arm: HALT says no.
    let older = TradingStateRecord {
        scope: Scope::Everything,
        state: TradingState::Active,
        epoch: 99,
        since: START,
        by: "backup".to_owned(),
        reason: None,
    };
    engine.drain(Duration::from_secs(1)).await;
    world.ledger.set_trading_state(older).await.unwrap();
    let engine = world.start().await;
    assert_eq!(engine.status().gate.state, TradingState::Halted);
    let resumed = engine.resume(Scope::Everything, "ann".to_owned(), Some("looked".to_owned())).await.unwrap();
    assert!(resumed.epoch > 99);
    assert!(!world.directory.path().join("HALT").exists());
    assert_eq!(world.ledger.state().unwrap().state, TradingState::Active);
    assert_eq!(engine.submit(world.signal("a")).await.unwrap().decisions.len(), 1);
    engine.drain(Duration::from_secs(1)).await;
    let engine = world.start().await;
    assert_eq!(engine.status().gate.state, TradingState::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_file_written_by_hand_stops_and_its_removal_opens_nothing() {
    let world = World::new(1);
    let engine = world.start().await;
    let halt = world.directory.path().join("HALT");
    std::fs::write(&halt, "").unwrap();
    let gate = until("the file is heeded", || {
        let gate = engine.status().gate;
        (gate.state == TradingState::Halted).then_some(gate)
    })
    .await;
    assert_eq!(gate.by, "HALT file");
    until("the ledger knows", || world.ledger.state().filter(|s| s.state == TradingState::Halted)).await;
    std::fs::remove_file(&halt).unwrap();
    let refused = engine.submit(world.signal("a")).await.unwrap();
    assert_eq!(reasons(&refused.decisions[0]), ["trading_halted"]);
    engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();
    assert_eq!(engine.status().gate.state, TradingState::Active);
}

fn make_pipe(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_named_halt_stops_a_running_engine_and_a_starting_one() {
    let make: [fn(&std::path::Path); 3] = [
        |path| std::fs::create_dir(path).unwrap(),
        |path| std::os::unix::fs::symlink("/nowhere", path).unwrap(),
        make_pipe,
    ];
    for make in make {
        let world = World::new(1);
        let engine = world.start().await;
        make(&world.directory.path().join("HALT"));
        until("it is heeded", || (engine.status().gate.state == TradingState::Halted).then_some(())).await;
        until("the ledger knows", || world.ledger.state().filter(|s| s.state == TradingState::Halted)).await;
        engine.stop(stop()).await;
        engine.drain(Duration::from_secs(1)).await;

        let world = World::new(1);
        make(&world.directory.path().join("HALT"));
        assert_eq!(world.start().await.status().gate.state, TradingState::Halted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_does_not_keep_a_stop_from_answering() {
    let world = World::new(1);
    let engine = world.start().await;
    // Whoever opens a pipe waits for its other end.
    let pipe = world.directory.path().join("HALT.tmp");
    make_pipe(&pipe);
    let answer = tokio::time::timeout(Duration::from_secs(10), engine.stop(stop())).await.expect("answered");
    assert!(answer.persisted);
    assert_eq!(engine.status().gate.state, TradingState::Halted);
    let other_end = std::thread::spawn(move || std::fs::read(pipe));
    other_end.join().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_persisted_is_in_force_after_a_restart_and_what_is_unreadable_halts() {
    for state in [TradingState::Halted, TradingState::Reducing] {
        let world = World::new(1);
        let record = TradingStateRecord {
            scope: Scope::Everything,
            state,
            epoch: 5,
            since: START,
            by: "ann".to_owned(),
            reason: None,
        };
        world.ledger.set_trading_state(record).await.unwrap();
        let engine = world.start().await;
        assert_eq!((engine.status().gate.state, engine.status().gate.epoch), (state, 5));
        let refused = engine.submit(world.signal("a")).await.unwrap();
        assert_ne!(reasons(&refused.decisions[0]), Vec::<&str>::new());
    }
    // A file that says less than what is persisted loosens nothing.
    let world = World::new(1);
    let record = TradingStateRecord {
        scope: Scope::Everything,
        state: TradingState::Halted,
        epoch: 5,
        since: START,
        by: "ann".to_owned(),
        reason: None,
    };
    world.ledger.set_trading_state(record).await.unwrap();
    std::fs::write(world.directory.path().join("HALT"), "state: reducing\nepoch: 9\n").unwrap();
    assert_eq!(world.start().await.status().gate.state, TradingState::Halted);
    let world = World::new(1);
    world.ledger.set_state_unreadable();
    assert_eq!(world.start().await.status().gate.state, TradingState::Halted);
    let world = World::new(1);
    world.ledger.set_away(true);
    assert!(nexus_actors::engine::Engine::start(world.parts()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_waits_for_its_hold() {
    let mut world = World::new(1);
    world.settings.resume_hold = Duration::from_millis(1_500);
    let engine = world.start().await;
    engine.stop(stop()).await;
    let refused = engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap_err();
    let ResumeError::Hold(wait) = refused else { panic!("{refused:?}") };
    tokio::time::sleep(wait).await;
    engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_comes_while_a_resume_is_made_durable_wins() {
    let world = World::new(1);
    let engine = world.start().await;
    engine.stop(stop()).await;
    world.ledger.set_slow(Duration::from_millis(50));
    // Polled in this order: the resume has claimed its epoch and waits for the ledger when the stop comes.
    let (resumed, stopped) =
        tokio::join!(engine.resume(Scope::Everything, "ann".to_owned(), None), engine.stop(stop()));
    assert_eq!(resumed.unwrap_err(), ResumeError::Overtaken);
    assert_eq!(engine.status().gate.epoch, stopped.epoch);
    assert_eq!(engine.status().gate.state, TradingState::Halted);
    until("the ledger has it", || {
        world.ledger.state().filter(|s| (s.state, s.epoch) == (TradingState::Halted, stopped.epoch))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_approved_before_a_stop_does_not_leave_after_the_resume() {
    let world = World::new(1);
    let engine = world.start().await;
    world.venue.unreachable.store(true, Ordering::SeqCst);
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    engine.stop(StopRequest { cancel_open_orders: false, ..stop() }).await;
    engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();
    world.venue.unreachable.store(false, Ordering::SeqCst);
    let ended = |account: &Account| account.lots[&entry.decision].entry.status == OrderStatus::Cancelled;
    world.until_account(user(1), "it is given up", ended).await;
    assert!(world.venue.wire().is_empty());
}

/// Sends a limit order that waits below the market, and waits until the venue has it.
async fn working_entry(world: &World, engine: &Engine) -> ClientOrderId {
    let below = |raw: &mut nexus_engine::signal::RawSignal| {
        (raw.order_type, raw.entry_price) = (Some("limit".to_owned()), Some("1.08400".to_owned()));
    };
    let entry = entry_of(&engine.submit(world.signal_with("limit", below)).await);
    let works = |account: &Account| account.lots[&entry.decision].entry.status == OrderStatus::Working;
    world.until_account(user(1), "the limit order works", works).await;
    entry
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cancels_what_works_also_while_the_ledger_is_away() {
    let world = World::new(1);
    let engine = world.start().await;
    let entry = working_entry(&world, &engine).await;
    world.ledger.set_away(true);
    engine.stop(stop()).await;
    until("the venue has cancelled it", || world.venue.is_cancelled(entry).then_some(())).await;
    assert!(world.ledger.account(user(1)).has_open_business(), "nothing was written");
    world.ledger.set_away(false);
    world.until_account(user(1), "the ledger has it after all", |a| !a.has_open_business()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_whose_commit_was_not_answered_reaches_the_venue_all_the_same() {
    for fault in [Fault::LostAnswer, Fault::LostRequest] {
        let world = World::new(1);
        let engine = world.start().await;
        let entry = working_entry(&world, &engine).await;
        world.ledger.fail_next(fault);
        engine.stop(stop()).await;
        until("the venue has cancelled it", || world.venue.is_cancelled(entry).then_some(())).await;
        world.until_account(user(1), "and the account knows", |a| !a.has_open_business()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_an_earlier_run_does_not_leave_after_a_stop_and_a_resume() {
    let mut world = World::new(1);
    world.settings.answer_within = Duration::from_millis(200);
    let engine = world.start().await;
    world.venue.unreachable.store(true, Ordering::SeqCst);
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    engine.drain(Duration::ZERO).await;
    assert!(world.ledger.account(user(1)).has_open_business(), "the next run takes it up");

    // Its venue does not answer until somebody has stopped and resumed.
    let engine = world.start().await;
    engine.stop(StopRequest { cancel_open_orders: false, ..stop() }).await;
    engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();
    world.venue.unreachable.store(false, Ordering::SeqCst);
    let ended = |account: &Account| account.lots[&entry.decision].entry.status == OrderStatus::Cancelled;
    world.until_account(user(1), "it is given up", ended).await;
    assert!(world.venue.wire().is_empty());
}
