//! The paper venue: a simulated exchange that trades against pushed marks, with a book that outlives the engine.
//!
//! In three layers: [`Book`] is pure and decides; `worker` is the one thread that owns it, makes its changes durable in
//! the [`journal`] and only then speaks; [`PaperVenue`] is the near end that the tree calls. The queue between the last two
//! is to this venue what a socket is to others: a permit is entered right before an order goes into it and left right
//! after, and from then on the order is with the venue, whatever becomes of the caller.
//!
//! Under a simulated clock all times come from marks and callers, so the settings must not let time pass on the wall
//! (see [`PaperSettings`]); then an answer to any call says that every report caused before it is in the channel.

mod book;
pub mod journal;
mod marks;
mod record;
mod settings;
mod worker;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use futures::future::BoxFuture;
use nexus_actors::ports::{CancelReply, Clock, SendPermit, SubmitReply, Venue, VenueError, VenueOrder};
use nexus_engine::ids::{ClientOrderId, Symbol};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::order::{OrderRequest, Report};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

pub use book::{Book, Impossible};
pub use journal::OpenError;
pub use record::{Change, Record};
pub use settings::PaperSettings;

use journal::Journal;
use marks::LastMarks;
use settings::{Draw, Fate};
use worker::{Answer, BUSY_WAIT, Message, Request, Worker};

/// The name of this venue in instruments and tables.
pub const NAME: &str = "paper";

/// Messages on their way to the book's thread. Beyond it orders are turned away, and marks wait.
const QUEUE_MAX: usize = 16_384;

/// The near end of a simulated exchange.
pub struct PaperVenue {
    /// `None` only while the venue is dropped.
    queue: Option<SyncSender<Message>>,
    worker: Option<JoinHandle<()>>,
    up: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
    settings: PaperSettings,
    /// How often in a row a call was not answered. Holds only calls that the settings make fail.
    failed: Mutex<HashMap<(Draw, ClientOrderId), u32>>,
}

impl PaperVenue {
    /// Opens the book in the file `path`, or makes an empty one, and starts its thread. Nothing that happened before is
    /// reported again; who wants to know asks. A book belongs to one process at a time.
    pub fn open(
        path: &Path,
        instruments: &[Arc<Instrument>],
        settings: PaperSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let mut book = Book::new(instruments, settings.clone());
        let journal = Journal::open(path, |record| book.replay(&record).map_err(|error| error.to_string()))?;
        let marks_path = beside(path, ".marks");
        let (last_marks, marks) =
            LastMarks::open(&marks_path).map_err(|error| OpenError::Io { path: marks_path, error })?;
        for mark in &marks {
            book.note(mark);
        }
        Self::start(book, (journal, last_marks), settings, clock)
            .map_err(|error| OpenError::Io { path: path.to_owned(), error })
    }

    fn start(
        book: Book,
        files: (Journal, LastMarks),
        settings: PaperSettings,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let (queue, inbox) = sync_channel(QUEUE_MAX);
        let up = Arc::new(AtomicBool::new(true));
        let worker = Worker::new(book, files, settings.clone(), Arc::clone(&clock), inbox, Arc::clone(&up));
        let worker = std::thread::Builder::new().name("paper-venue".to_owned()).spawn(move || worker.run())?;
        Ok(Self { queue: Some(queue), worker: Some(worker), up, clock, settings, failed: Mutex::default() })
    }

    /// What becomes of this call.
    fn fate(&self, call: Draw, order: ClientOrderId) -> Fate {
        let mut failed = self.failed.lock();
        let key = (call, order);
        let fate = self.settings.fate(call, order, failed.get(&key).copied().unwrap_or(0));
        if fate == Fate::Answered {
            failed.remove(&key);
        } else {
            *failed.entry(key).or_default() += 1;
        }
        fate
    }

