//! A venue that records what reaches it, trades at the mark, and loses replies when told to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::ports::{CancelReply, SendPermit, SubmitReply, Venue, VenueError, VenueOrder};
use nexus_engine::ids::{ClientOrderId, Symbol, Timestamp};
use nexus_engine::instrument::Mark;
use nexus_engine::order::{News, OrderRequest, Report};
use nexus_engine::signal::OrderKind;
use nexus_engine::units::Money;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

/// What goes wrong with one submit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Taken, and the answer is lost, and what the venue reports at once as well: only who asks will know.
    LostReply,
    /// The bytes have left and never arrive.
    LostRequest,
    /// Nothing was sent.
    NotSent,
    /// The connection hangs with the permit held.
    Held,
    /// Not taken.
    Rejected,
}

#[derive(Default)]
struct Book {
    marks: HashMap<Symbol, Mark>,
    orders: BTreeMap<ClientOrderId, (OrderRequest, Vec<Report>)>,
    troubles: VecDeque<Trouble>,
    reports: Option<UnboundedSender<Report>>,
    /// Every entry that reached the wire, with whether the answer was lost.
    wire: Vec<ClientOrderId>,
}

/// The double.
pub struct RecordingVenue {
    book: Mutex<Book>,
    pub fills: AtomicBool,
    pub unreachable: AtomicBool,
    /// Whether it never takes an id twice.
    pub keeps_ids: AtomicBool,
    /// Sends that hang with their permit held.
    pub held: AtomicUsize,
    /// How long a send takes between its permit and its last byte.
    pub write_time: Mutex<Duration>,
    /// How long a question takes.
    pub query_time: Mutex<Duration>,
}

impl Default for RecordingVenue {
    fn default() -> Self {
        Self {
            book: Mutex::default(),
            fills: AtomicBool::new(true),
            unreachable: AtomicBool::new(false),
            keeps_ids: AtomicBool::new(true),
            held: AtomicUsize::new(0),
            write_time: Mutex::default(),
            query_time: Mutex::default(),
        }
    }
}

impl RecordingVenue {
    pub fn trouble(&self, trouble: Trouble) {
        self.book.lock().troubles.push_back(trouble);
    }

    /// No more of it.
    pub fn calm(&self) {
        self.book.lock().troubles.clear();
    }

    /// How often an order of this id was written.
    pub fn written(&self, id: ClientOrderId) -> usize {
        self.book.lock().wire.iter().filter(|written| **written == id).count()
    }

    /// Every order that was written, in order.
    pub fn wire(&self) -> Vec<ClientOrderId> {
        self.book.lock().wire.clone()
    }

    /// The orders that the venue has.
    pub fn orders(&self) -> Vec<ClientOrderId> {
        self.book.lock().orders.keys().copied().collect()
    }

    /// Whether the venue has taken a cancel of this order.
    pub fn is_cancelled(&self, id: ClientOrderId) -> bool {
        let book = self.book.lock();
        let cancelled = |report: &Report| matches!(report.news, News::Cancelled { .. });
        book.orders.get(&id).is_some_and(|(_, reports)| reports.iter().any(cancelled))
    }

    /// Reports everything again, as a venue does after a reconnect.
    pub fn repeat_reports(&self) {
        let book = self.book.lock();
        let Some(sender) = &book.reports else { return };
        for (_, reports) in book.orders.values() {
            for report in reports {
                sender.send(report.clone()).unwrap();
            }
        }
    }

    /// Fills a working order at the mark.
    pub fn fill(&self, id: ClientOrderId) {
        self.book.lock().fill(id);
    }
}

/// Counts a send that hangs, until it is dropped.
struct Held<'a>(&'a AtomicUsize);

