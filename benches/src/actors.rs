//! `actors`: from a signal to its decision, through ingress, dispatcher, risk actors and group commit, on ports that weigh nothing.
//!
//! The yardstick is the least that any actor could cost: a bare tokio channel to a task that answers through a oneshot. Both
//! are asked by the same closed loops, alone and with 64 in flight, on the same runtime. An open loop at half of the measured
//! throughput then shows what a caller feels when the engine is busy but not full.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nexus_actors::engine::{Engine, Parts, Settings};
use nexus_actors::ports::Clock as _;
use nexus_engine::account::Account;
use nexus_engine::gate::TradingState;
use nexus_engine::ids::{FeedId, SignalId, Timestamp};
use nexus_engine::limits::Limits;
use nexus_engine::signal::Signal;
use nexus_engine::turn::Verdict;
use nexus_engine::units::{Money, Percent};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::load::{Found, closed_loop, open_loop};
use crate::report::{Latency, Section, Table, per_second, time};
use crate::weightless::{FastClock, MemoryLedger, NoHotState, RejectingVenue};
use crate::world::{Chance, Market, limits, user};

/// How many requests are under way at once in the busy loop.
const IN_FLIGHT: usize = 64;
/// How long the tree may take to serve, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures signal to decision against a channel echo.
pub fn measure(quick: bool) -> Result<Section> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (users, span) = if quick { (50, Duration::from_millis(200)) } else { (1_000, Duration::from_secs(5)) };
    runtime.block_on(run(users, span))
}

async fn run(users: usize, span: Duration) -> Result<Section> {
    let folder = tempfile::tempdir()?;
    let bench = Arc::new(Bench::start(users, folder.path()).await?);
    // Every risk actor is spawned and has decided once before anything is timed.
    let first = bench.numbers.fetch_add(u64::try_from(users)?, Ordering::Relaxed);
    for number in (first..).take(users) {
        bench.decide(bench.signal(number)).await?;
    }
    bench.come_to_rest().await?;
    let echo = Echo::start();
    let echo_alone = closed_loop(1, span, echo.clone().asking()).await?;
    let echo_busy = closed_loop(IN_FLIGHT, span, echo.asking()).await?;
    let alone = bench.closed_loop(1, span).await?;
    let busy = bench.closed_loop(IN_FLIGHT, span).await?;
    let open = open_loop((busy.per_second / 2).max(1), span, Arc::clone(&bench).asking()).await?;
    let (accepted, refused) = (bench.accepted.load(Ordering::Relaxed), bench.refused.load(Ordering::Relaxed));
    bench.engine.drain(PATIENCE).await;
    ensure!(accepted > 0, "no signal was accepted: this measured nothing but refusals");
    Ok(section(users, [echo_alone, echo_busy, alone, busy, open], (accepted, refused)))
}

fn section(users: usize, found: [Found; 5], (accepted, refused): (u64, u64)) -> Section {
    let [echo_alone, echo_busy, alone, busy, open] = found;
    let mut table = Table::new(&[&["loop"], &Latency::HEAD[..], &["a second", "failed"]].concat());
    let half = format!("signal to decision, open loop at {} a second", busy.per_second / 2);
    for (name, found) in [
        ("signal to decision, 1 in flight", &alone),
        ("signal to decision, 64 in flight", &busy),
        (half.as_str(), &open),
        ("yardstick: tokio mpsc echo, 1 in flight", &echo_alone),
        ("yardstick: tokio mpsc echo, 64 in flight", &echo_busy),
    ] {
        let mut cells = vec![name.to_owned()];
        cells.extend(found.latency.cells());
        cells.extend([found.per_second.to_string(), found.failed.to_string()]);
        table.row(cells);
    }
    let mut notes = vec![
        format!("{users} users, one a signal; {accepted} signals accepted, {refused} refused"),
        "each order is rejected: a second turn that a rate includes and a latency does not".into(),
    ];
    if let Some(late) = open.lateness {
        let (p50, p99) = (time(late.p50_ns), time(late.p99_ns));
        notes.push(format!("the open loop sent late by p50 {p50}, p99 {p99}, which stands in its latencies"));
    }
    let json: Value = json!({
        "users": users, "in_flight": IN_FLIGHT, "accepted": accepted, "refused": refused,
        "alone": alone, "busy": busy, "open": open, "open_rate_per_second": busy.per_second / 2,
        "yardstick": { "what": "tokio mpsc echo", "alone": echo_alone, "busy": echo_busy },
    });
    Section { tables: vec![table], notes, json }
}