    /// Hands a request to the book's thread, without waiting.
    fn hand_over(&self, request: Request) -> Result<(), VenueError> {
        let message = Message::Request(self.clock.now(), request);
        let queue = self.queue.as_ref().ok_or_else(has_ended)?;
        queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => VenueError::SlowDown(BUSY_WAIT),
            TrySendError::Disconnected(_) => has_ended(),
        })
    }

    /// Hands over a request of which nothing is lost on the way, and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, VenueError> {
        let (answer, reply) = oneshot::channel();
        self.hand_over(request(answer))?;
        wait_for(reply).await
    }

    /// Tells the book's thread something that must not be left out: waits while the queue is full, at most for a flush.
    fn tell(&self, message: Message) {
        let told = self.queue.as_ref().is_some_and(|queue| queue.send(message).is_ok());
        if !told {
            tracing::error!("the paper venue has ended and hears nothing more");
        }
    }
}

impl Venue for PaperVenue {
    fn name(&self) -> &str {
        NAME
    }

    fn connect(&self, reports: mpsc::UnboundedSender<Report>) {
        self.tell(Message::Connect(reports));
    }

    fn submit<'a>(
        &'a self,
        order: &'a OrderRequest,
        permit: &'a dyn SendPermit,
    ) -> BoxFuture<'a, Result<SubmitReply, VenueError>> {
        Box::pin(async move {
            let (answer, reply) = oneshot::channel();
            let order = Box::new(order.clone());
            {
                let _entered = permit.enter()?;
                let fate = self.fate(Draw::Submit, order.id);
                if fate == Fate::LostRequest {
                    return Err(no_answer());
                }
                self.hand_over(Request::Submit(order, fate, answer))?;
            }
            wait_for(reply).await
        })
    }

    fn cancel<'a>(
        &'a self,
        order: ClientOrderId,
        _symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<CancelReply, VenueError>> {
        Box::pin(async move {
            match self.fate(Draw::Cancel, order) {
                Fate::LostRequest => Err(no_answer()),
                fate => self.ask(|answer| Request::Cancel(order, fate, answer)).await,
            }
        })
    }

    fn query<'a>(
        &'a self,
        order: ClientOrderId,
        _symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<Option<VenueOrder>, VenueError>> {
        Box::pin(self.ask(move |answer| Request::Query(order, answer)))
    }

    fn working_orders(&self) -> BoxFuture<'_, Result<Vec<ClientOrderId>, VenueError>> {
        Box::pin(self.ask(Request::Working))
    }

    /// The book keeps every id that it has ever taken.
    fn client_ids_are_unique_for_ever(&self) -> bool {
        true
    }

    fn observe(&self, mark: &Mark) {
        self.tell(Message::Mark(mark.clone()));
    }

    fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }
}

impl Drop for PaperVenue {
    /// Lets the thread finish what is queued: afterwards the book can be opened again at once.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            tracing::error!("the paper venue's thread had panicked");
        }
    }
}

async fn wait_for<T>(reply: oneshot::Receiver<Result<T, VenueError>>) -> Result<T, VenueError> {
    reply.await.unwrap_or_else(|_| Err(VenueError::Unknown("the venue ended before it answered".to_owned())))
}

fn no_answer() -> VenueError {
    VenueError::Unknown("no answer came".to_owned())
}

