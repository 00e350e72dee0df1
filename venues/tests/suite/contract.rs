//! The contract of `ports::Venue`, in tests that run on any venue.
//!
//! A venue joins with a [`Stage`]: how it is opened, opened again on the same book, made to lose its replies, and how its
//! market is moved. Then `venue_contract!(module, stage)` runs every test on it.

use std::sync::Arc;

use nexus_actors::ports::{CancelReply, SubmitReply, Venue, VenueError};
use nexus_engine::order::{News, OrderRequest, Report};
use nexus_engine::signal::{OrderKind, Side};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::common::{Granted, Refused, filled, limit, order, until};

/// A venue and the market behind it.
pub trait Stage {
    /// Opens the venue; an earlier one of this stage has been dropped, and its book is still there.
    fn open(&self) -> Arc<dyn Venue>;
    /// The same, but every reply to a submit is lost on its way back.
    fn open_deaf(&self) -> Arc<dyn Venue>;
    /// Moves the market.
    fn price(&self, venue: &dyn Venue, bid: &str, ask: &str);
}

fn listen(venue: &dyn Venue) -> UnboundedReceiver<Report> {
    let (reports, heard) = unbounded_channel();
    venue.connect(reports);
    heard
}

fn is_fill(report: &Report) -> bool {
    matches!(report.news, News::Filled { .. })
}

fn is_cancel(report: &Report) -> bool {
    matches!(report.news, News::Cancelled { .. })
}

/// Sends an order that the venue has to take; returns whether it was said to have traded.
async fn send(venue: &dyn Venue, order: &OrderRequest) -> bool {
    match venue.submit(order, &Granted::default()).await {
        Ok(SubmitReply::Acknowledged) => false,
        Ok(SubmitReply::Traded) => true,
        other => panic!("{other:?}"),
    }
}

pub async fn an_order_is_taken_and_filled(stage: &impl Stage) {
    let venue = stage.open();
    let mut reports = listen(&*venue);
    stage.price(&*venue, "1.1", "1.1002");
    let order = order(1, Side::Buy, OrderKind::Market);
    let fill = match send(&*venue, &order).await {
        true => reports.try_recv().expect("what the answer speaks of is in the channel"),
        false => until(&mut reports, is_fill).await,
    };
    assert!(is_fill(&fill), "{fill:?}");
    assert_eq!(fill.order, order.id);
    let known = venue.query(order.id, &order.symbol).await.unwrap().unwrap();
    assert_eq!(filled(&known.reports), order.quantity);
    assert!(known.reports.contains(&fill));
}

pub async fn a_resting_order_is_filled_when_the_market_comes(stage: &impl Stage) {
    let venue = stage.open();
    let mut reports = listen(&*venue);
    stage.price(&*venue, "1.1", "1.1002");
    let order = order(1, Side::Buy, limit("1.09"));
    assert_eq!(venue.submit(&order, &Granted::default()).await, Ok(SubmitReply::Acknowledged));
    assert_eq!(venue.working_orders().await, Ok(vec![order.id]));
    stage.price(&*venue, "1.0898", "1.09");
    let News::Filled { price, .. } = until(&mut reports, is_fill).await.news else { unreachable!("it is a fill") };
    assert!(price <= "1.09".parse().unwrap());
    assert_eq!(venue.working_orders().await, Ok(vec![]));
}

pub async fn an_id_is_taken_once_in_whatever_state(stage: &impl Stage) {
    let venue = stage.open();
    let permit = Granted::default();
    stage.price(&*venue, "1.1", "1.1002");
    let resting = order(1, Side::Buy, limit("1.09"));
    let filled_at_once = order(2, Side::Buy, OrderKind::Market);
    let cancelled = order(3, Side::Buy, limit("1.09"));
    for order in [&resting, &filled_at_once, &cancelled] {
        send(&*venue, order).await;
    }
    assert_eq!(venue.cancel(cancelled.id, &cancelled.symbol).await, Ok(CancelReply::Accepted));
    for order in [&resting, &filled_at_once, &cancelled] {
        let before = venue.query(order.id, &order.symbol).await.unwrap();
        assert_eq!(venue.submit(order, &permit).await, Ok(SubmitReply::DuplicateId));
        assert_eq!(venue.query(order.id, &order.symbol).await.unwrap(), before);
    }
}

pub async fn a_cancelled_order_never_trades(stage: &impl Stage) {
    let venue = stage.open();
    let mut reports = listen(&*venue);
    stage.price(&*venue, "1.1", "1.1002");
    let order = order(1, Side::Buy, limit("1.09"));
    venue.submit(&order, &Granted::default()).await.unwrap();
    assert_eq!(venue.cancel(order.id, &order.symbol).await, Ok(CancelReply::Accepted));
    until(&mut reports, is_cancel).await;
    stage.price(&*venue, "1.08", "1.0802");
    assert_eq!(venue.working_orders().await, Ok(vec![]));
    let known = venue.query(order.id, &order.symbol).await.unwrap().unwrap();
    assert!(!known.reports.iter().any(is_fill));
    assert_eq!(known.reports.iter().filter(|report| is_cancel(report)).count(), 1);
}

pub async fn what_has_ended_cannot_be_cancelled(stage: &impl Stage) {
    let venue = stage.open();
    stage.price(&*venue, "1.1", "1.1002");
    let order = order(1, Side::Sell, OrderKind::Market);
    assert_eq!(venue.cancel(order.id, &order.symbol).await, Ok(CancelReply::NothingToCancel));
    venue.submit(&order, &Granted::default()).await.unwrap();
    assert_eq!(venue.cancel(order.id, &order.symbol).await, Ok(CancelReply::NothingToCancel));
}

