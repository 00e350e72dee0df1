//! The contract of the hot state port: the newest stays, whatever the order of arrival, and what restricts is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_actors::ports::{
    ArmedWindow, HotState, InstanceRole, KeptAnswer, LoginFailures, Presence, TradingStateRecord,
};
use nexus_engine::account::{Account, Decision, Verdict};
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::{DecisionId, Timestamp};
use nexus_engine::instrument::Mark;
use nexus_engine::rules::Refusal;
use nexus_engine::signal::{RawSignal, Side, Signal};

use crate::contract::Place;
use crate::story::{NOON, account, feed_id, minutes, user_id};

/// Runs the whole contract against one implementation.
macro_rules! hot_contract {
    ($place:ty) => {
        cases! { hot_contract, $place:
            the_newest_snapshot_stays,
            a_snapshot_proven_wrong_is_forgotten,
            the_newest_mark_stays,
            the_newest_trading_state_stays_and_each_one_is_a_hint,
            a_duplicate_window_lasts_as_long_as_it_says,
            a_complete_answer_is_kept_unless_it_is_large,
            a_revoked_token_is_known,
            failed_logins_are_counted_by_name,
            instances_are_known_by_their_last_word,
        }
    };
}

const HOUR: Duration = Duration::from_secs(3_600);

/// An account at a version, different from that at any other.
pub fn at_version(version: u64) -> Arc<Account> {
    let now = Timestamp::from_micros(i64::try_from(version).unwrap());
    Arc::new(Account { version, now, ..account(user_id(1)) })
}

pub fn mark(at: i64) -> Mark {
    Mark {
        symbol: "EURUSD".parse().unwrap(),
        bid: "1.08490".parse().unwrap(),
        ask: "1.08500".parse().unwrap(),
        at: Timestamp::from_micros(at),
    }
}

pub fn state(epoch: u64) -> TradingStateRecord {
    TradingStateRecord {
        scope: Scope::Everything,
        state: TradingState::Halted,
        epoch,
        since: NOON,
        by: "ann".to_owned(),
        reason: Some(format!("the {epoch}th")),
    }
}

pub fn answer(key: &str, users: u128) -> KeptAnswer {
    let text = |text: &str| Some(text.to_owned());
    let raw = RawSignal {
        symbol: text("EURUSD"),
        side: text("buy"),
        timeframe: text("3H"),
        stop_loss: text("1.08300"),
        take_profit: text("1.08900"),
        ..RawSignal::default()
    };
    let signal = Arc::new(Signal::parse(feed_id(), key, &raw, NOON).unwrap());
    let decision = |n| Decision {
        id: DecisionId(user_id(n).0),
        signal: signal.id,
        feed: signal.feed,
        user: user_id(n),
        at: NOON,
        verdict: Verdict::Rejected(vec![Refusal::TradingHalted]),
    };
    let decisions = (1..=users).map(|n| Arc::new(decision(n))).collect();
    KeptAnswer { signal, decisions }
}

pub fn presence(name: &str, role: InstanceRole) -> Presence {
    Presence { name: name.into(), role, fence: 7, since: NOON }
}

/// Asks again until it is so.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(20), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn the_newest_snapshot_stays<P: Place>(place: P) {
    let hot = place.hot();
    assert!(hot.is_up());
    assert_eq!(hot.account(user_id(1)).await, None);
    for (put, expected) in [(2, 2), (1, 2), (10, 10), (9, 10)] {
        hot.put_account(at_version(put));
        place.settle().await;
        assert_eq!(hot.account(user_id(1)).await, Some(at_version(expected)));
    }
    assert_eq!(hot.account(user_id(2)).await, None);
}

pub async fn a_snapshot_proven_wrong_is_forgotten<P: Place>(place: P) {
    let hot = place.hot();
    hot.put_account(at_version(2));
    hot.forget_account(user_id(1));
    place.settle().await;
    assert_eq!(hot.account(user_id(1)).await, None);
    hot.put_account(at_version(2));
    place.settle().await;
    hot.forget_account(user_id(1));
    hot.put_account(at_version(1));
    place.settle().await;
    assert_eq!(hot.account(user_id(1)).await, Some(at_version(1)));
}

