//! Stops of less than everything: what they cover stops by the same standard, and the rest goes on.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nexus_actors::engine::{Engine, Flattened, StopRequest};
use nexus_actors::ports::{Ledger, TradingStateRecord};
use nexus_engine::account::Account;
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::{ClientOrderId, DecisionId};
use nexus_engine::order::{OrderStatus, Purpose};
use nexus_engine::signal::RawSignal;
use nexus_engine::units::Money;

use crate::venue::Trouble;
use crate::world::{FEED, START, World, accepted, entry_of, is_filled, reasons, stop, symbol, until, user};

/// A world whose caps last for any number of trades.
fn roomy(users: u128) -> World {
    let mut world = World::new(users);
    world.settings.ceilings.max_daily_loss = Money::whole(1_000_000);
    for n in 1..=users {
        let mut account = world.ledger.account(user(n));
        account.limits.max_daily_loss = Money::whole(1_000_000);
        world.ledger.open(account);
    }
    world
}

/// Scopes that cover user 1's trades.
fn covering() -> [Scope; 4] {
    [Scope::User(user(1)), Scope::Feed(FEED), Scope::Symbol(symbol()), Scope::Venue("paper".into())]
}

fn stop_of(scope: Scope) -> StopRequest {
    StopRequest { scope, ..stop() }
}

async fn refusal(world: &World, engine: &Engine, key: &str) -> Vec<&'static str> {
    let answer = engine.submit(world.signal(key)).await.unwrap();
    reasons(&answer.decisions[0])
}

