//! The what-if: it says what the next signal really gets, and leaves no trace.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nexus_actors::engine::{Engine, SubmitError};
use nexus_actors::ports::Clock;
use nexus_actors::preview::{Preview, SignalPreview};
use nexus_engine::account::{Decision, Input, Verdict};
use nexus_engine::gate::Scope;
use nexus_engine::headroom::Headroom;
use nexus_engine::ids::Timestamp;
use nexus_engine::rules::Refusal;
use nexus_engine::signal::{RawSignal, Signal};

use crate::world::{FEED, World, is_filled, stop, until, user};

/// All that a preview might change.
#[derive(PartialEq, Eq, Debug)]
struct Traces {
    ledger: String,
    commits: usize,
    wire: usize,
    in_memory: usize,
    hot: usize,
    accounts: Vec<String>,
}

async fn traces(world: &World, engine: &Engine) -> Traces {
    let mut accounts = Vec::new();
    for n in 1..=4 {
        accounts.push(format!("{:?}", engine.account(user(n)).await.unwrap()));
    }
    Traces {
        ledger: world.ledger.contents(),
        commits: world.ledger.commits.load(Ordering::SeqCst),
        wire: world.venue.wire().len(),
        in_memory: engine.status().active_accounts,
        hot: world.hot.accounts.lock().len(),
        accounts,
    }
}

/// A decision as a preview puts it.
fn verdict_of(decision: &Decision) -> String {
    match &decision.verdict {
        Verdict::Accepted(plan) => format!("{:?} {:?}", plan.quantity, plan.risk),
        Verdict::Rejected(reasons) => format!("{reasons:?}"),
    }
}

fn words(preview: &Preview) -> String {
    match &preview.verdict {
        Ok(trade) => format!("{:?} {:?}", trade.quantity, trade.risk),
        Err(reasons) => format!("{reasons:?}"),
    }
}

