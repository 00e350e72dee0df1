//! The paper venue on the contract's stage, and its own habits.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::ports::{SendPermit, SubmitReply, Venue, VenueError, VenueOrder};
use nexus_engine::ids::Timestamp;
use nexus_engine::order::{News, OrderRequest};
use nexus_engine::signal::{OrderKind, Side};
use nexus_engine::units::Percent;
use nexus_venues::paper::{OpenError, PaperSettings, PaperVenue};
use parking_lot::Mutex;
use tokio::sync::mpsc::unbounded_channel;

use crate::common::{Granted, Hand, instrument, limit, mark, open, order, place};
use crate::contract::{Stage, venue_contract};

struct Paper {
    _folder: tempfile::TempDir,
    path: PathBuf,
    now: AtomicI64,
}

impl Paper {
    fn new() -> Self {
        let (folder, path) = place();
        Self { _folder: folder, path, now: AtomicI64::new(1) }
    }
}

impl Stage for Paper {
    fn open(&self) -> Arc<dyn Venue> {
        Arc::new(open(&self.path, PaperSettings::default()))
    }

    fn open_deaf(&self) -> Arc<dyn Venue> {
        let settings = PaperSettings { lost_reply_percent: Percent::whole(100), ..PaperSettings::default() };
        Arc::new(open(&self.path, settings))
    }

    fn price(&self, venue: &dyn Venue, bid: &str, ask: &str) {
        venue.observe(&mark(bid, ask, self.now.fetch_add(1, Ordering::SeqCst)));
    }
}

venue_contract!(Paper::new());

#[tokio::test]
async fn an_order_trades_at_the_mark_that_its_sender_had_seen() {
    let (_folder, path) = place();
    let venue = open(&path, PaperSettings::default());
    for n in 1..500_u32 {
        let ask = format!("1.{n:04}");
        venue.observe(&mark(&ask, &ask, i64::from(n)));
        let order = order(n.into(), Side::Buy, OrderKind::Market);
        // In one breath with the mark, as an actor does it.
        let mut call = venue.submit(&order, &Granted::default()).await;
        assert!(call.is_ok(), "{call:?}");
        let known = venue.query(order.id, &order.symbol).await.unwrap().unwrap();
        let News::Filled { price, .. } = &known.reports[1].news else { panic!("no fill in {known:?}") };
        assert_eq!(*price, ask.parse().unwrap());
        call = venue.submit(&order, &Granted::default()).await;
        assert_eq!(call, Ok(SubmitReply::DuplicateId));
    }
}

#[tokio::test]
async fn an_answer_says_that_all_earlier_reports_are_in_the_channel() {
    let (_folder, path) = place();
    let venue = open(&path, PaperSettings::default());
    let (reports, mut heard) = unbounded_channel();
    venue.connect(reports);
    let orders: Vec<OrderRequest> = (0..50).map(|n| order(n, Side::Buy, limit("1.09"))).collect();
    for order in &orders {
        venue.submit(order, &Granted::default()).await.unwrap();
    }
    venue.observe(&mark("1.08", "1.08", 1));
    assert_eq!(venue.working_orders().await, Ok(vec![]));
    let mut fills = 0;
    while let Ok(report) = heard.try_recv() {
        fills += usize::from(matches!(report.news, News::Filled { .. }));
    }
    assert_eq!(fills, orders.len());
}

