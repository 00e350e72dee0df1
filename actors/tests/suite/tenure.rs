//! Several instances on one ledger: who owns the accounts, who stands by, and what an owner may do that is not certain of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nexus_actors::engine::{Engine, Parts};
use nexus_actors::ports::{Ledger, TradingStateRecord};
use nexus_actors::tenure::{StandingBy, Tenure, stand_by};
use nexus_engine::account::Account;
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::order::OrderStatus;
use tokio::time::Instant;

use crate::world::{START, World, entry_of, is_filled, stop, until, user};

const TERM: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(60);

fn shared_world() -> World {
    let world = World::new(1);
    world.ledger.share();
    world
}

async fn tenure(world: &World, owner: &str, term: Duration) -> Tenure {
    stand_by(world.ledger.lease().unwrap(), owner, term, |_| {}).await
}

/// An engine that owns the accounts for `term`.
async fn owner(world: &World, term: Duration) -> Engine {
    let tenure = Some(tenure(world, "first", term).await);
    let engine = Engine::start(Parts { tenure, ..world.parts() }).await.unwrap();
    world.mark(&engine, "1.08490", "1.08500").await;
    engine
}

fn record(state: TradingState, epoch: u64) -> TradingStateRecord {
    TradingStateRecord {
        scope: Scope::Everything,
        state,
        epoch,
        since: START,
        by: "elsewhere".to_owned(),
        reason: None,
    }
}

/// Time for whatever wrongly leaves to do so; nothing tells that nothing will.
async fn a_while() {
    tokio::time::sleep(TERM * 2).await;
}