/// A running tree, and the signals that it gets.
struct Bench {
    engine: Engine,
    clock: Arc<FastClock>,
    ledger: Arc<MemoryLedger>,
    markets: Vec<Market>,
    users: usize,
    numbers: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Bench {
    async fn start(users: usize, folder: &std::path::Path) -> Result<Self> {
        let (clock, markets) = (Arc::new(FastClock::new()), Market::all());
        let open = |n| Account::open(user(n), "USD".into(), Money::whole(10_000), unhindered());
        let ledger = Arc::new(MemoryLedger::holding((0..users).map(open)));
        let engine = Engine::start(Parts {
            clock: Arc::clone(&clock) as _,
            ledger: Arc::clone(&ledger) as _,
            hot: Arc::new(NoHotState::default()),
            tenure: None,
            venues: vec![Arc::new(RejectingVenue)],
            instruments: markets.iter().map(|market| Arc::clone(&market.instrument)).collect(),
            settings: Settings { data_dir: folder.to_owned(), ceilings: unhindered(), ..Settings::default() },
            probe: None,
        })
        .await?;
        let [numbers, accepted, refused] = [0, 0, 0].map(AtomicU64::new);
        let bench = Self { engine, clock, ledger, markets, users, numbers, accepted, refused };
        bench.wait_until_armed().await?;
        let marks = bench.markets.iter().map(|market| market.mark(bench.clock.now())).collect();
        bench.engine.push_marks(marks).await.expect("no simulation");
        Ok(bench)
    }

    async fn wait_until_armed(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let status = self.engine.status();
            if status.serving && status.gate.state == TradingState::Active {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                bail!("the tree does not serve: {status:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A closed loop. Its rate counts the time that the rejections of its orders take, too: a loop that only waits for
    /// decisions would push the rest of the work ahead of itself.
    async fn closed_loop(self: &Arc<Self>, in_flight: usize, span: Duration) -> Result<Found> {
        let begin = Instant::now();
        let found = closed_loop(in_flight, span, Arc::clone(self).asking()).await?;
        self.come_to_rest().await?;
        Ok(Found { per_second: per_second(found.latency.count, begin.elapsed()), ..found })
    }

    /// Waits until the rejection of every order is committed.
    async fn come_to_rest(&self) -> Result<()> {
        let begin = Instant::now();
        while self.ledger.ended() < self.accepted.load(Ordering::Relaxed) {
            ensure!(begin.elapsed() < PATIENCE, "orders have not ended {PATIENCE:?} after the last decision");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// The signal of this number, to the user whose turn it is.
    fn signal(&self, number: u64) -> Signal {
        let mut chance = Chance::seeded(number);
        let market = &self.markets[chance.below(self.markets.len())];
        let turn = usize::try_from(number).unwrap_or(0) % self.users;
        let mut signal = market.signal(number, self.clock.now(), &mut chance);
        signal.feed = FeedId(user(turn).0);
        signal.id = SignalId::derive(signal.feed, &signal.key);
        signal
    }

    async fn decide(&self, signal: Signal) -> Result<()> {
        let answer = self.engine.submit(signal).await?;
        let decision = answer.decisions.first().context("one signal to one user makes one decision")?;
        let counter = match decision.verdict {
            Verdict::Accepted(_) => &self.accepted,
            Verdict::Rejected(_) => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A request of a loop. The loop's own count starts afresh each time, the signals' does not.
    fn asking(self: Arc<Self>) -> impl Fn(u64) -> futures::future::BoxFuture<'static, Result<()>> + Send + Sync {
        move |_| {
            let bench = Arc::clone(&self);
            let signal = bench.signal(bench.numbers.fetch_add(1, Ordering::Relaxed));
            Box::pin(async move { bench.decide(signal).await })
        }
    }
}

/// Limits that hinder nothing but the size: what is measured is the way, not the refusals.
fn unhindered() -> Limits {
    let endless = Duration::from_secs(400 * 24 * 3_600);
    let most = u32::MAX;
    Limits {
        timeframes: limits().timeframes.keys().map(|timeframe| (*timeframe, most)).collect(),
        max_daily_loss: Money::whole(1_000),
        duplicate_window: Duration::ZERO,
        max_signal_age: endless,
        future_tolerance: endless,
        max_mark_age: endless,
        price_collar_percent: Percent::whole(10),
        max_open_positions: most,
        max_orders_per_minute: most,
        max_exposure: Money::whole(10_000_000),
        loss_streak: most,
        max_repeated_executions: most,
        ..limits()
    }
}

/// The yardstick: a task behind a bounded channel that answers what it is asked.
#[derive(Clone)]
struct Echo(mpsc::Sender<(Timestamp, oneshot::Sender<Timestamp>)>);

impl Echo {
    /// Lives until the last handle is gone.
    fn start() -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Timestamp, oneshot::Sender<Timestamp>)>(1_024);
        tokio::spawn(async move {
            while let Some((asked, answer)) = receiver.recv().await {
                // Fails only when the asker is gone.
                let _ = answer.send(asked);
            }
        });
        Self(sender)
    }

    fn asking(self) -> impl Fn(u64) -> futures::future::BoxFuture<'static, Result<()>> + Send + Sync {
        move |n| {
            let echo = self.clone();
            Box::pin(async move { echo.ask(n).await })
        }
    }

    fn ask(&self, n: u64) -> impl Future<Output = Result<()>> {
        let asked = Timestamp::from_micros(i64::try_from(n).unwrap_or(0));
        async move {
            let (answer, answered) = oneshot::channel();
            self.0.send((asked, answer)).await.ok().context("the echo is gone")?;
            ensure!(answered.await? == asked, "the echo answered something else");
            Ok(())
        }
    }
}