#[tokio::test]
async fn an_order_that_trades_at_once_is_answered_by_its_execution_when_that_is_heard_first() {
    let late = PaperSettings { delayed_report_percent: Percent::whole(100), ..PaperSettings::default() };
    let reordered = PaperSettings { reordered_report_percent: Percent::whole(100), ..PaperSettings::default() };
    let split = PaperSettings { partial_fill_percent: Percent::whole(100), ..PaperSettings::default() };
    let (market, resting) = (OrderKind::Market, limit("1.09"));
    let table = [
        ("a market order", PaperSettings::default(), market, SubmitReply::Traded),
        ("a limit that the market has reached", PaperSettings::default(), limit("1.2"), SubmitReply::Traded),
        ("a part", split, market, SubmitReply::Traded),
        ("an order that waits", PaperSettings::default(), resting, SubmitReply::Acknowledged),
        ("an execution that comes late", late, market, SubmitReply::Acknowledged),
        ("an execution that lets others go first", reordered, market, SubmitReply::Acknowledged),
    ];
    for (what, settings, kind, reply) in table {
        let (_folder, path) = place();
        let venue = open(&path, settings);
        let (reports, mut heard) = unbounded_channel();
        venue.connect(reports);
        venue.observe(&mark("1.1", "1.1002", 1));
        let order = order(1, Side::Buy, kind);
        assert_eq!(venue.submit(&order, &Granted::default()).await.as_ref(), Ok(&reply), "{what}");
        let first = heard.try_recv().ok().map(|report| report.news);
        let is_fill = matches!(first, Some(News::Filled { .. }));
        assert_eq!((is_fill, first.is_some()), (reply == SubmitReply::Traded, is_fill), "{what}: {first:?}");
    }
    // Nobody listens: then the answer must say it.
    let (_folder, path) = place();
    let venue = open(&path, PaperSettings::default());
    venue.observe(&mark("1.1", "1.1002", 1));
    let unheard = venue.submit(&order(1, Side::Buy, OrderKind::Market), &Granted::default()).await;
    assert_eq!(unheard, Ok(SubmitReply::Acknowledged));
}

#[tokio::test]
async fn times_are_the_callers_and_the_marks() {
    let (_folder, path) = place();
    let clock = Arc::new(Hand::default());
    let venue =
        PaperVenue::open(&path, &[instrument()], PaperSettings::default(), Arc::clone(&clock) as Arc<_>).unwrap();
    let order = order(1, Side::Buy, limit("1.09"));
    clock.0.store(1_000, Ordering::SeqCst);
    venue.submit(&order, &Granted::default()).await.unwrap();
    venue.observe(&mark("1.08", "1.08", 2_000));
    let known = venue.query(order.id, &order.symbol).await.unwrap().unwrap();
    let times: Vec<Timestamp> = known.reports.iter().map(|report| report.at).collect();
    assert_eq!(times, [Timestamp::from_micros(1_000), Timestamp::from_micros(2_000)]);
}

type Question = BoxFuture<'static, Result<Option<VenueOrder>, VenueError>>;

/// A permit that asks for the order at the moment when it is left.
struct AskOnLeaving {
    venue: Arc<PaperVenue>,
    order: OrderRequest,
    answer: Mutex<Option<Question>>,
}

struct AsksWhenDropped<'a>(&'a AskOnLeaving);

impl Drop for AsksWhenDropped<'_> {
    fn drop(&mut self) {
        let (venue, order) = (Arc::clone(&self.0.venue), self.0.order.clone());
        let mut question: Question = async move { venue.query(order.id, &order.symbol).await }.boxed();
        // One poll puts it into the queue.
        drop(question.poll_unpin(&mut std::task::Context::from_waker(std::task::Waker::noop())));
        *self.0.answer.lock() = Some(question);
    }
}

impl SendPermit for AskOnLeaving {
    fn enter(&self) -> Result<Box<dyn Send + '_>, VenueError> {
        Ok(Box::new(AsksWhenDropped(self)))
    }
}

#[tokio::test]
async fn a_permit_is_left_after_the_order_is_in_the_queue() {
    let (_folder, path) = place();
    // The order's way takes longer than the question: the question must not be first in line.
    let latency = Duration::from_millis(20);
    let settings = PaperSettings { latency_min: latency, latency_max: latency, ..PaperSettings::default() };
    let venue = Arc::new(open(&path, settings));
    let order = order(1, Side::Buy, limit("1.09"));
    let permit = AskOnLeaving { venue: Arc::clone(&venue), order: order.clone(), answer: Mutex::default() };
    assert_eq!(venue.submit(&order, &permit).await, Ok(SubmitReply::Acknowledged));
    let question = permit.answer.lock().take().expect("the permit was left");
    assert!(question.await.unwrap().is_some(), "the permit was left before the order had gone");
}