/// Sends the signal for real, and checks that everybody gets and has left what the preview said.
async fn check_against_the_real_one(engine: &Engine, previewed: &SignalPreview, real: Signal) {
    let at = real.issued_at;
    let answer = engine.submit(real.clone()).await.unwrap();
    assert!(!answer.duplicate, "a preview uses no id up");
    let said: Vec<_> = previewed.previews.iter().map(|one| (one.user, words(one))).collect();
    let got: Vec<_> = answer.decisions.iter().map(|decision| (decision.user, verdict_of(decision))).collect();
    assert_eq!(said, got);
    for one in &previewed.previews {
        let account = engine.account(one.user).await.unwrap().unwrap();
        assert_eq!(Headroom::of(&account, at, &real), one.left, "{:?}", one.user);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_leaves_no_trace_and_says_what_the_real_signal_gets() {
    let mut world = World::new(4);
    world.settings.ceilings.max_open_positions = 2;
    let engine = world.start().await;
    // Nobody's account is in memory, and none is taken into it.
    let before = traces(&world, &engine).await;
    assert_eq!(before.in_memory, 0);
    let first = engine.preview(world.signal("a")).await.unwrap();
    assert_eq!((first.previews.len(), first.undecidable), (4, 0));
    assert_eq!(traces(&world, &engine).await, before);
    world.venue.fills.store(false, Ordering::SeqCst);
    check_against_the_real_one(&engine, &first, world.signal("a")).await;

    engine.set_trading(user(2), false).await.unwrap();
    let only = |raw: &mut RawSignal| raw.user_id = Some(user(3).to_string());
    engine.submit(world.signal_with("b", only)).await.unwrap();
    let taken = || world.venue.wire().len() == 5 && world.ledger.doubts() == 0;
    until("five entries are known to be at the venue", || taken().then_some(())).await;
    // An id that was used is previewed as a new one would be decided.
    let before = traces(&world, &engine).await;
    let again = engine.preview(world.signal("a")).await.unwrap();
    assert_eq!(engine.preview(world.signal("c")).await.unwrap(), again);
    assert_eq!(traces(&world, &engine).await, before);
    let refusals: Vec<_> = again.previews.iter().map(|one| one.verdict.clone().err().unwrap_or_default()).collect();
    assert_eq!(refusals, [vec![], vec![Refusal::UserDisabled], vec![Refusal::OpenPositions], vec![]]);
    assert_eq!(again.previews[0].left.open_positions, 0);
    check_against_the_real_one(&engine, &again, world.signal("c")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_sees_the_gate_the_market_the_subscription_and_the_day() {
    let world = World::new(2);
    world.ledger.subscribe(FEED, &[user(1)]);
    let engine = world.start().await;
    let only = |key: &str, n: u128| world.signal_with(key, |raw| raw.user_id = Some(user(n).to_string()));
    let reasons = |answer: &SignalPreview| answer.previews[0].verdict.clone().unwrap_err();
    let foreign = engine.preview(only("a", 2)).await.unwrap();
    assert_eq!(reasons(&foreign), [Refusal::FeedNotSubscribed]);
    assert_eq!(engine.preview(only("a", 9)).await.unwrap_err(), SubmitError::UnknownUser);
    let nobody = Signal { feed: nexus_engine::ids::FeedId(uuid::Uuid::from_u128(7)), ..world.signal("a") };
    assert_eq!(engine.preview(nobody).await.unwrap(), SignalPreview::default());

    engine.submit(world.signal("a")).await.unwrap();
    world.until_account(user(1), "the entry is filled", is_filled).await;
    let today = engine.preview(world.signal("b")).await.unwrap();
    engine.stop(stop()).await;
    let halted = engine.preview(world.signal("b")).await.unwrap();
    assert_eq!(reasons(&halted), [Refusal::TradingHalted]);
    // A refusal uses nothing: what is left is what is left now.
    let (left_now, would_be_left) = (&halted.previews[0].left, &today.previews[0].left);
    assert_eq!(left_now.timeframe_trades, would_be_left.timeframe_trades + 1);
    assert!(left_now.daily_loss > would_be_left.daily_loss);
    engine.resume(Scope::Everything, "ann".to_owned(), None).await.unwrap();

    let day = 86_400_000_000;
    world.mark(&engine, "1.08490", "1.08500").await;
    let tomorrow = Timestamp::from_micros(world.clock.now().micros() + day);
    world.clock.set(tomorrow);
    let stale = engine.preview(world.signal("c")).await.unwrap();
    assert_eq!(reasons(&stale), [Refusal::StaleMarketData]);
    world.mark(&engine, "1.08490", "1.08500").await;
    let fresh = engine.preview(world.signal("c")).await.unwrap();
    assert_eq!(fresh.previews[0].left.timeframe_trades, left_now.timeframe_trades, "a new day has used nothing");
    check_against_the_real_one(&engine, &fresh, world.signal("c")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_panics_in_a_preview_hurts_nobody() {
    let world = World::new(3);
    let engine = world.start().await;
    engine.submit(world.signal("a")).await.unwrap();
    for n in 1..=3 {
        world.until_account(user(n), "the entry is filled", is_filled).await;
    }
    let before = traces(&world, &engine).await;
    world.hooks.stepping(|who, input| {
        assert!(who != user(2) || !matches!(input, Input::Signal(_)), "told so");
    });
    for _ in 0..4 {
        let answer = engine.preview(world.signal("b")).await.unwrap();
        let users: Vec<_> = answer.previews.iter().map(|one| one.user).collect();
        assert_eq!((users, answer.undecidable), (vec![user(1), user(3)], 1));
    }
    world.hooks.stepping(|_, _| {});
    assert_eq!(traces(&world, &engine).await, before);
    assert_eq!(engine.submit(world.signal("b")).await.unwrap().pending, 0, "nobody is quarantined");
    assert!(!world.ledger.account(user(2)).quarantined);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_takes_permits_and_gives_them_back() {
    let mut world = World::new(2);
    world.settings.permits = 2;
    let engine = world.start().await;
    for _ in 0..3 {
        assert_eq!(engine.preview(world.signal("a")).await.unwrap().previews.len(), 2);
    }
    world.ledger.set_slow(Duration::from_millis(200));
    let commits = world.ledger.commits.load(Ordering::SeqCst);
    let real = tokio::spawn({
        let (engine, signal) = (engine.clone(), world.signal("a"));
        async move { engine.submit(signal).await }
    });
    until("its commit has begun", || (world.ledger.commits.load(Ordering::SeqCst) > commits).then_some(())).await;
    let shed = engine.preview(world.signal("b")).await.unwrap_err();
    assert!(matches!(shed, SubmitError::Overloaded { .. }), "{shed:?}");
    real.await.unwrap().unwrap();

    world.ledger.set_away(true);
    // Whose accounts are in memory can be previewed without the ledger; nobody else can.
    assert!(engine.preview(world.signal("b")).await.is_ok());
    engine.drain(Duration::from_millis(10)).await;
    assert!(matches!(engine.preview(world.signal("b")).await, Err(SubmitError::NotServing(_))));
    world.ledger.set_away(false);
    let next = world.start().await;
    world.ledger.set_away(true);
    assert!(matches!(next.preview(world.signal("b")).await, Err(SubmitError::Ledger(_))));
}
