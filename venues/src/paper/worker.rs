//! The one thread that owns the book: it takes what is queued, trades, flushes once for all of it, and only then speaks.
//!
//! Requests and marks come through one queue in the order in which they were made, so an order that was sent after a mark
//! trades at that mark or a newer one. Everything that one turn of the loop changed becomes durable together; then its
//! reports go out, then its answers: who has an answer knows that all earlier reports are in the channel. While the
//! journal cannot be written the book stays as it is, and requests are answered with what is proven.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nexus_actors::ports::{CancelReply, Clock, SubmitReply, VenueError, VenueOrder};
use nexus_engine::ids::{ClientOrderId, Symbol, Timestamp};
use nexus_engine::instrument::Mark;
use nexus_engine::order::{News, OrderRequest, Report};
use tokio::sync::{mpsc, oneshot};

use super::book::Book;
use super::journal::{AppendError, Journal};
use super::marks::LastMarks;
use super::settings::{Draw, Fate, PaperSettings};

/// Messages in one turn of the loop: a flush grows with its size, and everybody in it waits for it.
const BATCH_MAX: usize = 256;
/// Requests on their way to the book. More are turned away.
const LINE_MAX: usize = 16_384;
/// How long a request that was turned away should wait.
pub(crate) const BUSY_WAIT: Duration = Duration::from_millis(20);
/// How often a journal that failed is tried again when nobody asks.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// Long enough for the next report to go first.
const REORDER_HOLD: Duration = Duration::from_millis(2);

/// Where an answer goes. The receiver may be gone; what was done stays done.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, VenueError>>;

/// What the thread is told.
pub(crate) enum Message {
    /// Where reports go from now on.
    Connect(mpsc::UnboundedSender<Report>),
    /// A price.
    Mark(Mark),
    /// A request, and when its caller made it.
    Request(Timestamp, Request),
}

/// What the thread is asked.
pub(crate) enum Request {
    Submit(Box<OrderRequest>, Fate, Answer<SubmitReply>),
    Cancel(ClientOrderId, Fate, Answer<CancelReply>),
    Query(ClientOrderId, Answer<Option<VenueOrder>>),
    Working(Answer<Vec<ClientOrderId>>),
}

/// What is said after the flush: with the failure, or, when there was none, with the result.
type Speech = Box<dyn FnOnce(Option<VenueError>) + Send>;

/// What is said later still.
enum Later {
    Report(Report),
    Speech(Speech),
}

/// The thread's state.
pub(crate) struct Worker {
    book: Book,
    journal: Journal,
    last_marks: LastMarks,
    settings: PaperSettings,
    clock: Arc<dyn Clock>,
    inbox: Receiver<Message>,
    up: Arc<AtomicBool>,
    reports: Option<mpsc::UnboundedSender<Report>>,
    /// Requests on their way, in the order in which they arrive.
    line: VecDeque<(Instant, Request)>,
    /// What this turn of the loop says when it is durable.
    speeches: Vec<(Duration, Speech)>,
    /// Marks that this turn of the loop brought.
    news: BTreeMap<Symbol, Mark>,
    /// What the settings hold back. Reports are facts and cannot be turned away: it holds at most what the book trades
    /// within the longest delay.
    later: BTreeMap<(Instant, u64), Later>,
    held: u64,
    probe_at: Option<Instant>,
}

/// Marks the venue as down when the thread ends, however it ends.
struct DownAtEnd(Arc<AtomicBool>);

impl Drop for DownAtEnd {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Worker {
    pub(crate) fn new(
        book: Book,
        (journal, last_marks): (Journal, LastMarks),
        settings: PaperSettings,
        clock: Arc<dyn Clock>,
        inbox: Receiver<Message>,
        up: Arc<AtomicBool>,
    ) -> Self {
        Self {
            book,
            journal,
            last_marks,
            settings,
            clock,
            inbox,
            up,
            reports: None,
            line: VecDeque::new(),
            speeches: Vec::new(),
            news: BTreeMap::new(),
            later: BTreeMap::new(),
            held: 0,
            probe_at: None,
        }
    }

    /// Runs until the venue is dropped and its queue is empty. Requests that are still on their way never arrive.
    pub(crate) fn run(mut self) {
        let _down_at_end = DownAtEnd(Arc::clone(&self.up));
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            match self.wait() {
                Ok(first) => batch.extend(first),
                Err(()) => return,
            }
            batch.extend(self.inbox.try_iter().take(BATCH_MAX - batch.len()));
            self.recover();
            for message in batch.drain(..) {
                self.take(message);
            }
            self.arrive();
            self.finish();
            self.speak_later();
        }
    }