async fn resume(engine: &Engine, scope: Scope) {
    let resumed = engine.resume(scope.clone(), "ann".to_owned(), None).await.unwrap();
    assert_eq!((resumed.scope, resumed.state), (scope, TradingState::Active));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_scope_stops_what_it_covers_and_nothing_else() {
    let elsewhere = [Scope::User(user(9)), Scope::Symbol("GBPUSD".parse().unwrap()), Scope::Venue("other".into())];
    let world = roomy(1);
    let engine = world.start().await;
    for (n, scope) in elsewhere.into_iter().enumerate() {
        engine.stop(stop_of(scope)).await;
        assert_eq!(refusal(&world, &engine, &format!("elsewhere {n}")).await, [""; 0]);
    }
    for scope in covering() {
        for (state, code) in [(TradingState::Reducing, "reducing_only"), (TradingState::Halted, "trading_halted")] {
            let answer = engine.stop(StopRequest { state, ..stop_of(scope.clone()) }).await;
            assert_eq!((&answer.scope, answer.state, answer.persisted), (&scope, state, true));
            assert_eq!(refusal(&world, &engine, &format!("{scope} {code}")).await, [code], "{scope}");
            assert_eq!(engine.status().gate.state, TradingState::Active);
        }
        assert_eq!(engine.status().stopped.iter().filter(|stopped| stopped.scope == scope).count(), 1);
        engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();
        assert_eq!(refusal(&world, &engine, &format!("{scope} still")).await, ["trading_halted"], "{scope}");
        resume(&engine, scope.clone()).await;
        assert_eq!(refusal(&world, &engine, &format!("{scope} again")).await, [""; 0], "{scope}");
    }
}

/// Signals for all users keep coming while one user is stopped, again and again: of that user nothing is written any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_entry_of_the_scope_is_written_after_its_stop_has_answered_and_others_go_on() {
    let world = roomy(4);
    *world.venue.write_time.lock() = Duration::from_millis(2);
    let world = Arc::new(world);
    let engine = world.start().await;
    let (mut cut_short, mut others_after) = (0, 0);
    for round in 0..30_u64 {
        let (pusher, signals) = (engine.clone(), Arc::clone(&world));
        let flood = tokio::spawn(async move {
            let submits = (0..8).map(|n| pusher.submit(signals.signal(&format!("{round}-{n}"))));
            futures::future::join_all(submits).await
        });
        tokio::time::sleep(Duration::from_micros(500 + round * 300)).await;
        engine.stop(StopRequest { cancel_open_orders: false, ..stop_of(Scope::User(user(1))) }).await;
        let at_stop: HashSet<DecisionId> = world.venue.wire().iter().map(|id| id.decision).collect();
        let answers = flood.await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let wire: HashSet<DecisionId> = world.venue.wire().iter().map(|id| id.decision).collect();
        let decisions: Vec<_> = answers.iter().flat_map(|answer| answer.as_ref().unwrap().decisions.clone()).collect();
        let of_user = |is_one: bool, wire: &HashSet<DecisionId>| {
            decisions.iter().filter(|d| (d.user == user(1)) == is_one && wire.contains(&d.id)).count()
        };
        assert_eq!(of_user(true, &wire), of_user(true, &at_stop), "round {round}");
        cut_short += usize::from((1..8).contains(&of_user(true, &at_stop)));
        others_after += of_user(false, &wire) - of_user(false, &at_stop);
        let others = decisions.iter().filter(|d| d.user != user(1));
        assert!(others.clone().all(|d| accepted(d).is_some()), "nobody else is refused: round {round}");
        resume(&engine, Scope::User(user(1))).await;
    }
    assert!(cut_short > 0 && others_after > 0, "no stop came in the middle of anything: {cut_short} {others_after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_approved_before_a_scope_was_stopped_does_not_leave_after_the_resume() {
    for scope in covering() {
        let world = World::new(1);
        let engine = world.start().await;
        world.venue.unreachable.store(true, Ordering::SeqCst);
        let entry = entry_of(&engine.submit(world.signal("a")).await);
        engine.stop(StopRequest { cancel_open_orders: false, ..stop_of(scope.clone()) }).await;
        resume(&engine, scope.clone()).await;
        world.venue.unreachable.store(false, Ordering::SeqCst);
        let ended = |account: &Account| account.lots[&entry.decision].entry.status == OrderStatus::Cancelled;
        world.until_account(user(1), "it is given up", ended).await;
        assert!(world.venue.wire().is_empty(), "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_that_is_held_has_its_grace_and_is_dropped_by_a_stop_that_covers_it_alone() {
    for scope in covering() {
        let mut world = World::new(1);
        world.settings.venue_timeout = Duration::from_secs(60);
        world.settings.stop_grace = Duration::from_millis(300);
        let engine = world.start().await;
        world.venue.trouble(Trouble::Held);
        entry_of(&engine.submit(world.signal("a")).await);
        let held = || world.venue.held.load(Ordering::SeqCst);
        until("the send hangs with its permit", || (held() == 1).then_some(())).await;
        engine.stop(stop_of(Scope::User(user(9)))).await;
        assert_eq!(held(), 1, "another user's stop is not about it");
        let began = std::time::Instant::now();
        engine.stop(StopRequest { cancel_open_orders: false, ..stop_of(scope.clone()) }).await;
        assert_eq!(held(), 0, "{scope}: dropped before the stop answers");
        assert!(began.elapsed() >= world.settings.stop_grace, "{scope}: it had its grace");
        assert!(world.venue.wire().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_stop_does_not_keep_an_entry_from_leaving() {
    let world = World::new(1);
    let engine = world.start().await;
    world.venue.unreachable.store(true, Ordering::SeqCst);
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    engine.stop(stop_of(Scope::User(user(9)))).await;
    world.venue.unreachable.store(false, Ordering::SeqCst);
    until("it has left", || world.venue.wire().contains(&entry).then_some(())).await;
}

fn limit_for(n: u128) -> impl FnOnce(&mut RawSignal) {
    move |raw| {
        (raw.order_type, raw.entry_price) = (Some("limit".to_owned()), Some("1.08400".to_owned()));
        raw.user_id = Some(user(n).to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrow_stop_cancels_what_it_covers() {
    let world = World::new(2);
    let engine = world.start().await;
    let mut entries: Vec<ClientOrderId> = Vec::new();
    for n in 1..=2 {
        entries.push(entry_of(&engine.submit(world.signal_with(&format!("limit {n}"), limit_for(n))).await));
    }
    until("both work", || entries.iter().all(|entry| world.venue.orders().contains(entry)).then_some(())).await;
    let answer = engine.stop(stop_of(Scope::User(user(1)))).await;
    assert_eq!(answer.cancelled_orders, 1);
    world.until_account(user(1), "it is cancelled", |account| !account.has_open_business()).await;
    assert!(!world.venue.is_cancelled(entries[1]));
    let answer = engine.stop(stop_of(Scope::Symbol("GBPUSD".parse().unwrap()))).await;
    assert_eq!(answer.cancelled_orders, 0);
    let answer = engine.stop(stop_of(Scope::Symbol(symbol()))).await;
    assert_eq!(answer.cancelled_orders, 1);
    until("it is cancelled", || world.venue.is_cancelled(entries[1]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_memory_of_a_narrow_stop_is_enough_for_a_restart() {
    for scope in covering() {
        let world = World::new(1);
        let engine = world.start().await;
        let stopped = engine.stop(stop_of(scope.clone())).await;
        engine.drain(Duration::from_secs(1)).await;
        let halt = world.directory.path().join("HALT");
        let text = std::fs::read_to_string(&halt).unwrap();
        std::fs::remove_file(&halt).unwrap();
        let engine = world.start().await;
        let held = &engine.status().stopped[0];
        assert_eq!((&held.scope, held.epoch, held.since), (&scope, stopped.epoch, stopped.engaged_at));
        assert_eq!(refusal(&world, &engine, "by the ledger").await, ["trading_halted"], "{scope}");
        engine.drain(Duration::from_secs(1)).await;

        // The ledger of a world that never heard of it.
        let world = World::new(1);
        std::fs::write(world.directory.path().join("HALT"), text).unwrap();
        let engine = world.start().await;
        assert_eq!(engine.status().gate.state, TradingState::Active);
        assert_eq!(refusal(&world, &engine, "by the file").await, ["trading_halted"], "{scope}");
        until("the ledger is told", || world.ledger.state_of(&scope)).await;
        resume(&engine, scope.clone()).await;
        assert!(!world.directory.path().join("HALT").exists());
        engine.drain(Duration::from_secs(1)).await;
        let engine = world.start().await;
        assert_eq!(refusal(&world, &engine, "after the resume").await, [""; 0], "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrow_stop_works_without_the_ledger_and_is_written_when_it_returns() {
    let world = World::new(1);
    let engine = world.start().await;
    world.ledger.set_away(true);
    let scope = Scope::Symbol(symbol());
    assert!(!engine.stop(stop_of(scope.clone())).await.persisted);
    assert!(engine.resume(scope.clone(), "ann".to_owned(), None).await.is_err());
    assert_eq!(engine.status().stopped.len(), 1);
    world.ledger.set_away(false);
    until("it is written", || world.ledger.state_of(&scope).filter(|held| held.state == TradingState::Halted)).await;
    assert_eq!(world.ledger.state(), None, "nothing is said of everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_by_hand_stops_its_scopes_and_is_not_lost_beside_another_stop() {
    let world = World::new(1);
    let engine = world.start().await;
    let halt = world.directory.path().join("HALT");
    std::fs::write(&halt, format!("scope: user {}\nreason: by hand\n", user(1))).unwrap();
    until("the file is heeded", || engine.status().stopped.first().cloned()).await;
    assert_eq!(refusal(&world, &engine, "a").await, ["trading_halted"]);
    assert_eq!(engine.status().gate.state, TradingState::Active);
    // A halt of everything that is written right before another stop or resume writes the file is not written over unheeded.
    for round in 0..20 {
        std::fs::write(&halt, "").unwrap();
        if round % 2 == 0 {
            engine.stop(stop_of(Scope::Symbol(symbol()))).await;
        } else {
            resume(&engine, Scope::Symbol(symbol())).await;
        }
        until("everything is halted", || (engine.status().gate.state == TradingState::Halted).then_some(())).await;
        engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();
    }
    assert_eq!(engine.status().stopped.len(), 1, "by hand, of the user");
    assert!(std::fs::read_to_string(&halt).unwrap().contains("by hand"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_whose_scope_makes_no_sense_halts_everything() {
    let world = World::new(1);
    world.ledger.set_state_unreadable();
    assert_eq!(world.start().await.status().gate.state, TradingState::Halted);
    let world = World::new(1);
    let scope = Scope::User(user(1));
    let (state, by) = (TradingState::Halted, "ann".to_owned());
    let record = TradingStateRecord { scope: scope.clone(), state, epoch: 5, since: START, by, reason: None };
    world.ledger.set_trading_state(record).await.unwrap();
    // What the file says of everything does not loosen what the ledger says of a scope.
    std::fs::write(world.directory.path().join("HALT"), "scope: everything\nstate: reducing\n").unwrap();
    let engine = world.start().await;
    assert_eq!(
        (engine.status().gate.state, engine.state_of_user(user(1))),
        (TradingState::Reducing, TradingState::Halted)
    );
    assert_eq!(refusal(&world, &engine, "a").await, ["trading_halted"]);
}

/// One open position for each user, and the entry of it.
async fn positions(world: &World, engine: &Engine, users: u128) -> Vec<ClientOrderId> {
    let mut entries = Vec::new();
    for n in 1..=users {
        let only = |raw: &mut RawSignal| raw.user_id = Some(user(n).to_string());
        entries.push(entry_of(&engine.submit(world.signal_with(&format!("position {n}"), only)).await));
        world.until_account(user(n), "it is filled", is_filled).await;
    }
    entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_flattens_closes_what_it_covers_and_says_so() {
    let world = World::new(2);
    let engine = world.start().await;
    let entries = positions(&world, &engine, 2).await;
    let one = engine.stop(StopRequest { flatten: true, ..stop_of(Scope::User(user(1))) }).await;
    assert_eq!(one.flattened, Some(Flattened { exits: 1, still_open: 0 }));
    let account = world.ledger.account(user(1));
    assert!(!account.has_open_business());
    assert_eq!(account.lots[&entries[0].decision].exits[0].purpose, Purpose::Flatten);
    assert!(world.ledger.account(user(2)).has_open_business(), "it is not about the other one");
    let again = engine.stop(StopRequest { flatten: true, ..stop() }).await;
    assert_eq!(again.flattened, Some(Flattened { exits: 1, still_open: 0 }));
    let exits = world.venue.wire().iter().filter(|id| !id.is_entry()).count();
    assert_eq!(exits, 2, "each position is closed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_go_on_being_closed_when_the_venue_or_the_ledger_comes_back() {
    let world = World::new(1);
    let engine = world.start().await;
    let entries = positions(&world, &engine, 1).await;
    let exit = ClientOrderId::exit(entries[0].decision, 1);
    world.ledger.set_away(true);
    let answer = engine.stop(StopRequest { flatten: true, ..stop() }).await;
    assert_eq!((answer.persisted, answer.flattened), (false, Some(Flattened { exits: 0, still_open: 1 })));
    assert!(world.venue.orders().contains(&exit), "it has left under the permission of its entry");
    world.ledger.set_away(false);
    world.until_account(user(1), "the ledger knows", |account| !account.has_open_business()).await;

    let world = World::new(1);
    let engine = world.start().await;
    positions(&world, &engine, 1).await;
    world.venue.unreachable.store(true, Ordering::SeqCst);
    let answer = engine.stop(StopRequest { flatten: true, ..stop() }).await;
    assert_eq!(answer.flattened.unwrap().still_open, 1);
    world.venue.unreachable.store(false, Ordering::SeqCst);
    world.until_account(user(1), "it is closed", |account| !account.has_open_business()).await;
}

/// The cancel of an entry comes too late: what fills after the answer is closed all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fills_after_a_stop_that_flattens_is_closed_as_well() {
    let world = World::new(1);
    let engine = world.start().await;
    world.venue.trouble(Trouble::LostReply);
    let entry = entry_of(&engine.submit(world.signal("late")).await);
    engine.stop(StopRequest { flatten: true, ..stop() }).await;
    let done = |account: &Account| {
        let lot = &account.lots[&entry.decision];
        lot.entry.status == OrderStatus::Filled && lot.is_done() && lot.exits.len() == 1
    };
    world.until_account(user(1), "it has filled and is closed", done).await;
}