impl Held<'_> {
    fn count(held: &AtomicUsize) -> Held<'_> {
        held.fetch_add(1, Ordering::SeqCst);
        Held(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Book {
    fn accept(&mut self, order: &OrderRequest) {
        let at = self.marks.get(&order.symbol).map_or(Timestamp::ZERO, |mark| mark.at);
        let taken = Report { order: order.id, at, news: News::Acknowledged };
        self.orders.insert(order.id, (order.clone(), vec![taken]));
    }

    fn fill(&mut self, id: ClientOrderId) {
        let Some((order, _)) = self.orders.get(&id) else { return };
        let Some(mark) = self.marks.get(&order.symbol) else { return };
        let news = News::Filled {
            execution: format!("{id}-1").into(),
            quantity: order.quantity,
            price: mark.taker(order.side),
            fee: Money::ZERO,
        };
        let report = Report { order: id, at: mark.at, news };
        self.report(id, report);
    }

    fn report(&mut self, id: ClientOrderId, report: Report) {
        if let Some((_, reports)) = self.orders.get_mut(&id) {
            reports.push(report.clone());
        }
        if let Some(sender) = &self.reports {
            // The tree of an earlier start may have ended.
            let _ = sender.send(report);
        }
    }
}

impl Venue for RecordingVenue {
    fn name(&self) -> &'static str {
        "paper"
    }

    fn connect(&self, reports: UnboundedSender<Report>) {
        self.book.lock().reports = Some(reports);
    }

    fn submit<'a>(
        &'a self,
        order: &'a OrderRequest,
        permit: &'a dyn SendPermit,
    ) -> BoxFuture<'a, Result<SubmitReply, VenueError>> {
        async move {
            if self.unreachable.load(Ordering::SeqCst) {
                return Err(VenueError::NotSent("unreachable".to_owned()));
            }
            let trouble = self.book.lock().troubles.pop_front();
            if trouble == Some(Trouble::NotSent) {
                return Err(VenueError::NotSent("told so".to_owned()));
            }
            let guard = permit.enter()?;
            if trouble == Some(Trouble::Held) {
                let _held = Held::count(&self.held);
                tokio::time::sleep(Duration::from_secs(3_600)).await;
            }
            let write_time = *self.write_time.lock();
            if !write_time.is_zero() {
                tokio::time::sleep(write_time).await;
            }
            let mut book = self.book.lock();
            book.wire.push(order.id);
            drop(guard);
            match trouble {
                Some(Trouble::LostRequest) => return Err(VenueError::Unknown("lost request".to_owned())),
                Some(Trouble::Rejected) => return Ok(SubmitReply::Rejected("no".into())),
                _ => {}
            }
            if book.orders.contains_key(&order.id) {
                return Ok(SubmitReply::DuplicateId);
            }
            let reports = if trouble == Some(Trouble::LostReply) { book.reports.take() } else { None };
            book.accept(order);
            let trades = self.fills.load(Ordering::SeqCst) && order.kind == OrderKind::Market;
            if trades {
                book.fill(order.id);
            }
            if reports.is_some() {
                book.reports = reports;
            }
            match trouble {
                Some(Trouble::LostReply) => Err(VenueError::Unknown("lost reply".to_owned())),
                _ if trades => Ok(SubmitReply::Traded),
                _ => Ok(SubmitReply::Acknowledged),
            }
        }
        .boxed()
    }

    fn cancel<'a>(
        &'a self,
        order: ClientOrderId,
        _symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<CancelReply, VenueError>> {
        async move {
            let mut book = self.book.lock();
            let Some((_, reports)) = book.orders.get(&order) else { return Ok(CancelReply::NothingToCancel) };
            if reports.iter().any(|report| !matches!(report.news, News::Acknowledged)) {
                return Ok(CancelReply::NothingToCancel);
            }
            let at = reports[0].at;
            book.report(order, Report { order, at, news: News::Cancelled { reason: "asked".into() } });
            Ok(CancelReply::Accepted)
        }
        .boxed()
    }

    fn query<'a>(
        &'a self,
        order: ClientOrderId,
        _symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<Option<VenueOrder>, VenueError>> {
        async move {
            if self.unreachable.load(Ordering::SeqCst) {
                return Err(VenueError::NotSent("unreachable".to_owned()));
            }
            let query_time = *self.query_time.lock();
            if !query_time.is_zero() {
                tokio::time::sleep(query_time).await;
            }
            let book = self.book.lock();
            Ok(book.orders.get(&order).map(|(_, reports)| VenueOrder { id: order, reports: reports.clone() }))
        }
        .boxed()
    }

    fn working_orders(&self) -> BoxFuture<'_, Result<Vec<ClientOrderId>, VenueError>> {
        async move { Ok(Vec::new()) }.boxed()
    }

    fn client_ids_are_unique_for_ever(&self) -> bool {
        self.keeps_ids.load(Ordering::SeqCst)
    }

    fn observe(&self, mark: &Mark) {
        self.book.lock().marks.insert(mark.symbol.clone(), mark.clone());
    }
}