    /// Waits for a message or for something to be due; an error when there will be no more messages.
    fn wait(&self) -> Result<Option<Message>, ()> {
        let due =
            [self.line.front().map(|(at, _)| *at), self.later.first_key_value().map(|((at, _), _)| *at), self.probe_at];
        let Some(due) = due.into_iter().flatten().min() else {
            return self.inbox.recv().map(Some).map_err(|_| ());
        };
        match self.inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// Tries a journal that has failed; when it writes again, trades what was missed.
    fn recover(&mut self) {
        if self.probe_at.is_none() {
            return;
        }
        match self.journal.probe() {
            Ok(()) => {
                tracing::info!("the paper book is written again");
                self.probe_at = None;
                self.up.store(true, Ordering::Release);
                self.book.catch_up();
            }
            Err(_) => self.probe_at = Some(Instant::now() + PROBE_EVERY),
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Connect(reports) => self.reports = Some(reports),
            Message::Mark(mark) => {
                let is_news = if self.is_down() { self.book.note(&mark) } else { self.book.observe(&mark) };
                if is_news {
                    self.news.insert(mark.symbol.clone(), mark);
                }
            }
            Message::Request(at, request) if !self.settings.has_latency() => self.handle(at, request),
            Message::Request(_, request) if self.line.len() >= LINE_MAX => {
                request.refuse(VenueError::SlowDown(BUSY_WAIT));
            }
            Message::Request(_, request) => self.set_out(request),
        }
    }

    /// A request begins its way. All stand in one line, and the first must arrive before the others do: or the answer to
    /// "do you have this order" would prove nothing.
    fn set_out(&mut self, request: Request) {
        let settings = &self.settings;
        let latency = match request.order() {
            Some(id) => settings.between(settings.latency_min, settings.latency_max, Draw::Latency, id, request.kind()),
            None => settings.latency_min,
        };
        self.line.push_back((Instant::now() + latency, request));
    }

    fn arrive(&mut self) {
        while let Some((_, request)) = self.line.pop_front_if(|(due, _)| *due <= Instant::now()) {
            self.handle(self.clock.now(), request);
        }
    }

    fn handle(&mut self, at: Timestamp, request: Request) {
        if self.is_down() && (request.changes() || self.journal.is_in_doubt()) {
            return request.refuse(VenueError::NotSent("the book cannot be written".to_owned()));
        }
        match request {
            Request::Submit(order, fate, answer) => {
                let reply = match self.book.submit(&order, at) {
                    SubmitReply::Traded if !self.hears_first_fill_of(order.id) => SubmitReply::Acknowledged,
                    reply => reply,
                };
                self.answer(fate, answer, reply);
            }
            Request::Cancel(order, fate, answer) => {
                let reply = self.book.cancel(order, at);
                self.answer(fate, answer, reply);
            }
            Request::Query(order, answer) => {
                let reply = self.book.query(order);
                self.answer(Fate::Answered, answer, reply);
            }
            Request::Working(answer) => {
                let reply = self.book.working();
                self.answer(Fate::Answered, answer, reply);
            }
        }
    }

    fn answer<T: Send + 'static>(&mut self, fate: Fate, answer: Answer<T>, reply: T) {
        let hold = if fate == Fate::LateReply { self.settings.timeout_hold } else { Duration::ZERO };
        let speech = move |failure: Option<VenueError>| {
            let result = match (failure, fate) {
                (Some(failure), _) => Err(failure),
                (None, Fate::LostReply | Fate::LostRequest) => Err(VenueError::Unknown("no answer came".to_owned())),
                (None, Fate::Answered | Fate::LateReply) => Ok(reply),
            };
            tell(answer, result);
        };
        self.speeches.push((hold, Box::new(speech)));
    }