pub async fn the_newest_mark_stays<P: Place>(place: P) {
    let hot = place.hot();
    let symbol = mark(0).symbol;
    assert_eq!(hot.mark(&symbol).await, None);
    for (put, expected) in [(2, 2), (1, 2), (10, 10)] {
        hot.put_mark(mark(put));
        place.settle().await;
        assert_eq!(hot.mark(&symbol).await, Some(mark(expected)));
    }
}

pub async fn the_newest_trading_state_stays_and_each_one_is_a_hint<P: Place>(place: P) {
    let hot = place.hot();
    assert_eq!(hot.trading_state().await, None);
    for (put, expected) in [(2, 2), (1, 2), (10, 10)] {
        let mut hints = hot.hints();
        hints.mark_unchanged();
        hot.put_trading_state(state(put));
        assert!(hints.has_changed().unwrap());
        place.settle().await;
        assert_eq!(hot.trading_state().await, Some(state(expected)));
    }
}

pub async fn a_duplicate_window_lasts_as_long_as_it_says<P: Place>(place: P) {
    let hot = place.hot();
    let window = |symbol: &str, minute, lasts| ArmedWindow {
        user: user_id(1),
        symbol: symbol.parse().unwrap(),
        side: Side::Buy,
        timeframe: "3H".parse().unwrap(),
        accepted_at: minutes(minute),
        lasts,
    };
    let armed = async |symbol: &str, side| {
        hot.duplicate_window(user_id(1), &symbol.parse().unwrap(), side, "3H".parse().unwrap()).await
    };
    for (at, expected) in [(2, 2), (1, 2), (3, 3)] {
        hot.arm_duplicate_window(window("EURUSD", at, HOUR));
        place.settle().await;
        assert_eq!(armed("EURUSD", Side::Buy).await, Some(minutes(expected)));
    }
    assert_eq!(armed("EURUSD", Side::Sell).await, None);
    assert_eq!(armed("GBPUSD", Side::Buy).await, None);
    hot.arm_duplicate_window(window("GBPUSD", 1, Duration::from_millis(300)));
    place.settle().await;
    eventually("the window has passed", async || armed("GBPUSD", Side::Buy).await.is_none()).await;
    hot.arm_duplicate_window(window("GBPUSD", 0, Duration::ZERO));
    place.settle().await;
    assert_eq!(armed("GBPUSD", Side::Buy).await, None, "one of no length is none");
}

pub async fn a_complete_answer_is_kept_unless_it_is_large<P: Place>(place: P) {
    let hot = place.hot();
    let (small, large) = (answer("small", 2), answer("large", 101));
    assert_eq!(hot.answer(small.signal.id).await, None);
    hot.put_answer(small.clone());
    hot.put_answer(large.clone());
    place.settle().await;
    assert_eq!(hot.answer(small.signal.id).await, Some(small));
    assert_eq!(hot.answer(large.signal.id).await, None);
}

pub async fn a_revoked_token_is_known<P: Place>(place: P) {
    let hot = place.hot();
    assert!(!hot.is_revoked("token").await);
    hot.revoke_token("token".into(), i64::MAX);
    assert!(hot.is_revoked("token").await);
    assert!(!hot.is_revoked("other").await);
}

pub async fn failed_logins_are_counted_by_name<P: Place>(place: P) {
    let hot = place.hot();
    assert_eq!(hot.login_failures("ann").await, LoginFailures::default());
    for count in 1..=3 {
        assert_eq!(hot.login_failed("ann", HOUR).await.count, count);
        let failures = hot.login_failures("ann").await;
        assert_eq!(failures.count, count);
        assert!(HOUR - failures.forgotten_in < Duration::from_secs(10), "{failures:?}");
    }
    assert_eq!(hot.login_failures("bob").await, LoginFailures::default());
    hot.forget_login_failures("ann").await;
    assert_eq!(hot.login_failures("ann").await, LoginFailures::default());
    hot.login_failed("ann", Duration::from_millis(50)).await;
    eventually("the failures are forgotten", async || hot.login_failures("ann").await.count == 0).await;
    assert_eq!(hot.login_failed("ann", HOUR).await.count, 1, "counted from the beginning");
}

pub async fn instances_are_known_by_their_last_word<P: Place>(place: P) {
    let hot = place.hot();
    assert_eq!(hot.instances().await, []);
    for role in [InstanceRole::Standby, InstanceRole::Owner] {
        hot.announce(presence("one", role));
        eventually("it is heard of", async || hot.instances().await == [presence("one", role)]).await;
    }
}
