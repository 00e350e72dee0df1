//! Orders, marks, clocks and permits that the tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use nexus_actors::ports::{Clock, SendPermit, VenueError};
use nexus_engine::ids::{ClientOrderId, DecisionId, Timestamp};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::order::{News, OrderRequest, Purpose, Report};
use nexus_engine::signal::{OrderKind, Side};
use nexus_engine::units::Quantity;
use nexus_venues::paper::{PaperSettings, PaperVenue};
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

/// Longer than anything here takes, so that a test that hangs fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn instrument() -> Arc<Instrument> {
    Arc::new(Instrument {
        symbol: "EURUSD".parse().unwrap(),
        tick: "0.0001".parse().unwrap(),
        lot: Quantity::whole(1),
        fee_percent: "0.01".parse().unwrap(),
        quote: "USD".into(),
        enabled: true,
        venue: "paper".into(),
    })
}

pub fn order(n: u128, side: Side, kind: OrderKind) -> OrderRequest {
    OrderRequest {
        id: ClientOrderId::entry(DecisionId(Uuid::from_u128(n))),
        purpose: Purpose::Entry,
        symbol: instrument().symbol.clone(),
        side,
        kind,
        quantity: Quantity::whole(100),
        venue: "paper".into(),
        send_before: None,
        ask_first: false,
    }
}

pub fn limit(price: &str) -> OrderKind {
    OrderKind::Limit(price.parse().unwrap())
}

pub fn mark(bid: &str, ask: &str, at: i64) -> Mark {
    let (bid, ask) = (bid.parse().unwrap(), ask.parse().unwrap());
    Mark { symbol: instrument().symbol.clone(), bid, ask, at: Timestamp::from_micros(at) }
}

/// A clock that a test moves.
#[derive(Default)]
pub struct Hand(pub AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// A permit that is always granted; counts how many have entered and not left.
#[derive(Default)]
pub struct Granted {
    pub entered: AtomicUsize,
    pub inside: AtomicUsize,
}

struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SendPermit for Granted {
    fn enter(&self) -> Result<Box<dyn Send + '_>, VenueError> {
        self.entered.fetch_add(1, Ordering::SeqCst);
        self.inside.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Inside(&self.inside)))
    }
}

/// A permit behind a closed gate.
pub struct Refused;

impl SendPermit for Refused {
    fn enter(&self) -> Result<Box<dyn Send + '_>, VenueError> {
        Err(VenueError::GateClosed)
    }
}

pub fn open(path: &Path, settings: PaperSettings) -> PaperVenue {
    PaperVenue::open(path, &[instrument()], settings, Arc::new(Hand::default())).unwrap()
}

/// A folder and the path of a book in it.
pub fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paper.journal");
    (folder, path)
}

/// The next report, or a failed test.
pub async fn next(reports: &mut UnboundedReceiver<Report>) -> Report {
    tokio::time::timeout(PATIENCE, reports.recv()).await.expect("a report comes").expect("the venue lives")
}

/// Reads reports until one satisfies `is_it`.
pub async fn until(reports: &mut UnboundedReceiver<Report>, is_it: impl Fn(&Report) -> bool) -> Report {
    loop {
        let report = next(reports).await;
        if is_it(&report) {
            return report;
        }
    }
}

pub fn filled(reports: &[Report]) -> Quantity {
    reports.iter().fold(Quantity::ZERO, |sum, report| match &report.news {
        News::Filled { quantity, .. } => sum.plus(*quantity),
        _ => sum,
    })
}
