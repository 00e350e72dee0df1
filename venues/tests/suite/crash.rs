//! A kill at any instant: a child process trades, is killed with SIGKILL in the middle of it, and its book is opened here.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use nexus_actors::ports::{SubmitReply, Venue};
use nexus_engine::ids::ClientOrderId;
use nexus_engine::signal::{OrderKind, Side};
use nexus_engine::units::Percent;
use nexus_venues::paper::{PaperSettings, journal};

use crate::common::{Granted, filled, instrument, limit, mark, open, order, place};

/// Names the book that the child trades on; without it the child's test does nothing.
const BOOK: &str = "NEXUS_TEST_PAPER_BOOK";
/// The number of the child's first order.
const FIRST: &str = "NEXUS_TEST_PAPER_FIRST";

fn settings() -> PaperSettings {
    PaperSettings { partial_fill_percent: Percent::whole(50), ..PaperSettings::default() }
}

/// Trades until it is killed, and prints every order that it has an answer for.
#[tokio::test]
async fn child() {
    let Ok(path) = std::env::var(BOOK) else { return };
    let venue = open(path.as_ref(), settings());
    let permit = Granted::default();
    let first: u128 = std::env::var(FIRST).unwrap().parse().unwrap();
    for n in (first..).step_by(8) {
        venue.observe(&mark("1.1", "1.1002", i64::try_from(n).unwrap() + 1));
        let kinds = [OrderKind::Market, limit("1.0")];
        let orders = [0, 1, 2, 3, 4, 5, 6, 7].map(|k| order(n + k, Side::Buy, kinds[usize::from(k % 2 == 1)]));
        let replies = futures::future::join_all(orders.iter().map(|order| venue.submit(order, &permit))).await;
        for (order, reply) in orders.iter().zip(replies) {
            assert_eq!(reply, Ok(SubmitReply::Acknowledged));
            writeln!(std::io::stderr(), "has {}", order.id).unwrap();
        }
    }
}

#[tokio::test]
async fn a_killed_process_leaves_every_answered_order_in_the_book_once() {
    let (_folder, path) = place();
    let mut answered: HashSet<ClientOrderId> = HashSet::new();
    for life in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--nocapture"])
            .env(BOOK, &path)
            .env(FIRST, (life * 1_000_000).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        // A different moment in each life.
        let ids =
            lines.filter_map(|line| line.strip_prefix("has ")?.parse::<ClientOrderId>().ok()).take(50 + 37 * life);
        answered.extend(ids);
        child.kill().unwrap();
        child.wait().unwrap();

        let contents = journal::read(&path).unwrap();
        let orders = contents.orders();
        let ids: HashSet<ClientOrderId> = orders.iter().map(|order| order.id).collect();
        assert_eq!(ids.len(), orders.len(), "life {life}: a client order id is in the book twice");
        assert!(answered.is_subset(&ids), "life {life}: an answered order is not in the book");

        let venue = open(&path, settings());
        for order in &orders {
            let known = venue.query(order.id, &instrument().symbol).await.unwrap().unwrap();
            assert_eq!(known, *order, "life {life}: a report is told in other words");
            assert!(filled(&known.reports) <= crate::common::order(0, Side::Buy, OrderKind::Market).quantity);
        }
    }
    assert!(answered.len() > 50);
}