fn has_ended() -> VenueError {
    VenueError::NotSent("the venue has ended".to_owned())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::Media;
    use nexus_engine::ids::{DecisionId, Timestamp};
    use nexus_engine::order::{News, Purpose};
    use nexus_engine::signal::{OrderKind, Side};
    use nexus_engine::units::{Percent, Price, Quantity};
    use std::io;
    use std::sync::atomic::AtomicUsize;
    use uuid::Uuid;

    /// A disk that a test can fill, and whose every byte it can see.
    #[derive(Clone, Default)]
    struct Disk {
        bytes: Arc<Mutex<Vec<u8>>>,
        is_full: Arc<AtomicBool>,
        is_stuck: Arc<AtomicBool>,
        syncs: Arc<AtomicUsize>,
        /// While a test says so, a flush does not end.
        is_endless: Arc<AtomicBool>,
    }

    impl Media for Disk {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            let is_full = self.is_full.load(Ordering::SeqCst);
            // A full disk takes the beginning of what does not fit.
            let fits = if is_full { bytes.len() / 2 } else { bytes.len() };
            self.bytes.lock().extend_from_slice(&bytes[..fits]);
            if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn sync(&mut self) -> io::Result<()> {
            loop {
                // As long as a flush: what arrives meanwhile waits for the next.
                std::thread::sleep(std::time::Duration::from_millis(5));
                if !self.is_endless.load(Ordering::SeqCst) {
                    break;
                }
            }
            self.syncs.fetch_add(1, Ordering::SeqCst);
            if self.is_stuck.load(Ordering::SeqCst) { Err(io::Error::other("input/output error")) } else { Ok(()) }
        }

        fn cut(&mut self, length: u64) -> io::Result<()> {
            self.bytes.lock().truncate(usize::try_from(length).unwrap());
            Ok(())
        }
    }

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(1_000)
        }
    }

    struct Open;

    impl SendPermit for Open {
        fn enter(&self) -> Result<Box<dyn Send + '_>, VenueError> {
            Ok(Box::new(()))
        }
    }

    fn venue(disk: &Disk) -> PaperVenue {
        let instrument = Arc::new(Instrument {
            symbol: "EURUSD".parse().unwrap(),
            tick: "0.0001".parse().unwrap(),
            lot: Quantity::whole(1),
            fee_percent: Percent::ZERO,
            quote: "USD".into(),
            enabled: true,
            venue: NAME.into(),
        });
        let book = Book::new(&[instrument], PaperSettings::default());
        let folder = tempfile::tempdir().unwrap();
        let marks = LastMarks::open(&folder.path().join("marks")).unwrap().0;
        let journal = Journal::new(Box::new(disk.clone()), 0);
        PaperVenue::start(book, (journal, marks), PaperSettings::default(), Arc::new(Fixed)).unwrap()
    }

    fn mark(ask: i64) -> Mark {
        let (bid, ask) = (Price::whole(ask - 1), Price::whole(ask));
        Mark { symbol: "EURUSD".parse().unwrap(), bid, ask, at: Timestamp::from_micros(2_000) }
    }

    fn order(n: u128, limit: i64) -> OrderRequest {
        OrderRequest {
            id: ClientOrderId::entry(DecisionId(Uuid::from_u128(n))),
            purpose: Purpose::Entry,
            symbol: "EURUSD".parse().unwrap(),
            side: Side::Buy,
            kind: OrderKind::Limit(Price::whole(limit)),
            quantity: Quantity::whole(10),
            venue: NAME.into(),
            send_before: None,
            ask_first: false,
        }
    }

    #[tokio::test]
    async fn a_full_disk_takes_nothing_and_loses_nothing() {
        let disk = Disk::default();
        let venue = venue(&disk);
        let (reports, mut heard) = mpsc::unbounded_channel();
        venue.connect(reports);
        let (resting, refused) = (order(1, 10), order(2, 10));
        assert_eq!(venue.submit(&resting, &Open).await, Ok(SubmitReply::Acknowledged));
        let before = disk.bytes.lock().clone();

        disk.is_full.store(true, Ordering::SeqCst);
        assert!(matches!(venue.submit(&refused, &Open).await, Err(VenueError::NotSent(_))));
        assert!(!venue.is_up());
        // The market reaches the resting order while nothing can be written: no fill may be heard of.
        venue.observe(&mark(5));
        assert_eq!(venue.query(refused.id, &refused.symbol).await, Ok(None));
        assert_eq!(venue.working_orders().await, Ok(vec![resting.id]));
        assert!(matches!(venue.cancel(resting.id, &resting.symbol).await, Err(VenueError::NotSent(_))));
        assert!(heard.try_recv().is_err());
        assert_eq!(*disk.bytes.lock(), before, "a failed write leaves nothing behind");

        disk.is_full.store(false, Ordering::SeqCst);
        let patience = std::time::Duration::from_secs(20);
        let fill = tokio::time::timeout(patience, heard.recv()).await.expect("it is up again by itself").unwrap();
        assert_eq!(fill.order, resting.id);
        assert!(matches!(fill.news, News::Filled { .. }), "the missed trade is made up for: {fill:?}");
        assert!(venue.is_up());
        assert_eq!(venue.submit(&refused, &Open).await, Ok(SubmitReply::Traded));
    }

    #[tokio::test]
    async fn a_write_in_doubt_is_unknown_until_it_is_taken_back() {
        let disk = Disk::default();
        let venue = venue(&disk);
        let order = order(1, 10);
        disk.is_stuck.store(true, Ordering::SeqCst);
        assert!(matches!(venue.submit(&order, &Open).await, Err(VenueError::Unknown(_))));
        // "None" would be a proof, and a crash now could still bring the order to life.
        assert!(matches!(venue.query(order.id, &order.symbol).await, Err(VenueError::NotSent(_))));
        disk.is_stuck.store(false, Ordering::SeqCst);
        assert_eq!(venue.query(order.id, &order.symbol).await, Ok(None));
        assert!(disk.bytes.lock().is_empty());
        assert_eq!(venue.submit(&order, &Open).await, Ok(SubmitReply::Acknowledged));
    }

    /// Submits an order and waits until its record is written and only the flush is missing.
    async fn submit_into_a_flush<'a>(
        venue: &'a PaperVenue,
        disk: &Disk,
        order: &'a OrderRequest,
    ) -> BoxFuture<'a, Result<SubmitReply, VenueError>> {
        let mut call = venue.submit(order, &Open);
        assert!(futures::poll!(&mut call).is_pending());
        let begun = std::time::Instant::now();
        while disk.bytes.lock().is_empty() {
            assert!(begun.elapsed().as_secs() < 20, "the order reaches the disk");
            std::thread::yield_now();
        }
        call
    }

    #[tokio::test]
    async fn nothing_is_said_before_it_is_flushed() {
        let disk = Disk::default();
        let venue = venue(&disk);
        let (reports, mut heard) = mpsc::unbounded_channel();
        venue.connect(reports);
        venue.observe(&mark(5));
        let order = order(1, 10);
        disk.is_endless.store(true, Ordering::SeqCst);
        let mut call = submit_into_a_flush(&venue, &disk, &order).await;
        assert!(heard.try_recv().is_err());
        assert!(futures::poll!(&mut call).is_pending());
        disk.is_endless.store(false, Ordering::SeqCst);
        assert_eq!(call.await, Ok(SubmitReply::Traded));
        assert!(heard.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_full_queue_turns_orders_away() {
        let disk = Disk::default();
        let venue = venue(&disk);
        let orders: Vec<OrderRequest> = (0..QUEUE_MAX as u128 + 2).map(|n| order(n, 10)).collect();
        disk.is_endless.store(true, Ordering::SeqCst);
        let mut calls = vec![submit_into_a_flush(&venue, &disk, &orders[0]).await];
        for order in &orders[1..=QUEUE_MAX] {
            let mut call = venue.submit(order, &Open);
            assert!(futures::poll!(&mut call).is_pending());
            calls.push(call);
        }
        let last = &orders[QUEUE_MAX + 1];
        assert_eq!(venue.submit(last, &Open).await, Err(VenueError::SlowDown(BUSY_WAIT)));
        disk.is_endless.store(false, Ordering::SeqCst);
        for reply in futures::future::join_all(calls).await {
            assert_eq!(reply, Ok(SubmitReply::Acknowledged));
        }
        assert_eq!(venue.query(last.id, &last.symbol).await, Ok(None));
    }

    #[tokio::test]
    async fn one_flush_serves_everybody_who_waits() {
        let disk = Disk::default();
        let venue = venue(&disk);
        let orders: Vec<OrderRequest> = (0..200).map(|n| order(n, 10)).collect();
        let replies = futures::future::join_all(orders.iter().map(|order| venue.submit(order, &Open))).await;
        assert!(replies.iter().all(|reply| *reply == Ok(SubmitReply::Acknowledged)));
        assert_eq!(venue.working_orders().await.unwrap().len(), 200);
        let syncs = disk.syncs.load(Ordering::SeqCst);
        assert!(syncs <= 20, "200 orders took {syncs} flushes");
    }
}