    /// Makes durable what this turn of the loop did, and speaks; or takes it back, and says so.
    fn finish(&mut self) {
        for mark in std::mem::take(&mut self.news).into_values() {
            self.last_marks.keep(&mark);
        }
        let written = match self.book.records() {
            [] => Ok(()),
            records => self.journal.append(records),
        };
        match written {
            Ok(()) => {
                self.report();
                self.book.settle();
                for (hold, speech) in std::mem::take(&mut self.speeches) {
                    if hold.is_zero() {
                        speech(None);
                    } else {
                        self.hold_back(hold, Later::Speech(speech));
                    }
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &AppendError) {
        tracing::error!(%error, "the paper book could not be written");
        self.book.revert();
        self.up.store(false, Ordering::Release);
        self.probe_at = Some(Instant::now() + PROBE_EVERY);
        for (_, speech) in self.speeches.drain(..) {
            speech(Some(VenueError::from(error)));
        }
    }

    /// Whether a first fill that becomes durable now is in the channel before any answer.
    fn hears_first_fill_of(&self, order: ClientOrderId) -> bool {
        self.reports.is_some() && self.report_delay(order, 2).is_zero()
    }

    /// Reports what has become durable. That the book has an order is said by the answer to it, and to whoever asks.
    fn report(&mut self) {
        if self.reports.is_none() {
            return;
        }
        let reports = self.book.records().iter().filter_map(super::record::Record::report);
        let reports: Vec<Report> = reports.filter(|report| report.news != News::Acknowledged).collect();
        for report in reports {
            let number = number_of(&report);
            let copies =
                if self.settings.hits(self.settings.doubled_report_percent, Draw::Doubled, report.order, number) {
                    2
                } else {
                    1
                };
            for copy in 0..copies {
                match self.report_delay(report.order, number * 2 + copy) {
                    Duration::ZERO => self.send(report.clone()),
                    delay => self.hold_back(delay, Later::Report(report.clone())),
                }
            }
        }
    }

    fn report_delay(&self, id: ClientOrderId, n: u32) -> Duration {
        let settings = &self.settings;
        if settings.hits(settings.delayed_report_percent, Draw::Delayed, id, n) {
            settings.between(REORDER_HOLD, settings.report_delay_max, Draw::DelayTime, id, n)
        } else if settings.hits(settings.reordered_report_percent, Draw::Reordered, id, n) {
            REORDER_HOLD
        } else {
            Duration::ZERO
        }
    }

    fn send(&self, report: Report) {
        if let Some(reports) = &self.reports
            && let Err(unheard) = reports.send(report)
        {
            // Nobody listens any more; it stays in the book, for whoever asks.
            tracing::debug!(order = %unheard.0.order, "a report was not heard");
        }
    }

    fn hold_back(&mut self, delay: Duration, later: Later) {
        self.held += 1;
        self.later.insert((Instant::now() + delay, self.held), later);
    }

    fn speak_later(&mut self) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > Instant::now() {
                return;
            }
            match entry.remove() {
                Later::Report(report) => self.send(report),
                Later::Speech(speech) => speech(None),
            }
        }
    }

    fn is_down(&self) -> bool {
        self.probe_at.is_some()
    }
}

impl Request {
    fn order(&self) -> Option<ClientOrderId> {
        match self {
            Self::Submit(order, _, _) => Some(order.id),
            Self::Cancel(id, _, _) | Self::Query(id, _) => Some(*id),
            Self::Working(_) => None,
        }
    }

    const fn kind(&self) -> u32 {
        match self {
            Self::Submit(..) => 0,
            Self::Cancel(..) => 1,
            Self::Query(..) => 2,
            Self::Working(..) => 3,
        }
    }

    const fn changes(&self) -> bool {
        matches!(self, Self::Submit(..) | Self::Cancel(..))
    }

    fn refuse(self, error: VenueError) {
        match self {
            Self::Submit(_, _, answer) => tell(answer, Err(error)),
            Self::Cancel(_, _, answer) => tell(answer, Err(error)),
            Self::Query(_, answer) => tell(answer, Err(error)),
            Self::Working(answer) => tell(answer, Err(error)),
        }
    }
}

fn tell<T>(answer: Answer<T>, result: Result<T, VenueError>) {
    // A caller that has gone away asks again by the order's id; there is nobody to tell now.
    let _ = answer.send(result);
}

/// A number for each report of an order, the same whenever it is reported.
fn number_of(report: &Report) -> u32 {
    match &report.news {
        News::Acknowledged | News::Unknown => 0,
        News::Filled { execution, .. } => {
            execution.rsplit_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
        }
        News::Rejected { .. } | News::Cancelled { .. } | News::Expired | News::NeverSent { .. } => 1 << 20,
    }
}
