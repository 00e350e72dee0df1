//! What goes wrong between here and a venue: lost replies, lost requests, refusals, and things not sent.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nexus_engine::account::Account;
use nexus_engine::ids::ClientOrderId;
use nexus_engine::order::OrderStatus;
use nexus_engine::units::Money;

use crate::venue::Trouble;
use crate::world::{World, entry_of, until, user};

fn status_is(status: OrderStatus) -> impl Fn(&Account) -> bool {
    move |account| account.lots.values().next().is_some_and(|lot| lot.entry.status == status && !lot.entry.unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_lost_on_the_way_there_is_exactly_one_live_order() {
    // Trouble on the way, and how often the order is written: again only when the venue proved not to have it.
    let table: [(&[Trouble], usize); 5] = [
        (&[], 1),
        (&[Trouble::LostReply], 1),
        (&[Trouble::LostRequest], 2),
        (&[Trouble::NotSent, Trouble::NotSent, Trouble::LostReply], 1),
        (&[Trouble::LostRequest, Trouble::LostRequest, Trouble::LostReply], 3),
    ];
    for (troubles, written) in table {
        let world = World::new(1);
        let engine = world.start().await;
        troubles.iter().for_each(|trouble| world.venue.trouble(*trouble));
        let entry = entry_of(&engine.submit(world.signal("a")).await);
        let account = world.until_account(user(1), "the entry is filled", status_is(OrderStatus::Filled)).await;
        assert_eq!(world.venue.orders(), [entry], "{troubles:?}");
        assert_eq!(world.venue.written(entry), written, "{troubles:?}");
        assert_eq!(account.lots[&entry.decision].executions.len(), 1, "{troubles:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_entry_gives_its_reservation_back() {
    let world = World::new(1);
    let engine = world.start().await;
    world.venue.trouble(Trouble::Rejected);
    entry_of(&engine.submit(world.signal("a")).await);
    let account = world.until_account(user(1), "it is rejected", status_is(OrderStatus::Rejected)).await;
    assert_eq!(account.reserved_risk(), Money::ZERO);
    assert!(!account.has_open_business());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_leave_in_time_never_does() {
    let mut world = World::new(1);
    world.settings.ceilings.max_signal_age = Duration::from_millis(1);
    let engine = world.start().await;
    world.venue.unreachable.store(true, Ordering::SeqCst);
    entry_of(&engine.submit(world.signal("a")).await);
    // The clock of the next marks passes the time by which it had to leave.
    world.mark(&engine, "1.08490", "1.08500").await;
    world.mark(&engine, "1.08490", "1.08500").await;
    let account = world.until_account(user(1), "it is given up", status_is(OrderStatus::Cancelled)).await;
    world.venue.unreachable.store(false, Ordering::SeqCst);
    assert_eq!(account.reserved_risk(), Money::ZERO);
    assert!(world.venue.wire().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_of_an_order_that_nobody_knows_breaks_nothing() {
    let world = World::new(1);
    let engine = world.start().await;
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    world.until_account(user(1), "the entry is filled", status_is(OrderStatus::Filled)).await;
    // Another tree, which does not know the order, hears of it.
    let stranger = World { venue: world.venue.clone(), ..World::new(1) };
    let other = stranger.start().await;
    world.venue.repeat_reports();
    let answer = other.set_trading(user(1), false).await.unwrap();
    assert!(answer.lots.is_empty());
    until("the first tree still serves", || world.venue.orders().contains(&entry).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_venue_that_loses_every_request_is_not_hammered() {
    let world = World::new(1);
    let engine = world.start().await;
    let entry = entry_of(&engine.submit(world.signal("a")).await);
    world.until_account(user(1), "the entry is filled", status_is(OrderStatus::Filled)).await;
    (0..100_000).for_each(|_| world.venue.trouble(Trouble::LostRequest));
    world.mark(&engine, "1.08290", "1.08300").await;
    let exit = ClientOrderId::exit(entry.decision, 1);
    until("an exit is tried for ever", || (world.venue.written(exit) >= 4).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let written = world.venue.written(exit);
    assert!(written < 50, "{written} times within a moment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_venue_that_refuses_every_exit_is_asked_again_without_a_flood() {
    let world = World::new(1);
    let engine = world.start().await;
    entry_of(&engine.submit(world.signal("a")).await);
    world.until_account(user(1), "the entry is filled", status_is(OrderStatus::Filled)).await;
    (0..100_000).for_each(|_| world.venue.trouble(Trouble::Rejected));
    world.mark(&engine, "1.08290", "1.08300").await;
    let exits = |account: &Account| account.lots.values().map(|lot| lot.exits.len()).sum::<usize>();
    world.until_account(user(1), "the exit is tried again", |account| exits(account) >= 4).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let planned = exits(&world.ledger.account(user(1)));
    assert!(planned < 20, "{planned} exits within a moment");
    world.venue.calm();
    world.until_account(user(1), "the position is closed", |account| !account.has_open_business()).await;
}