#[tokio::test]
async fn a_market_is_remembered_through_a_restart() {
    let (_folder, path) = place();
    let (early, late) = (order(1, Side::Buy, OrderKind::Market), order(2, Side::Buy, OrderKind::Market));
    {
        let venue = open(&path, PaperSettings::default());
        let rejected = venue.submit(&early, &Granted::default()).await;
        assert_eq!(rejected, Ok(SubmitReply::Rejected("no market".into())));
        venue.observe(&mark("1.1", "1.1001", 1));
        venue.observe(&mark("1.2", "1.2001", 2));
    }
    let venue = open(&path, PaperSettings::default());
    venue.submit(&late, &Granted::default()).await.unwrap();
    let known = venue.query(late.id, &late.symbol).await.unwrap().unwrap();
    let News::Filled { price, .. } = &known.reports[1].news else { panic!("no fill in {known:?}") };
    assert_eq!(*price, "1.2001".parse().unwrap());
}

#[tokio::test]
async fn a_book_belongs_to_one_process_at_a_time() {
    let (_folder, path) = place();
    let venue = open(&path, PaperSettings::default());
    let second = PaperVenue::open(&path, &[instrument()], PaperSettings::default(), Arc::new(Hand::default()));
    assert!(matches!(second, Err(OpenError::InUse(_))));
    drop(venue);
    open(&path, PaperSettings::default());
}

#[tokio::test]
async fn a_lost_request_reaches_nobody() {
    let (_folder, path) = place();
    let settings = PaperSettings { lost_request_percent: Percent::whole(100), ..PaperSettings::default() };
    let venue = open(&path, settings);
    let order = order(1, Side::Buy, limit("1.09"));
    let permit = Granted::default();
    assert!(matches!(venue.submit(&order, &permit).await, Err(VenueError::Unknown(_))));
    assert_eq!(permit.entered.load(Ordering::SeqCst), 1, "as far as the caller can see, bytes left");
    assert_eq!(venue.query(order.id, &order.symbol).await, Ok(None));
}

#[tokio::test]
async fn a_query_never_overtakes_an_order_on_its_way() {
    let (_folder, path) = place();
    let settings = PaperSettings { latency_max: Duration::from_millis(10), ..PaperSettings::default() };
    let venue = open(&path, settings);
    let permit = Granted::default();
    let begun = std::time::Instant::now();
    for n in 0..20 {
        let order = order(n, Side::Buy, limit("1.09"));
        {
            let mut call = venue.submit(&order, &permit);
            drop(futures::poll!(&mut call));
        }
        let known = venue.query(order.id, &order.symbol).await.unwrap();
        assert!(known.is_some(), "None would have been a false proof");
    }
    assert!(begun.elapsed() >= Duration::from_millis(20), "requests take their time");
}

#[tokio::test]
async fn a_reply_may_come_too_late_for_any_caller() {
    let (_folder, path) = place();
    let settings = PaperSettings {
        timeout_percent: Percent::whole(100),
        timeout_hold: Duration::from_secs(3_600),
        ..PaperSettings::default()
    };
    let venue = open(&path, settings);
    let order = order(1, Side::Buy, limit("1.09"));
    let permit = Granted::default();
    let mut call = venue.submit(&order, &permit);
    assert!(futures::poll!(&mut call).is_pending());
    // The barrier: whatever an unheld reply would have said has been said by now.
    assert_eq!(venue.working_orders().await, Ok(vec![order.id]));
    assert!(futures::poll!(&mut call).is_pending());
}