#[tokio::test]
async fn whoever_stands_by_takes_over_when_the_term_has_run_out_or_the_lease_is_given_back() {
    let world = shared_world();
    let began = Instant::now();
    let first = tenure(&world, "first", TERM).await;
    let mut held_by = Vec::new();
    let lease = world.ledger.lease().unwrap();
    let second = stand_by(lease, "second", TERM, |seen| {
        if let StandingBy::Held(holder) = seen {
            held_by.push(holder.owner.clone());
        }
    });
    let second = second.await;
    assert!(began.elapsed() >= TERM, "not before the term has run out");
    assert!(held_by.iter().all(|owner| owner == "first") && !held_by.is_empty());
    assert!(second.fence() > first.fence());
    let third = Engine::start(Parts { tenure: Some(tenure(&world, "third", LONG).await), ..world.parts() }).await;
    third.unwrap().drain(TERM).await;
    assert_eq!(world.ledger.owner(), None, "given back by an orderly end");
    let began = Instant::now();
    tenure(&world, "fourth", LONG).await;
    assert!(began.elapsed() < TERM);
    // The same one again: it was killed and started anew.
    tenure(&world, "fourth", LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_keeps_its_lease_by_renewing() {
    let world = shared_world();
    let engine = owner(&world, TERM).await;
    a_while().await;
    assert_eq!(world.ledger.owner().as_deref(), Some("first"));
    entry_of(&engine.submit(world.signal("a")).await);
    until("it is sent", || (world.venue.wire().len() == 1).then_some(())).await;
}

/// An entry that is approved and cannot reach its venue yet.
async fn approved_entry(world: &World, engine: &Engine) {
    world.venue.unreachable.store(true, Ordering::SeqCst);
    entry_of(&engine.submit(world.signal("a")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_its_term_an_owner_opens_nothing() {
    let world = shared_world();
    let engine = owner(&world, TERM).await;
    approved_entry(&world, &engine).await;
    // The lease cannot be renewed, the trading state can be confirmed.
    world.ledger.set_renewals_away(true);
    a_while().await;
    world.venue.unreachable.store(false, Ordering::SeqCst);
    a_while().await;
    assert!(world.venue.wire().is_empty(), "{:?}", world.venue.wire());
    world.ledger.set_renewals_away(false);
    until("it leaves once the lease is renewed", || (world.venue.wire().len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_needs_a_trading_state_that_was_confirmed_lately() {
    let world = shared_world();
    let engine = owner(&world, LONG).await;
    approved_entry(&world, &engine).await;
    world.ledger.set_state_away(true);
    // Longer than a confirmation is good for.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    world.venue.unreachable.store(false, Ordering::SeqCst);
    a_while().await;
    assert!(world.venue.wire().is_empty(), "{:?}", world.venue.wire());
    world.ledger.set_state_away(false);
    until("it leaves once the state is confirmed", || (world.venue.wire().len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_its_term_an_owner_closes_only_where_no_id_is_taken_twice() {
    for keeps_ids in [false, true] {
        let world = shared_world();
        let engine = owner(&world, TERM).await;
        entry_of(&engine.submit(world.signal("a")).await);
        world.until_account(user(1), "it is filled", is_filled).await;
        world.venue.keeps_ids.store(keeps_ids, Ordering::SeqCst);
        world.ledger.set_away(true);
        a_while().await;
        world.mark(&engine, "1.08200", "1.08210").await;
        a_while().await;
        let exits = world.venue.wire().iter().filter(|id| !id.is_entry()).count();
        assert_eq!(exits, usize::from(keeps_ids));
        world.ledger.set_away(false);
        let closed = |account: &Account| !account.has_open_business();
        world.until_account(user(1), "it is closed once the ledger is back", closed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_has_lost_its_lease_stops_and_says_so() {
    let world = shared_world();
    let engine = owner(&world, TERM).await;
    approved_entry(&world, &engine).await;
    world.ledger.steal();
    tokio::time::timeout(LONG, engine.ownership_lost()).await.unwrap();
    assert_eq!(engine.status().gate.state, TradingState::Halted);
    world.venue.unreachable.store(false, Ordering::SeqCst);
    a_while().await;
    assert!(world.venue.wire().is_empty());
    assert!(!world.directory.path().join("HALT").exists(), "nobody has stopped trading");
    assert_eq!(world.ledger.state(), None, "nor in the new owner's ledger");
    engine.drain(Duration::ZERO).await;
    assert_eq!(world.ledger.owner().as_deref(), Some("first"), "what is not ours is not given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_is_written_elsewhere_is_obeyed_and_a_resume_is_not() {
    let world = shared_world();
    let engine = owner(&world, LONG).await;
    let limit = engine.submit(world.signal_with("a", |raw| {
        raw.order_type = Some("limit".to_owned());
        raw.entry_price = Some("1.08400".to_owned());
    }));
    let entry = entry_of(&limit.await);
    until("it works", || (world.venue.wire().len() == 1).then_some(())).await;
    let epoch = engine.status().gate.epoch;
    world.ledger.set_trading_state(record(TradingState::Halted, epoch + 1)).await.unwrap();
    let obeyed = || Some(engine.status().gate).filter(|gate| gate.state == TradingState::Halted);
    let gate = until("the stop is obeyed", obeyed).await;
    assert_eq!((gate.epoch, gate.by.as_str()), (epoch + 1, "elsewhere"));
    let cancelled = |account: &Account| account.lots[&entry.decision].entry.status == OrderStatus::Cancelled;
    world.until_account(user(1), "what works is cancelled", cancelled).await;
    until("HALT is there", || world.directory.path().join("HALT").exists().then_some(())).await;

    world.ledger.set_trading_state(record(TradingState::Active, epoch + 7)).await.unwrap();
    a_while().await;
    assert_eq!(engine.status().gate.state, TradingState::Halted, "only a person resumes, here");
    let resumed = engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();
    assert!(resumed.epoch > epoch + 7, "what is stated here outranks it: {resumed:?}");
    assert_eq!(world.ledger.state().unwrap().epoch, resumed.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_outranks_what_was_loosened_elsewhere() {
    let world = shared_world();
    let engine = owner(&world, LONG).await;
    world.ledger.set_state_away(true);
    world.ledger.set_trading_state(record(TradingState::Active, 40)).await.unwrap();
    let answer = engine.stop(stop()).await;
    assert!(answer.persisted, "{answer:?}");
    let held = world.ledger.state().unwrap();
    assert_eq!(held.state, TradingState::Halted);
    assert!(held.epoch > 40, "{held:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_have_missed_a_stop_takes_over_halted() {
    for heard_of_since in [false, true] {
        let world = shared_world();
        let lease = world.ledger.lease().unwrap();
        tenure(&world, "first", TERM).await;
        world.ledger.set_away(true);
        let mut saw_it_away = false;
        let world_again = &world;
        let second = stand_by(lease, "second", TERM, |seen| match seen {
            StandingBy::Away(_) => {
                saw_it_away = true;
                world_again.ledger.set_away(false);
            }
            StandingBy::Held(_) if heard_of_since => world_again.ledger.hear_of_the_owner(TERM / 4),
            StandingBy::Held(_) => {}
        });
        let second = second.await;
        assert!(saw_it_away);
        let engine = Engine::start(Parts { tenure: Some(second), ..world.parts() }).await.unwrap();
        let expected = if heard_of_since { TradingState::Active } else { TradingState::Halted };
        assert_eq!(engine.status().gate.state, expected);
        if !heard_of_since {
            let halted = || world.ledger.state().filter(|held| held.state == TradingState::Halted);
            until("the halt is recorded", halted).await;
        }
        engine.drain(TERM).await;
    }
}
