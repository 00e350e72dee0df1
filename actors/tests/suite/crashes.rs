//! Crashes: of the process (a new tree on the old ledger and venue) and of parts of the tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nexus_actors::engine::Engine;
use nexus_actors::ports::{SignalRecord, Step};
use nexus_engine::account::Account;
use nexus_engine::gate::TradingState;
use nexus_engine::ids::ClientOrderId;
use nexus_engine::order::OrderStatus;

use crate::venue::Trouble;
use crate::world::{World, entry_of, is_filled, until, user};

/// Panics the first time that a step is reached.
fn once_at(world: &World, step: Step) -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&done);
    world.hooks.at(move |at| {
        if at == step && !armed.swap(true, Ordering::SeqCst) {
            panic!("a crash at {step:?}, told to happen once");
        }
    });
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_at_any_place_of_the_way_leaves_one_decision_and_one_order() {
    let steps = [
        Step::BeforeCommit,
        Step::InCommit,
        Step::AfterCommitBeforeSend,
        Step::InSend,
        Step::AfterSendBeforeReport,
        Step::BeforeReportCommit,
    ];
    for step in steps {
        let world = World::new(1);
        let engine = world.start().await;
        let done = once_at(&world, step);
        let entry = entry_of(&engine.submit(world.signal("a")).await);
        let account = world.until_account(user(1), "the entry is filled", is_filled).await;
        assert!(done.load(Ordering::SeqCst), "{step:?} was reached");
        assert_eq!(world.ledger.decisions().len(), 1, "{step:?}");
        assert_eq!(world.venue.orders(), [entry], "{step:?}");
        assert_eq!(world.venue.written(entry), 1, "{step:?}");
        assert_eq!(account.lots[&entry.decision].executions.len(), 1, "{step:?}");
        world.mark(&engine, "1.08290", "1.08300").await;
        world.until_account(user(1), "its stop works afterwards", |a| !a.has_open_business()).await;
        assert_eq!(engine.status().gate.state, TradingState::Active, "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_part_fails_is_started_again_and_nothing_is_lost() {
    for part in ["router", "venue", "committer", "schedule", "kill_switch"] {
        let world = World::new(1);
        let engine = world.start().await;
        let done = Arc::new(AtomicBool::new(false));
        let failed = Arc::clone(&done);
        world.hooks.handling(move |kind| {
            assert!(kind != part || failed.swap(true, Ordering::SeqCst), "a crash of {part}, told to happen once");
        });
        let entry = entry_of(&engine.submit(world.signal("a")).await);
        world.until_account(user(1), "the entry is filled", is_filled).await;
        // A part that has only just started may have found the entry in its slot, without a message: the exit brings one.
        world.mark(&engine, "1.08290", "1.08300").await;
        world.until_account(user(1), "the position is closed", |a| !a.has_open_business()).await;
        until("the part has failed and was started again", || {
            (done.load(Ordering::SeqCst) && engine.status().restarts.get(part) == Some(&1)).then_some(())
        })
        .await;
        assert_eq!(world.venue.written(entry), 1, "{part}");
        std::fs::write(world.directory.path().join("HALT"), "").unwrap();
        until("HALT is heeded", || (engine.status().gate.by == "HALT file").then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_failing_closes_the_gate_for_entries_and_not_for_exits() {
    let world = World::new(1);
    let engine = world.start().await;
    let held = entry_of(&engine.submit(world.signal("a")).await);
    world.until_account(user(1), "the entry is filled", is_filled).await;
    world.hooks.at(|step| assert!(step != Step::InSend, "a crash, told to happen"));
    let short = world.signal_with("b", |raw| raw.stop_loss = Some("1.08200".to_owned()));
    entry_of(&engine.submit(short).await);
    let gate = until("the gate is closed", || {
        let gate = engine.status().gate;
        (gate.state == TradingState::Halted).then_some(gate)
    })
    .await;
    assert_eq!(gate.by, "supervisor");
    world.mark(&engine, "1.08290", "1.08300").await;
    let exit = ClientOrderId::exit(held.decision, 1);
    until("the stop has left", || world.venue.orders().contains(&exit).then_some(())).await;
    assert_eq!(world.venue.wire(), [held, exit]);
}

/// A process that is gone without a word: nothing of the old tree runs on.
async fn vanish(engine: Engine) {
    engine.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_sends_what_was_permitted_and_had_not_left_once() {
    let world = World::new(1);
    let engine = world.start().await;
    world.venue.unreachable.store(true, Ordering::SeqCst);
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    vanish(engine).await;
    world.venue.unreachable.store(false, Ordering::SeqCst);
    let _engine = world.start().await;
    world.until_account(user(1), "the entry is filled", is_filled).await;
    assert_eq!(world.venue.written(entry), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_while_halted_sends_no_entry_and_releases_its_risk() {
    let world = World::new(1);
    let engine = world.start().await;
    world.venue.unreachable.store(true, Ordering::SeqCst);
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    vanish(engine).await;
    std::fs::write(world.directory.path().join("HALT"), "").unwrap();
    world.venue.unreachable.store(false, Ordering::SeqCst);
    let _engine = world.start().await;
    let ended = |account: &Account| account.lots[&entry.decision].entry.status == OrderStatus::Cancelled;
    world.until_account(user(1), "it is given up", ended).await;
    assert!(world.venue.wire().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_hears_what_it_missed_and_arms_the_stops() {
    let world = World::new(1);
    world.venue.fills.store(false, Ordering::SeqCst);
    let engine = world.start().await;
    world.venue.trouble(Trouble::LostReply);
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    until("the venue has the entry", || world.venue.orders().contains(&entry).then_some(())).await;
    vanish(engine).await;
    world.venue.fill(entry);
    world.venue.fills.store(true, Ordering::SeqCst);
    let engine = world.start().await;
    world.until_account(user(1), "the fill of the dead time is counted", is_filled).await;
    assert_eq!(world.venue.written(entry), 1);
    world.mark(&engine, "1.08290", "1.08300").await;
    let account = world.until_account(user(1), "its stop works", |a| !a.has_open_business()).await;
    assert_eq!(account.lots[&entry.decision].executions.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_nothing_to_hear_arms_the_stops_as_well() {
    let world = World::new(1);
    let engine = world.start().await;
    entry_of(&engine.submit(world.signal("a")).await);
    world.until_account(user(1), "the entry is filled", is_filled).await;
    vanish(engine).await;
    let engine = world.start().await;
    world.mark(&engine, "1.08290", "1.08300").await;
    world.until_account(user(1), "its stop works", |a| !a.has_open_business()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_comes_after_the_end_of_its_order_and_a_restart_still_counts_and_is_protected() {
    let world = World::new(1);
    let engine = world.start().await;
    let limit = world.signal_with("a", |raw| {
        (raw.order_type, raw.entry_price) = (Some("limit".to_owned()), Some("1.08400".to_owned()));
    });
    let entry = entry_of(&engine.submit(limit).await);
    until("the venue has the entry", || world.venue.orders().contains(&entry).then_some(())).await;
    engine.stop(crate::world::stop()).await;
    world.until_account(user(1), "it is cancelled", |a| !a.has_open_business()).await;
    vanish(engine).await;
    let engine = world.start().await;
    world.venue.fill(entry);
    world.until_account(user(1), "the late fill is counted", Account::has_open_business).await;
    world.mark(&engine, "1.08290", "1.08300").await;
    let account = world.until_account(user(1), "its stop works", |a| !a.has_open_business()).await;
    assert_eq!(account.lots[&entry.decision].executions.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_that_left_before_its_turn_was_committed_is_found_after_a_restart() {
    let world = World::new(1);
    let engine = world.start().await;
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    world.until_account(user(1), "the entry is filled", is_filled).await;
    world.ledger.set_away(true);
    world.mark(&engine, "1.08290", "1.08300").await;
    let exit = ClientOrderId::exit(entry.decision, 1);
    until("the stop has left", || world.venue.orders().contains(&exit).then_some(())).await;
    vanish(engine).await;
    world.ledger.set_away(false);
    let _engine = world.start().await;
    let account = world.until_account(user(1), "the exit is counted", |a| !a.has_open_business()).await;
    assert_eq!(world.venue.written(exit), 1);
    assert_eq!(account.lots[&entry.decision].exits.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_that_left_before_its_entrys_fill_was_committed_is_found_after_a_restart() {
    let world = World::new(1);
    world.venue.fills.store(false, Ordering::SeqCst);
    let engine = world.start().await;
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    until("the venue has the entry", || world.venue.orders().contains(&entry).then_some(())).await;
    world.ledger.set_away(true);
    world.venue.fills.store(true, Ordering::SeqCst);
    world.venue.fill(entry);
    world.mark(&engine, "1.08290", "1.08300").await;
    let exit = ClientOrderId::exit(entry.decision, 1);
    until("the stop has left", || world.venue.orders().contains(&exit).then_some(())).await;
    vanish(engine).await;
    let before = world.ledger.account(user(1));
    assert!(before.lots[&entry.decision].executions.is_empty(), "nothing of it was committed");
    world.ledger.set_away(false);
    let _engine = world.start().await;
    let account = world.until_account(user(1), "both fills are counted", |a| !a.has_open_business()).await;
    assert_eq!(account.lots[&entry.decision].executions.len(), 2);
    assert_eq!((world.venue.written(entry), world.venue.written(exit)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_that_a_crash_cut_short_is_finished_by_the_next_start() {
    let world = World::new(3);
    let signal = Arc::new(world.signal("a"));
    let subscribers: Arc<[_]> = (1..=3).map(user).collect();
    world.ledger.record(SignalRecord { signal, received_at: crate::world::START, subscribers, mark: None });
    let engine = Engine::start(world.parts()).await.unwrap();
    assert_eq!(world.ledger.decisions().len(), 3, "decided before the engine serves");
    let repeat = engine.submit(world.signal("a")).await.unwrap();
    assert!(repeat.duplicate);
    assert_eq!((repeat.decisions.len(), repeat.pending), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_completes_what_an_earlier_failure_left_undecided() {
    let world = World::new(2);
    let engine = world.start().await;
    let signal = Arc::new(world.signal("a"));
    let subscribers: Arc<[_]> = (1..=2).map(user).collect();
    world.ledger.record(SignalRecord { signal, received_at: crate::world::START, subscribers, mark: None });
    let repeat = engine.submit(world.signal("a")).await.unwrap();
    assert!(repeat.duplicate);
    assert_eq!(repeat.decisions.len(), 2);
}