pub async fn an_order_that_it_never_had_is_none(stage: &impl Stage) {
    let venue = stage.open();
    let order = order(1, Side::Buy, OrderKind::Market);
    assert_eq!(venue.query(order.id, &order.symbol).await, Ok(None));
}

pub async fn a_lost_reply_is_found_by_asking(stage: &impl Stage) {
    let venue = stage.open_deaf();
    stage.price(&*venue, "1.1", "1.1002");
    let order = order(1, Side::Buy, OrderKind::Market);
    assert!(matches!(venue.submit(&order, &Granted::default()).await, Err(VenueError::Unknown(_))));
    let known = venue.query(order.id, &order.symbol).await.unwrap().expect("the venue has it");
    assert_eq!(filled(&known.reports), order.quantity);
}

pub async fn a_caller_who_leaves_changes_nothing(stage: &impl Stage) {
    let venue = stage.open();
    stage.price(&*venue, "1.1", "1.1002");
    let order = order(1, Side::Buy, OrderKind::Market);
    let permit = Granted::default();
    {
        let mut call = venue.submit(&order, &permit);
        // One poll: the order is on its way. Then the caller gives up, whether or not the answer was there already.
        drop(futures::poll!(&mut call));
    }
    let known = venue.query(order.id, &order.symbol).await.unwrap().expect("the venue has it");
    assert_eq!(filled(&known.reports), order.quantity);
    assert_eq!(venue.submit(&order, &permit).await, Ok(SubmitReply::DuplicateId));
}

pub async fn reports_are_repeated_in_the_same_words(stage: &impl Stage) {
    let venue = stage.open();
    let mut reports = listen(&*venue);
    stage.price(&*venue, "1.1", "1.1002");
    let order = order(1, Side::Buy, limit("1.09"));
    venue.submit(&order, &Granted::default()).await.unwrap();
    stage.price(&*venue, "1.0898", "1.09");
    let fill = until(&mut reports, is_fill).await;
    let first = venue.query(order.id, &order.symbol).await.unwrap().unwrap();
    assert!(first.reports.contains(&fill));
    assert_eq!(venue.query(order.id, &order.symbol).await.unwrap().unwrap(), first);
}

pub async fn behind_a_closed_gate_nothing_leaves(stage: &impl Stage) {
    let venue = stage.open();
    stage.price(&*venue, "1.1", "1.1002");
    let order = order(1, Side::Buy, OrderKind::Market);
    assert_eq!(venue.submit(&order, &Refused).await, Err(VenueError::GateClosed));
    assert_eq!(venue.query(order.id, &order.symbol).await, Ok(None));
}

pub async fn a_permit_is_held_only_while_bytes_leave(stage: &impl Stage) {
    use std::sync::atomic::Ordering::SeqCst;
    let venue = stage.open();
    let permit = Granted::default();
    let order = order(1, Side::Buy, limit("1.09"));
    {
        let mut call = venue.submit(&order, &permit);
        assert_eq!(permit.entered.load(SeqCst), 0, "not before the first byte");
        let polled = futures::poll!(&mut call);
        assert_eq!((permit.entered.load(SeqCst), permit.inside.load(SeqCst)), (1, 0), "not while it waits");
        if polled.is_pending() {
            call.await.unwrap();
        }
    }
    assert_eq!(permit.entered.load(SeqCst), 1);
}

pub async fn opened_again_it_has_everything_and_says_nothing_by_itself(stage: &impl Stage) {
    let (resting, done) = (order(1, Side::Buy, limit("1.09")), order(2, Side::Buy, OrderKind::Market));
    let permit = Granted::default();
    let before = {
        let venue = stage.open();
        stage.price(&*venue, "1.1", "1.1002");
        venue.submit(&resting, &permit).await.unwrap();
        venue.submit(&done, &permit).await.unwrap();
        [venue.query(resting.id, &resting.symbol).await, venue.query(done.id, &done.symbol).await]
    };
    let venue = stage.open();
    let mut reports = listen(&*venue);
    let after = [venue.query(resting.id, &resting.symbol).await, venue.query(done.id, &done.symbol).await];
    assert_eq!(after, before);
    assert_eq!(venue.working_orders().await, Ok(vec![resting.id]));
    assert!(reports.try_recv().is_err(), "who wants to know asks");
    assert_eq!(venue.submit(&done, &permit).await, Ok(SubmitReply::DuplicateId));
    stage.price(&*venue, "1.0898", "1.09");
    let fill = until(&mut reports, is_fill).await;
    assert_eq!(fill.order, resting.id);
}

/// Runs the contract on a stage.
macro_rules! venue_contract {
    ($stage:expr) => {
        crate::contract::venue_contract! { $stage =>
            an_order_is_taken_and_filled,
            a_resting_order_is_filled_when_the_market_comes,
            an_id_is_taken_once_in_whatever_state,
            a_cancelled_order_never_trades,
            what_has_ended_cannot_be_cancelled,
            an_order_that_it_never_had_is_none,
            a_lost_reply_is_found_by_asking,
            a_caller_who_leaves_changes_nothing,
            reports_are_repeated_in_the_same_words,
            behind_a_closed_gate_nothing_leaves,
            a_permit_is_held_only_while_bytes_leave,
            opened_again_it_has_everything_and_says_nothing_by_itself,
        }
    };
    ($stage:expr => $($test:ident,)+) => {
        $(#[tokio::test]
        async fn $test() {
            tokio::time::timeout(crate::common::PATIENCE, crate::contract::$test(&$stage)).await.expect("it ends");
        })+
    };
}
pub(crate) use venue_contract;
