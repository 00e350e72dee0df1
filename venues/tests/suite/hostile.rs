//! The exchange on its worst day, and a caller who behaves as a router does: asks by id, and never sends again blind.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use nexus_actors::ports::{SubmitReply, Venue, VenueError};
use nexus_engine::order::{News, OrderRequest, Report};
use nexus_engine::signal::{OrderKind, Side};
use nexus_venues::paper::{PaperSettings, PaperVenue, journal};
use tokio::sync::mpsc::unbounded_channel;

use crate::common::{Granted, PATIENCE, filled, limit, mark, next, open, order, place};

/// What a day's calls came to, in their order.
#[derive(PartialEq, Eq, Debug, Default)]
struct Day {
    unknown: usize,
    rejected: usize,
    sent_again: usize,
}

/// Sends until the venue is known to have it.
async fn send(venue: &PaperVenue, order: &OrderRequest, day: &mut Day) {
    let permit = Granted::default();
    // More often than any draw can fail in a row.
    for _ in 0..1_000 {
        match venue.submit(order, &permit).await {
            Ok(SubmitReply::Acknowledged | SubmitReply::Traded) => return,
            Ok(SubmitReply::Rejected(_)) => {
                day.rejected += 1;
                return;
            }
            Ok(SubmitReply::DuplicateId) => panic!("it was sent again blind"),
            Err(VenueError::Unknown(_)) => day.unknown += 1,
            Err(error) => panic!("{error}"),
        }
        if venue.query(order.id, &order.symbol).await.unwrap().is_some() {
            return;
        }
        day.sent_again += 1;
    }
    panic!("an order that is sent again and again never arrives");
}

fn orders() -> Vec<OrderRequest> {
    let side = |n: u128| if n.is_multiple_of(2) { Side::Buy } else { Side::Sell };
    let kind = |n: u128| if n.is_multiple_of(3) { limit("1.1") } else { OrderKind::Market };
    (0..120).map(|n| order(n, side(n), kind(n))).collect()
}

async fn trade(venue: &PaperVenue) -> Day {
    let mut day = Day::default();
    for (n, order) in orders().iter().enumerate() {
        let bid = if n.is_multiple_of(2) { "1.0999" } else { "1.1" };
        venue.observe(&mark(bid, "1.1", i64::try_from(n).unwrap()));
        send(venue, order, &mut day).await;
    }
    // What is left of orders that fill one part a mark.
    for n in 1_000..1_005 {
        venue.observe(&mark("1.1", "1.1", n));
    }
    day
}

fn hostile(seed: u64) -> PaperSettings {
    PaperSettings { timeout_hold: Duration::from_millis(5), ..PaperSettings::hostile(seed) }
}

async fn journal_of_a_day(path: &Path, seed: u64) -> (Day, Vec<u8>) {
    // Without latency everything happens in the order of the calls, and the whole day can be compared.
    let venue = open(path, PaperSettings { latency_max: Duration::ZERO, ..hostile(seed) });
    let day = trade(&venue).await;
    drop(venue);
    (day, std::fs::read(path).unwrap())
}

#[tokio::test]
async fn a_bad_day_repeats_by_its_seed() {
    let [(_a, first), (_b, second), (_c, other)] = [place(), place(), place()];
    let day = journal_of_a_day(&first, 7).await;
    assert!(day.0.unknown > 5 && day.0.rejected > 0 && day.0.sent_again > 0, "{:?} is not a bad day", day.0);
    assert_eq!(journal_of_a_day(&second, 7).await, day);
    assert_ne!(journal_of_a_day(&other, 8).await.1, day.1);
}

#[tokio::test]
async fn on_a_bad_day_every_fact_arrives_and_every_order_is_there_once() {
    for seed in [1, 2, 3] {
        let (_folder, path) = place();
        let venue = open(&path, hostile(seed));
        let (reports, mut heard) = unbounded_channel();
        venue.connect(reports);
        trade(&venue).await;
        assert_eq!(venue.working_orders().await, Ok(vec![]), "seed {seed}");

        let mut stories: Vec<Vec<Report>> = Vec::new();
        for order in orders() {
            let known = venue.query(order.id, &order.symbol).await.unwrap().unwrap();
            let is_rejected = matches!(known.reports[0].news, News::Rejected { .. });
            assert!(is_rejected || filled(&known.reports) == order.quantity, "seed {seed}: {known:?}");
            stories.push(known.reports);
        }
        // That the venue has an order is an answer and no report.
        stories.iter_mut().for_each(|story| story.retain(|report| report.news != News::Acknowledged));
        let expected = stories.concat();
        let mut arrived: Vec<Report> = Vec::new();
        tokio::time::timeout(PATIENCE, async {
            while !expected.iter().all(|report| arrived.contains(report)) {
                arrived.push(next(&mut heard).await);
            }
        })
        .await
        .expect("every report arrives");
        assert!(arrived.iter().all(|report| expected.contains(report)), "seed {seed}: something else was reported");
        assert!(expected.len() > orders().len(), "seed {seed}: {} reports", expected.len());
        assert!(arrived.len() > expected.len(), "seed {seed}: nothing was doubled");
        let position = |report: &Report| arrived.iter().position(|other| other == report);
        let is_reordered = |story: &[Report]| !story.iter().map(position).is_sorted();
        assert!(stories.iter().any(|story| is_reordered(story)), "seed {seed}: nothing was reordered");

        drop(venue);
        let ids: Vec<_> = journal::read(&path).unwrap().orders().into_iter().map(|order| order.id).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert_eq!(ids.len(), orders().len());
    }
}
